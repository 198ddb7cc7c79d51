//! Answers a request: checks framing and host, then dispatches to health checks and metrics, redirects, the admin page or the
//! API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::access_log::{self, AccessRecord, LoggedBody};
use super::activity::ActivityTracker;
use super::authorize::unauthorized;
use super::endpoints;
use super::services::{MetricsAccess, RequestServices};
use super::slots::{ActiveRequest, Slot};
use super::state::Server;
use super::transport::{Transport, redirect_to_https};
use crate::access::{Challenge as Scheme, Identity, Operation};
use crate::admin::{Admin, Certificate, RequestContext};
use crate::metrics::Endpoint;
use crate::registry;
use crate::tls::Certificates;
use crate::wire::{
    ApiError, Parsed, RequestBody, Response, Route, TOKEN_PATH, audit, check_framing, check_host, confine,
    is_forwarded, requested_name, with_bytes,
};

/// The response to `GET /` where the admin page is off or the client accepts no HTML.
const GREETING: &str = "This is a Holdfast container registry; its API is under /v2/.\n\
    Where TLS is on with its own authority, the certificate to trust is at /ca.crt.\n";

/// The addresses and the transport that a request came by.
#[derive(Clone, Copy)]
struct Source {
    /// The client, which a trusted proxy may have named.
    client: IpAddr,
    /// The peer of the connection.
    peer: IpAddr,
    transport: Transport,
}

impl Server {
    /// Answers a request with the current services.
    pub(super) async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        transport: Transport,
        slot: &Arc<Slot>,
    ) -> http::Response<LoggedBody> {
        let (services, counted) = (self.services(), ActivityTracker::request(&self.activity));
        let client = services.registry.addresses.client_address(request.headers(), peer.ip());
        let active = slot.begin(services.holder(client));
        let from = Source { client, peer: peer.ip(), transport };
        let (record, response) = services.answer(request, from, &active, &self.activity).await;
        response.map(|body| LoggedBody::new(body, record, (counted, active)))
    }
}

