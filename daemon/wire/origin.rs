//! Origin of a web page: scheme, host and port of its URL (RFC 6454).

use super::host::Host;

/// Origin of a URL with the scheme http or https.
pub(super) struct Origin<'a> {
    /// True for https, false for http.
    pub(super) https: bool,
    host: Host<'a>,
}

impl<'a> Origin<'a> {
    /// Parses the origin of a URL; returns `None` for another scheme and for a malformed host. The `null` of a
    /// sandboxed page is no origin, either.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        Some(Origin { https, host: Host::parse(host)? })
    }

    /// Returns true if this origin has the host and port of a `Host` header.
    pub(super) fn has_host(&self, host: &str) -> bool {
        Host::parse(host).is_some_and(|host| self.is_at(&host))
    }

    /// Returns true if both origins have the same scheme, host and port.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.https == other.https && self.is_at(&other.host)
    }

    fn is_at(&self, host: &Host<'_>) -> bool {
        self.host.is_same(host, if self.https { 443 } else { 80 })
    }
}
