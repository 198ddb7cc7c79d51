//! The access log: one line for each request, once its answer is sent or broken off.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

use super::activity::Request;
use super::health;
use super::slots::ActiveRequest;
use crate::metrics::{Endpoint, HttpCounters};
use crate::oci::{ProblemKind, RepositoryName};
use crate::wire::{ApiError, BodyError, Deed, Event, Events, ResponseBody, Route, audit, is_forwarded};

/// What the line says.
pub(super) struct Record {
    pub(super) client: IpAddr,
    pub(super) user: String,
    pub(super) method: http::Method,
    pub(super) path: String,
    pub(super) repository: Option<RepositoryName>,
    /// Whether the request has a line already because of its password.
    pub(super) login_failed: bool,
    pub(super) reference: String,
    pub(super) status: u16,
    pub(super) begun: Instant,
    pub(super) level: log::Level,
    /// Under which the metrics count it.
    pub(super) endpoint: Endpoint,
    pub(super) http: Arc<HttpCounters>,
}

/// What the daemon's own command line calls itself when it asks whether the registry answers.
pub const OWN_AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// How important the line of a request is, if it is answered. A health check asks every few seconds, and Prometheus too, and
/// that is not to be written to a card. What a proxy on this machine passes on comes from other clients.
pub(super) fn level(parts: &Parts, peer: IpAddr) -> log::Level {
    if health::endpoint(parts.uri.path()).is_some() {
        return log::Level::Debug;
    }
    let agent = parts.headers.get(USER_AGENT);
    let is_own = peer.to_canonical().is_loopback() && agent.is_some_and(|agent| agent == OWN_AGENT);
    if is_own && !is_forwarded(&parts.headers) && parts.uri.path() == "/v2/" {
        log::Level::Debug
    } else {
        log::Level::Info
    }
}

/// Returns the endpoint of a route.
pub(super) fn endpoint(route: &Route) -> Endpoint {
    match route {
        Route::Ping => Endpoint::Ping,
        Route::Catalog => Endpoint::Catalog,
        Route::Tags(_) => Endpoint::Tags,
        Route::GetManifest(..) | Route::PutManifest(..) | Route::DeleteManifest(..) => Endpoint::Manifest,
        Route::GetBlob(..) | Route::DeleteBlob(..) => Endpoint::Blob,
        Route::StartUpload(_)
        | Route::UploadStatus(..)
        | Route::PatchUpload(..)
        | Route::PutUpload(..)
        | Route::CancelUpload(..) => Endpoint::Upload,
        Route::Referrers(..) => Endpoint::Referrers,
    }
}

impl Record {
    /// Logs an error that the request met, where that has a line of its own.
    pub(super) fn log(&self, error: &ApiError) {
        let repository = self.repository.as_ref().map_or("", RepositoryName::as_str);
        if let (ProblemKind::Internal, Some(why)) = (error.problem().kind(), error.problem().cause()) {
            log::error!(client:% = self.client, repository = repository; "{why}");
        } else if !self.login_failed {
            audit::refused(self.client, &self.method, &self.user, repository, error);
        }
    }

    /// Notes what was done, for the admin page.
    pub(super) fn note(&self, deed: Deed, events: &Events) {
        let Some(name) = &self.repository else { return };
        events.note(Event::now(deed, self.user.clone(), self.client, name.clone(), self.reference.clone()));
    }
}

/// The body of an answer, that writes the line when it ends.
pub struct Recorded {
    body: ResponseBody,
    sent: u64,
    record: Record,
    _until_sent: (Request, ActiveRequest),
}

impl Recorded {
    /// Watches over the body of an answer.
    pub(super) fn new(body: ResponseBody, record: Record, until_sent: (Request, ActiveRequest)) -> Self {
        Recorded { body, sent: 0, record, _until_sent: until_sent }
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let Record { client, user, method, path, repository, reference, status, begun, level, .. } =
            &self.record;
        let (endpoint, took) = (self.record.endpoint, begun.elapsed());
        self.record.http.count(endpoint, method, *status, took, self.sent);
        let level = match (endpoint, *status) {
            // Its reason has a line of its own.
            (Endpoint::Health, _) => *level,
            (Endpoint::Metrics, 400..) | (_, 500..) => (*level).min(log::Level::Info),
            _ => *level,
        };
        // Numbers of milliseconds need not be exact.
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        log::log!(
            target: "access", level,
            client:% = client, user = user.as_str(),
            repository = repository.as_ref().map_or("", RepositoryName::as_str),
            reference = reference.as_str(), status = *status, bytes = self.sent, milliseconds = milliseconds;
            "{} {path}", audit::shown_method(method)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_checks_and_metrics_are_quiet() {
        let level = |path: &str, peer: &str, headers: &[(&str, &str)]| {
            let mut request = http::Request::get(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            super::level(&request.body(()).unwrap().into_parts().0, peer.parse().unwrap())
        };
        let own = ("User-Agent", OWN_AGENT);
        assert_eq!(level("/v2/", "127.0.0.1", &[own]), log::Level::Debug);
        assert_eq!(level("/v2/", "::ffff:127.0.0.1", &[own]), log::Level::Debug);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(level(path, "192.0.2.1", &[]), log::Level::Debug, "{path}");
        }
        for (path, peer, headers) in [
            ("/v2/", "192.0.2.1", &[own][..]),
            ("/healthz/", "192.0.2.1", &[]),
            ("/v2/a/tags/list", "127.0.0.1", &[own]),
            ("/v2/", "127.0.0.1", &[]),
            ("/v2/", "127.0.0.1", &[own, ("X-Forwarded-For", "192.0.2.1")]),
            ("/v2/", "127.0.0.1", &[own, ("Forwarded", "for=192.0.2.1")]),
        ] {
            assert_eq!(level(path, peer, headers), log::Level::Info, "{path} {peer} {headers:?}");
        }
    }
}
