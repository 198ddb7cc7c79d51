//! Lists of repositories and tags, page by page.

use std::str::FromStr;

use bytes::Bytes;
use http::header::LINK;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::error::{ClientError, absent, refusal};
use super::registry::{Call, RegistryClient};
use super::scope::Scope;
use crate::egress::{Response, Target};
use crate::oci::{RepositoryName, Tag};

/// Names that are read from a list.
const MAX_NAMES: usize = 200_000;
/// Maximum length of a page, in bytes, and the names of a page that are asked for.
const MAX_PAGE: usize = 8 << 20;
const PAGE: usize = 1000;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) repositories: Option<Vec<String>>,
    pub(super) tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// Lists all repositories; those whose names are not valid are left out. `None` if the registry does not list them.
    ///
    /// # Errors
    /// [`ClientError`], as all methods.
    pub async fn repositories(&self) -> Result<Option<Vec<RepositoryName>>, ClientError> {
        let (target, scope) = (self.target(format!("/v2/_catalog?n={PAGE}")), Scope::catalog());
        let listed = self.list(target, &scope, |page| page.repositories).await;
        match listed {
            Ok(names) => Ok(names),
            Err(ClientError::Unauthorized { .. }) => Ok(None),
            Err(error) if error.status().is_some_and(|status| status.is_client_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the tags of a repository; `None` if the registry does not have it.
    ///
    /// # Errors
    /// As [`RegistryClient::repositories`].
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, ClientError> {
        let target = self.target(format!("/v2/{repository}/tags/list?n={PAGE}"));
        self.list(target, &Scope::pull(repository), |page| page.tags).await
    }

    async fn list<T: FromStr>(
        &self,
        mut target: Target,
        scope: &Scope,
        names_of: impl Fn(Page) -> Option<Vec<String>>,
    ) -> Result<Option<Vec<T>>, ClientError> {
        let (mut all, mut read) = (Vec::new(), 0);
        loop {
            let response = self.call(&Call::new(Method::GET, target.clone(), scope.clone())).await?;
            match response.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return absent(response).await,
                _ => return Err(refusal(target.to_string(), response).await),
            }
            let (bytes, next) = read_page(&target, response).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|error| {
                ClientError::Answer(format!("{target}: the answer is not a list: {error}"))
            })?;
            let names = names_of(page).unwrap_or_default();
            // A page without a name would lead to itself without end.
            let is_last = names.is_empty();
            read += names.len();
            // A name that is not valid may be as long as a page.
            all.extend(names.iter().filter_map(|name| name.parse().ok()));
            if read > MAX_NAMES {
                return Err(ClientError::Answer(format!(
                    "{target}: the list has more than {MAX_NAMES} names"
                )));
            }
            match next {
                Some(next) if !is_last => target = next,
                Some(_) | None => return Ok(Some(all)),
            }
        }
    }
}

/// Reads a page; returns it with the URL of the next one.
pub(super) async fn read_page(
    target: &Target,
    response: Response,
) -> Result<(Bytes, Option<Target>), ClientError> {
    let next = next_page(target, &response)?;
    Ok((response.bytes(MAX_PAGE).await?, next))
}

/// Returns the URL of the next page, which has to be on the same host.
fn next_page(target: &Target, response: &Response) -> Result<Option<Target>, ClientError> {
    let links = response.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(location) = links.flat_map(|text| text.split(',')).find_map(next_of) else { return Ok(None) };
    match target.join(location) {
        Ok(next) if next.origin == target.origin => Ok(Some(next)),
        Ok(_) => Err(ClientError::Answer(format!("{target}: the next page is on another host"))),
        Err(reason) => Err(ClientError::Answer(format!("{target}: the next page cannot be read: {reason}"))),
    }
}

/// Returns the URL of a link to the next page.
pub(super) fn next_of(link: &str) -> Option<&str> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        parameter.trim().split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        })
    };
    parameters.split(';').any(is_next).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_next_page() {
        assert_eq!(next_of(r#"</v2/_catalog?last=b&n=2>; rel="next""#), Some("/v2/_catalog?last=b&n=2"));
        assert_eq!(next_of(" <https://h/x> ; title=y; REL=next "), Some("https://h/x"));
        for link in ["", "<x", r#"</a>; rel="prev""#, r#"/a; rel="next""#, "</a>"] {
            assert_eq!(next_of(link), None, "{link}");
        }
    }
}
