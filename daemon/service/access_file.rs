//! The access log in a file of its own (`log.access`): a thread appends the lines, so that a slow disk delays no request.
//!
//! The file is opened at the start, and again after [`AccessFile::reopen`], which a reload calls for logrotate. Lines that the disk
//! cannot take in time, and those that cannot be written, are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use super::error::ServiceError;

/// Capacity of the queue, in bytes.
const QUEUE_BYTES: usize = 1 << 20;
/// Lines are written in batches of about this many bytes.
const BATCH_BYTES: usize = 32 << 10;
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
        let mut writer = Writer { path: path.to_owned(), file: Some(file), waiting, dropped };
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
        self.file = open(&self.path)
            .inspect_err(|error| log::error!("{error}; its lines are dropped until it can be written"))
            .ok();
    }

    fn write(&mut self, lines: &mut String) {
        if lines.is_empty() {
            return;
        }
        let was_open = self.file.is_some();
        let written = match self.file.take().map_or_else(|| open(&self.path), Ok) {
            Ok(mut file) => match file.write_all(lines.as_bytes()) {
                Ok(()) => Ok(file),
                Err(error) => Err(ServiceError::AccessLog(self.path.display().to_string(), error)),
            },
            Err(error) => Err(error),
        };
        match written {
            Ok(file) => {
                self.file = Some(file);
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    log::warn!("{dropped} lines of the access log were dropped: {}", self.path.display());
                }
            }
            Err(error) => {
                // Once for each failure, not for each batch.
                if was_open {
                    log::error!("{error}; its lines are dropped until it can be written");
                }
                self.dropped.fetch_add(lines.lines().count(), Ordering::Relaxed);
            }
        }
        self.waiting.fetch_sub(lines.len(), Ordering::Relaxed);
        lines.clear();
    }
}
