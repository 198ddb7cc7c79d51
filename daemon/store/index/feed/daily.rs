//! Counts of the day on their way into the index.
//!
//! Pulls, pushes and served bytes are counted in memory. The counts are written with the first change that is committed a
//! minute or more after the last ones, and when they are flushed: hourly, and when the store closes. So a pull writes
//! nothing to the disk. A power cut takes the counts that are not written. While the clock shows an implausible day the
//! counts wait for a plausible one.

use std::time::{Duration, Instant};

use crate::base::Lock;
use crate::store::index::changes::daily::RecordedDays;
use crate::store::index::tables::daily::{Day, DayCounts};

/// The least time between two writes with changes.
const INTERVAL: Duration = Duration::from_mins(1);
/// The time after which counts are written without a change.
const FLUSH_INTERVAL: Duration = Duration::from_hours(1);
/// The most days that are in memory; the counts of a further one are added to the last.
const MAX_DAYS: usize = 8;

struct State {
    /// The counts by day, oldest first.
    waiting: Vec<(Day, DayCounts)>,
    /// Counts of implausible days.
    undated: DayCounts,
    /// Those of the running transaction.
    writing: Vec<(Day, DayCounts)>,
    /// The stored bytes of the last row, and after the last transaction.
    stored: (Option<u64>, Option<u64>),
    last_write: Option<Instant>,
    /// The last time at which overdue counts were made due; they may have found no room.
    last_try: Option<Instant>,
    started: Instant,
    is_flushed: bool,
}

/// The counts that are not in the index yet.
pub(super) struct DailyCounters(Lock<State>);

impl Default for DailyCounters {
    fn default() -> Self {
        DailyCounters(Lock::new(State {
            waiting: Vec::new(),
            undated: DayCounts::default(),
            writing: Vec::new(),
            stored: (None, None),
            last_write: None,
            last_try: None,
            started: Instant::now(),
            is_flushed: false,
        }))
    }
}

impl State {
    fn add(&mut self, day: Option<Day>, counts: DayCounts) {
        let Some(day) = day else { return self.undated.add(counts) };
        let is_full = self.waiting.len() >= MAX_DAYS;
        match self.waiting.iter().position(|(known, _)| *known >= day) {
            Some(at) if self.waiting[at].0 == day || is_full => self.waiting[at].1.add(counts),
            Some(at) => self.waiting.insert(at, (day, counts)),
            None if is_full => self.waiting[MAX_DAYS - 1].1.add(counts),
            None => self.waiting.push((day, counts)),
        }
    }

    /// Returns true if a row would differ from the one in the index.
    fn has_news(&self) -> bool {
        !self.waiting.is_empty() || !self.undated.is_zero() || self.stored.0 != self.stored.1
    }
}

impl DailyCounters {
    /// Counts something at a time in seconds since 1970.
    pub(super) fn note(&self, counts: DayCounts, time: u64) {
        if !counts.is_zero() {
            self.0.lock().add(Day::of(time), counts);
        }
    }

    /// Returns the counts that the next transaction writes, oldest day first.
    pub(super) fn take_due(&self, now: Instant, time: u64) -> Vec<(Day, DayCounts)> {
        let state = &mut *self.0.lock();
        let is_due = state.last_write.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        let Some(today) = Day::of(time).filter(|_| state.has_news() && (is_due || state.is_flushed)) else {
            return Vec::new();
        };
        let undated = std::mem::take(&mut state.undated);
        // The row of today gets the stored bytes, also if nothing else was counted.
        state.add(Some(today), undated);
        state.writing = std::mem::take(&mut state.waiting);
        state.writing.clone()
    }

    /// Notes that the transaction of [`DailyCounters::take_due`] is committed.
    pub(super) fn committed(&self, recorded: &RecordedDays, now: Instant) {
        if !recorded.is_written {
            self.give_back();
        }
        let state = &mut *self.0.lock();
        if recorded.is_written {
            state.writing.clear();
            state.last_write = Some(now);
            state.is_flushed = false;
            state.stored.0 = Some(recorded.stored);
        }
        state.stored.0 = state.stored.0.or(Some(recorded.stored));
        state.stored.1 = Some(recorded.stored);
    }

