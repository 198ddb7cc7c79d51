//! What refers to a manifest ("Listing Referrers").

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde::Serialize;

use super::{Registry, link_next, parse_digest, set};
use crate::oci::{Descriptor, Digest, MediaType, RepositoryName};
use crate::store::ReferrersQuery;
use crate::wire::{ApiError, Permitted, Response, with_bytes};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The list as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Registry {
    pub(super) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let wanted = request.query.get("artifactType").map(str::to_owned);
        let last = request.query.get("last").map(parse_digest).transpose()?;
        let query = ReferrersQuery { last, artifact_type: wanted.clone(), limit: self.manifest_descriptors };
        let page = self.store.referrers(name, subject, query).await?;
        let index = Index {
            schema_version: 2,
            media_type: MediaType::oci_index().as_str().to_owned(),
            manifests: page.items,
        };
        let bytes = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        let mut response = with_bytes(StatusCode::OK, MediaType::oci_index().as_str(), bytes);
        if wanted.is_some() {
            set(&mut response, FILTERS_APPLIED, "artifactType");
        }
        if let Some(last) = page.next {
            let (path, last) = (format!("/v2/{name}/referrers/{subject}"), last.to_string());
            let mut parameters = vec![("last", last.as_str())];
            parameters.extend(wanted.as_deref().map(|wanted| ("artifactType", wanted)));
            link_next(&mut response, &path, &parameters);
        }
        Ok(response)
    }
}
