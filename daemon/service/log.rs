//! The log: the journal where there is one, else stderr, written by a thread of its own.
//!
//! Whoever logs never waits: when stderr does not take lines fast enough they are dropped, counted, and the
//! count is written as soon as there is room.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};

use super::ServiceError;
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
    stderr: Option<(Sender<Event>, Receiver<()>)>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some((events, done)) = &self.stderr else { return };
        if events.send(Event::End).is_ok() {
            // A stderr that takes nothing does not keep the daemon from ending.
            let _ = done.recv_timeout(AT_THE_END);
        }
    }
}

enum Event {
    Line(String),
    End,
}

#[derive(Default)]
struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

struct Stderr {
    events: Sender<Event>,
    queue: Arc<Queue>,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record);
        let waiting = self.queue.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let length = line.len();
        if waiting + length > WAITING || self.events.send(Event::Line(line)).is_err() {
            self.queue.waiting.fetch_sub(length, Ordering::Relaxed);
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
    if systemd_journal_logger::connected_to_journal() {
        let journal = systemd_journal_logger::JournalLog::new().map_err(|error| failed(&error))?;
        journal.install().map_err(|error| failed(&error))?;
        return Ok(LogGuard { stderr: None });
    }
    let (events, receiver) = channel();
    let (ended, done) = channel();
    let queue = Arc::new(Queue::default());
    let logger = Stderr { events: events.clone(), queue: Arc::clone(&queue) };
    let thread = std::thread::Builder::new().name("log".into());
    thread
        .spawn(move || {
            write_lines(&receiver, &queue);
            // The guard has given up waiting when this fails.
            let _ = ended.send(());
        })
        .map_err(|error| failed(&error))?;
    log::set_boxed_logger(Box::new(logger)).map_err(|error| failed(&error))?;
    Ok(LogGuard { stderr: Some((events, done)) })
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
            Ok(Event::End) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => break,
        }
    }
    true
}
