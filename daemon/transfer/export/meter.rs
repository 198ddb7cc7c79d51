//! Progress, rate limit and interruption of an export.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::ExportError;
use crate::transfer::progress::{Pace, Phase, Progress};

/// Longest pause between two looks at the stop flag.
const PAUSE: Duration = Duration::from_millis(200);

/// Stops an export at its next chunk; clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Stops the export.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts the bytes of an export, reports progress, and slows reading down to a rate.
pub struct Meter {
    observe: Box<dyn FnMut(&Progress) + Send>,
    stop: StopFlag,
    /// Bytes per second that are read from the registry at most.
    limit: Option<u64>,
    pace: Pace,
    total: u64,
    done: u64,
    fetched: u64,
    fetching: Option<Instant>,
}

impl Meter {
    /// Makes a meter that calls `observe` once a second at most.
    pub fn new(stop: StopFlag, limit: Option<u64>, observe: impl FnMut(&Progress) + Send + 'static) -> Self {
        Meter {
            observe: Box::new(observe),
            stop,
            limit,
            pace: Pace::new(Phase::Write),
            total: 0,
            done: 0,
            fetched: 0,
            fetching: None,
        }
    }

    /// Begins a phase with this number of bytes.
    pub(super) fn begin(&mut self, phase: Phase, total: u64) {
        (self.pace, self.total, self.done) = (Pace::new(phase), total, 0);
    }

    /// Counts bytes that are done.
    pub(super) fn add(&mut self, bytes: u64) -> Result<(), ExportError> {
        self.done += bytes;
        if let Some(progress) = self.pace.due(self.done, Some(self.total)) {
            (self.observe)(&progress);
        }
        if self.stop.is_set() { Err(ExportError::Interrupted) } else { Ok(()) }
    }

    /// Takes back bytes that have to be written again.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.done = self.done.saturating_sub(bytes);
    }

    /// Counts bytes that came from the registry, and waits where they come faster than the limit.
    pub(super) fn fetched(&mut self, bytes: u64) -> Result<(), ExportError> {
        let began = *self.fetching.get_or_insert_with(Instant::now);
        self.fetched += bytes;
        let Some(limit) = self.limit else { return Ok(()) };
        // In milliseconds, which are exact for every length and rate that occur.
        let due = u128::from(self.fetched) * 1000 / u128::from(limit.max(1));
        let due = Duration::from_millis(u64::try_from(due).unwrap_or(u64::MAX));
        while let Some(wait) = due.checked_sub(began.elapsed()).filter(|wait| !wait.is_zero()) {
            if self.stop.is_set() {
                return Err(ExportError::Interrupted);
            }
            std::thread::sleep(wait.min(PAUSE));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_flag_interrupts_also_a_slow_rate() {
        let stop = StopFlag::default();
        let mut meter = Meter::new(stop.clone(), Some(1), |_| {});
        assert!(meter.add(1).is_ok());
        stop.stop();
        assert!(matches!(meter.add(1), Err(ExportError::Interrupted)));
        assert!(matches!(meter.fetched(1 << 40), Err(ExportError::Interrupted)));
    }
}
