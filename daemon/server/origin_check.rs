//! Checks of the host and the origin of an API request, against DNS rebinding and CSRF.

use std::net::IpAddr;

use http::Method;
use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;

use super::services::RequestServices;
use super::transport::Transport;
use crate::wire::{ApiError, is_of_other_origin, is_of_same_origin};

impl RequestServices {
    /// Refuses requests by public names to a registry that is only open because it has no users yet (DNS rebinding): the
    /// owner of any domain could point it at this machine and reach the registry through a browser in its network.
    pub(super) async fn check_host_name(&self, parts: &Parts, peer: IpAddr) -> Result<(), ApiError> {
        let is_safe = self.registry.locations.is_called_locally(&parts.headers, peer);
        if is_safe || !self.access.is_open_by_itself().await {
            return Ok(());
        }
        Err(ApiError::Misdirected(
            "this registry has no users, and answers only to names of this machine and its network; to use another name, \
             run: holdfast user add NAME, or set auth.anonymous"
                .into(),
        ))
    }

    /// Refuses a change from a page of another origin (CSRF), unless the configuration names that origin. Without this check
    /// any page could send the change with the credentials that the browser keeps; only the response would be hidden from it.
    pub(super) fn check_origin(
        &self,
        parts: &Parts,
        peer: IpAddr,
        transport: Transport,
    ) -> Result<(), ApiError> {
        if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let locations = &self.registry.locations;
        let (secure, host) = locations.called(&parts.headers, peer, transport == Transport::Tls);
        let own = |origin: &str| locations.is_own(origin, secure, host.as_deref());
        let has_credentials = parts.headers.contains_key(AUTHORIZATION);
        let is_right = match parts.headers.get(ORIGIN) {
            Some(origin) if self.cors.may_change(origin, has_credentials) => true,
            _ if is_of_same_origin(&parts.headers) => true,
            Some(origin) => !is_of_other_origin(&parts.headers) && origin.to_str().is_ok_and(own),
            None => !is_of_other_origin(&parts.headers),
        };
        if is_right {
            return Ok(());
        }
        Err(ApiError::Denied(
            "a web page of another origin may not change anything here; allow its origin with Access-Control-Allow-Origin in \
             http.headers (* allows none with credentials); behind a proxy, let it pass on Host with its port, or set \
             http.external_url"
                .into(),
        ))
    }
}
