//! `ETag` and `If-None-Match` (RFC 9110 section 13.1.2): the tag of content is its digest.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

use crate::oci::Digest;

/// The entity tag of content.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has this content already.
pub fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_weakly_and_in_lists() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            is_known(&headers, &digest)
        };
        assert!(known(&etag(&digest)) && known(&format!("W/{}", etag(&digest))) && known("*"));
        assert!(known(&format!("\"x\", {}", etag(&digest))) && !known("\"x\""));
    }
}
