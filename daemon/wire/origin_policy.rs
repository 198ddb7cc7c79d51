//! The two policies against web pages that misuse a browser to reach the registry. The API and the admin page apply
//! both.
//!
//! ```text
//! request headers, peer, TLS
//!   │
//!   ├─ Addresses::target_origin   the origin that the browser called: `Host`, or the headers of a trusted proxy
//!   │
//!   ├─ RebindingPolicy::check     DNS rebinding: if implicitly open, only addresses and LAN names are accepted (421)
//!   │
//!   └─ CsrfPolicy                 CSRF: requests that change something come from the same origin (403)
//!        ├─ check_api             Sec-Fetch-Site, Origin, http.headers (CORS); programs send no Origin and pass
//!        └─ check_form            Sec-Fetch-Site, Origin or Referer; a form without them is refused
//! ```
//!
//! CSRF: a page of another origin sends a request with the credentials or the session that the browser remembers. DNS
//! rebinding: a page lets its own name resolve to the address of this machine, so that the browser takes the registry
//! for the same origin.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderValue, ORIGIN, REFERER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};

use super::addresses::{Addresses, TargetOrigin};
use super::cors::Cors;
use super::host::Host;
use super::origin::Origin;
use crate::access::Access;
use crate::oci::{ErrorCode, Problem, ProblemKind};

/// Policy against CSRF: decides whether a request that changes something comes from a page that may send it.
#[derive(Clone, Copy)]
pub struct CsrfPolicy<'a> {
    addresses: &'a Addresses,
}

impl<'a> CsrfPolicy<'a> {
    /// Makes the policy for a registry at these addresses.
    pub fn new(addresses: &'a Addresses) -> Self {
        CsrfPolicy { addresses }
    }

    /// Checks a request of the API. Safe methods pass: another origin cannot read the response. Other requests have to
    /// come from a program, from a page of the registry itself, or from an origin that `Access-Control-Allow-Origin`
    /// lists.
    ///
    /// # Errors
    /// Returns the problem (403) for a page of another origin.
    pub fn check_api(self, request: &Parts, peer: IpAddr, tls: bool, cors: &Cors) -> Result<(), Problem> {
        if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let headers = &request.headers;
        let origin = headers.get(ORIGIN);
        if origin.is_some_and(|origin| cors_allows(cors, origin, headers.contains_key(AUTHORIZATION))) {
            return Ok(());
        }
        // Programs and old browsers send no Origin.
        let is_own = || {
            origin.is_none_or(|origin| origin.to_str().is_ok_and(|url| self.is_own(url, headers, peer, tls)))
        };
        if comes_from_same_origin(headers, is_own) {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Forbidden,
            ErrorCode::Denied,
            "a web page of another origin cannot change anything here; list its origin in Access-Control-Allow-Origin in \
             http.headers (* does not apply to requests with credentials); behind a proxy, pass on Host with its port, or \
             set http.external_url",
        ))
    }

    /// Checks the form of an admin page. Browsers send `Origin` or `Referer` with every form, so that one without both
    /// is refused.
    ///
    /// # Errors
    /// Returns the problem (403) for a form of another origin.
    pub fn check_form(self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> Result<(), Problem> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let page = text(ORIGIN).or_else(|| text(REFERER));
        if comes_from_same_origin(headers, || page.is_some_and(|url| self.is_own(url, headers, peer, tls))) {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Forbidden,
            ErrorCode::Denied,
            "the form does not come from a page of this host; behind a proxy, pass on Host with its port, or set \
             http.external_url to the address in the browser's address bar",
        ))
    }

    fn is_own(self, url: &str, headers: &HeaderMap, peer: IpAddr, tls: bool) -> bool {
        is_own_page(
            url,
            &self.addresses.target_origin(headers, peer, tls),
            self.addresses.external_url.as_deref(),
        )
    }
}

/// Policy against DNS rebinding: a registry that is open only because it has no users answers to addresses and to names
/// that the public DNS cannot have. With users or with `auth.anonymous` every host is accepted.
#[derive(Clone, Copy)]
pub struct RebindingPolicy<'a> {
    addresses: &'a Addresses,
}

impl<'a> RebindingPolicy<'a> {
    /// Makes the policy for a registry at these addresses.
    pub fn new(addresses: &'a Addresses) -> Self {
        RebindingPolicy { addresses }
    }

