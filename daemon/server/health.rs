//! `/healthz`, `/readyz` and `/metrics`, for supervisors and Prometheus. Answered from memory, so that a hanging disk delays
//! none of them.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::access_log::AccessRecord;
use super::activity::ActivityTracker;
use super::endpoints;
use super::services::{MetricsAccess, RequestServices};
use super::transport::{Transport, redirect_to_https};
use crate::access::Operation;
use crate::jobs::{JobState, JobView};
use crate::metrics::{self, Endpoint, Format, State};
use crate::wire::audit::LoginCounts;
use crate::wire::{ApiError, Response, is_forwarded, is_sent_by_page, requested_name, with_bytes};

/// Returns the response of a health check: 200 with `ok`, or 503 with the word of an impairment.
fn health_response(word: &'static str) -> Response {
    let status = if word == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = with_bytes(status, "text/plain; charset=utf-8", Bytes::from_static(word.as_bytes()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl RequestServices {
    /// Answers a health check: without a log-in, by any host name, with one word.
    pub(super) fn health(&self, parts: &Parts, activity: &ActivityTracker) -> Option<Response> {
        let path = parts.uri.path();
        if endpoints::for_supervisors(path) != Some(Endpoint::Health) {
            return None;
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Some(ApiError::method("GET, HEAD").into_response());
        }
        Some(health_response(self.condition(path == "/readyz", activity)))
    }

    /// Returns the word of a health check: `ok`, `draining`, or an impairment of the store.
    fn condition(&self, ready: bool, activity: &ActivityTracker) -> &'static str {
        if activity.is_draining() {
            return "draining";
        }
        self.registry.impairment(ready).unwrap_or("ok")
    }

    /// Answers `/metrics`.
    pub(super) async fn metrics(
        &self,
        parts: &Parts,
        (client, peer, transport): (IpAddr, IpAddr, Transport),
        activity: &ActivityTracker,
        record: &mut AccessRecord,
    ) -> Result<Response, ApiError> {
        match self.metrics_access {
            MetricsAccess::Off => return Err(ApiError::no_endpoint()),
            MetricsAccess::Open => {}
            MetricsAccess::Local if is_local(&parts.headers, client) => {}
            MetricsAccess::Local => {
                return Err(ApiError::denied(
                    "metrics are available to programs on this machine only: use 127.0.0.1 or localhost without a proxy, \
                     run `holdfast metrics`, or set metrics.access",
                ));
            }
            MetricsAccess::Users => {
                if transport == Transport::PlainBesideTls {
                    return Ok(redirect_to_https(parts));
                }
                self.check_host_name(parts, peer).await?;
                let caller = self.caller(parts, client, record, |_| self.basic()).await?;
                self.permit(&caller, &Operation::Maintenance, |_| self.basic())?;
            }
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(ApiError::method("GET, HEAD"));
        }
        let accept = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let format = Format::of(accept);
        let text = self.metrics_text(format, activity);
        let mut response = with_bytes(StatusCode::OK, format.content_type(), text.into());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Renders all metrics.
    pub(super) fn metrics_text(&self, format: Format, activity: &ActivityTracker) -> String {
        let certificate = self.certificates.as_deref().map(|certificates| {
            let facts = certificates.info();
            metrics::Certificate { is_own: facts.fingerprint.is_some(), expires: facts.expires }
        });
        let LoginCounts { wrong, throttled, tokens } = self.logins.counts();
        let state = State {
            connections: activity.activity().connections,
            login_failures: wrong,
            throttled,
            tokens_issued: tokens,
            certificate,
            jobs: self.job_states(),
            events: self.registry.event_counts(),
            store: self.registry.store_state(),
        };
        metrics::render(&self.http, &state, format)
    }

    /// Returns the background jobs for the metrics: not those that are repeated all the time.
    fn job_states(&self) -> Vec<(String, metrics::Job)> {
        let recorded = self.jobs.list().into_iter().filter(|job| !job.routine);
        let state = |job: JobView| {
            let is_running = job.state == JobState::Running;
            (
                job.name,
                metrics::Job { succeeded: job.last_success, failures: job.failures.into(), is_running },
            )
        };
        recorded.map(state).collect()
    }
}

/// Returns true for a program on this machine that connects directly. A proxy on this machine would publish the metrics: it is
/// recognised by its headers, or else by the host that its client called, if it passes that on. A web page in a browser on
/// this machine is not local either: it could send the metrics elsewhere.
fn is_local(headers: &HeaderMap, client: IpAddr) -> bool {
    let is_local_host = requested_name(headers).map_or(!headers.contains_key(HOST), |name| {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let address = name.parse::<IpAddr>();
        name == "localhost"
            || name.ends_with(".localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    });
    let is_direct = !is_forwarded(headers) && !is_sent_by_page(headers);
    client.to_canonical().is_loopback() && is_direct && is_local_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_direct_client_is_local() {
        let local = |client: &str, pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_local(&pairs.collect(), client.parse().unwrap())
        };
        for host in
            ["localhost", "LOCALHOST:5000", "a.localhost.", "127.0.0.1:5000", "[::1]:5000", "127.8.0.1"]
        {
            assert!(local("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(local("::ffff:127.0.0.1", &[]) && local("::1", &[("host", "[::1]")]));
        assert!(!local("192.168.1.7", &[("host", "localhost")]));
        assert!(!local("127.0.0.1", &[("host", "hub.lan")]) && !local("127.0.0.1", &[("host", "a b")]));
        for name in ["x-forwarded-for", "forwarded", "x-forwarded-proto", "via", "x-real-ip"] {
            assert!(!local("127.0.0.1", &[("host", "localhost"), (name, "127.0.0.1")]), "{name}");
        }
    }

    #[test]
    fn a_web_page_is_not_local() {
        let local = |name: &'static str, value: &'static str| {
            let headers = [(HOST.as_str(), "localhost"), (name, value)]
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_local(&headers.into_iter().collect(), "127.0.0.1".parse().unwrap())
        };
        assert!(!local("origin", "http://evil.example") && !local("origin", "null"));
        assert!(!local("sec-fetch-site", "cross-site") && !local("sec-fetch-site", "same-site"));
        // The address was entered in the browser.
        assert!(local("sec-fetch-site", "none"));
    }
}
