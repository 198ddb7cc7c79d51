//! The log: the journal where there is one, else stderr, written by a thread of its own.
//!
//! Whoever logs never waits: when neither takes entries fast enough they are dropped, counted, and the count is
//! written as soon as there is room.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};

use systemd_journal_logger::JournalLog;

use super::ServiceError;
use super::entry::Entry;
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
    End,
}

impl Event {
    /// About how many bytes it holds.
    fn size(&self) -> usize {
        match self {
            Event::Line(line) => line.len(),
            Event::Entry(entry) => entry.size(),
            Event::End => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

struct Logger {
    events: Sender<Event>,
    queue: Arc<Queue>,
    to_journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let event = if self.to_journal { Event::Entry(Entry::of(record)) } else { Event::Line(line(record)) };
        let size = event.size();
        let waiting = self.queue.waiting.fetch_add(size, Ordering::Relaxed);
        if waiting + size > WAITING || self.events.send(event).is_err() {
            self.queue.waiting.fetch_sub(size, Ordering::Relaxed);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Starts the log.
///
/// # Errors
/// [`ServiceError::Log`] when there is one already, or no thread for it.
pub fn start_logging(level: LevelFilter) -> Result<LogGuard, ServiceError> {
    let failed = |error: &dyn std::fmt::Display| ServiceError::Log(error.to_string());
    log::set_max_level(level);
    let has_journal = has_journal();
    let journal = has_journal.then(JournalLog::new).transpose().map_err(|error| failed(&error))?;
    let (events, receiver) = channel();
    let (ended, done) = channel();
    let queue = Arc::new(Queue::default());
    let logger = Logger { events: events.clone(), queue: Arc::clone(&queue), to_journal: has_journal };
    let thread = std::thread::Builder::new().name("log".into());
    thread
        .spawn(move || {
            match journal {
                Some(journal) => send_entries(&journal, &receiver, &queue),
                None => write_lines(&receiver, &queue),
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
    while let Ok(Event::Entry(entry)) = events.recv() {
        // A journal that is gone is how people say that they do not want the log.
        let _ = entry.with_record(|record| journal.journal_send(record));
        queue.waiting.fetch_sub(entry.size(), Ordering::Relaxed);
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let lost =
                Entry::warning(format!("{dropped} entries of the log were dropped: the journal is too slow"));
            let _ = lost.with_record(|record| journal.journal_send(record));
        }
    }
}

fn write_lines(events: &Receiver<Event>, queue: &Queue) {
    let mut stderr = std::io::stderr();
    let mut lines = String::with_capacity(TOGETHER);
    let mut goes_on = true;
    while goes_on {
        goes_on = gather(events, &mut lines);
        // A closed stderr is how people say that they do not want the log.
        let _ = stderr.write_all(lines.as_bytes());
        queue.waiting.fetch_sub(lines.len(), Ordering::Relaxed);
        lines.clear();
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(stderr, "WARN  {dropped} lines of the log were dropped: stderr is too slow");
        }
    }
}

/// Waits for a line, and a moment for those that follow it; false at the end.
fn gather(events: &Receiver<Event>, lines: &mut String) -> bool {
    let Ok(Event::Line(first)) = events.recv() else { return false };
    lines.push_str(&first);
    std::thread::sleep(PAUSE);
    while lines.len() < TOGETHER {
        match events.try_recv() {
            Ok(Event::Line(line)) => lines.push_str(&line),
            Ok(Event::Entry(_) | Event::End) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => break,
        }
    }
    true
}
