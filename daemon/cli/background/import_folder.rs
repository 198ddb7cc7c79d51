//! The job `import`: archives in the import folder (`import.folder`).

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::own_import::{Source, import, options};
use super::held_archives::{self, Space};
use super::{CurrentConfig, record_outcome};
use crate::base::human::{count, duration, printable, size};
use crate::config::Config;
use crate::control::{Actor, Host};
use crate::intake::{
    ATTEMPTS, Archive, ArchiveMover, Folder, FolderError, OpenError, Watch, error_report, is_done,
    result_report, summary,
};
use crate::jobs::{Cancelled, Class, JobContext, JobEnd, JobSpec, Jobs, Progress, Schedule};
use crate::store::Impairment;
use crate::transfer::{ImportError, Media, Observer, Plan, Report, Row, SinkError};

/// The name of the job.
pub(super) const NAME: &str = "import";
/// The interval of the looks at the folder.
const INTERVAL: Duration = Duration::from_secs(15);
/// The archives that are named in the outcome of a run.
const LISTED: usize = 10;

/// Returns the schedule: only with a folder.
pub(super) fn schedule(config: &Config) -> Schedule {
    Schedule { interval: config.import.folder.as_ref().map(|_| INTERVAL), first: None }
}

/// Registers the job. A run that is started by hand does not wait until an archive is unchanged for a minute.
pub(in crate::cli) async fn register(
    jobs: &Jobs,
    host: Weak<dyn Host>,
    config: CurrentConfig,
    (is_daemon, watch): (bool, Arc<Watch>),
) {
    if let Some(host) = host.upgrade() {
        held_archives::load(host.store(), &watch).await;
    }
    let spec = JobSpec {
        name: NAME.to_owned(),
        class: Class::Disk,
        schedule: if is_daemon { schedule(&config()) } else { Schedule::default() },
        is_routine: true,
        joins: |running, wanted| running == wanted,
        validate,
    };
    let work = move |context: JobContext| {
        let (host, config, watch) = (host.clone(), config(), Arc::clone(&watch));
        async move {
            let Some(host) = host.upgrade() else { return JobEnd::cancelled() };
            let Some(path) = config.import.folder.clone() else {
                return JobEnd::failed("import.folder is not set.");
            };
            let run = Run { context, host, config, watch, done: 0, failures: Vec::new(), refused: 0 };
            run.work(path).await
        }
    };
    jobs.register(spec, work).await;
}

fn validate(options: &Value) -> Result<(), String> {
    let is_empty = options.is_null() || options.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty { Ok(()) } else { Err("the job import has no options".into()) }
}

/// One look at the folder.
struct Run {
    context: JobContext,
    host: Arc<dyn Host>,
    config: Arc<Config>,
    watch: Arc<Watch>,
    /// The archives that were imported.
    done: usize,
    /// Archives that were not, with the reasons.
    failures: Vec<(String, String)>,
    /// The archives that were not tried, because too many others are remembered.
    refused: usize,
}

/// The end of one import.
enum Imported {
    /// It is to be moved, with this report.
    Ended { is_done: bool, report: String, outcome: String },
    /// It stays, and is tried again later.
    Held(String),
    /// The registry has no space for it, and had so much before.
    NoSpace(String, Space),
    /// It is another file now.
    Changed,
}

impl Run {
    async fn work(mut self, path: PathBuf) -> JobEnd {
        let data = self.config.storage.path.clone();
        let opened = blocking(move || {
            let folder = Folder::open(&path, &data)?;
            ArchiveMover::open(&folder)?.finish()?;
            let archives = folder.archives()?;
            Ok((Arc::new(folder), archives))
        });
        let opened = opened.await.map_err(|error| format!("import.folder: {error}."));
        if self.watch.note_folder(opened.as_ref().err().cloned()) {
            log::warn!("{}", opened.as_ref().err().map_or("", String::as_str));
        }
        let (folder, archives) = match opened {
            Ok(opened) => opened,
            Err(text) => return JobEnd::failed(text),
        };
        let ready = self.ready(&archives).await;
        if self.context.is_dry() {
            return JobEnd::ok(format!("{} would be imported.", count(ready.len(), "archive")));
        }
        let waiting = archives.len() - ready.len();
        if !ready.is_empty()
            && let Err(error) = self.host.registry().check_may_push()
        {
            let text = format!("Nothing is imported: {}.", error.problem().message());
            // Held back, they do not keep an idle daemon awake.
            for archive in &ready {
                self.watch.hold(archive, &text, Instant::now());
            }
            return JobEnd::failed(text);
        }
        for archive in ready {
            match self.archive(&folder, &archive).await {
                Ok(()) => {}
                Err(Cancelled) => return JobEnd::cancelled(),
            }
        }
        self.end(waiting)
    }

