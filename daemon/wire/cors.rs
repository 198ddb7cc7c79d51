//! Headers for every answer, and the CORS protocol of browsers.

use std::collections::BTreeMap;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, StatusCode};

use super::confine::is_of_one_answer;
use super::response::{Response, empty};

/// What is set on answers.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Vec<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Cors {
    /// Takes configured headers; `Access-Control-*` answer browsers, the others go on every answer. Names and
    /// values that are no headers are passed over, and so are headers of one answer: the configuration has refused them.
    pub fn new(configured: &BTreeMap<String, Vec<String>>) -> Self {
        let mut cors = Cors::default();
        for (name, values) in configured {
            let Ok(name) = name.parse::<HeaderName>() else { continue };
            if is_of_one_answer(&name) {
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

    /// User interfaces need the digest of a manifest to delete it.
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

    /// The answer to a browser that asks whether it may send a request from another origin.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = *method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && !self.origins.is_empty();
        asks.then(|| empty(StatusCode::NO_CONTENT))
    }

    /// Returns true if a page of this origin may change something. `*` stands for every origin only for requests without
    /// credentials: a browser adds those that it remembers to a form of any page, without asking first.
    pub fn may_change(&self, origin: &HeaderValue, has_credentials: bool) -> bool {
        (self.any_origin() && !has_credentials) || self.origins.contains(origin)
    }

    /// Sets the configured headers on an answer that is not for pages of other origins. What it has already keeps it
    /// safe, and stays.
    pub fn apply_plain(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            if !name.as_str().starts_with("access-control-") {
                response.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    /// Sets the configured headers on an answer to a request with these headers.
    pub fn apply(&self, request_origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        let origin = self.allowed(request_origin);
        for (name, value) in &self.headers {
            let about_origin = name.as_str().starts_with("access-control-");
            if about_origin && (origin.is_none() || self.is_secret(name)) {
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
        if !self.any_origin() {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
    }

    fn any_origin(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    /// Credentials are never allowed to every origin.
    fn is_secret(&self, name: &HeaderName) -> bool {
        *name == ACCESS_CONTROL_ALLOW_CREDENTIALS && self.any_origin()
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.any_origin() {
            return Some(HeaderValue::from_static("*"));
        }
        origin.filter(|origin| self.origins.contains(origin)).cloned()
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
    fn only_a_named_origin_is_answered_with_credentials() {
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

    #[test]
    fn every_origin_may_change_something_only_without_credentials() {
        let (mine, other) = (HeaderValue::from_static("http://ui.lan"), HeaderValue::from_static("http://x"));
        assert!(cors("*").may_change(&other, false) && !cors("*").may_change(&other, true));
        assert!(
            cors("http://ui.lan").may_change(&mine, true) && !cors("http://ui.lan").may_change(&other, false)
        );
        let both = BTreeMap::from([(
            "Access-Control-Allow-Origin".to_owned(),
            vec!["*".to_owned(), "http://ui.lan".to_owned()],
        )]);
        assert!(Cors::new(&both).may_change(&mine, true) && !Cors::new(&both).may_change(&other, true));
    }
}
