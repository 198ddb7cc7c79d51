//! The transport of a connection, and the redirect from plain HTTP to HTTPS.

use http::StatusCode;
use http::header::{HOST, HeaderValue, LOCATION};
use http::request::Parts;

use crate::wire::{Response, empty};

/// Protection of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Plain HTTP, and TLS is off.
    Plain,
    /// Plain HTTP on a port that also speaks TLS.
    PlainBesideTls,
    /// TLS.
    Tls,
}

/// Redirects a client that speaks plain HTTP to TLS on the same port.
pub(super) fn redirect_to_https(parts: &Parts) -> Response {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let location = host.and_then(|host| HeaderValue::from_str(&format!("https://{host}{path}")).ok());
    let Some(location) = location else { return empty(StatusCode::BAD_REQUEST) };
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, location);
    response
}