    /// Returns the archives that are imported in this run.
    async fn ready(&self, archives: &[Archive]) -> Vec<Archive> {
        let store = self.host.store();
        let space = if archives.is_empty() { 0 } else { held_archives::space(store).await.free };
        let settled = self.watch.ready(archives.to_vec(), Instant::now(), space);
        held_archives::save(store, &self.watch).await;
        if self.context.user().is_some() { archives.to_vec() } else { settled }
    }

    fn end(mut self, waiting: usize) -> JobEnd {
        let mut held = self.watch.held(Instant::now());
        // Those of this run are among the failures.
        held.retain(|(name, _)| self.failures.iter().all(|(failed, _)| failed != name));
        let waiting = waiting.saturating_sub(held.len());
        self.failures.append(&mut held);
        let mut sentences = Vec::new();
        if self.done > 0 {
            sentences.push(format!("Imported {}.", count(self.done, "archive")));
        }
        sentences.extend(
            self.failures.iter().take(LISTED).map(|(name, reason)| format!("{}.", line(name, reason))),
        );
        if self.failures.len() > LISTED {
            sentences.push(format!("{} more not imported.", count(self.failures.len() - LISTED, "archive")));
        }
        if self.refused > 0 {
            let waits = count(self.refused, "archive");
            sentences.push(format!("{waits} not tried, because too many others cannot be moved or stored."));
        }
        if waiting > 0 {
            sentences.push(format!("{} not ready yet.", count(waiting, "archive")));
        }
        if sentences.is_empty() {
            sentences.push("The folder is empty.".into());
        }
        let text = sentences.join(" ");
        if self.failures.is_empty() && self.refused == 0 {
            JobEnd::ok(text)
        } else {
            JobEnd { needs_attention: true, ..JobEnd::ok(text) }
        }
    }

    /// Imports one archive and moves it.
    async fn archive(&mut self, folder: &Arc<Folder>, archive: &Archive) -> Result<(), Cancelled> {
        if !self.watch.may_import(archive) {
            self.refused += 1;
            return Ok(());
        }
        match self.import(folder, archive).await? {
            Imported::Changed => {}
            Imported::Held(reason) => {
                let pause = self.watch.hold(archive, &reason, Instant::now());
                let reason = format!("{reason}; tried again in {}", duration(pause.length));
                // The same reason is logged once.
                self.fail(archive, reason, pause.is_new);
            }
            Imported::NoSpace(reason, space) => {
                let reason = format!("{reason}; it is tried again once there is more space");
                self.hold(archive, &reason, Some(space.free)).await;
            }
            Imported::Ended { is_done, report, outcome } => {
                let text = line(archive.name(), &outcome);
                record_outcome(self.host.store(), self.context.user(), NAME, &text).await;
                if is_done {
                    log::info!("imported {text}");
                    self.done += 1;
                } else {
                    self.fail(archive, outcome, true);
                }
                self.put_aside(folder, archive, is_done, report).await;
            }
        }
        Ok(())
    }

    /// Holds an archive back until it changes, or until the registry can store more than `space`.
    async fn hold(&mut self, archive: &Archive, reason: &str, space: Option<u64>) {
        let store = self.host.store().clone();
        self.watch.remember(archive, reason, space);
        held_archives::save(&store, &self.watch).await;
        let text = line(archive.name(), reason);
        record_outcome(&store, self.context.user(), NAME, &text).await;
        self.fail(archive, reason.to_owned(), true);
    }

    /// Returns true for an error that may pass.
    fn may_pass(&self, error: &SinkError) -> bool {
        let is_read_only = self.host.store().impairment() == Some(Impairment::ReadOnly);
        match error {
            SinkError::Disconnected(_) | SinkError::Interrupted => true,
            SinkError::Full(_) | SinkError::Refused(_) | SinkError::Denied(_) => is_read_only,
        }
    }

    fn fail(&mut self, archive: &Archive, reason: String, is_logged: bool) {
        if is_logged {
            let text = line(archive.name(), &reason);
            log::warn!("import folder: {text}");
            self.context.note(text);
        }
        self.failures.push((archive.name().to_owned(), reason));
    }

    async fn put_aside(&mut self, folder: &Arc<Folder>, archive: &Archive, is_done: bool, report: String) {
        let (folder, moved) = (Arc::clone(folder), archive.clone());
        let moved_away = blocking(move || {
            // A file that was exchanged while it was read is imported again.
            if folder.is_unchanged(&moved) {
                ArchiveMover::open(&folder)?.put(&moved, is_done, report)
            } else {
                Ok(())
            }
        });
        match moved_away.await {
            Ok(()) => {
                self.watch.forget(archive);
                held_archives::save(self.host.store(), &self.watch).await;
            }
            Err(error) => {
                let what = if is_done { "imported" } else { "not imported" };
                let reason = format!(
                    "{what}, but it cannot be moved ({error}); remove it, or run holdfast jobs run import when it can be moved"
                );
                self.hold(archive, &reason, None).await;
            }
        }
    }

