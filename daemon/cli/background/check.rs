//! The job `check`: checks of all stored content.

use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::describe;
use super::{CHECK, CurrentConfig, check_position, record_outcome, stopped_by};
use crate::base::Lock;
use crate::base::human::{count, size};
use crate::jobs::{Class, JobContext, JobEnd, JobSpec, Jobs, Progress, Schedule};
use crate::store::{
    CheckEvent, CheckOptions, CheckProgress, CheckReport, FaultFound, Outcome, Store, StoreError,
};

/// The options of a check that is started by hand.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The most bytes to read per second.
    rate: Option<String>,
    /// True to repair faults.
    #[serde(default)]
    repair: bool,
    /// True to change nothing, not even a damaged `index.json`.
    #[serde(default)]
    leave_layout: bool,
}

impl Options {
    fn read(options: &Value) -> Result<CheckOptions, String> {
        if options.is_null() {
            return Ok(CheckOptions::default());
        }
        let read: Options = serde_json::from_value(options.clone()).map_err(|error| error.to_string())?;
        let rate = read.rate.as_deref().map(|rate| crate::config::bytes("rate", rate));
        let rate = rate.transpose().map_err(|error| error.to_string())?;
        Ok(CheckOptions { rate, repair: read.repair, leave_layout: read.leave_layout })
    }
}

/// Registers the job.
pub(super) async fn register(jobs: &Jobs, store: Store, config: CurrentConfig, schedule: Schedule) {
    let spec = JobSpec {
        name: CHECK.to_owned(),
        class: Class::Disk,
        schedule,
        is_routine: false,
        joins: |running, wanted| changes(running) == changes(wanted),
        validate: |options| Options::read(options).map(drop),
    };
    jobs.register(spec, move |context| check(context, store.clone(), config().check.rate)).await;
}

/// Returns the parts that a check may change: all, and `index.json`.
fn changes(options: &Value) -> (bool, bool) {
    let repair = options["repair"] == true;
    (repair, repair || options["leave_layout"] != true)
}

async fn check(context: JobContext, store: Store, scheduled_rate: Option<u64>) -> JobEnd {
    let is_by_hand = context.user().is_some();
    let options = match Options::read(context.options()) {
        Ok(options) if is_by_hand => options,
        Ok(options) => CheckOptions { rate: scheduled_rate, ..options },
        Err(error) => return JobEnd::failed(error),
    };
    context.progress(progress_of(CheckProgress::default()));
    let start = if is_by_hand { None } else { check_position::load(&store).await };
    let reached = Lock::new(start.clone());
    let mut observe = |event: CheckEvent| match event {
        CheckEvent::Progress(progress) => context.progress(progress_of(progress)),
        CheckEvent::Fault(found) => {
            context.item(&item(&found));
            context.note(describe(&found));
        }
        CheckEvent::Position(position) => *reached.lock() = Some(position),
    };
    let checked = tokio::select! {
        biased;
        checked = store.check_from(options, start, &mut observe) => Some(checked),
        () = context.cancelled() => None,
        never = check_position::save_regularly(&store, &reached), if !is_by_hand => match never {},
    };
    match checked {
        None if is_by_hand => JobEnd::cancelled(),
        None => {
            let position = reached.lock().take();
            check_position::save(&store, position.as_ref()).await;
            JobEnd { text: "Cancelled; the next check continues there.".into(), ..JobEnd::cancelled() }
        }
        Some(Ok(report)) => {
            if check_position::load(&store).await.is_some() {
                check_position::save(&store, None).await;
            }
            if !is_by_hand {
                log_report(&report);
            }
            let summary = summarise(&report, options.repair);
            record_outcome(&store, context.user(), CHECK, &summary).await;
            let end = JobEnd::ok(summary);
            JobEnd { needs_attention: report.faults > 0, ..end }
                .with_report(serde_json::to_value(report).unwrap_or_default())
        }
        Some(Err(error)) => {
            let is_expected = matches!(error, StoreError::Closing);
            if !is_by_hand && !is_expected {
                log::error!("check failed: {error}; it will be retried");
            }
            record_outcome(&store, context.user(), CHECK, &format!("failed: {error}")).await;
            stopped_by(&error)
        }
    }
}

/// Returns a fault as the command gets it.
fn item(found: &FaultFound) -> Value {
    let FaultFound { fault, outcome, affected } = found;
    json!({
        "fault": fault,
        "outcome": outcome,
        "repaired": *outcome == Outcome::Repaired,
        "images": affected.images,
        "more_images": affected.has_more,
        "push_each": affected.push_each,
    })
}

fn progress_of(CheckProgress { done, all }: CheckProgress) -> Progress {
    let line = format!(
        "{} of {}, {} of {} read",
        done.count,
        count(all.count, "blob"),
        size(done.bytes),
        size(all.bytes)
    );
    Progress {
        items_done: done.count,
        items_all: Some(all.count),
        bytes_done: done.bytes,
        bytes_all: Some(all.bytes),
        line,
    }
}

fn log_report(report: &CheckReport) {
    let read = format!("{}, {}", count(report.blobs.count, "blob"), size(report.blobs.bytes));
    match report.faults {
        0 => log::info!("checked {read}: no faults"),
        faults => log::error!("checked {read}: {}; run `holdfast check` for a list", count(faults, "fault")),
    }
}

fn summarise(report: &CheckReport, repair: bool) -> String {
    let read = format!("{}, {} read", count(report.blobs.count, "blob"), size(report.blobs.bytes));
    match report.faults {
        0 => format!("No faults found: {read}."),
        faults if repair => {
            format!(
                "{} found: {} repaired, {} set aside until the next push; {read}.",
                count(faults, "fault"),
                report.repaired,
                report.set_aside
            )
        }
        faults => format!(
            "{} found; {read}. On the registry's machine, holdfast check --repair sets damaged content aside, so that the \
             next push replaces it.",
            count(faults, "fault")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_validated_and_a_repair_joins_no_check_without_one() {
        assert_eq!(Options::read(&Value::Null), Ok(CheckOptions::default()));
        let slow = json!({"rate": "1MiB", "repair": true});
        assert_eq!(
            Options::read(&slow),
            Ok(CheckOptions { rate: Some(1 << 20), repair: true, leave_layout: false })
        );
        assert!(Options::read(&json!({"rate": "fast"})).unwrap_err().contains("a size like"));
        assert!(Options::read(&json!({"grace": "0s"})).is_err());
        assert_eq!(changes(&slow), (true, true));
        assert_eq!(changes(&Value::Null), changes(&json!({"rate": "1MiB", "repair": false})));
        assert_eq!(changes(&json!({"leave_layout": true})), (false, false));
    }

    #[test]
    fn a_report_says_how_many_faults_there_are() {
        let report = CheckReport { faults: 2, repaired: 1, ..CheckReport::default() };
        assert!(summarise(&CheckReport::default(), false).starts_with("No faults found: 0 blobs"));
        assert!(summarise(&report, false).starts_with("2 faults found; "));
        assert!(
            summarise(&report, true)
                .starts_with("2 faults found: 1 repaired, 0 set aside until the next push; ")
        );
    }
}
