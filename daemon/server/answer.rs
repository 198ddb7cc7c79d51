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
use super::record::{self, Record, Recorded};
use super::slots::{ActiveRequest, Slot};
use super::{Server, Site};
use crate::access::{self, IdentifyError, Identity, Refusal, Wanted};
use crate::admin::{Admin, Certificate, Surroundings};
use crate::registry;
use crate::tls::Certificates;
use crate::wire::{
    ApiError, Deed, Parsed, RequestBody, Response, Route, audit, check_framing, check_host, confine, empty,
    is_of_other_origin, with_bytes,
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
        };
        let origin = parts.headers.get(ORIGIN).cloned();
        let is_api = is_api(parts.uri.path());
        let body = RequestBody::new(&parts, incoming, self.limits.body_stall, self.limits.minimum_rate);
        let checked = check_framing(&parts).and_then(|()| check_host(&mut parts).map_err(ApiError::Host));
        let answered = match checked {
            Ok(()) => self.outside_the_api(&parts, transport),
            Err(error) => Some(error.into_response()),
        };
        let page = self.admin.as_ref().filter(|_| answered.is_none() && is_for_people(&parts));
        let is_page = page.is_some();
        let mut response = match (answered, page) {
            (Some(response), _) => response,
            (None, Some(admin)) => {
                let around = self.surroundings((client, peer.ip()), transport, others);
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
            self.cors.apply(origin.as_ref(), response.headers_mut());
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
            certificate: self.certificates.as_deref().map(certificate),
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
        if !is_api(path) {
            return Err(ApiError::NoEndpoint);
        }
        self.check_name(&parts, peer).await?;
        self.check_origin(&parts, peer, transport)?;
        let authorization = parts.headers.get(AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap_or("not text"));
        let identity = self.access.identify(authorization, client).await;
        let identity = identity.map_err(|error| {
            let name = authorization.and_then(access::claimed_name).unwrap_or_default();
            audit::login_failed(client, "api", &name, &error);
            record.login_failed = true;
            self.unidentified(&error)
        })?;
        record.user = identity.to_string();
        let route = match Route::parse(&parts.method, path) {
            Ok(route) => route,
            Err(error) => {
                // Whoever may not even ping does not learn what is wrong with the path.
                self.permit(identity, &Wanted::Ping)?;
                return Err(error.into());
            }
        };
        record.repository = route.repository();
        record.reference = route.reference().unwrap_or_default();
        let permit = self.permit(identity, &route.wanted())?;
        active.permit();
        let deed = Deed::of(&route, &parts.method);
        let parsed = Parsed::new(route, parts, body);
        let response = self.registry.answer(parsed.permitted(permit, peer)).await?;
        if let Some((deed, _)) = deed.filter(|(_, status)| *status == response.status()) {
            record.note(deed, &self.events);
        }
        Ok(response)
    }

    /// A registry that nobody has opened on purpose is not for names that anybody can have.
    async fn check_name(&self, parts: &Parts, peer: IpAddr) -> Result<(), ApiError> {
        let is_local = self.registry.locations.is_called_locally(&parts.headers, peer);
        if is_local || !self.access.is_open_by_itself().await {
            return Ok(());
        }
        Err(ApiError::Misdirected(
            "this registry has no users, and is only for names of this machine and its network; to call it by \
             another name, run: holdfast user add NAME, or set auth.anonymous"
                .into(),
        ))
    }

    /// Refuses a change that comes from a page of another origin, unless the configuration names that origin. Without this
    /// check any page could send it, with the credentials that the browser remembers, and would only not see the answer.
    fn check_origin(&self, parts: &Parts, peer: IpAddr, transport: Transport) -> Result<(), ApiError> {
        if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let locations = &self.registry.locations;
        let (secure, host) = locations.called(&parts.headers, peer, transport == Transport::Tls);
        let own = |origin: &str| locations.is_own(origin, secure, host.as_deref());
        let has_credentials = parts.headers.contains_key(AUTHORIZATION);
        let is_right = match parts.headers.get(ORIGIN) {
            Some(origin) if self.cors.may_change(origin, has_credentials) => true,
            Some(origin) => !is_of_other_origin(&parts.headers) && origin.to_str().is_ok_and(own),
            None => !is_of_other_origin(&parts.headers),
        };
        if is_right {
            return Ok(());
        }
        Err(ApiError::Denied(
            "a web page of another origin may not change anything here; Access-Control-Allow-Origin in \
             http.headers names those that may (* names none that sends credentials), and behind a proxy \
             http.trusted_proxies or http.external_url says which origin is this one"
                .into(),
        ))
    }

    fn permit(&self, identity: Identity, wanted: &Wanted) -> Result<crate::access::Permit, ApiError> {
        let user = identity.to_string();
        self.access.permit(identity, wanted).map_err(|refusal| match refusal {
            Refusal::NeedsLogin => self.unauthorized("a user has to log in for this"),
            Refusal::NoUsersYet => self
                .unauthorized("this registry has no users yet; on its machine, run: holdfast user add NAME"),
            Refusal::Denied => ApiError::Denied(format!("user {user} may not do this")),
        })
    }

    fn unidentified(&self, error: &IdentifyError) -> ApiError {
        match error {
            IdentifyError::Wrong => self.unauthorized(&error.to_string()),
            IdentifyError::Throttled { retry_after } => ApiError::TooManyRequests(*retry_after),
            IdentifyError::Unavailable => ApiError::Unavailable(error.to_string()),
        }
    }

    fn unauthorized(&self, message: &str) -> ApiError {
        ApiError::Unauthorized { realm: self.realm.clone(), message: message.to_owned() }
    }
}

/// Whether a request is for the admin page: one of its paths, or anything else that a browser asks for. What is under the
/// path of the API is never a page, however it is escaped.
fn is_for_people(parts: &Parts) -> bool {
    let path = percent_decode_str(parts.uri.path()).collect::<Vec<u8>>();
    if path == b"/v2" || path.starts_with(b"/v2/") {
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
fn to_https(parts: &Parts) -> Response {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let location = host.and_then(|host| HeaderValue::from_str(&format!("https://{host}{path}")).ok());
    let Some(location) = location else { return empty(StatusCode::BAD_REQUEST) };
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, location);
    response
}
