//! Response headers that stop a browser from running stored content on the origin of the admin page (stored XSS).
//!
//! They are set on every response that is not an admin page, after the configured headers, which cannot weaken them.

use http::HeaderMap;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};

/// The content security policy of every response that is not a page: it loads nothing, and gives a document an opaque
/// origin without scripts and forms.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
const ATTACHMENT: HeaderValue = HeaderValue::from_static("attachment");

/// Sets the headers: a browser that opens the response neither sniffs another media type nor runs scripts in it.
/// Replaces existing headers of the same names.
pub fn confine(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
}

/// Marks a response as a download, which a browser saves and does not show.
pub fn mark_as_download(headers: &mut HeaderMap) {
    headers.insert(CONTENT_DISPOSITION, ATTACHMENT);
}

/// Returns true for headers that describe one response or its transfer. The configuration cannot set these: a
/// configured `Content-Type` would turn stored content into pages.
pub fn describes_one_response(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-disposition"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "transfer-encoding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confine_replaces_a_weaker_policy() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src *"));
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("script-src *"));
        headers.append(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("off"));
        confine(&mut headers);
        let all = |name| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all(CONTENT_SECURITY_POLICY), ["default-src 'none'; sandbox"]);
        assert_eq!(all(X_CONTENT_TYPE_OPTIONS), ["nosniff"]);
    }
}
