//! The headers and redirects of the pages.

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::wire::{Response, empty};

/// The status of a page without errors.
pub(super) const OK: StatusCode = StatusCode::OK;

/// The Content-Security-Policy of the pages: only their own style sheet, script and forms; no frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Sets the headers that protect a page against other sites and keep it out of caches. Stored content that is shown
/// raw has a stricter policy already, which stays.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // For browsers without support for frame-ancestors.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // The CSRF check reads Origin or Referer: "no-referrer" would suppress both.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Returns a redirect with 303, which makes browsers load the next page with GET after a form was processed.
pub(super) fn see_other(path: &str) -> Response {
    let mut response = empty(StatusCode::SEE_OTHER);
    let path = HeaderValue::from_str(path).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, path);
    response
}
