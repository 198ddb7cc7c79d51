//! The log: the journal where there is one, else stderr, written by a thread of its own.
//!
//! Whoever logs never waits: when neither takes entries fast enough they are dropped, counted, and the count is
//! written as soon as there is room. What one client can cause is limited (`limit.rs`).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

use systemd_journal_logger::JournalLog;

use super::ServiceError;
use super::entry::Entry;
use super::json;
use super::limit::{self, Decision, Limiter};
use super::line::line;

/// How many bytes of lines may wait.
const WAITING: usize = 1 << 20;
/// Lines that come together are written together, up to about this many bytes.
const TOGETHER: usize = 32 << 10;
/// How long a line may wait for others. A write and a wake-up for every line would cost a small machine more
/// than the requests that the lines are about.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the end of the daemon waits for the last lines.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The target of the line that each request has.
const ACCESS: &str = "access";

/// What is written, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important lines that are written.
    pub level: LevelFilter,
    /// Whether a line on stderr is a JSON object.
    pub json: bool,
    /// Whether each request has a line.
    pub access: bool,
    /// How many lines one address can cause at once.
    pub lines_per_address: u32,
}

/// A command has no clients that could fill its log.
const LINES_PER_ADDRESS: u32 = u32::MAX;

impl From<LevelFilter> for LogSettings {
    fn from(level: LevelFilter) -> Self {
        LogSettings { level, json: false, access: true, lines_per_address: LINES_PER_ADDRESS }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LevelFilter::Info.into()
    }
}

/// Ends the log: what waits is written when this goes away.
pub struct LogGuard {
    events: Sender<Event>,
    done: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if self.events.send(Event::End).is_ok() {
            // A log that takes nothing does not keep the daemon from ending.
            let _ = self.done.recv_timeout(AT_THE_END);
        }
    }
}

enum Event {
    /// For stderr.
    Line(String),
    /// For the journal.
    Entry(Entry),
    /// A summary is to come: the thread has to wake up for it.
    Suppressed,
    End,
}

impl Event {
    /// About how many bytes it holds.
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

    /// Waits for the next event, or until a summary is due.
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

    /// Returns the summary of what was suppressed, if it is due or the last one.
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
}

impl Logger {
    fn event(&self, record: &Record) -> Event {
        match (self.to_journal, self.settings.json) {
            (true, _) => Event::Entry(Entry::of(record)),
            (false, true) => Event::Line(json::line(record)),
            (false, false) => Event::Line(line(record)),
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level() && (self.settings.access || metadata.target() != ACCESS)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(client) = limit::client(record) {
            match self.queue.limiter.decide(client, record.level(), Instant::now()) {
                Decision::Logged => {}
                Decision::Suppressed => return,
                Decision::FirstSuppressed => {
                    // Without the thread there is no log.
                    let _ = self.events.send(Event::Suppressed);
                    return;
                }
            }
        }
        let event = self.event(record);
        let size = event.size();
        let waiting = self.queue.waiting.fetch_add(size, Ordering::Relaxed);
        if waiting + size > WAITING || self.events.send(event).is_err() {
            self.queue.waiting.fetch_sub(size, Ordering::Relaxed);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Starts the log of a command, as text.
///
/// # Errors
/// As [`start_logging_as`].
pub fn start_logging(level: LevelFilter) -> Result<LogGuard, ServiceError> {
    start_logging_as(level.into())
}

/// Starts the log.
///
/// # Errors
/// [`ServiceError::Log`] when there is one already, or no thread for it.
pub fn start_logging_as(settings: LogSettings) -> Result<LogGuard, ServiceError> {
    let failed = |error: &dyn std::fmt::Display| ServiceError::Log(error.to_string());
    log::set_max_level(settings.level);
    let has_journal = has_journal();
    let journal = has_journal.then(JournalLog::new).transpose().map_err(|error| failed(&error))?;
    let (events, receiver) = channel();
    let (ended, done) = channel();
    let queue = Arc::new(Queue::new(settings.lines_per_address));
    let logger =
        Logger { events: events.clone(), queue: Arc::clone(&queue), to_journal: has_journal, settings };
    let thread = std::thread::Builder::new().name("log".into());
    thread
        .spawn(move || {
            match journal {
                Some(journal) => send_entries(&journal, &receiver, &queue),
                None => write_lines(&receiver, &queue, settings.json),
            }
            // The guard has given up waiting when this fails.
            let _ = ended.send(());
        })
        .map_err(|error| failed(&error))?;
    log::set_boxed_logger(Box::new(logger)).map_err(|error| failed(&error))?;
    Ok(LogGuard { events, done })
}

/// Whether the log goes to the journal, where nobody sits in front of it.
pub fn has_journal() -> bool {
    systemd_journal_logger::connected_to_journal()
}

/// From now on lines of this level and more important ones are written.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

fn send_entries(journal: &JournalLog, events: &Receiver<Event>, queue: &Queue) {
    // A journal that is gone is how people say that they do not want the log.
    let send = |entry: &Entry| entry.with_record(|record| drop(journal.journal_send(record)));
    let mut goes_on = true;
    while goes_on {
        match queue.next(events) {
            Event::Entry(entry) => {
                send(&entry);
                queue.waiting.fetch_sub(entry.size(), Ordering::Relaxed);
            }
            Event::Suppressed => {}
            Event::Line(_) | Event::End => goes_on = false,
        }
        queue.summary(!goes_on).iter().for_each(send);
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            send(&Entry::warning(format!(
                "{dropped} entries of the log were dropped: the journal is too slow"
            )));
        }
    }
}

fn write_lines(events: &Receiver<Event>, queue: &Queue, json: bool) {
    let form = |entry: &Entry| if json { entry.with_record(json::line) } else { entry.line() };
    let mut stderr = std::io::stderr();
    let mut lines = String::with_capacity(TOGETHER);
    let mut goes_on = true;
    while goes_on {
        goes_on = gather(events, queue, &mut lines);
        let taken = lines.len();
        queue.summary(!goes_on).iter().for_each(|entry| lines.push_str(&form(entry)));
        // A closed stderr is how people say that they do not want the log.
        let _ = stderr.write_all(lines.as_bytes());
        queue.waiting.fetch_sub(taken, Ordering::Relaxed);
        lines.clear();
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let warning =
                Entry::warning(format!("{dropped} lines of the log were dropped: stderr is too slow"));
            let _ = stderr.write_all(form(&warning).as_bytes());
        }
    }
}

/// Waits for a line, and a moment for those that follow it; false at the end.
fn gather(events: &Receiver<Event>, queue: &Queue, lines: &mut String) -> bool {
    match queue.next(events) {
        Event::Line(first) => lines.push_str(&first),
        Event::Suppressed => return true,
        Event::Entry(_) | Event::End => return false,
    }
    std::thread::sleep(PAUSE);
    while lines.len() < TOGETHER {
        match events.try_recv() {
            Ok(Event::Line(line)) => lines.push_str(&line),
            Ok(Event::Suppressed) => {}
            Ok(Event::Entry(_) | Event::End) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => break,
        }
    }
    true
}
