//! What refers to a manifest ("Listing Referrers").

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde_json::json;

use super::{Registry, link_next, parse_digest, set};
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::wire::{ApiError, Permitted, Response, with_bytes};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Registry {
    pub(super) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let wanted = request.query.get("artifactType").map(str::to_owned);
        let last = request.query.get("last").map(parse_digest).transpose()?;
        let page = self.store.referrers(name, subject, last, wanted.clone()).await?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::oci_index().as_str(),
            "manifests": page.items,
        });
        let bytes = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        let mut response = with_bytes(StatusCode::OK, MediaType::oci_index().as_str(), bytes);
        if wanted.is_some() {
            set(&mut response, FILTERS_APPLIED, "artifactType");
        }
        if let (true, Some(last)) = (page.more, page.items.last()) {
            let (path, last) = (format!("/v2/{name}/referrers/{subject}"), last.digest.to_string());
            let mut parameters = vec![("last", last.as_str())];
            parameters.extend(wanted.as_deref().map(|wanted| ("artifactType", wanted)));
            link_next(&mut response, &path, &parameters);
        }
        Ok(response)
    }
}