impl RequestServices {
    /// Answers a request; every failure becomes a response, too.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        from: Source,
        active: &ActiveRequest,
        activity: &ActivityTracker,
    ) -> (AccessRecord, Response) {
        let begun = Instant::now();
        let (mut parts, incoming) = request.into_parts();
        let mut record = self.record(&parts, from, begun);
        let origin = parts.headers.get(ORIGIN).cloned();
        let is_api = is_api(parts.uri.path());
        let body = RequestBody::new(&parts, incoming, self.limits.body_stall, self.limits.minimum_rate);
        let body = body.counted_by([self.http.received(), Arc::clone(&record.received)]);
        let checked = check_framing(&parts).and_then(|()| check_host(&mut parts).map_err(ApiError::host));
        let early = match checked {
            Ok(()) => self.before_dispatch(&parts, from, activity, &mut record).await,
            Err(error) => Some(error.into_response()),
        };
        let page = self.admin.as_ref().filter(|_| early.is_none() && is_for_admin_page(&parts));
        let is_page = page.is_some();
        let mut response = match (early, page) {
            (Some(response), _) => response,
            (None, Some(admin)) => {
                let context = self.admin_context(&parts.headers, from, activity);
                record.endpoint = Endpoint::Page;
                let (response, identity) = admin.answer(parts, body, context, &self.access).await;
                record.user = identity.to_string();
                if matches!(identity, Identity::User(_)) {
                    active.permit();
                }
                response
            }
            (None, None) => {
                let answered = self.api(parts, body, from, active, &mut record).await;
                answered.unwrap_or_else(|error| {
                    record.log(&error);
                    error.into_response()
                })
            }
        };
        if is_api {
            registry::set_api_version(&mut response);
        }
        self.set_headers(&mut response, is_page, record.endpoint, origin.as_ref());
        record.status = response.status().as_u16();
        (record, response)
    }

    /// Returns the access record of a request that has just begun.
    fn record(&self, parts: &Parts, from: Source, begun: Instant) -> AccessRecord {
        AccessRecord {
            client: from.client,
            user: String::new(),
            method: parts.method.clone(),
            path: audit::loggable_path(parts.uri.path()),
            repository: None,
            login_failed: false,
            reference: String::new(),
            status: 0,
            received: Arc::default(),
            begun,
            level: access_log::level(parts, from.peer),
            endpoint: endpoints::for_supervisors(parts.uri.path()).unwrap_or(Endpoint::Other),
            http: Arc::clone(&self.http),
        }
    }

    /// Sets the configured headers, and the sandbox of every response that is not a page.
    fn set_headers(
        &self,
        response: &mut Response,
        is_page: bool,
        endpoint: Endpoint,
        origin: Option<&HeaderValue>,
    ) {
        let is_for_supervisors = matches!(endpoint, Endpoint::Metrics | Endpoint::Health);
        let is_private = is_for_supervisors && self.metrics_access != MetricsAccess::Open;
        // No CORS for the admin page, health checks and private metrics: pages of other origins must not read them.
        if is_page || is_private {
            self.cors.apply_plain(response.headers_mut());
        } else {
            self.cors.apply(origin, response.headers_mut());
        }
        if !is_page {
            // After the configured headers, which cannot override the sandbox.
            confine(response.headers_mut());
        }
    }

    /// Returns the context of a request for the admin page: facts of the server and the certificate, whose rooms `admin` does
    /// not call.
    fn admin_context(&self, headers: &HeaderMap, from: Source, activity: &ActivityTracker) -> RequestContext {
        let name = requested_name(headers);
        RequestContext {
            client: from.client,
            peer: from.peer,
            tls: from.transport == Transport::Tls,
            requests: activity.activity().requests,
            unnamed_proxy: activity.has_unnamed_proxy(),
            certificate: self.certificates.as_deref().map(|one| certificate(one, name)),
            names: self.certificates.clone().filter(|one| one.ca_pem().is_some()).map(|one| one as _),
        }
    }

    /// Answers requests that are neither for the API nor for the admin page: health checks, `/metrics`, `/ca.crt`, redirects
    /// to HTTPS, CORS preflights and the greeting.
    async fn before_dispatch(
        &self,
        parts: &Parts,
        from: Source,
        activity: &ActivityTracker,
        record: &mut AccessRecord,
    ) -> Option<Response> {
        self.note_names(parts, from, activity).await;
        if record.endpoint != Endpoint::Metrics {
            let response = self.health(parts, activity);
            return response.or_else(|| self.without_permit(parts, from.transport));
        }
        let from = (from.client, from.peer, from.transport);
        let answered = self.metrics(parts, from, activity, record).await;
        Some(answered.unwrap_or_else(|error| {
            record.log(&error);
            error.into_response()
        }))
    }

    /// Notes the name by which a client calls, and warns once if a proxy that the configuration does not name passes requests
    /// on to an open registry.
    async fn note_names(&self, parts: &Parts, from: Source, activity: &ActivityTracker) {
        let is_trusted = self.registry.addresses.is_trusted_proxy(from.peer);
        if from.transport == Transport::Tls
            && !is_trusted
            && let (Some(certificates), Some(name)) = (&self.certificates, requested_name(&parts.headers))
        {
            certificates.note_requested_name(name);
        }
        // Cheap conditions first: every request passes here, and `is_forwarded` searches its headers.
        let may_be_proxy =
            !activity.has_unnamed_proxy() && !is_trusted && from.peer.to_canonical().is_loopback();
        if may_be_proxy
            && is_forwarded(&parts.headers)
            && self.access.is_implicitly_open().await
            && activity.note_unnamed_proxy()
        {
            log::warn!(
                "a proxy on this machine forwards requests, and the registry has no users: it is open to everyone who \
                 can reach the proxy; name the proxy (http.trusted_proxies), or run: holdfast user add NAME"
            );
        }
    }

    /// Answers requests that need no permit.
    fn without_permit(&self, parts: &Parts, transport: Transport) -> Option<Response> {
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if is_read && parts.uri.path() == "/ca.crt" {
            let pem = self.certificates.as_ref()?.ca_pem()?;
            let bytes = Bytes::copy_from_slice(pem.as_bytes());
            return Some(with_bytes(StatusCode::OK, "application/x-x509-ca-cert", bytes));
        }
        if transport == Transport::PlainBesideTls {
            return Some(redirect_to_https(parts));
        }
        if let Some(response) = self.cors.preflight(&parts.method, &parts.headers) {
            return Some(response);
        }
        let is_page = self.admin.is_some() && accepts_html(parts);
        let is_greeting = is_read && parts.uri.path() == "/" && !is_page;
        let text = Bytes::from_static(GREETING.as_bytes());
        is_greeting.then(|| with_bytes(StatusCode::OK, "text/plain; charset=utf-8", text))
    }

    async fn api(
        &self,
        parts: Parts,
        body: RequestBody,
        Source { client, peer, transport }: Source,
        active: &ActiveRequest,
        record: &mut AccessRecord,
    ) -> Result<Response, ApiError> {
        let path = parts.uri.path();
        if !is_api(path) && path != TOKEN_PATH {
            return Err(ApiError::no_endpoint());
        }
        self.check_host_name(&parts, peer).await?;
        self.check_origin(&parts, peer, transport)?;
        if path == TOKEN_PATH {
            record.endpoint = Endpoint::Token;
            return self.token(&parts, body, client, active, record).await;
        }
        let route = Route::parse(&parts.method, path);
        let at = (&parts, peer, transport);
        let challenge_any = |error| self.challenge(at, route.as_ref().ok(), error);
        let caller = self.caller(&parts, client, record, challenge_any).await?;
        record.user = caller.identity().to_string();
        let route = match route {
            Ok(route) => route,
            Err(error) => {
                // Only a client that may ping learns about the path; others get a challenge for any path.
                self.permit(&caller, &Operation::Ping, |error| self.challenge(at, None, error))?;
                return Err(error.into());
            }
        };
        record.endpoint = endpoints::of_route(&route);
        record.repository = route.repository();
        record.reference = route.reference().unwrap_or_default();
        let challenge = |error| self.challenge(at, Some(&route), error);
        if route == Route::Ping && caller.has_no_credentials() && self.access.challenge() == Scheme::Bearer {
            // Clients learn only from this challenge that they can log in, even where anonymous access would do.
            return Err(unauthorized(challenge(None), "log in, or get a token for the anonymous user"));
        }
        let permit = self.permit(&caller, &route.required_operation(), challenge)?;
        active.permit();
        let parsed = Parsed::new(route, parts, body);
        self.registry.answer(parsed.permitted(permit, peer)).await
    }
}

/// Returns true if a request is for the admin page: one of its paths, or any other path that a browser asks for. Paths of the
/// API never are, however they are escaped.
fn is_for_admin_page(parts: &Parts) -> bool {
    let path = percent_decode_str(parts.uri.path()).collect::<Vec<u8>>();
    if path == b"/v2" || path.starts_with(b"/v2/") || path == TOKEN_PATH.as_bytes() {
        return false;
    }
    Admin::is_for(&parts.method, parts.uri.path()) || accepts_html(parts)
}

/// Returns true if the client accepts HTML, as browsers do.
fn accepts_html(parts: &Parts) -> bool {
    let accepts = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

/// Returns the facts of the certificate that the admin page shows.
fn certificate(certificates: &Certificates, requested: Option<&str>) -> Certificate {
    let facts = certificates.info();
    Certificate {
        is_own: facts.fingerprint.is_some(),
        until: facts.expires.and_then(|until| until.try_into().ok()),
        fingerprint: facts.fingerprint,
        covers_host: requested.is_none_or(|name| certificates.covers(name)),
        configured: certificates.configured_names().to_vec(),
        clock_is_behind: facts.clock_is_behind,
    }
}

fn is_api(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}
