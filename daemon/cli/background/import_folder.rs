//! The job `import`: archives in the import folder (`import.folder`).

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::own_import::{Source, import, options};
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
use crate::transfer::{ImportError, Media, Observer, Plan, Row, SinkError};

/// The name of the job.
pub(super) const NAME: &str = "import";
/// The interval of the looks at the folder.
const INTERVAL: Duration = Duration::from_secs(15);

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
            let run = Run { context, host, config, watch, done: 0, failures: Vec::new() };
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
    failures: Vec<String>,
}

/// The end of one import.
enum Imported {
    /// It is to be moved, with this report.
    Ended { is_done: bool, report: String, line: String },
    /// It stays, and is tried again later.
    Held(String),
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
        let (folder, archives) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return JobEnd::failed(format!("import.folder: {error}.")),
        };
        let all = archives.len();
        let settled = self.watch.ready(archives.clone(), Instant::now());
        let ready = if self.context.user().is_some() { archives } else { settled };
        if self.context.is_dry() {
            return JobEnd::ok(format!("{} would be imported.", count(ready.len(), "archive")));
        }
        let waiting = all - ready.len();
        if !ready.is_empty()
            && let Err(error) = self.host.registry().check_may_push()
        {
            // Held back, they do not keep an idle daemon awake.
            for archive in &ready {
                self.watch.hold(archive, Instant::now());
            }
            return JobEnd::failed(format!("Nothing is imported: {}.", error.problem().message()));
        }
        for archive in ready {
            match self.archive(&folder, &archive).await {
                Ok(()) => {}
                Err(Cancelled) => return JobEnd::cancelled(),
            }
        }
        self.end(waiting)
    }

    fn end(self, waiting: usize) -> JobEnd {
        let mut sentences = Vec::new();
        if self.done > 0 {
            sentences.push(format!("Imported {}.", count(self.done, "archive")));
        }
        sentences.extend(self.failures.iter().map(|failure| format!("{failure}.")));
        if waiting > 0 {
            sentences.push(format!("{} not ready yet.", count(waiting, "archive")));
        }
        if sentences.is_empty() {
            sentences.push("The folder is empty.".into());
        }
        let text = sentences.join(" ");
        if self.failures.is_empty() {
            JobEnd::ok(text)
        } else {
            JobEnd { needs_attention: true, ..JobEnd::ok(text) }
        }
    }

    /// Imports one archive and moves it.
    async fn archive(&mut self, folder: &Arc<Folder>, archive: &Archive) -> Result<(), Cancelled> {
        let name = printable(archive.name());
        match self.import(folder, archive).await? {
            Imported::Changed => {}
            Imported::Held(reason) => {
                let pause = self.watch.hold(archive, Instant::now());
                self.fail(format!("{name}: {reason}; tried again in {}", duration(pause)));
            }
            Imported::Ended { is_done, report, line } => {
                let line = format!("{name}: {line}");
                record_outcome(self.host.store(), self.context.user(), NAME, &line).await;
                if is_done {
                    log::info!("imported {line}");
                    self.done += 1;
                } else {
                    self.fail(line);
                }
                self.put_aside(folder, archive, is_done, report).await;
            }
        }
        Ok(())
    }

    /// Returns true for an error that may pass.
    fn may_pass(&self, error: &SinkError) -> bool {
        let is_read_only = self.host.store().impairment() == Some(Impairment::ReadOnly);
        match error {
            SinkError::Full(_) | SinkError::Disconnected(_) | SinkError::Interrupted => true,
            SinkError::Refused(_) | SinkError::Denied(_) => is_read_only,
        }
    }

    fn fail(&mut self, line: String) {
        log::warn!("import folder: {line}");
        self.context.note(line.clone());
        self.failures.push(line);
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
        if let Err(error) = moved_away.await {
            self.watch.pass_over(archive, Instant::now());
            self.fail(format!("{} cannot be moved: {error}", printable(archive.name())));
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
        let failed = |reason: &str| Imported::Ended {
            is_done: false,
            report: error_report(archive.name(), reason),
            line: printable(reason),
        };
        let media = match opened {
            Ok(Ok((file, paths))) => Media::Archive(file, paths),
            Ok(Err(OpenError::Changed)) | Err(_) => return Ok(Imported::Changed),
            Ok(Err(error @ OpenError::Refused { .. })) => return Ok(failed(&error.to_string())),
        };
        let begun = self.begin(folder, archive).await;
        match begun {
            Ok(crashes) if crashes < ATTEMPTS => {}
            Ok(crashes) => {
                self.note_end(folder).await;
                let reason = format!(
                    "the registry ended unexpectedly during {crashes} imports of it; move it back to try again"
                );
                return Ok(failed(&reason));
            }
            Err(error) => return Ok(Imported::Held(error.to_string())),
        }
        let mut watcher = Watcher { context: &self.context, name: printable(archive.name()) };
        let source = Source { media, options: options(&self.config) };
        let importing = import(Arc::clone(&self.host), Actor::Registry, source, &mut watcher);
        let imported = self.context.until_cancelled(importing).await;
        self.note_end(folder).await;
        Ok(match imported? {
            Ok(report) if report.is_full => Imported::Held("the registry has no space for all of it".into()),
            Ok(report) => Imported::Ended {
                is_done: is_done(&report),
                report: result_report(archive.name(), &report),
                line: summary(&report),
            },
            Err(ImportError::Sink(error)) if self.may_pass(&error) => Imported::Held(error.to_string()),
            Err(error) => failed(&error.to_string()),
        })
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
