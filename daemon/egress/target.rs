//! URLs of requests. Host names are ASCII; an international one is given as punycode.

use std::fmt;

use http::Uri;

/// The protocol of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host in lower case; an IPv6 address has no brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// Returns the host, with its port unless that is the default one, as the header `Host` has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Returns true if host and port are the same. A scheme makes no other party.
    pub fn is_same_party(&self, other: &Origin) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// A URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// Returns the reason, in words without the text itself, whose query may be secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) | None => return Err("it begins neither with https:// nor with http://"),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => scheme.port(),
            Some(port) if !port.contains('@') => {
                authority.port_u16().ok_or("its port is not a number up to 65535")?
            }
            Some(_) | None => return Err("it has a user name"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("it has no host");
        }
        let mut path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // A query may follow the host at once.
        if path.starts_with('?') {
            path.insert(0, '/');
        }
        Ok(Target { origin: Origin { scheme, host, port }, path })
    }

    /// Returns the URL of a path on an origin.
    pub fn of(origin: &Origin, path: impl Into<String>) -> Self {
        Target { origin: origin.clone(), path: path.into() }
    }

    /// Resolves the `Location` or `Link` of an answer: an absolute URL, `//HOST/PATH` or `/PATH`.
    ///
    /// # Errors
    /// As [`Target::parse`]; also if it leads from HTTPS to HTTP.
    pub fn join(&self, location: &str) -> Result<Self, &'static str> {
        let next = if location.starts_with("//") {
            Target::parse(&format!("{}:{location}", self.origin.scheme.as_str()))?
        } else if location.starts_with('/') {
            Target::parse(&format!("{}{location}", self.origin))?
        } else {
            Target::parse(location)?
        };
        match (self.origin.scheme, next.origin.scheme) {
            (Scheme::Https, Scheme::Http) => Err("it leads from https to http"),
            (Scheme::Https, Scheme::Https) | (Scheme::Http, _) => Ok(next),
        }
    }

    /// Returns the URL with a parameter more in its query.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(name, value);
        let separator = if self.path.contains('?') { '&' } else { '?' };
        Target::of(&self.origin, format!("{}{separator}{}", self.path, query.finish()))
    }
}

impl fmt::Display for Target {
    /// Formats the URL without its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path.split('?').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_and_a_host_without_a_user() {
        let target = Target::parse("https://Hub.lan:5000/v2/?n=1").unwrap();
        assert_eq!((target.origin.host.as_str(), target.origin.port), ("hub.lan", 5000));
        assert_eq!(
            (target.path.as_str(), target.to_string()),
            ("/v2/?n=1", "https://hub.lan:5000/v2/".into())
        );
        assert_eq!(Target::parse("https://hub.lan?n=1").unwrap().path, "/?n=1");
        let six = Target::parse("http://[::1]/").unwrap().origin;
        assert_eq!((six.host.as_str(), six.authority()), ("::1", "[::1]".into()));
        for text in [
            "hub.lan",
            "ftp://hub",
            "https://",
            "https://hub.lan@evil/",
            "https://hub.lan@hub.lan:443/",
            "https://hub:99999/",
            "https://h\u{fc}b/",
            "/v2/",
            "https://hub lan/",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn locations_are_absolute_or_begin_with_a_slash() {
        let base = Target::parse("https://hub.lan/v2/a?x=1").unwrap();
        let joined = |location: &str| base.join(location).map(|next| format!("{}{}", next.origin, next.path));
        assert_eq!(joined("/b?y=2").unwrap(), "https://hub.lan/b?y=2");
        assert_eq!(joined("//cdn.lan/c").unwrap(), "https://cdn.lan/c");
        assert_eq!(joined("https://cdn.lan:8443/d").unwrap(), "https://cdn.lan:8443/d");
        for location in ["http://hub.lan/", "b", "", "ftp://x/", "https://u:p@x/"] {
            assert!(joined(location).is_err(), "{location}");
        }
        assert_eq!(base.with_parameter("digest", "a:b").path, "/v2/a?x=1&digest=a%3Ab");
    }
}
