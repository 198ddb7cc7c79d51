//! The access log: one line per request, written when its response has been sent or is cut off. At the same time the request is
//! counted in the metrics, and its slot is no longer busy.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

use super::activity::RequestGuard;
use super::endpoints;
use super::slots::ActiveRequest;
use crate::metrics::{Endpoint, HttpCounters};
use crate::oci::{ProblemKind, RepositoryName};
use crate::wire::{ApiError, BodyError, ResponseBody, audit, is_forwarded};

/// The fields of an access log line.
pub(super) struct AccessRecord {
    pub(super) client: IpAddr,
    pub(super) user: String,
    pub(super) method: http::Method,
    pub(super) path: String,
    pub(super) repository: Option<RepositoryName>,
    /// True if a failed log-in has logged the request already.
    pub(super) login_failed: bool,
    pub(super) reference: String,
    pub(super) status: u16,
    /// The bytes of the request's body.
    pub(super) received: Arc<AtomicU64>,
    pub(super) begun: Instant,
    pub(super) level: log::Level,
    /// Endpoint label of the metrics.
    pub(super) endpoint: Endpoint,
    pub(super) http: Arc<HttpCounters>,
}

/// `User-Agent` of the daemon's own command line.
pub const OWN_AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// Returns the level of the line of a successful request. Health checks and Prometheus ask every few seconds, and must not
/// wear out an SD card: `debug`, as for the daemon's own command line unless a proxy on this machine forwarded the request.
pub(super) fn level(parts: &Parts, peer: IpAddr) -> log::Level {
    if endpoints::for_supervisors(parts.uri.path()).is_some() {
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

impl AccessRecord {
    /// Logs the error that a request ends with: internal errors, refused pushes and deletes, and the cause of an error that
    /// the client is not told, such as a lack of descriptors.
    pub(super) fn log(&self, error: &ApiError) {
        let repository = self.repository.as_ref().map_or("", RepositoryName::as_str);
        let cause = error.problem().cause();
        if let (ProblemKind::Internal, Some(why)) = (error.problem().kind(), cause) {
            log::error!(client:% = self.client, repository = repository; "{why}");
            return;
        }
        let is_logged =
            self.login_failed || audit::log_refusal(self.client, &self.method, &self.user, repository, error);
        if let Some(why) = cause.filter(|_| !is_logged) {
            log::warn!(client:% = self.client, repository = repository; "{why}");
        }
    }
}

/// Response body that writes the access log line when it is dropped.
pub struct LoggedBody {
    body: ResponseBody,
    sent: u64,
    record: AccessRecord,
    /// Held until the response is sent: the request counts as active, and its slot as busy.
    _guards: (RequestGuard, ActiveRequest),
}

impl LoggedBody {
    /// Wraps the body of a response.
    pub(super) fn new(
        body: ResponseBody,
        record: AccessRecord,
        guards: (RequestGuard, ActiveRequest),
    ) -> Self {
        LoggedBody { body, sent: 0, record, _guards: guards }
    }
}

impl Body for LoggedBody {
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

impl Drop for LoggedBody {
    fn drop(&mut self) {
        let AccessRecord { client, user, method, path, repository, reference, status, begun, level, .. } =
            &self.record;
        let (endpoint, took) = (self.record.endpoint, begun.elapsed());
        self.record.http.count(endpoint, method, *status, took, self.sent);
        let level = if is_failure(endpoint, *status) {
            (*level).min(log::Level::Info)
        } else if is_step(endpoint, *status) {
            (*level).max(log::Level::Debug)
        } else {
            *level
        };
        let received = self.record.received.load(Ordering::Relaxed);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        log::log!(
            target: "access", level,
            client:% = client, user = user.as_str(),
            repository = repository.as_ref().map_or("", RepositoryName::as_str),
            reference = reference.as_str(), status = *status, bytes = self.sent, milliseconds = milliseconds,
            received = received;
            "{} {path}", audit::loggable_method(method)
        );
    }
}

/// Returns true for the steps of a push or a pull that succeed: a client makes dozens of them for an image, whose manifest has a
/// line of its own.
fn is_step(endpoint: Endpoint, status: u16) -> bool {
    match endpoint {
        // Clients ask for each blob whether it is there.
        Endpoint::Blob => status < 400 || status == 404,
        Endpoint::Upload => status < 400,
        Endpoint::Ping
        | Endpoint::Catalog
        | Endpoint::Tags
        | Endpoint::Manifest
        | Endpoint::Referrers
        | Endpoint::Token
        | Endpoint::Page
        | Endpoint::Health
        | Endpoint::Metrics
        | Endpoint::Other => false,
    }
}

/// Returns true if a response is logged at `info` although its endpoint is logged at `debug`.
fn is_failure(endpoint: Endpoint, status: u16) -> bool {
    match endpoint {
        // The reason of a failed health check is logged where it arises.
        Endpoint::Health => false,
        Endpoint::Metrics => status >= 400,
        Endpoint::Ping
        | Endpoint::Catalog
        | Endpoint::Tags
        | Endpoint::Manifest
        | Endpoint::Blob
        | Endpoint::Upload
        | Endpoint::Referrers
        | Endpoint::Token
        | Endpoint::Page
        | Endpoint::Other => status >= 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_checks_and_metrics_are_logged_at_debug() {
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
