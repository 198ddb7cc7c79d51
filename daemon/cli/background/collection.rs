//! The job `gc`: collections.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{COLLECTION, CurrentConfig, record_outcome, stopped_by};
use crate::base::Lock;
use crate::base::human::{count, size};
use crate::config::Config;
use crate::jobs::{Class, JobContext, JobEnd, JobSpec, Jobs, Progress, Schedule};
use crate::oci::{Algorithm, Hasher};
use crate::store::{
    CollectedItem, CollectionPolicy, CollectionReport, RetentionRule, StopRequest, Store, StoreError,
};

/// The options of a collection that is started by hand.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The grace period, instead of `gc.grace`.
    grace: Option<String>,
    /// True for a collection that looks at all content and all files.
    #[serde(default)]
    full: bool,
}

impl Options {
    fn read(options: &Value) -> Result<Self, String> {
        if options.is_null() {
            return Ok(Options::default());
        }
        let read: Options = serde_json::from_value(options.clone()).map_err(|error| error.to_string())?;
        read.grace().map(|_| read)
    }

    fn grace(&self) -> Result<Option<Duration>, String> {
        let grace = self.grace.as_deref().map(|text| crate::config::duration("grace", text));
        grace.transpose().map_err(|error| error.to_string())
    }
}

/// Registers the job.
pub(super) async fn register(jobs: &Jobs, store: Store, config: CurrentConfig, schedule: Schedule) {
    let spec = JobSpec {
        name: COLLECTION.to_owned(),
        class: Class::Disk,
        schedule,
        is_routine: false,
        joins: |running, wanted| running == wanted,
        validate: |options| Options::read(options).map(drop),
    };
    let warned = Arc::new(Lock::new(Vec::new()));
    let work = move |context: JobContext| {
        collect(context, store.clone(), config().gc.policy.clone(), Arc::clone(&warned))
    };
    jobs.register(spec, work).await;
}

/// Returns a fingerprint of the rules of collections: two configurations with the same one free the same content.
pub(in crate::cli) fn rules(config: &Config) -> String {
    let text = format!("{:?}", config.gc.policy);
    Hasher::digest(Algorithm::Sha256, text.as_bytes()).hex()[..16].to_owned()
}

/// Collects. `warned` has the rules of the last collection that logged which of them match nothing.
async fn collect(
    context: JobContext,
    store: Store,
    policy: CollectionPolicy,
    warned: Arc<Lock<Vec<RetentionRule>>>,
) -> JobEnd {
    let is_by_hand = context.user().is_some();
    let options = Options::read(context.options());
    let policy = match options.and_then(|options| Ok((options.grace()?, options.full))) {
        Ok((grace, full)) => {
            let grace = grace.unwrap_or(policy.grace);
            CollectionPolicy { by_operator: is_by_hand, grace, full, ..policy }
        }
        Err(error) => return JobEnd::failed(error),
    };
    let unmatched = unmatched_rules(&store, &policy.retention, is_by_hand, &warned).await;
    let mut progress = Progress { line: line(0, 0), ..Progress::default() };
    context.progress(progress.clone());
    let mut observe = |item: CollectedItem| {
        log::debug!("collected {item:?}");
        progress.items_done += 1;
        progress.bytes_done += bytes(&item);
        progress.line = line(progress.items_done, progress.bytes_done);
        context.item(&item);
        context.progress(progress.clone());
    };
    let stop = StopRequest::new(context.cancelled());
    match store.collect_until(&policy, context.is_dry(), &mut observe, stop).await {
        Ok(report) => {
            if !is_by_hand && report.did_work() {
                log_report(&report);
            }
            if report.did_work() && !context.is_dry() {
                record_outcome(&store, context.user(), COLLECTION, &report.outcome()).await;
            }
            let end = if report.cancelled {
                JobEnd { text: format!("Cancelled; until then {}.", report.outcome()), ..JobEnd::cancelled() }
            } else {
                JobEnd::ok(
                    std::iter::once(report.outcome()).chain(unmatched.clone()).collect::<Vec<_>>().join("; "),
                )
            };
            let mut report = serde_json::to_value(report).unwrap_or_default();
            if !unmatched.is_empty() {
                report["unmatched_rules"] = unmatched.into();
            }
            end.with_report(report)
        }
        Err(error) => {
            let is_expected = matches!(error, StoreError::Closing | StoreError::ReadOnly);
            if !is_by_hand && !is_expected {
                log::error!("collection failed: {error}; it will be retried");
            }
            record_outcome(&store, context.user(), COLLECTION, &format!("failed: {error}")).await;
            stopped_by(&error)
        }
    }
}

/// Returns a sentence for each retention rule that matches nothing, if an operator started the collection. One that the
/// schedule started logs them, once for the same rules.
async fn unmatched_rules(
    store: &Store,
    rules: &[RetentionRule],
    is_by_hand: bool,
    warned: &Lock<Vec<RetentionRule>>,
) -> Vec<String> {
    if rules.is_empty() || (!is_by_hand && *warned.lock() == rules) {
        return Vec::new();
    }
    // An error of the index ends the collection itself.
    let Some(unmatched) = store.unmatched_rules(rules).await.ok().flatten() else { return Vec::new() };
    if is_by_hand {
        return unmatched;
    }
    rules.clone_into(&mut warned.lock());
    for sentence in unmatched {
        log::warn!("{sentence}; check the configuration");
    }
    Vec::new()
}

fn bytes(item: &CollectedItem) -> u64 {
    match item {
        CollectedItem::Blob { bytes, .. } | CollectedItem::Upload { bytes, .. } => *bytes,
        CollectedItem::Tag { .. } | CollectedItem::Manifest { .. } => 0,
    }
}

fn line(items: u64, bytes: u64) -> String {
    format!("{} freed so far, {}", count(items, "item"), size(bytes))
}

fn log_report(report: &CollectionReport) {
    log::info!(
        "collected {}, {}, {} and {}: {} freed",
        count(report.freed_tags, "tag"),
        count(report.freed_manifests, "manifest"),
        count(report.freed_blobs.count, "blob"),
        count(report.freed_uploads.count, "upload"),
        size(report.freed_blobs.bytes + report.freed_uploads.bytes)
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_validated() {
        let grace = |options: Value| Options::read(&options).and_then(|options| options.grace());
        assert_eq!((grace(Value::Null), grace(json!({}))), (Ok(None), Ok(None)));
        assert_eq!(grace(json!({"grace": "2m"})), Ok(Some(Duration::from_mins(2))));
        assert!(grace(json!({"grace": "2"})).unwrap_err().contains("a duration like"));
        let full = |options: Value| Options::read(&options).map(|options| options.full);
        assert_eq!((full(json!({})), full(json!({"full": true}))), (Ok(false), Ok(true)));
        assert!(grace(json!({"rate": "1MiB"})).unwrap_err().contains("unknown field `rate`"));
    }
}
