//! Metrics for Prometheus.
//!
//! Counters are atomics that the server increments without a lock or an allocation. Gauges are passed as plain data
//! when the text is rendered. Labels come from fixed sets, so that the text never contains names of repositories or
//! users or other input of clients, and its length is bounded.

mod http;
mod process;
mod text;

pub use self::http::{Endpoint, HttpCounters};
pub use self::text::Format;
use self::text::Text;

/// Values that other rooms maintain, at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Open connections.
    pub connections: usize,
    /// Wrong passwords.
    pub login_failures: u64,
    /// Log-ins that the throttle refused.
    pub throttled: u64,
    /// Bearer tokens issued.
    pub tokens_issued: u64,
    /// The certificate, if TLS is enabled.
    pub certificate: Option<Certificate>,
    /// The background jobs, by name.
    pub jobs: Vec<(String, Job)>,
    /// The number of events of each kind.
    pub events: Vec<(&'static str, u64)>,
    /// The state of the store; `None` until it has been measured.
    pub store: Option<StoreState>,
}

/// The certificate in use.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// True if the registry's own authority issued it and will renew it.
    pub is_own: bool,
    /// The time of its expiry, in seconds since 1970.
    pub expires: Option<i64>,
}

/// The state of the store and its disk.
#[derive(Clone, Debug, Default)]
pub struct StoreState {
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Total length of all blobs, in bytes.
    pub blob_bytes: u64,
    /// Unfinished uploads.
    pub uploads: u64,
    /// Free bytes of the file system with the data.
    pub disk_free: u64,
    /// Size of the file system with the data, in bytes.
    pub disk_total: u64,
    /// Bytes that the index uses, and bytes that pushes may use of it.
    pub index: (u64, u64),
    /// True if the store is latched read-only after a failure of the disk.
    pub read_only: bool,
    /// True if a disk operation has been running for several seconds.
    pub hanging: bool,
    /// True if pushes are refused for lack of capacity.
    pub full: bool,
    /// Bytes that collections of this process freed.
    pub freed_bytes: u64,
    /// Faults that the last check of this process found; `None` before the first one.
    pub faults: Option<u64>,
}

/// State of a background job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Job {
    /// Time of the last success, in seconds since 1970.
    pub succeeded: Option<u64>,
    /// Failures since the last success.
    pub failures: u64,
    /// True while the job runs.
    pub is_running: bool,
}

