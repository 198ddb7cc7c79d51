//! Checks of the host and the origin of an API request, by the policies against DNS rebinding and CSRF.

use std::net::IpAddr;

use http::request::Parts;

use super::services::RequestServices;
use super::transport::Transport;
use crate::wire::{ApiError, CsrfPolicy, RebindingPolicy};

impl RequestServices {
    /// Refuses a host name that DNS rebinding could use.
    pub(super) async fn check_host_name(&self, parts: &Parts, peer: IpAddr) -> Result<(), ApiError> {
        let policy = RebindingPolicy::new(&self.registry.addresses);
        Ok(policy.check(&parts.headers, peer, &self.access).await?)
    }

    /// Refuses a change from a page of another origin (CSRF), unless the configuration names that origin.
    pub(super) fn check_origin(
        &self,
        parts: &Parts,
        peer: IpAddr,
        transport: Transport,
    ) -> Result<(), ApiError> {
        let policy = CsrfPolicy::new(&self.registry.addresses);
        Ok(policy.check_api(parts, peer, transport == Transport::Tls, &self.cors)?)
    }
}
