//! The log: goes to the journal under systemd, else to stderr, from a thread of its own.
//!
//! Logging never blocks the caller: if the journal or stderr is too slow, entries are dropped and counted, and the count is
//! logged once the queue has room. The lines that one client can cause are limited (`client_limit.rs`).

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

use systemd_journal_logger::JournalLog;
use time::OffsetDateTime;

use super::access_file::AccessFile;
use super::client_limit::{self, Decision, Limiter};
use super::entry::Entry;
use super::error::ServiceError;
use super::json_line;
use super::text_line::line;

/// Capacity of the queue, in bytes.
const QUEUE_BYTES: usize = 1 << 20;
/// Lines are written in batches of about this many bytes.
const BATCH_BYTES: usize = 32 << 10;
/// Time that a batch waits for more lines. A write and a wake-up per line would cost a small machine more than the requests
/// that the lines are about.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// Time limit of writing the last lines at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Target of access log lines.
const ACCESS_TARGET: &str = "access";

/// The place of the line that each request has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// With the other lines.
    #[default]
    On,
    /// Nowhere.
    Off,
    /// In a file of its own.
    File(PathBuf),
}

/// Level, form and limits of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severe level that is written.
    pub level: LevelFilter,
    /// Writes JSON objects to stderr instead of text.
    pub json: bool,
    /// Writes the time into lines of text.
    pub time: bool,
    /// The place of the line that each request has.
    pub access: AccessLog,
    /// Burst of lines that one address can cause.
    pub lines_per_address: u32,
}

/// Commands have no clients that could flood their log.
const UNLIMITED: u32 = u32::MAX;

impl LogSettings {
    /// Returns the line of a record for stderr.
    fn line(&self, record: &Record) -> String {
        self.line_with(record, self.time)
    }

    /// Returns the line of a record for a file, which always has the time.
    fn line_of_file(&self, record: &Record) -> String {
        self.line_with(record, true)
    }

    fn line_with(&self, record: &Record, has_time: bool) -> String {
        let now = OffsetDateTime::now_utc();
        if self.json { json_line::line_at(record, now) } else { line(record, has_time.then_some(now)) }
    }
}

impl From<LevelFilter> for LogSettings {
    fn from(level: LevelFilter) -> Self {
        LogSettings { level, json: false, time: false, access: AccessLog::On, lines_per_address: UNLIMITED }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { time: true, ..LevelFilter::Info.into() }
    }
}

/// Flushes the log when it is dropped.
pub struct LogGuard {
    events: Sender<Event>,
    done: Receiver<()>,
    access_file: Option<AccessFile>,
}

impl LogGuard {
    /// Returns the file of the access log, if it has one.
    pub fn access_file(&self) -> Option<AccessFile> {
        self.access_file.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(file) = &self.access_file {
            file.flush();
        }
        if self.events.send(Event::End).is_ok() {
            // A log that hangs must not delay the exit for long.
            let _ = self.done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

enum Event {
    /// A formatted line, for stderr.
    Line(String),
    /// An entry, for the journal.
    Entry(Entry),
    /// A line was suppressed: the thread has to wake up for the summary.
    Suppressed,
    End,
}

impl Event {
    /// Returns the approximate size, in bytes.
    fn size(&self) -> usize {
        match self {
            Event::Line(line) => line.len(),
            Event::Entry(entry) => entry.size(),
            Event::Suppressed | Event::End => 0,
        }
    }
}

struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    limiter: Limiter,
}

impl Queue {
    fn new(lines_per_address: u32) -> Self {
        let limiter = Limiter::new(lines_per_address, Instant::now());
        Queue { waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0), limiter }
    }

    /// Waits for the next event, or until the summary is due.
    fn next(&self, events: &Receiver<Event>) -> Event {
        let Some(wait) = self.limiter.next_summary(Instant::now()) else {
            return events.recv().unwrap_or(Event::End);
        };
        match events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Suppressed,
            Err(RecvTimeoutError::Disconnected) => Event::End,
        }
    }

    /// Returns the summary of suppressed lines if it is due, or if it is the last one.
    fn summary(&self, is_last: bool) -> Vec<Entry> {
        let is_due = |wait: Duration| is_last || wait.is_zero();
        if !self.limiter.next_summary(Instant::now()).is_some_and(is_due) {
            return Vec::new();
        }
        self.limiter.summary().into_iter().map(Entry::warning).collect()
    }
}

struct Logger {
    events: Sender<Event>,
    queue: Arc<Queue>,
    to_journal: bool,
    settings: LogSettings,
    access_file: Option<AccessFile>,
}