    /// Lets the counts of a failed transaction wait again.
    pub(super) fn give_back(&self) {
        let state = &mut *self.0.lock();
        for (day, counts) in std::mem::take(&mut state.writing) {
            if !counts.is_zero() {
                state.add(Some(day), counts);
            }
        }
    }

    /// Makes the counts due. Returns true if there are any.
    pub(super) fn flush(&self) -> bool {
        let state = &mut *self.0.lock();
        state.is_flushed = state.has_news();
        state.is_flushed
    }

    /// Returns true if counts have waited so long that they are written without a change.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let state = &mut *self.0.lock();
        let since = state.last_write.max(state.last_try).unwrap_or(state.started);
        let is_overdue = state.has_news() && now.saturating_duration_since(since) >= FLUSH_INTERVAL;
        if is_overdue {
            state.last_try = Some(now);
        }
        is_overdue
    }

    /// Returns the counts that are not written yet.
    pub(super) fn waiting(&self) -> Vec<(Day, DayCounts)> {
        let state = self.0.lock();
        state.writing.iter().chain(&state.waiting).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::RELEASED;

    const DAY: u64 = 86400;
    const PULL: DayCounts = DayCounts { pushes: 0, pulls: 1, served: 0 };
    const WRITTEN: RecordedDays = RecordedDays { stored: 10, is_written: true };

    fn pulls(days: &[(Day, DayCounts)]) -> Vec<u64> {
        days.iter().map(|(_, counts)| counts.pulls).collect()
    }

    #[test]
    fn counts_are_written_at_most_each_minute_unless_flushed() {
        let (counters, start) = (DailyCounters::default(), Instant::now());
        assert_eq!(counters.take_due(start, RELEASED), [], "nothing was counted");
        counters.note(PULL, RELEASED);
        assert_eq!(pulls(&counters.take_due(start, RELEASED)), [1]);
        counters.committed(&WRITTEN, start);
        counters.note(PULL, RELEASED);
        assert_eq!(counters.take_due(start, RELEASED), []);
        assert!(
            !counters.is_overdue(start + FLUSH_INTERVAL / 2) && counters.is_overdue(start + FLUSH_INTERVAL)
        );
        assert!(counters.flush());
        assert_eq!(pulls(&counters.take_due(start, RELEASED)), [1]);
        counters.committed(&WRITTEN, start);
        assert!(!counters.flush() && !counters.is_overdue(start + 2 * FLUSH_INTERVAL));
    }

    #[test]
    fn failed_transaction_loses_no_count() {
        let (counters, start) = (DailyCounters::default(), Instant::now());
        counters.note(PULL, RELEASED);
        assert_eq!(counters.take_due(start, RELEASED).len(), 1);
        counters.note(PULL, RELEASED);
        assert_eq!(pulls(&counters.waiting()), [1, 1]);
        counters.give_back();
        assert_eq!(pulls(&counters.take_due(start, RELEASED)), [2]);
        counters.committed(&RecordedDays { stored: 0, is_written: false }, start);
        assert_eq!(pulls(&counters.waiting()), [2], "a full disk");
    }

    #[test]
    fn implausible_day_waits_for_a_plausible_one() {
        let (counters, start) = (DailyCounters::default(), Instant::now());
        counters.note(PULL, 0);
        assert_eq!(counters.take_due(start, 5), []);
        counters.note(PULL, RELEASED + DAY);
        let due = counters.take_due(start, RELEASED + DAY);
        assert_eq!(due, [(Day::of(RELEASED + DAY).unwrap(), DayCounts { pulls: 2, ..DayCounts::default() })]);
    }

    #[test]
    fn each_day_has_its_counts_and_days_are_bounded() {
        let counters = DailyCounters::default();
        for day in 0..20 {
            counters.note(PULL, RELEASED + day * DAY);
        }
        assert_eq!(pulls(&counters.waiting()), [1, 1, 1, 1, 1, 1, 1, 13]);
    }

    #[test]
    fn change_of_the_stored_bytes_alone_makes_a_row() {
        let (counters, start) = (DailyCounters::default(), Instant::now());
        counters.committed(&RecordedDays { stored: 5, is_written: false }, start);
        assert_eq!(counters.take_due(start, RELEASED), []);
        counters.committed(&RecordedDays { stored: 6, is_written: false }, start);
        assert_eq!(pulls(&counters.take_due(start, RELEASED)), [0]);
    }
}
