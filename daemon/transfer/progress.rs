//! Progress of imports, exports and adoptions.

use std::time::{Duration, Instant};

use super::chunks::TakenBytes;

/// Minimum interval between two reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time from which a rate is calculated.
const SHORTEST: Duration = Duration::from_millis(100);

/// The phase of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Content goes from a medium to a registry.
    Import,
    /// Content goes from a directory of registry:2 to this registry.
    Adopt,
    /// Content of an export is written, or compared where the medium has it.
    Write,
    /// Content of an export is read back.
    Verify,
}

impl Phase {
    /// Returns the phase as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Import => "import",
            Phase::Adopt => "adopt",
            Phase::Write => "write",
            Phase::Verify => "verify",
        }
    }
}

/// The progress of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Bytes that are done in this phase.
    pub done: u64,
    /// Bytes of this phase, if they are known.
    pub total: Option<u64>,
    /// Bytes per second.
    pub rate: u64,
    /// The time that the phase still needs, at this rate.
    pub remaining: Option<Duration>,
}

impl Progress {
    fn of(phase: Phase, done: u64, total: Option<u64>, elapsed: Duration) -> Self {
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = if elapsed < SHORTEST { 0 } else { done.saturating_mul(1000) / milliseconds };
        let remaining = total.and_then(|total| total.saturating_sub(done).checked_div(rate));
        Progress { phase, done, total, rate, remaining: remaining.map(Duration::from_secs) }
    }
}

/// Measures a phase, and limits how often it is reported.
#[derive(Debug)]
pub struct Pace {
    phase: Phase,
    began: Option<Instant>,
    reported: Option<Instant>,
}

impl Pace {
    /// Measures a phase, from its first bytes on.
    pub fn new(phase: Phase) -> Self {
        Pace { phase, began: None, reported: None }
    }

    /// Returns the progress, if the last report is long enough ago.
    pub fn due(&mut self, done: u64, total: Option<u64>) -> Option<Progress> {
        if self.reported.is_some_and(|reported| reported.elapsed() < INTERVAL) {
            return None;
        }
        let now = Instant::now();
        self.reported = Some(now);
        let elapsed = now.duration_since(*self.began.get_or_insert(now));
        Some(Progress::of(self.phase, done, total, elapsed))
    }
}

/// Awaits a request with content, and reports now and then how many bytes of the content it has taken.
pub(super) async fn watched<T>(
    request: impl Future<Output = T>,
    taken: &TakenBytes,
    mut report: impl FnMut(u64),
) -> T {
    let mut request = std::pin::pin!(request);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    loop {
        tokio::select! {
            answer = &mut request => return answer,
            _ = ticks.tick() => report(taken.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_rate_and_remaining_time() {
        let half = Progress::of(Phase::Write, 50, Some(100), Duration::from_secs(5));
        assert_eq!((half.rate, half.remaining), (10, Some(Duration::from_secs(5))));
        assert_eq!(Progress::of(Phase::Write, 9, Some(100), Duration::ZERO).remaining, None);
        assert_eq!(Progress::of(Phase::Import, 50, None, Duration::from_secs(5)).remaining, None);
        let mut pace = Pace::new(Phase::Adopt);
        assert!(pace.due(1, None).is_some() && pace.due(2, None).is_none());
    }
}
