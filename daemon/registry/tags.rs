//! The list of tags of a repository ("Listing Tags").

use http::StatusCode;
use serde_json::json;

use super::Registry;
use super::headers::link_next_page;
use crate::oci::{RepositoryName, Tag};
use crate::wire::{ApiError, Permitted, Response, json as json_response};

impl Registry {
    /// Serves the list of tags in pages (GET, end-8).
    pub(super) async fn tags(
        &self,
        name: &RepositoryName,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let limit = self.page_size(&request.query)?;
        let last = request.query.get("last").map(str::to_owned);
        let page = self.store.tags(name, last, limit).await?;
        let tags: Vec<&str> = page.items.iter().map(Tag::as_str).collect();
        let mut response = json_response(StatusCode::OK, &json!({ "name": name.as_str(), "tags": tags }));
        if let (true, Some(last)) = (page.more, tags.last()) {
            let path = format!("/v2/{name}/tags/list");
            link_next_page(&mut response, &path, &[("n", &limit.to_string()), ("last", last)]);
        }
        Ok(response)
    }
}
