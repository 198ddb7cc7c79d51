//! The list of repositories (`/v2/_catalog`, Docker Registry HTTP API V2, "Catalog"): those that have a manifest and
//! that the user may pull from.

use http::StatusCode;
use serde_json::json;

use super::Registry;
use super::headers::link_next_page;
use crate::oci::RepositoryName;
use crate::wire::{ApiError, Permitted, Response, json as json_response};

impl Registry {
    /// Serves the catalog in pages.
    pub(super) async fn catalog(&self, request: &Permitted) -> Result<Response, ApiError> {
        let limit = self.page_size(&request.query)?;
        let permit = request.permit.clone();
        let last = request.query.get("last").map(str::to_owned);
        let page = self.store.repositories(last, limit, move |name| permit.shows(name)).await?;
        let names: Vec<&str> = page.items.iter().map(RepositoryName::as_str).collect();
        let mut response = json_response(StatusCode::OK, &json!({ "repositories": names }));
        if let (true, Some(last)) = (page.more, names.last()) {
            link_next_page(&mut response, "/v2/_catalog", &[("n", &limit.to_string()), ("last", last)]);
        }
        Ok(response)
    }
}
