//! The background jobs as the maintenance page shows them.

use super::format::When;
use super::limits::{NAME, SENTENCE, shorten};
use super::pager::{Pager, page_of};
use crate::jobs::{JobState, JobView, RunOutcome, RunView};

/// The name of the collection.
pub(super) const COLLECTION: &str = "gc";
/// The name of the check.
pub(super) const CHECK: &str = "check";

/// The job of the import folder.
const IMPORT: &str = "import";

/// The sentences on a page.
const ROWS: usize = 40;
/// The jobs in the schedule; `holdfast jobs` lists all.
const JOBS: usize = 10;

/// The run that is shown: the one in progress, or the last one that a user started.
pub(super) struct ShownRun {
    /// The name of the job, for the form that cancels it.
    pub(super) job: String,
    pub(super) title: String,
    /// The state behind the title: ` running` or ` waiting`; empty after the end.
    pub(super) state: &'static str,
    pub(super) user: String,
    /// None while the run waits.
    pub(super) started: Option<When>,
    pub(super) finished: Option<When>,
    pub(super) progress: String,
    pub(super) percent: Option<u64>,
    /// Whether the outcome is good, and a sentence; none while the run waits or runs.
    pub(super) outcome: Option<(bool, String)>,
    pub(super) notes: Vec<String>,
    /// The number of sentences that are not on this page.
    pub(super) more: usize,
    pub(super) pager: Pager,
}

/// A job that runs or waits.
pub(super) struct RunningJob {
    pub(super) title: String,
    pub(super) text: String,
    /// The progress in percent, if the job knows it.
    pub(super) percent: Option<u64>,
}

/// A job in the schedule.
pub(super) struct ScheduledJob {
    pub(super) title: String,
    pub(super) state: String,
    pub(super) last: Option<(When, String)>,
    pub(super) next: Option<When>,
}

/// Returns the title of a job.
fn title(name: &str) -> String {
    match name {
        COLLECTION => "Collection".to_owned(),
        CHECK => "Check".to_owned(),
        IMPORT => "Import folder".to_owned(),
        name => shorten(name, NAME),
    }
}

/// Selects the run to show: one in progress, else the last one that a user started.
pub(super) fn shown_run(jobs: &[JobView], page: usize, path: &str) -> Option<ShownRun> {
    let rank = |job: &&JobView| match (job.state, &job.run) {
        (_, None) => None,
        (JobState::Running, Some(run)) => Some((2, run.number)),
        (JobState::Waiting, Some(run)) => Some((1, run.number)),
        (JobState::Idle | JobState::Paused, Some(run)) => run.user.is_some().then_some((0, run.number)),
    };
    let candidates = jobs.iter().filter(|job| !job.routine).filter(|job| rank(job).is_some());
    let job = candidates.max_by_key(rank)?;
    Some(show(job, job.run.clone()?, page, path))
}

fn show(job: &JobView, run: RunView, page: usize, path: &str) -> ShownRun {
    let kept = run.notes.len();
    let percent = run.progress.percent().filter(|_| run.outcome.is_none());
    let progress = if job.state == JobState::Waiting { &job.reason } else { &run.progress.line };
    let notes = page_of(run.notes, page, ROWS);
    let is_good = run.outcome == Some(RunOutcome::Ok) && !run.needs_attention;
    ShownRun {
        job: job.name.clone(),
        title: title(&job.name),
        state: match job.state {
            JobState::Running => " running",
            JobState::Waiting => " waiting",
            JobState::Idle | JobState::Paused => "",
        },
        user: shorten(run.user.as_deref().unwrap_or("the schedule"), NAME),
        started: run.started.map(When::at),
        finished: run.finished.map(When::at),
        progress: shorten(progress, SENTENCE),
        percent,
        outcome: run.outcome.map(|_| (is_good, shorten(&run.text, SENTENCE))),
        more: kept - notes.len() + run.more_notes,
        notes: notes.iter().map(|note| shorten(note, SENTENCE)).collect(),
        pager: Pager::new(page, ROWS, kept, path, &[]),
    }
}

/// Returns the jobs that run or wait.
pub(super) fn running(jobs: &[JobView]) -> Vec<RunningJob> {
    let shown = jobs.iter().filter(|job| !job.routine).filter_map(|job| {
        let run = job.run.as_ref().filter(|run| run.outcome.is_none())?;
        let text = match job.state {
            JobState::Running => shorten(&run.progress.line, NAME),
            JobState::Waiting => shorten(&format!("waiting: {}", job.reason), NAME),
            JobState::Idle | JobState::Paused => return None,
        };
        Some(RunningJob { title: title(&job.name), text, percent: run.progress.percent() })
    });
    shown.take(JOBS).collect()
}

