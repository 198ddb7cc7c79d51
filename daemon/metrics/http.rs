//! Counters of HTTP requests: number, duration, and bytes of bodies in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;

use super::text::Text;

/// The part of the registry that answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /v2/`, the check of the API version.
    Ping,
    /// The list of repositories.
    Catalog,
    /// The tags of a repository.
    Tags,
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// An upload.
    Upload,
    /// The referrers of a manifest.
    Referrers,
    /// The token endpoint.
    Token,
    /// A page of the admin page.
    Page,
    /// `/healthz` and `/readyz`.
    Health,
    /// `/metrics`, this text.
    Metrics,
    /// Any other path, and requests that were refused before they were routed.
    Other,
}

/// The values of the label `route`, in the order of [`Endpoint`].
const ROUTES: [&str; 12] = [
    "ping",
    "catalog",
    "tags",
    "manifest",
    "blob",
    "upload",
    "referrers",
    "token",
    "page",
    "health",
    "metrics",
    "other",
];
/// The values of the label `method`.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"];
/// The values of the label `code`, in ascending order; any other status counts as "other".
const CODES: [u16; 29] = [
    200, 201, 202, 204, 206, 301, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 415,
    416, 421, 422, 429, 500, 501, 503, 507,
];
/// The upper bounds of the buckets, in milliseconds and as text in seconds. The last bucket is unbounded.
const BOUNDS: [(u128, &str); 7] = [
    (5, "0.005"),
    (25, "0.025"),
    (100, "0.1"),
    (500, "0.5"),
    (2500, "2.5"),
    (10_000, "10.0"),
    (60_000, "60.0"),
];

/// Counters of requests.
#[derive(Default)]
pub struct HttpCounters {
    routes: [Route; ROUTES.len()],
    received: Arc<AtomicU64>,
    sent: AtomicU64,
    /// The bytes of manifests and blobs among those sent.
    content: AtomicU64,
}

#[derive(Default)]
struct Route {
    /// Requests by method and code.
    requests: [[AtomicU64; CODES.len() + 1]; METHODS.len()],
    /// Requests within each bound and above the previous one.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl HttpCounters {
    /// Counts a request when its response has been sent, with the number of body bytes sent.
    pub fn count(&self, endpoint: Endpoint, method: &Method, status: u16, took: Duration, sent: u64) {
        if matches!(endpoint, Endpoint::Manifest | Endpoint::Blob) && *method == Method::GET {
            self.content.fetch_add(sent, Ordering::Relaxed);
        }
        let route = &self.routes[endpoint as usize];
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let code = CODES.binary_search(&status).unwrap_or(CODES.len());
        let bucket = BOUNDS.iter().position(|(bound, _)| took.as_millis() <= *bound).unwrap_or(BOUNDS.len());
        route.requests[method][code].fetch_add(1, Ordering::Relaxed);
        route.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        route.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Returns the bytes of manifests and blobs that were sent since the last call.
    pub fn take_content_sent(&self) -> u64 {
        self.content.swap(0, Ordering::Relaxed)
    }

    /// Returns the counter of received body bytes.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    pub(super) fn render(&self, text: &mut Text) {
        let mut family =
            text.counter("holdfast_http_requests", "Requests, counted when their response has been sent.");
        for (name, route) in ROUTES.iter().zip(&self.routes) {
            for (method, codes) in METHODS.iter().zip(&route.requests) {
                for (index, count) in codes.iter().enumerate() {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let code = CODES.get(index).map_or_else(|| "other".to_owned(), u16::to_string);
                        family.sample(&[("route", name), ("method", method), ("code", &code)], count);
                    }
                }
            }
        }
        let help = "Time from the head of a request to the end of its response.";
        let mut family = text.histogram("holdfast_http_request_seconds", help);
        for (name, route) in ROUTES.iter().zip(&self.routes) {
            let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
            let mut count = 0;
            for (bound, bucket) in bounds.zip(&route.buckets) {
                count += bucket.load(Ordering::Relaxed);
                family.sample_with_suffix("_bucket", &[("route", name), ("le", bound)], count);
            }
            let sum = Duration::from_micros(route.microseconds.load(Ordering::Relaxed)).as_secs_f64();
            family.sample_with_suffix("_sum", &[("route", name)], sum);
            family.sample_with_suffix("_count", &[("route", name)], count);
        }
        let mut family = text.counter("holdfast_http_bytes", "Bytes of request and response bodies.");
        family.sample(&[("direction", "received")], self.received.load(Ordering::Relaxed));
        family.sample(&[("direction", "sent")], self.sent.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bounds_ascend_and_routes_match_endpoints() {
        assert!(CODES.is_sorted() && BOUNDS.is_sorted());
        assert_eq!(ROUTES[Endpoint::Other as usize], "other");
        assert_eq!(ROUTES[Endpoint::Referrers as usize], "referrers");
    }
}
