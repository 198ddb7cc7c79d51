//! The response headers of `http.headers`, and the CORS protocol (Fetch standard, "CORS protocol").
//!
//! Without `Access-Control-Allow-Origin` in the configuration no page of another origin can read a response, and the
//! other `Access-Control-*` headers are not sent. Which origins may change content is decided in `origin_policy.rs`.

use std::collections::BTreeMap;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, StatusCode};

use super::confine::describes_one_response;
use super::response::{Response, empty};

/// Configured response headers.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Vec<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Cors {
    /// Reads `http.headers`. `Access-Control-*` headers are set on responses to requests with `Origin`, the others on
    /// every response. Malformed headers, and headers that describe one response, are skipped: the validation of the
    /// configuration refuses them.
    pub fn new(configured: &BTreeMap<String, Vec<String>>) -> Self {
        let mut cors = Cors::default();
        for (name, values) in configured {
            let Ok(name) = name.parse::<HeaderName>() else { continue };
            if describes_one_response(&name) {
                continue;
            }
            if name == ACCESS_CONTROL_ALLOW_ORIGIN {
                cors.origins = values.iter().filter_map(|value| value.parse().ok()).collect();
            } else if let Ok(value) = values.join(", ").parse() {
                cors.headers.push((name, value));
            }
        }
        if cors.origins.is_empty() {
            return cors;
        }
        cors.default_header(ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
        cors.default_header(
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Accept, Cache-Control, Content-Type",
        );
        cors.expose("Docker-Content-Digest");
        cors
    }

    fn default_header(&mut self, name: HeaderName, value: &'static str) {
        if !self.headers.iter().any(|(known, _)| *known == name) {
            self.headers.push((name, HeaderValue::from_static(value)));
        }
    }

    /// Adds a header to `Access-Control-Expose-Headers`: web clients need the digest of a manifest to delete it.
    fn expose(&mut self, header: &'static str) {
        let name = ACCESS_CONTROL_EXPOSE_HEADERS;
        let Some((_, value)) = self.headers.iter_mut().find(|(known, _)| *known == name) else {
            return self.headers.push((name, HeaderValue::from_static(header)));
        };
        let text = value.to_str().unwrap_or_default().to_owned();
        let exposed =
            text.split(',').any(|part| part.trim().eq_ignore_ascii_case(header) || part.trim() == "*");
        if let (false, Ok(longer)) = (exposed, format!("{text}, {header}").parse()) {
            *value = longer;
        }
    }

    /// Returns the response to a preflight request, by which a browser asks whether a page of another origin may send a
    /// request; `None` for other requests.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let is_preflight = *method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && !self.origins.is_empty();
        is_preflight.then(|| empty(StatusCode::NO_CONTENT))
    }

    /// Returns true if `Access-Control-Allow-Origin` lists this origin.
    pub(super) fn lists(&self, origin: &HeaderValue) -> bool {
        self.origins.contains(origin)
    }

    /// Returns true if `Access-Control-Allow-Origin` is `*`.
    pub(super) fn allows_any_origin(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    /// Sets the configured headers, without CORS, on a response that pages of other origins must not read. Headers that
    /// the response already has stay: they include its security headers.
    pub fn apply_plain(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            if !name.as_str().starts_with("access-control-") {
                response.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    /// Sets the configured headers on the response to a request with this `Origin`.
    pub fn apply(&self, request_origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        let origin = self.allowed(request_origin);
        for (name, value) in &self.headers {
            let is_cors = name.as_str().starts_with("access-control-");
            if is_cors && (origin.is_none() || self.is_refused(name)) {
                continue;
            }
            response.insert(name.clone(), value.clone());
        }
        if self.origins.is_empty() {
            return;
        }
        if let Some(origin) = origin {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        // With `*` the response is the same for every origin, so that caches may share it.
        if !self.allows_any_origin() {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
    }

    /// Returns true for `Access-Control-Allow-Credentials` beside `*`: credentials are never allowed to every origin.
    fn is_refused(&self, name: &HeaderName) -> bool {
        *name == ACCESS_CONTROL_ALLOW_CREDENTIALS && self.allows_any_origin()
    }

    /// Returns the value of `Access-Control-Allow-Origin` in the response.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.allows_any_origin() {
            return Some(HeaderValue::from_static("*"));
        }
        origin.filter(|origin| self.lists(origin)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origin: &str) -> Cors {
        Cors::new(&BTreeMap::from([
            ("Access-Control-Allow-Origin".to_owned(), vec![origin.to_owned()]),
            ("Access-Control-Allow-Credentials".to_owned(), vec!["true".to_owned()]),
            ("X-Own".to_owned(), vec!["1".to_owned()]),
        ]))
    }

    #[test]
    fn only_a_listed_origin_gets_credentials() {
        let (mine, other) = (HeaderValue::from_static("http://ui.lan"), HeaderValue::from_static("http://x"));
        let mut headers = HeaderMap::new();
        cors("http://ui.lan").apply(Some(&mine), &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "http://ui.lan");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "Docker-Content-Digest");
        assert_eq!(headers[VARY], "Origin");
        let mut headers = HeaderMap::new();
        cors("http://ui.lan").apply(Some(&other), &mut headers);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) && headers.contains_key("x-own"));
        let mut headers = HeaderMap::new();
        cors("*").apply(Some(&other), &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
