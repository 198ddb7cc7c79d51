//! The list of referrers of a manifest ("Listing Referrers").

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use serde::Serialize;

use super::Registry;
use super::headers::{link_next_page, set};
use crate::oci::{Descriptor, Digest, MediaType, RepositoryName};
use crate::store::ReferrersQuery;
use crate::wire::{ApiError, Permitted, Response, with_bytes};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Image index of the response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Registry {
    /// Serves the list of referrers in pages (GET, end-12).
    pub(super) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let artifact_type = request.query.get("artifactType").map(str::to_owned);
        let last = request.query.digest("last")?;
        let limit = self.manifest_descriptors;
        let query = ReferrersQuery { last, artifact_type: artifact_type.clone(), limit };
        let page = self.store.referrers(name, subject, query).await?;
        let index = Index {
            schema_version: 2,
            media_type: MediaType::oci_index().as_str().to_owned(),
            manifests: page.items,
        };
        let bytes = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        let mut response = with_bytes(StatusCode::OK, MediaType::oci_index().as_str(), bytes);
        if artifact_type.is_some() {
            set(&mut response, FILTERS_APPLIED, "artifactType");
        }
        if let Some(last) = page.next {
            let (path, last) = (format!("/v2/{name}/referrers/{subject}"), last.to_string());
            let mut parameters = vec![("last", last.as_str())];
            parameters.extend(artifact_type.as_deref().map(|text| ("artifactType", text)));
            link_next_page(&mut response, &path, &parameters);
        }
        Ok(response)
    }
}