/// Renders all metrics.
pub fn render(http: &HttpCounters, state: &State, format: Format) -> String {
    let mut text = Text::new(format);
    text.gauge("holdfast_build_info", "Release of the daemon, as a label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    http.render(&mut text);
    text.gauge("holdfast_connections", "Open connections.").value(state.connections);
    text.counter("holdfast_login_failures", "Wrong passwords.").value(state.login_failures);
    text.counter("holdfast_throttled", "Log-ins refused by the throttle.").value(state.throttled);
    text.counter("holdfast_tokens_issued", "Bearer tokens issued.").value(state.tokens_issued);
    let mut family = text.counter("holdfast_events", "Events: committed ones, and pulls.");
    for (kind, count) in &state.events {
        family.sample(&[("kind", *kind)], count);
    }
    if let Some(store) = &state.store {
        content(&mut text, store);
        jobs(&mut text, &state.jobs, store);
    }
    if let Some(Certificate { is_own, expires: Some(expires) }) = state.certificate {
        let kind = if is_own { "own" } else { "files" };
        text.gauge(
            "holdfast_certificate_expires_seconds",
            "Expiry of the certificate, in seconds since 1970.",
        )
        .sample(&[("kind", kind)], expires);
    }
    process::render(&mut text);
    text.finish()
}

fn content(text: &mut Text, store: &StoreState) {
    text.gauge("holdfast_uploads", "Unfinished uploads.").value(store.uploads);
    text.gauge("holdfast_repositories", "Repositories.").value(store.repositories);
    text.gauge("holdfast_tags", "Tags.").value(store.tags);
    text.gauge("holdfast_manifests", "Manifests.").value(store.manifests);
    text.gauge("holdfast_blobs", "Blobs.").value(store.blobs);
    text.gauge("holdfast_blob_bytes", "Total length of all blobs.").value(store.blob_bytes);
    text.gauge("holdfast_disk_free_bytes", "Free bytes of the file system with the data.")
        .value(store.disk_free);
    text.gauge("holdfast_disk_total_bytes", "Size of the file system with the data.").value(store.disk_total);
    let (used, usable) = store.index;
    #[expect(clippy::cast_precision_loss, reason = "f64 is the number type of the exposition formats")]
    let ratio = used as f64 / usable.max(1) as f64;
    text.gauge("holdfast_index_used_ratio", "Used fraction of the index, 0 to 1.").value(ratio);
    text.gauge("holdfast_read_only", "1 if the store is read-only after a failure of the disk.")
        .value(u8::from(store.read_only));
    text.gauge("holdfast_disk_hanging", "1 if the disk has not responded for several seconds.")
        .value(u8::from(store.hanging));
    text.gauge("holdfast_full", "1 if pushes are refused for lack of space.").value(u8::from(store.full));
}

fn jobs(text: &mut Text, jobs: &[(String, Job)], store: &StoreState) {
    let mut family =
        text.gauge("holdfast_job_last_success_seconds", "Last success of a job, in seconds since 1970.");
    for (name, job) in jobs {
        if let Some(at) = job.succeeded {
            family.sample(&[("name", name.as_str())], at);
        }
    }
    let mut family = text.gauge("holdfast_job_failures", "Failures of a job since its last success.");
    for (name, job) in jobs {
        family.sample(&[("name", name.as_str())], job.failures);
    }
    let mut family = text.gauge("holdfast_job_running", "1 while a job runs.");
    for (name, job) in jobs {
        family.sample(&[("name", name.as_str())], u8::from(job.is_running));
    }
    text.counter("holdfast_collection_freed_bytes", "Bytes freed by collections.").value(store.freed_bytes);
    if let Some(faults) = store.faults {
        text.gauge("holdfast_check_faults", "Faults found by the last check.").value(faults);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn render_all(format: Format) -> String {
        let http = HttpCounters::default();
        http.count(Endpoint::Blob, &::http::Method::GET, 200, Duration::from_millis(30), 1234);
        http.count(Endpoint::Other, &::http::Method::from_bytes(b"STRANGE").unwrap(), 599, Duration::ZERO, 0);
        let job = Job { succeeded: Some(1_700_000_000), failures: 2, is_running: true };
        let store = StoreState { index: (1, 4), faults: Some(3), ..StoreState::default() };
        let certificate = Some(Certificate { is_own: true, expires: Some(1_800_000_000) });
        let jobs = ["check", "gc"].map(|name| (name.to_owned(), job)).into();
        let events = vec![("push", 3), ("pull", 0)];
        let state = State { jobs, store: Some(store), certificate, events, ..State::default() };
        render(&http, &state, format)
    }

    #[test]
    fn both_formats_have_equal_samples() {
        let samples = |format| {
            let text = render_all(format);
            let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let plain = samples(Format::Prometheus);
        assert_eq!(plain, samples(Format::OpenMetrics));
        for line in [
            "holdfast_http_requests_total{route=\"blob\",method=\"GET\",code=\"200\"} 1",
            "holdfast_http_requests_total{route=\"other\",method=\"other\",code=\"other\"} 1",
            "holdfast_http_request_seconds_bucket{route=\"blob\",le=\"0.025\"} 0",
            "holdfast_http_request_seconds_bucket{route=\"blob\",le=\"0.1\"} 1",
            "holdfast_http_request_seconds_bucket{route=\"blob\",le=\"+Inf\"} 1",
            "holdfast_http_request_seconds_sum{route=\"blob\"} 0.03",
            "holdfast_http_request_seconds_count{route=\"blob\"} 1",
            "holdfast_http_bytes_total{direction=\"sent\"} 1234",
            "holdfast_index_used_ratio 0.25",
            "holdfast_job_last_success_seconds{name=\"gc\"} 1700000000",
            "holdfast_check_faults 3",
            "holdfast_events_total{kind=\"push\"} 3",
            "holdfast_certificate_expires_seconds{kind=\"own\"} 1800000000",
        ] {
            assert!(plain.iter().any(|known| known == line), "{line}: {plain:#?}");
        }
    }

    #[test]
    fn counter_names_follow_the_format() {
        let (plain, open) = (render_all(Format::Prometheus), render_all(Format::OpenMetrics));
        assert!(plain.contains("# TYPE holdfast_login_failures_total counter\n"));
        assert!(open.contains("# TYPE holdfast_login_failures counter\n"));
        assert!(open.ends_with("\n# EOF\n") && !plain.contains("# EOF"));
        assert!(plain.contains("# TYPE holdfast_http_request_seconds histogram\n"));
    }

    #[test]
    fn every_family_has_one_help_and_one_type() {
        let text = render_all(Format::Prometheus);
        let mut types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(types.len(), helps);
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), helps);
    }
}
