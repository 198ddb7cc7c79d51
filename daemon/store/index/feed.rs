//! The state of the event feed in memory: its bounds, counters, a notification for readers, pulls, and failed log-ins
//! and counts of days that wait for a transaction.

mod daily;
mod failed_logins;
mod recent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use self::daily::DailyCounters;
pub use self::failed_logins::FailedLogin;
use self::failed_logins::FailedLogins;
use self::recent::Recent;
use super::changes::daily::RecordedDays;
use super::changes::feed::{FeedBounds, FeedInput, Written};
use super::event::{Event, EventKind, Note, NoteKind, Origin};
use super::tables::daily::{Day, DayCounts};
use crate::base::Lock;
use crate::base::clock::unix_seconds;

/// The state of the feed.
pub(in crate::store) struct Feed {
    bounds: Lock<FeedBounds>,
    /// The number of committed events of each kind, in the order of [`EventKind::ALL`].
    counts: [AtomicU64; EventKind::ALL.len()],
    /// The number of the next event, of the last transaction that wrote one.
    next: watch::Sender<u64>,
    recent: Recent,
    logins: FailedLogins,
    days: DailyCounters,
}

impl Default for Feed {
    fn default() -> Self {
        Feed {
            bounds: Lock::default(),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            next: watch::Sender::new(0),
            recent: Recent::default(),
            logins: FailedLogins::default(),
            days: DailyCounters::default(),
        }
    }
}

impl Feed {
    /// Returns the state of a feed with these bounds.
    pub(in crate::store) fn new(bounds: FeedBounds) -> Self {
        Feed { bounds: Lock::new(bounds), ..Feed::default() }
    }

    /// Replaces the bounds.
    pub(in crate::store) fn set_bounds(&self, bounds: FeedBounds) {
        *self.bounds.lock() = bounds;
    }

    /// Returns what the next transaction writes beside the events of its changes.
    pub(super) fn begin(&self, wall_time: u64) -> FeedInput {
        let (bounds, now) = (*self.bounds.lock(), Instant::now());
        let (pending, days) = (self.logins.take_due(now), self.days.take_due(now, wall_time));
        FeedInput { bounds, pending, days }
    }

    /// Notes that the transaction which began with [`Feed::begin`] is committed.
    pub(super) fn committed(&self, written: &Written, days: &RecordedDays) {
        let now = Instant::now();
        self.logins.written(now);
        self.days.committed(days, now);
        let pushes = written.counts[EventKind::Push as usize];
        self.count(DayCounts { pushes, ..DayCounts::default() });
        for (counter, number) in self.counts.iter().zip(written.counts) {
            counter.fetch_add(number, Ordering::Relaxed);
        }
        if let Some(next) = written.next {
            self.next.send_replace(next);
        }
    }

    /// Notes that the transaction which began with [`Feed::begin`] has failed.
    pub(super) fn failed(&self) {
        self.logins.give_back();
        self.days.give_back();
    }

    /// Adds to the totals of today, in memory.
    pub(in crate::store) fn count(&self, counts: DayCounts) {
        self.days.note(counts, unix_seconds());
    }

    /// As [`Feed::count`], by a clock that may be wrong.
    #[cfg(test)]
    pub(in crate::store) fn count_at(&self, counts: DayCounts, time: u64) {
        self.days.note(counts, time);
    }

    /// Has the counts of the days written with the next transaction. Returns true if there are any.
    pub(in crate::store) fn flush_days(&self) -> bool {
        self.days.flush()
    }

    /// Returns true if counts of the days have waited for an hour.
    pub(in crate::store) fn has_overdue_days(&self) -> bool {
        self.days.is_overdue(Instant::now())
    }

    /// Returns the counts of the days that are not in the index yet.
    pub(in crate::store) fn waiting_days(&self) -> Vec<(Day, DayCounts)> {
        self.days.waiting()
    }

    /// Returns the number of committed events of each kind since the start of the process.
    pub(in crate::store) fn counts(&self) -> Vec<(EventKind, u64)> {
        let count = |kind: EventKind| self.counts[kind as usize].load(Ordering::Relaxed);
        EventKind::ALL.into_iter().map(|kind| (kind, count(kind))).collect()
    }

    /// Returns a receiver that is notified of each transaction with events.
    pub(in crate::store) fn subscribe(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Adds an event that is kept in memory only.
    pub(in crate::store) fn remember(&self, event: Event) {
        self.counts[event.kind as usize].fetch_add(1, Ordering::Relaxed);
        self.recent.add(event);
    }

    /// Adds a change of state that is kept in memory only.
    pub(in crate::store) fn remember_note(&self, state: &str, text: &str) {
        let (subject, text) = (state.to_owned(), text.to_owned());
        let note = Note { kind: NoteKind::State, subject, text, origin: Origin::system() };
        self.remember(note.event(unix_seconds()));
    }

    /// Adds a failed log-in to those that wait for a transaction.
    pub(in crate::store) fn note_failed_login(&self, login: FailedLogin, time: u64) {
        self.logins.note(login, time);
    }

    /// Has failed log-ins written with the next transaction, whenever the last ones were.
    pub(in crate::store) fn flush_logins(&self) {
        self.logins.flush();
    }

    /// Returns the events in memory, oldest first: pulls and the like, and failed log-ins that are not written yet.
    pub(in crate::store) fn in_memory(&self) -> Vec<Event> {
        let mut events = self.recent.all();
        events.extend(self.logins.waiting());
        events.sort_by_key(|event| event.time);
        events
    }
}
