//! Entry points of the fuzzer into private parsers of answers.

use super::error::messages;
use super::lists::{Page, next_of};
use super::{challenge, realm};
use crate::egress::Target;
use crate::oci::{RepositoryName, Tag};

/// The registry that answers.
const REGISTRY: &str = "https://hub.lan:5000/v2/";

/// Returns the number of challenges in a `WWW-Authenticate`. Panics if a token server on another host would get the credentials.
pub fn challenges(header: &str) -> usize {
    let registry = Target::parse(REGISTRY).expect("a URL").origin;
    let challenges = challenge::parse(header);
    for challenge in &challenges {
        let challenge::Challenge::Bearer { realm, .. } = challenge else { continue };
        let Ok(target) = Target::parse(realm) else { continue };
        assert!(!realm::is_trusted(&target, &registry, &[]) || target.origin.host == registry.host);
    }
    challenges.len()
}

/// Reads a page of a list; returns the numbers of its repositories and tags that are valid.
pub fn names_in_page(bytes: &[u8]) -> (usize, usize) {
    let Ok(Page { repositories, tags }) = serde_json::from_slice(bytes) else { return (0, 0) };
    let (repositories, tags) = (repositories.unwrap_or_default(), tags.unwrap_or_default());
    let repositories = repositories.iter().filter_map(|name| name.parse::<RepositoryName>().ok());
    (repositories.count(), tags.iter().filter_map(|tag| tag.parse::<Tag>().ok()).count())
}

/// Returns the URL of the next page that a `Link` names.
pub fn next_page(link: &str) -> Option<String> {
    let target = Target::parse(REGISTRY).expect("a URL");
    let next = link.split(',').find_map(next_of)?;
    target.join(next).ok().map(|next| next.to_string())
}

/// Returns the messages of an error answer.
pub fn error_text(bytes: &[u8]) -> String {
    messages(bytes)
}
