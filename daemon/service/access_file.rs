//! The access log in a file of its own (`log.access`): a thread appends the lines, so that a slow disk delays no request.
//!
//! The file is opened at the start, and again after [`AccessFile::reopen`], which a reload calls for logrotate. Lines that the disk
//! cannot take in time, and those that cannot be written, are dropped and counted. A batch that does not fit on a full disk leaves no
//! part of a line behind.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::error::ServiceError;

/// Capacity of the queue, in bytes.
const QUEUE_BYTES: usize = 1 << 20;
/// Lines are written in batches of about this many bytes.
const BATCH_BYTES: usize = 32 << 10;
/// Pause after a failed write, so that a disk that is nearly full causes no message for each batch.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two messages about lines that a slow disk could not take.
const REPORT_PAUSE: Duration = Duration::from_secs(10);
/// Time limit of writing the last lines at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

enum Event {
    Line(String),
    Reopen,
    End(Sender<()>),
}

/// The handle of the access log's file.
#[derive(Clone)]
pub struct AccessFile {
    events: Sender<Event>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl AccessFile {
    /// Opens the file and starts its thread.
    pub(super) fn start(path: &Path) -> Result<Self, ServiceError> {
        let file = open(path)?;
        let (events, receiver) = channel();
        let handle = AccessFile { events, waiting: Arc::default(), dropped: Arc::default() };
        let (waiting, dropped) = (Arc::clone(&handle.waiting), Arc::clone(&handle.dropped));
        let (failing, retry_at, report_at) = (false, None, None);
        let path = path.to_owned();
        let mut writer = Writer { path, file: Some(file), waiting, dropped, failing, retry_at, report_at };
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn(move || writer.run(&receiver)).map_err(|error| ServiceError::Log(error.to_string()))?;
        Ok(handle)
    }

    /// Appends a line, or drops it while the disk is too slow.
    pub(super) fn write(&self, line: String) {
        let size = line.len();
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed);
        if waiting + size > QUEUE_BYTES || self.events.send(Event::Line(line)).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again by its path, after logrotate has renamed it.
    pub fn reopen(&self) {
        // Fails only if the thread has ended, and the log with it.
        let _ = self.events.send(Event::Reopen);
    }

    /// Waits until the lines so far are written, but not for long.
    pub(super) fn flush(&self) {
        let (ended, done) = channel();
        if self.events.send(Event::End(ended)).is_ok() {
            let _ = done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Opens the file of the access log for appending; creates it if it does not exist.
///
/// # Errors
/// [`ServiceError::AccessLog`] with the path and a remedy.
#[expect(
    clippy::disallowed_methods,
    reason = "the log is not data: it is neither synced nor part of the store"
)]
fn open(path: &Path) -> Result<File, ServiceError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    opened.map_err(|error| ServiceError::AccessLog(path.display().to_string(), error))
}

struct Writer {
    path: PathBuf,
    /// `None` after a failure, until the next batch opens it again.
    file: Option<File>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    /// True from a failure, which is logged, to the next success.
    failing: bool,
    /// Earliest time of the next attempt after a failure.
    retry_at: Option<Instant>,
    /// Earliest time of the next message about dropped lines.
    report_at: Option<Instant>,
}

impl Writer {
    fn run(&mut self, events: &Receiver<Event>) {
        let mut lines = String::new();
        let mut next = events.recv().ok();
        while let Some(event) = next.take() {
            match event {
                Event::Line(line) => lines.push_str(&line),
                Event::Reopen => {
                    self.write(&mut lines);
                    self.reopen();
                }
                Event::End(ended) => {
                    self.retry_at = None;
                    self.write(&mut lines);
                    // Fails if the shutdown has not waited for it.
                    let _ = ended.send(());
                    return;
                }
            }
            next = match events.try_recv() {
                Ok(event) if lines.len() < BATCH_BYTES => Some(event),
                Ok(event) => {
                    self.write(&mut lines);
                    Some(event)
                }
                Err(TryRecvError::Empty) => {
                    self.write(&mut lines);
                    events.recv().ok()
                }
                Err(TryRecvError::Disconnected) => None,
            };
        }
        self.write(&mut lines);
    }

    /// Opens the file by its path at once, so that a failure is logged when the rotation has caused it.
    fn reopen(&mut self) {
        self.file =
            open(&self.path).inspect_err(|error| self.failing = report_failure(self.failing, error)).ok();
    }

    /// Appends the lines, or drops them after a failure.
    fn write(&mut self, lines: &mut String) {
        if lines.is_empty() {
            return;
        }
        let now = Instant::now();
        let is_paused = self.retry_at.is_some_and(|retry_at| now < retry_at);
        match if is_paused { None } else { Some(self.append(lines)) } {
            Some(Ok(())) => self.report_dropped(now),
            Some(Err(error)) => {
                self.failing = report_failure(self.failing, &error);
                self.retry_at = Some(now + RETRY_PAUSE);
                self.count_dropped(lines);
            }
            None => self.count_dropped(lines),
        }
        self.waiting.fetch_sub(lines.len(), Ordering::Relaxed);
        lines.clear();
    }

    /// Appends all of the lines or none. After a failure the file is opened again by the next call.
    fn append(&mut self, lines: &str) -> Result<(), ServiceError> {
        let mut file = self.file.take().map_or_else(|| open(&self.path), Ok)?;
        let length = file.metadata().map(|metadata| metadata.len());
        if let Err(error) = file.write_all(lines.as_bytes()) {
            // Fails for a pipe or a device, which keeps the part.
            let _ = length.and_then(|length| file.set_len(length));
            return Err(ServiceError::AccessLog(self.path.display().to_string(), error));
        }
        self.file = Some(file);
        Ok(())
    }

    fn count_dropped(&self, lines: &str) {
        self.dropped.fetch_add(lines.lines().count(), Ordering::Relaxed);
    }

    /// Logs the number of dropped lines after a success: at once if writes failed before.
    fn report_dropped(&mut self, now: Instant) {
        let was_failing = std::mem::take(&mut self.failing);
        if !was_failing && self.report_at.is_some_and(|report_at| now < report_at) {
            return;
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.report_at = Some(now + REPORT_PAUSE);
            let path = self.path.display();
            log::warn!("the access log is written again; {dropped} lines of it were dropped: {path}");
        }
    }
}

/// Logs a failure once, and not again until a success; returns true.
fn report_failure(is_known: bool, error: &ServiceError) -> bool {
    if !is_known {
        log::error!("{error}; its lines are dropped until it can be written");
    }
    true
}
