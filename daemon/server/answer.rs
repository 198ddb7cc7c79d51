//! From a request to its answer: route, identity, permit, resource.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION, ORIGIN};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::activity::Watched;
use super::connection::Transport;
use super::health::{self, MetricsAccess};
use super::record::{self, Record, Recorded};
use super::slots::{ActiveRequest, Slot};
use super::{Server, Site};
use crate::access::{
    self, Action, Actions, Caller, Challenge as Scheme, IdentifyError, Identity, Refusal, Scope, Wanted,
};
use crate::admin::{Admin, Certificate, Surroundings};
use crate::metrics::Endpoint;
use crate::registry;
use crate::tls::Certificates;
use crate::wire::{
    ApiError, Challenge, CsrfPolicy, Deed, Parsed, Query, RebindingPolicy, RequestBody, Response, Route,
    TOKEN_PATH, audit, check_framing, check_host, confine, empty, host_name, is_forwarded, with_bytes,
};

/// What someone sees who opens the registry in a browser.
const WELCOME: &str = "This is a Holdfast container registry; its API is under /v2/.\n\
    Where TLS is on with its own authority, the certificate to trust is at /ca.crt.\n";

impl Server {
    /// Answers a request by the site of this moment.
    pub(super) async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        transport: Transport,
        slot: &Arc<Slot>,
    ) -> http::Response<Recorded> {
        let (site, watched) = (self.site(), Watched::request(&self.watched));
        let client = site.registry.locations.client(request.headers(), peer.ip());
        let active = slot.begin(site.holder(client));
        let (record, response) =
            site.answer(request, (client, peer), transport, &active, &self.watched).await;
        response.map(|body| Recorded::new(body, record, (watched, active)))
    }
}

