//! `/v2/`: the API of the standard, for local users, with full rights.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::request::Parts;

use super::actor::Actor;
use super::body::Body;
use super::host::Host;
use crate::access::Permit;
use crate::registry;
use crate::wire::{ApiError, Parsed, RequestBody, Response, Route};

/// The address that stands for a local user where the registry names its clients.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers a request.
pub(super) async fn answer(
    host: &Arc<dyn Host>,
    parts: Parts,
    body: RequestBody,
    actor: &Actor,
) -> http::Response<Body> {
    let mut response = permitted(host, parts, body, actor).await.unwrap_or_else(ApiError::into_response);
    registry::set_api_version(&mut response);
    response.map(Body::from)
}

async fn permitted(
    host: &Arc<dyn Host>,
    parts: Parts,
    body: RequestBody,
    actor: &Actor,
) -> Result<Response, ApiError> {
    let route = Route::parse(&parts.method, parts.uri.path())?;
    let permit = Permit::of_local_user(actor.user());
    host.registry().answer(Parsed::new(route, parts, body).permitted(permit, LOCAL)).await
}
