//! Response headers of the API.

use http::header::{HeaderName, HeaderValue, LINK};

use crate::oci::Digest;
use crate::wire::Response;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Value of `Cache-Control` for content that is addressed by its digest, which never changes (RFC 8246).
pub(super) const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// Sets the version of the API. Older clients look for it on `/v2/`, also in a 401.
pub fn set_api_version(response: &mut Response) {
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
}

/// Sets a header. A value that is not a valid header value is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Sets `Docker-Content-Digest`.
pub(super) fn set_digest(response: &mut Response, digest: &Digest) {
    set(response, DOCKER_CONTENT_DIGEST, &digest.to_string());
}

/// Sets the `Link` to the next page of a list (RFC 8288).
pub(super) fn link_next_page(response: &mut Response, path: &str, parameters: &[(&str, &str)]) {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    set(response, LINK, &format!("<{path}?{query}>; rel=\"next\""));
}