    /// Checks the host by which a client calls the registry.
    ///
    /// # Errors
    /// Returns the problem (421) if the registry is implicitly open and a page on the internet could have this host
    /// name.
    pub async fn check(self, headers: &HeaderMap, peer: IpAddr, access: &Access) -> Result<(), Problem> {
        // The host is compared first: unlike a check of the file of users, that costs no system call.
        if self.is_rebinding_safe_host(headers, peer) || !access.is_implicitly_open().await {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Misdirected,
            ErrorCode::Denied,
            "this registry has no users, and accepts only addresses and local host names; to call it by another name, \
             run `holdfast user add NAME`, or set auth.anonymous",
        ))
    }

    /// Returns true if a client calls the registry by an address, or by a name that the public DNS cannot have. A
    /// malformed host is not safe. Without any host (HTTP/1.0, which no browser speaks) only clients on this machine
    /// are.
    fn is_rebinding_safe_host(self, headers: &HeaderMap, peer: IpAddr) -> bool {
        if let Some(host) = self.addresses.target_origin(headers, peer, false).host {
            return Host::parse(&host).is_some_and(|host| is_local_name(host.name));
        }
        let is_named =
            ["host", "x-forwarded-host", "forwarded"].iter().any(|name| headers.contains_key(*name));
        !is_named && peer.to_canonical().is_loopback()
    }
}

/// Returns true if the headers show that a web page sent the request: a page of another origin, or any page with
/// `Origin`.
pub fn is_sent_by_page(headers: &HeaderMap) -> bool {
    fetch_site(headers) == FetchSite::Other || headers.contains_key(ORIGIN)
}

/// Relation between the page and the request that it sends, as the browser states it in `Sec-Fetch-Site`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchSite {
    /// The very origin that is called. The browser compares scheme, host and port itself, so that this holds behind a
    /// proxy that changes the host, and a page cannot forge the header.
    Same,
    /// Another origin.
    Other,
    /// No relation is stated: by programs, by old browsers, by browsers over plain HTTP to a host that is not
    /// localhost, and for requests that the user entered (`none`).
    Unknown,
}

fn fetch_site(headers: &HeaderMap) -> FetchSite {
    let mut values = headers.get_all("sec-fetch-site").iter();
    match (values.next(), values.next()) {
        (Some(site), None) if site == "same-origin" => FetchSite::Same,
        (Some(site), _) if site != "same-origin" && site != "none" => FetchSite::Other,
        (Some(_) | None, _) => FetchSite::Unknown,
    }
}

/// Trusts the browser's own comparison of origins where it states one, and `is_own` where it does not.
fn comes_from_same_origin(headers: &HeaderMap, is_own: impl FnOnce() -> bool) -> bool {
    match fetch_site(headers) {
        FetchSite::Same => true,
        FetchSite::Other => false,
        FetchSite::Unknown => is_own(),
    }
}

/// Returns true if the operator allows pages of this origin to change something. `*` covers only requests without
/// credentials: a browser adds those that it remembers to a form of any page, without a preflight request.
fn cors_allows(cors: &Cors, origin: &HeaderValue, has_credentials: bool) -> bool {
    cors.lists(origin) || (cors.allows_any_origin() && !has_credentials)
}

/// Returns true if a URL belongs to a page of this registry, whose target origin is `target`: scheme, host and port are
/// the same.
///
/// A page over plain HTTP is not a page of a registry that is called over TLS: every machine on the network path can
/// write such a page. A page over TLS is one of a registry that seems to be called over plain HTTP: a proxy that the
/// configuration does not name may do the TLS.
fn is_own_page(url: &str, target: &TargetOrigin, external_url: Option<&str>) -> bool {
    let Some(page) = Origin::of(url) else { return false };
    let is_target =
        target.host.as_deref().is_some_and(|host| page.has_host(host)) && (page.https || !target.https);
    is_target || external_url.and_then(Origin::of).is_some_and(|external| page.is_same(&external))
}

/// Returns true if the public DNS cannot have this name: an address, a name without a dot, or a name under a domain for
/// local use (RFC 6761, RFC 6762, RFC 8375, and names that home routers give).
fn is_local_name(name: &str) -> bool {
    const LOCAL_DOMAINS: [&str; 6] = [".localhost", ".local", ".lan", ".internal", ".home.arpa", ".test"];
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok();
    is_address || !name.contains('.') || LOCAL_DOMAINS.iter().any(|domain| name.ends_with(domain))
}

#[cfg(test)]
mod tests;