    /// Notes that an import begins; returns how many of this archive a crash has ended.
    async fn begin(&self, folder: &Arc<Folder>, archive: &Archive) -> Result<u32, FolderError> {
        let (folder, archive) = (Arc::clone(folder), archive.clone());
        blocking(move || ArchiveMover::open(&folder)?.begin(&archive)).await
    }

    async fn note_end(&self, folder: &Arc<Folder>) {
        let folder = Arc::clone(folder);
        if let Err(error) = blocking(move || ArchiveMover::open(&folder)?.end()).await {
            log::warn!("import folder: {error}");
        }
    }

    async fn import(&self, folder: &Arc<Folder>, archive: &Archive) -> Result<Imported, Cancelled> {
        let (opening, wanted) = (Arc::clone(folder), archive.clone());
        let opened = tokio::task::spawn_blocking(move || opening.open_archive(&wanted)).await;
        let media = match opened {
            Ok(Ok((file, paths))) => Media::Archive(file, paths),
            Ok(Err(OpenError::Changed)) | Err(_) => return Ok(Imported::Changed),
            Ok(Err(error @ OpenError::Refused { .. })) => {
                return Ok(not_imported(archive, &error.to_string()));
            }
        };
        let begun = self.begin(folder, archive).await;
        match begun {
            Ok(crashes) if crashes < ATTEMPTS => {}
            Ok(crashes) => {
                self.note_end(folder).await;
                let reason = format!(
                    "the registry ended unexpectedly during {crashes} imports of it; move it back to try again"
                );
                return Ok(not_imported(archive, &reason));
            }
            Err(error) => return Ok(Imported::Held(error.to_string())),
        }
        let mut watcher = Watcher { context: &self.context, name: printable(archive.name()) };
        let source = Source { media, options: options(&self.config) };
        let space = held_archives::space(self.host.store()).await;
        let importing = import(Arc::clone(&self.host), Actor::Registry, source, &mut watcher);
        let imported = self.context.until_cancelled(importing).await;
        self.note_end(folder).await;
        Ok(match imported? {
            Ok(report) if report.is_full => no_space(archive, lack_of_space(&report), space),
            Ok(report) => Imported::Ended {
                is_done: is_done(&report),
                report: result_report(archive.name(), &report),
                outcome: summary(&report),
            },
            Err(ImportError::Sink(SinkError::Full(reason))) => no_space(archive, reason, space),
            Err(ImportError::Sink(error)) if self.may_pass(&error) => Imported::Held(error.to_string()),
            Err(error) => not_imported(archive, &error.to_string()),
        })
    }
}

/// Returns a line about an archive.
fn line(name: &str, reason: &str) -> String {
    format!("{}: {}", printable(name), printable(reason))
}

/// Returns the end of an import that failed for good.
fn not_imported(archive: &Archive, reason: &str) -> Imported {
    let report = error_report(archive.name(), reason);
    Imported::Ended { is_done: false, report, outcome: reason.to_owned() }
}

/// Returns the end of an import for lack of space: for good if an empty registry has no space for the archive either.
fn no_space(archive: &Archive, reason: String, space: Space) -> Imported {
    if archive.size() <= space.most {
        return Imported::NoSpace(reason, space);
    }
    let reason = format!(
        "{reason}; the archive has {}, and the registry can store {} at most: enlarge its disk or storage.quota, then move it back",
        size(archive.size()),
        size(space.most)
    );
    not_imported(archive, &reason)
}

/// Returns the reason why the images of an import are refused for lack of space.
fn lack_of_space(report: &Report) -> String {
    let stored = report.images.iter().filter(|row| row.outcome.is_done()).count();
    let reason =
        report.images.iter().find_map(|row| row.reason.as_deref().filter(|_| !row.outcome.is_done()));
    let reason = reason.unwrap_or("the registry has no space for all of it");
    if stored == 0 {
        reason.to_owned()
    } else {
        format!("{} imported, then {reason}", count(stored, "image"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
) -> Result<T, FolderError> {
    let failed = |error| FolderError::Place(format!("the work was stopped: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// Shows the progress of an import.
struct Watcher<'a> {
    context: &'a JobContext,
    name: String,
}

impl Observer for Watcher<'_> {
    fn planned(&mut self, _: &Plan, notes: &[String]) {
        for note in notes {
            self.context.note(format!("{}: {}", self.name, printable(note)));
        }
    }

    fn progress(&mut self, done: u64, total: Option<u64>) {
        let line = format!("{}: {}", self.name, size(done));
        let progress = Progress { bytes_done: done, bytes_all: total, line, ..Progress::default() };
        self.context.progress(progress);
    }

    fn row(&mut self, row: &Row) {
        self.context.item(row);
    }
}