impl Logger {
    fn event(&self, record: &Record) -> Event {
        if self.to_journal {
            Event::Entry(Entry::of(record))
        } else {
            Event::Line(self.settings.line(record))
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
            && (self.settings.access != AccessLog::Off || metadata.target() != ACCESS_TARGET)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(client) = client_limit::client(record) {
            match self.queue.limiter.decide(client, record.level(), Instant::now()) {
                Decision::Logged => {}
                Decision::Suppressed => return,
                Decision::FirstSuppressed => {
                    // Fails only if the thread has ended, and the log with it.
                    let _ = self.events.send(Event::Suppressed);
                    return;
                }
            }
        }
        if let Some(file) = self.access_file.as_ref().filter(|_| record.target() == ACCESS_TARGET) {
            return file.write(self.settings.line_of_file(record));
        }
        let event = self.event(record);
        let size = event.size();
        let waiting = self.queue.waiting.fetch_add(size, Ordering::Relaxed);
        if waiting + size > QUEUE_BYTES || self.events.send(event).is_err() {
            self.queue.waiting.fetch_sub(size, Ordering::Relaxed);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Starts the log of a command, in text form.
///
/// # Errors
/// As [`start_logging_as`].
pub fn start_logging(level: LevelFilter) -> Result<LogGuard, ServiceError> {
    start_logging_as(level.into())
}

/// Starts the log.
///
/// # Errors
/// [`ServiceError::Log`] if a log was started before, or its thread cannot be; [`ServiceError::AccessLog`].
pub fn start_logging_as(settings: LogSettings) -> Result<LogGuard, ServiceError> {
    let failed = |error: &dyn std::fmt::Display| ServiceError::Log(error.to_string());
    log::set_max_level(settings.level);
    let has_journal = has_journal();
    let journal = has_journal.then(JournalLog::new).transpose().map_err(|error| failed(&error))?;
    let access_file = match &settings.access {
        AccessLog::File(path) => Some(AccessFile::start(path)?),
        AccessLog::On | AccessLog::Off => None,
    };
    let (events, receiver) = channel();
    let (ended, done) = channel();
    let queue = Arc::new(Queue::new(settings.lines_per_address));
    let logger = Logger {
        events: events.clone(),
        queue: Arc::clone(&queue),
        to_journal: has_journal,
        settings: settings.clone(),
        access_file: access_file.clone(),
    };
    let thread = std::thread::Builder::new().name("log".into());
    thread
        .spawn(move || {
            match journal {
                Some(journal) => send_entries(&journal, &receiver, &queue),
                None => write_lines(&receiver, &queue, &settings),
            }
            // Fails if the guard has timed out.
            let _ = ended.send(());
        })
        .map_err(|error| failed(&error))?;
    log::set_boxed_logger(Box::new(logger)).map_err(|error| failed(&error))?;
    Ok(LogGuard { events, done, access_file })
}

/// Returns true if the log goes to the journal, and stderr is not read by a person.
pub fn has_journal() -> bool {
    systemd_journal_logger::connected_to_journal()
}

/// Sets the least severe level that is written.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

fn send_entries(journal: &JournalLog, events: &Receiver<Event>, queue: &Queue) {
    // A stopped journal means that the operator does not want the log.
    let send = |entry: &Entry| entry.with_record(|record| drop(journal.journal_send(record)));
    let mut is_running = true;
    while is_running {
        match queue.next(events) {
            Event::Entry(entry) => {
                send(&entry);
                queue.waiting.fetch_sub(entry.size(), Ordering::Relaxed);
            }
            Event::Suppressed => {}
            Event::Line(_) | Event::End => is_running = false,
        }
        queue.summary(!is_running).iter().for_each(send);
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            send(&Entry::warning(format!("{dropped} log entries dropped: the journal is too slow")));
        }
    }
}

fn write_lines(events: &Receiver<Event>, queue: &Queue, settings: &LogSettings) {
    let form = |entry: &Entry| entry.with_record(|record| settings.line(record));
    let mut stderr = std::io::stderr();
    let mut lines = String::with_capacity(BATCH_BYTES);
    let mut is_running = true;
    while is_running {
        is_running = next_batch(events, queue, &mut lines);
        let batch = lines.len();
        queue.summary(!is_running).iter().for_each(|entry| lines.push_str(&form(entry)));
        // A closed stderr means that the operator does not want the log.
        let _ = stderr.write_all(lines.as_bytes());
        queue.waiting.fetch_sub(batch, Ordering::Relaxed);
        lines.clear();
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let warning = Entry::warning(format!("{dropped} log lines dropped: stderr is too slow"));
            let _ = stderr.write_all(form(&warning).as_bytes());
        }
    }
}

/// Waits for a line and collects those that follow it within [`BATCH_TIME`]; returns false at the end of the log.
fn next_batch(events: &Receiver<Event>, queue: &Queue, lines: &mut String) -> bool {
    match queue.next(events) {
        Event::Line(first) => lines.push_str(&first),
        Event::Suppressed => return true,
        Event::Entry(_) | Event::End => return false,
    }
    std::thread::sleep(BATCH_TIME);
    while lines.len() < BATCH_BYTES {
        match events.try_recv() {
            Ok(Event::Line(line)) => lines.push_str(&line),
            Ok(Event::Suppressed) => {}
            Ok(Event::Entry(_) | Event::End) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => break,
        }
    }
    true
}