impl Site {
    /// Answers a request; whatever goes wrong is an answer, too.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        (client, peer): (IpAddr, SocketAddr),
        transport: Transport,
        active: &ActiveRequest,
        others: &Watched,
    ) -> (Record, Response) {
        let begun = Instant::now();
        let (mut parts, incoming) = request.into_parts();
        let mut record = Record {
            client,
            user: String::new(),
            method: parts.method.clone(),
            path: audit::shown_path(parts.uri.path()),
            repository: None,
            login_failed: false,
            reference: String::new(),
            status: 0,
            begun,
            level: record::level(&parts, peer.ip()),
            endpoint: health::endpoint(parts.uri.path()).unwrap_or(Endpoint::Other),
            http: Arc::clone(&self.http),
        };
        let origin = parts.headers.get(ORIGIN).cloned();
        let is_api = is_api(parts.uri.path());
        let body = RequestBody::new(&parts, incoming, self.limits.body_stall, self.limits.minimum_rate);
        let body = body.counted_by(self.http.received());
        let checked = check_framing(&parts).and_then(|()| check_host(&mut parts).map_err(ApiError::host));
        let answered = match checked {
            Ok(()) => {
                self.note_names(&parts, peer.ip(), transport, others).await;
                let from = (client, peer.ip(), transport);
                match self.for_supervisors(&parts, from, others, &mut record).await {
                    Some(response) => Some(response),
                    None => self.outside_the_api(&parts, transport),
                }
            }
            Err(error) => Some(error.into_response()),
        };
        let page = self.admin.as_ref().filter(|_| answered.is_none() && is_for_people(&parts));
        let is_page = page.is_some();
        let mut response = match (answered, page) {
            (Some(response), _) => response,
            (None, Some(admin)) => {
                let around = self.surroundings((client, peer.ip()), transport, others);
                record.endpoint = Endpoint::Page;
                let (response, identity) = admin.answer(parts, body, around, &self.access).await;
                record.user = identity.to_string();
                if matches!(identity, Identity::User(_)) {
                    active.permit();
                }
                response
            }
            (None, None) => {
                let answered = self.api(parts, body, (client, peer.ip(), transport), active, &mut record);
                answered.await.unwrap_or_else(|error| {
                    record.log(&error);
                    error.into_response()
                })
            }
        };
        if is_api {
            registry::mark_version(&mut response);
        }
        if is_page {
            // No page of another origin has anything to do with these.
            self.cors.apply_plain(response.headers_mut());
        } else {
            let is_for_supervisors = matches!(record.endpoint, Endpoint::Metrics | Endpoint::Health);
            if is_for_supervisors && self.metrics_access != MetricsAccess::Open {
                self.cors.apply_plain(response.headers_mut());
            } else {
                self.cors.apply(origin.as_ref(), response.headers_mut());
            }
            // After what is configured, which cannot take this away.
            confine(response.headers_mut());
        }
        record.status = response.status().as_u16();
        (record, response)
    }

    /// What the admin page wants to know of a request and of the rooms that it does not call.
    fn surroundings(
        &self,
        (client, peer): (IpAddr, IpAddr),
        transport: Transport,
        others: &Watched,
    ) -> Surroundings {
        Surroundings {
            client,
            peer,
            tls: transport == Transport::Tls,
            requests: others.activity().requests,
            unnamed_proxy: others.has_unnamed_proxy(),
            certificate: self.certificates.as_deref().map(certificate),
        }
    }

    /// Answers health checks and `/metrics`.
    async fn for_supervisors(
        &self,
        parts: &Parts,
        from: (IpAddr, IpAddr, Transport),
        others: &Watched,
        record: &mut Record,
    ) -> Option<Response> {
        if record.endpoint != Endpoint::Metrics {
            return self.health(parts, others);
        }
        let answered = self.metrics(parts, from, others, record).await;
        Some(answered.unwrap_or_else(|error| {
            record.log(&error);
            error.into_response()
        }))
    }

    /// Notes what the operator should know of the name by which a client calls, and of the way it came: each is logged once.
    async fn note_names(&self, parts: &Parts, peer: IpAddr, transport: Transport, others: &Watched) {
        let is_trusted = self.registry.locations.is_trusted(peer);
        if transport == Transport::Tls
            && !is_trusted
            && let (Some(certificates), Some(name)) = (&self.certificates, host_name(&parts.headers))
        {
            certificates.note_called(name);
        }
        // The headers are looked at last: this is on the way of every request.
        let may_be_proxy = !others.has_unnamed_proxy() && !is_trusted && peer.to_canonical().is_loopback();
        if may_be_proxy
            && is_forwarded(&parts.headers)
            && self.access.is_open_by_itself().await
            && others.note_unnamed_proxy()
        {
            log::warn!(
                "a proxy on this machine passes requests on, and the registry has no users: it is open to everyone who \
                 can reach the proxy; name the proxy (http.trusted_proxies), or run: holdfast user add NAME"
            );
        }
    }

    /// Answers that need nobody's permit.
    fn outside_the_api(&self, parts: &Parts, transport: Transport) -> Option<Response> {
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        if reads && parts.uri.path() == "/ca.crt" {
            let pem = self.certificates.as_ref()?.ca_pem()?;
            let bytes = Bytes::copy_from_slice(pem.as_bytes());
            return Some(with_bytes(StatusCode::OK, "application/x-x509-ca-cert", bytes));
        }
        if transport == Transport::PlainBesideTls {
            return Some(to_https(parts));
        }
        if let Some(response) = self.cors.preflight(&parts.method, &parts.headers) {
            return Some(response);
        }
        let welcome = || {
            with_bytes(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(WELCOME.as_bytes()))
        };
        let is_page = self.admin.is_some() && wants_html(parts);
        (reads && parts.uri.path() == "/" && !is_page).then(welcome)
    }

    async fn api(
        &self,
        parts: Parts,
        body: RequestBody,
        (client, peer, transport): (IpAddr, IpAddr, Transport),
        active: &ActiveRequest,
        record: &mut Record,
    ) -> Result<Response, ApiError> {
        let path = parts.uri.path();
        if !is_api(path) && path != TOKEN_PATH {
            return Err(ApiError::no_endpoint());
        }
        self.check_name(&parts, peer).await?;
        self.check_origin(&parts, peer, transport)?;
        if path == TOKEN_PATH {
            record.endpoint = Endpoint::Token;
            return self.token(&parts, body, client, active, record).await;
        }
        let route = Route::parse(&parts.method, path);
        let at = (&parts, peer, transport);
        let caller =
            self.caller(&parts, client, record, |error| self.challenge(at, route.as_ref().ok(), error));
        let caller = caller.await?;
        record.user = caller.identity().to_string();
        let route = match route {
            Ok(route) => route,
            Err(error) => {
                // Whoever may not even ping does not learn what is wrong with the path.
                self.permit(&caller, &Wanted::Ping, |error| self.challenge(at, None, error))?;
                return Err(error.into());
            }
        };
        record.endpoint = record::endpoint(&route);
        record.repository = route.repository();
        record.reference = route.reference().unwrap_or_default();
        let challenge = |error| self.challenge(at, Some(&route), error);
        if route == Route::Ping && caller.has_no_credentials() && self.access.challenge() == Scheme::Bearer {
            // By this answer clients learn that there is a log-in, also where they could go on without one.
            return Err(unauthorized(challenge(None), "log in, or get a token for the anonymous user"));
        }
        let permit = self.permit(&caller, &route.wanted(), challenge)?;
        active.permit();
        let deed = Deed::of(&route, &parts.method);
        let parsed = Parsed::new(route, parts, body);
        let response = self.registry.answer(parsed.permitted(permit, peer)).await?;
        if let Some((deed, _)) = deed.filter(|(_, status)| *status == response.status()) {
            record.note(deed, &self.events);
        }
        Ok(response)
    }

    /// Refuses a host that DNS rebinding could use.
    pub(super) async fn check_name(&self, parts: &Parts, peer: IpAddr) -> Result<(), ApiError> {
        let policy = RebindingPolicy::new(&self.registry.locations);
        Ok(policy.check(&parts.headers, peer, &self.access).await?)
    }

    /// Refuses a change by a web page of another origin (CSRF).
    fn check_origin(&self, parts: &Parts, peer: IpAddr, transport: Transport) -> Result<(), ApiError> {
        let policy = CsrfPolicy::new(&self.registry.locations);
        Ok(policy.check_api(parts, peer, transport == Transport::Tls, &self.cors)?)
    }

    /// Identifies the sender of a request by its `Authorization` header; a failure is logged and counted. `challenge` makes
    /// the challenge for a request that fails, with an error code of RFC 6750.
    pub(super) async fn caller(
        &self,
        parts: &Parts,
        client: IpAddr,
        record: &mut Record,
        challenge: impl FnOnce(Option<&'static str>) -> Challenge,
    ) -> Result<Caller, ApiError> {
        let authorization = parts.headers.get(AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap_or("not text"));
        self.access.identify(authorization, client).await.map_err(|error| {
            let name = authorization.and_then(access::claimed_name).unwrap_or_default();
            self.logins.failed(client, "api", &name, &error);
            record.login_failed = true;
            unidentified(&error, challenge(error.code()))
        })
    }

    /// Permits a request; `challenge` is as in [`Site::caller`].
    pub(super) fn permit(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        challenge: impl FnOnce(Option<&'static str>) -> Challenge,
    ) -> Result<crate::access::Permit, ApiError> {
        self.access.permit_caller(caller, wanted).map_err(|refusal| match refusal {
            Refusal::NeedsLogin => unauthorized(challenge(None), "a user has to log in for this"),
            Refusal::NoUsersYet => unauthorized(
                challenge(None),
                "this registry has no users yet; on its machine, run: holdfast user add NAME",
            ),
            Refusal::InsufficientScope => {
                unauthorized(challenge(Some("insufficient_scope")), "the token was not issued for this")
            }
            Refusal::Denied => ApiError::denied(format!("user {} may not do this", caller.identity())),
        })
    }

    /// The challenge for a request: Bearer if the configuration wants that and the request names a host.
    fn challenge(
        &self,
        (parts, peer, transport): (&Parts, IpAddr, Transport),
        route: Option<&Route>,
        error: Option<&'static str>,
    ) -> Challenge {
        let tls = transport == Transport::Tls;
        match self.access.challenge() {
            Scheme::Basic => self.basic(),
            Scheme::Bearer => match self.registry.locations.token_endpoint(&parts.headers, peer, tls) {
                Some(endpoint) => {
                    let scope = route.and_then(|route| scope_of(route, parts));
                    Challenge::Bearer { endpoint, scope, error }
                }
                None => self.basic(),
            },
        }
    }
}

/// The answer to a request whose credentials were not accepted.
pub(super) fn unidentified(error: &IdentifyError, challenge: Challenge) -> ApiError {
    ApiError::failed_login(error.into(), challenge)
}

fn unauthorized(challenge: Challenge, message: &str) -> ApiError {
    ApiError::unauthorized(challenge, message)
}

/// The scopes that a request needs, as a challenge has them: those of its route, and for a mount the repository that it mounts
/// from.
fn scope_of(route: &Route, parts: &Parts) -> Option<String> {
    let actions = |actions: &[Action]| Actions::of(actions);
    let scope = match route.wanted() {
        Wanted::Ping | Wanted::Upkeep | Wanted::Users => return None,
        Wanted::Catalog => Scope::Catalog,
        Wanted::Repository { name, action: Action::Push } => {
            Scope::Repository(name, actions(&[Action::Pull, Action::Push]))
        }
        Wanted::Repository { name, action } => Scope::Repository(name, actions(&[action])),
    };
    let mut text = scope.to_string();
    if matches!(route, Route::StartUpload(_)) {
        let query = Query::parse(parts.uri.query());
        let from = query.get("mount").and_then(|_| query.get("from")?.parse().ok());
        if let Some(from) = from {
            text += &format!(" {}", Scope::Repository(from, actions(&[Action::Pull])));
        }
    }
    Some(text)
}

/// Whether a request is for the admin page: one of its paths, or anything else that a browser asks for. What is under the
/// path of the API is never a page, however it is escaped.
fn is_for_people(parts: &Parts) -> bool {
    let path = percent_decode_str(parts.uri.path()).collect::<Vec<u8>>();
    if path == b"/v2" || path.starts_with(b"/v2/") || path == TOKEN_PATH.as_bytes() {
        return false;
    }
    Admin::is_for(&parts.method, parts.uri.path()) || wants_html(parts)
}

/// Whether whoever asks would like a page rather than words for a terminal.
fn wants_html(parts: &Parts) -> bool {
    let accepts = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

/// The certificate as the admin page shows it.
fn certificate(certificates: &Certificates) -> Certificate {
    let facts = certificates.facts();
    Certificate {
        is_own: facts.fingerprint.is_some(),
        until: facts.until.and_then(|until| until.try_into().ok()),
        fingerprint: facts.fingerprint,
        clock_is_behind: facts.clock_is_behind,
    }
}

fn is_api(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// Sends a client that speaks plain HTTP to TLS on the same port.
pub(super) fn to_https(parts: &Parts) -> Response {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let location = host.and_then(|host| HeaderValue::from_str(&format!("https://{host}{path}")).ok());
    let Some(location) = location else { return empty(StatusCode::BAD_REQUEST) };
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, location);
    response
}