/// Returns the jobs with their last and next runs. Routine ones are listed only if their last run needs attention.
pub(super) fn schedule(jobs: &[JobView]) -> Vec<ScheduledJob> {
    let needs_attention = |job: &JobView| job.run.as_ref().is_some_and(|run| run.needs_attention);
    let listed = jobs.iter().filter(|job| !job.routine || needs_attention(job)).take(JOBS);
    listed
        .map(|job| ScheduledJob {
            title: title(&job.name),
            state: match job.reason.as_str() {
                "" => job.state.word().to_owned(),
                reason => shorten(&format!("{}: {reason}", job.state.word()), NAME),
            },
            last: job.last_end.map(|at| {
                let outcome = job.last_outcome.map_or("", RunOutcome::word);
                // The reason has to be whole where the operator has to act on it.
                let (outcome, longest) =
                    if job.routine { ("needs attention", SENTENCE) } else { (outcome, NAME) };
                (When::at(at), shorten(&format!("{outcome}: {}", job.last_text), longest))
            }),
            next: job.next_due.map(When::at),
        })
        .collect()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::jobs::{Class, Progress};

    /// Returns a job with a run that ended, whose texts are all `text`.
    pub(crate) fn job(name: &str, text: &str) -> JobView {
        let run = RunView {
            number: 1,
            user: Some("u".repeat(64)),
            started: Some(0),
            finished: Some(0),
            progress: Progress { line: text.to_owned(), ..Progress::default() },
            notes: vec![text.to_owned(); 100],
            more_notes: 1_000_000,
            outcome: Some(RunOutcome::Failed),
            text: text.to_owned(),
            needs_attention: true,
            dry: false,
        };
        JobView {
            name: name.to_owned(),
            class: Class::Disk,
            state: JobState::Idle,
            reason: text.to_owned(),
            interval: Some(3600),
            next_due: Some(0),
            last_start: Some(0),
            last_end: Some(0),
            last_success: Some(0),
            last_outcome: Some(RunOutcome::Failed),
            last_text: text.to_owned(),
            failures: 1,
            routine: false,
            run: Some(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::job;
    use super::*;

    fn with(name: &str, state: JobState, user: Option<&str>, number: u64) -> JobView {
        let mut job = JobView { state, ..job(name, "text") };
        if let Some(run) = &mut job.run {
            run.user = user.map(str::to_owned);
            run.number = number;
        }
        job
    }

    #[test]
    fn the_run_in_progress_is_shown_else_the_last_one_of_a_user() {
        let shown = |jobs: &[JobView]| shown_run(jobs, 1, "/").map(|run| run.job);
        let gc = with("gc", JobState::Idle, Some("alice"), 20);
        let check = with("check", JobState::Idle, Some("alice"), 10);
        assert_eq!(shown(&[check.clone(), gc.clone()]).unwrap(), "gc");
        let scheduled = with("gc", JobState::Idle, None, 30);
        assert_eq!(shown(&[check.clone(), scheduled.clone()]).unwrap(), "check");
        let waiting = with("check", JobState::Waiting, None, 40);
        assert_eq!(shown(&[waiting.clone(), gc]).unwrap(), "check");
        assert_eq!(shown(&[waiting, with("gc", JobState::Running, None, 35)]).unwrap(), "gc");
        assert_eq!(shown(&[scheduled]), None);
        assert_eq!(shown(&[JobView { routine: true, ..check }]), None);
    }

    #[test]
    fn a_routine_job_is_listed_with_its_whole_reason_while_it_needs_attention() {
        let reason = "a.tar: imported, but it cannot be moved; ".repeat(5);
        let mut import = JobView { routine: true, ..job("import", &reason) };
        let listed = schedule(&[import.clone()]);
        let (_, text) = listed[0].last.as_ref().unwrap();
        assert_eq!(
            (listed[0].title.as_str(), text),
            ("Import folder", &format!("needs attention: {reason}"))
        );
        if let Some(run) = &mut import.run {
            run.needs_attention = false;
        }
        assert!(schedule(&[import]).is_empty());
    }
}
