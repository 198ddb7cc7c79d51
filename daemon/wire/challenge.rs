//! `WWW-Authenticate` of a 401: the authentication scheme (RFC 7617, RFC 6750), and the URL of the token endpoint.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;

use super::addresses::Addresses;
use super::host::Host;

/// Challenge of a 401. A response has one scheme only: clients that find two choose differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password.
    Basic {
        /// The text that clients show when they ask for a password.
        realm: String,
    },
    /// A token from the token endpoint.
    Bearer {
        /// The endpoint that issues the token.
        endpoint: TokenEndpoint,
        /// The scopes that the request needs, separated by spaces; `None` if it needs no particular scope.
        scope: Option<String>,
        /// The error code of RFC 6750, for a request that had a token.
        error: Option<&'static str>,
    },
}

/// Token endpoint, at the address by which the client reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// Its URL.
    pub url: String,
    /// The parameter `service` of the token request: the host of the registry.
    pub service: String,
}

impl Challenge {
    /// Returns the value of `WWW-Authenticate`.
    pub fn header(&self) -> String {
        match self {
            Challenge::Basic { realm } => format!("Basic realm={}, charset=\"UTF-8\"", quoted(realm)),
            Challenge::Bearer { endpoint, scope, error } => {
                let (url, service) = (quoted(&endpoint.url), quoted(&endpoint.service));
                let mut text = format!("Bearer realm={url},service={service}");
                let more = [("scope", scope.as_deref()), ("error", *error)];
                for (name, value) in more {
                    text += &value.map(|value| format!(",{name}={}", quoted(value))).unwrap_or_default();
                }
                text
            }
        }
    }
}

/// Returns a quoted string. Quotes and backslashes are replaced, since some clients do not understand escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\\'], "'"))
}

/// The path of the token endpoint.
pub const TOKEN_PATH: &str = "/token";

impl Addresses {
    /// Returns the token endpoint at `http.external_url`, else at the host that the client called; `None` for a request
    /// without a valid host.
    pub fn token_endpoint(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> Option<TokenEndpoint> {
        if let Some(url) = self.external_url.as_deref().map(|url| url.trim_end_matches('/')) {
            let host = url.split_once("://").map_or(url, |(_, rest)| rest);
            let service = host.split('/').next().unwrap_or(host).to_owned();
            return Some(TokenEndpoint { url: format!("{url}{TOKEN_PATH}"), service });
        }
        let target = self.target_origin(headers, peer, tls);
        let service = target.host.filter(|host| Host::parse(host).is_some())?;
        // The claim of an untrusted proxy is enough here: it can only move the client's next request to TLS. Without
        // it, the password would bypass a TLS proxy that the configuration does not name, in clear text.
        let scheme = if target.https || claims_tls(headers) { "https" } else { "http" };
        Some(TokenEndpoint { url: format!("{scheme}://{service}{TOKEN_PATH}"), service })
    }
}

/// Returns true if a proxy header, of any peer, states that the client speaks TLS.
fn claims_tls(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = text("x-forwarded-proto").split(',').next().unwrap_or_default().trim();
    let forwarded = text(FORWARDED.as_str()).to_ascii_lowercase();
    first.eq_ignore_ascii_case("https")
        || forwarded.contains("proto=https")
        || forwarded.contains("proto=\"https\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(addresses: &Addresses, headers: &[(&str, &str)], tls: bool) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Some(addresses.token_endpoint(&map, "10.1.1.1".parse().unwrap(), tls)?.url)
    }

    #[test]
    fn the_token_endpoint_is_at_the_host_that_the_client_called() {
        let addresses = Addresses::default();
        let host = ("host", "pi.lan:5000");
        assert_eq!(url(&addresses, &[host], false).unwrap(), "http://pi.lan:5000/token");
        assert_eq!(url(&addresses, &[host], true).unwrap(), "https://pi.lan:5000/token");
        assert_eq!(
            url(&addresses, &[("host", "[fd00::1]:5000")], true).unwrap(),
            "https://[fd00::1]:5000/token"
        );
        assert_eq!(url(&addresses, &[], true), None);
        // An untrusted proxy can raise the scheme to https and change nothing else.
        for claim in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "https, http"),
            ("forwarded", "for=1.2.3.4;Proto=HTTPS"),
            ("forwarded", "proto=\"https\""),
        ] {
            assert_eq!(
                url(&addresses, &[host, claim], false).unwrap(),
                "https://pi.lan:5000/token",
                "{claim:?}"
            );
        }
        let other = ("x-forwarded-host", "evil.example");
        assert_eq!(url(&addresses, &[host, other], false).unwrap(), "http://pi.lan:5000/token");
        assert_eq!(
            url(&addresses, &[host, ("x-forwarded-proto", "http")], true).unwrap(),
            "https://pi.lan:5000/token"
        );
        let external =
            Addresses { external_url: Some("https://hub.lan:444/".into()), ..Addresses::default() };
        assert_eq!(url(&external, &[host], false).unwrap(), "https://hub.lan:444/token");
        let endpoint = external.token_endpoint(&HeaderMap::new(), "::1".parse().unwrap(), false).unwrap();
        assert_eq!(endpoint.service, "hub.lan:444");
    }

    #[test]
    fn a_challenge_has_one_scheme_and_no_quotes_in_values() {
        let endpoint = TokenEndpoint { url: "http://a/token".into(), service: "a".into() };
        let bearer = Challenge::Bearer {
            endpoint,
            scope: Some("repository:a:pull".into()),
            error: Some("insufficient_scope"),
        };
        assert_eq!(
            bearer.header(),
            "Bearer realm=\"http://a/token\",service=\"a\",scope=\"repository:a:pull\",error=\"insufficient_scope\""
        );
        let basic = Challenge::Basic { realm: "a \"b\" \\".into() };
        assert_eq!(basic.header(), "Basic realm=\"a 'b' '\", charset=\"UTF-8\"");
    }
}
