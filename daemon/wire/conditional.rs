//! `ETag` and `If-None-Match` (RFC 9110 section 13.1.2): the entity tag of content is its digest.
//!
//! Entity tags without quotes match as well, since some clients send a digest as it is.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

use crate::oci::Digest;

/// Returns the value of `ETag` for content with this digest.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Returns true if the client has this content, so that the response is 304.
pub fn is_not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| {
            // `If-None-Match` compares weakly (RFC 9110 section 8.8.3.2).
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_match_weakly_and_in_lists() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            is_not_modified(&headers, &digest)
        };
        assert!(known(&etag(&digest)) && known(&format!("W/{}", etag(&digest))) && known("*"));
        assert!(known(&format!("\"x\", {}", etag(&digest))) && !known("\"x\""));
    }
}
