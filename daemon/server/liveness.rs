//! Liveness probes of the accept loops, for the watchdog.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::base::Lock;

/// Sends numbered probes to all registered loops.
#[derive(Default)]
pub(super) struct LivenessProbe {
    sent: watch::Sender<u64>,
    answered: Lock<Vec<Arc<AtomicU64>>>,
}

/// The side of one loop: answers probes while the loop waits.
pub(super) struct Heartbeat {
    sent: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl LivenessProbe {
    /// Registers a loop.
    pub(super) fn register(&self) -> Heartbeat {
        let answered = Arc::new(AtomicU64::new(0));
        self.answered.lock().push(Arc::clone(&answered));
        let mut sent = self.sent.subscribe();
        // The loop also has to answer a probe that was sent before it began.
        sent.mark_changed();
        Heartbeat { sent, answered }
    }

    /// Sends a probe to all loops; returns its number.
    pub(super) fn send(&self) -> u64 {
        let number = *self.sent.borrow() + 1;
        self.sent.send_replace(number);
        number
    }

    /// Returns true once all loops have answered this probe.
    pub(super) fn is_answered(&self, number: u64) -> bool {
        let answered = self.answered.lock();
        answered.iter().all(|answered| answered.load(Ordering::Relaxed) >= number)
    }
}

impl Heartbeat {
    /// Runs a future to its end, and answers probes meanwhile.
    pub(super) async fn during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                Ok(()) = self.sent.changed() => {
                    self.answered.store(*self.sent.borrow_and_update(), Ordering::Relaxed);
                }
                done = &mut wait => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn probe_is_answered_only_by_loops_that_run() {
        let probe = LivenessProbe::default();
        let mut running = probe.register();
        let first = probe.send();
        let mut stuck = probe.register();
        tokio::time::timeout(Duration::from_millis(20), running.during(std::future::pending::<()>()))
            .await
            .unwrap_err();
        assert!(!probe.is_answered(first));
        stuck.during(tokio::time::sleep(Duration::from_millis(20))).await;
        assert!(probe.is_answered(first));
        assert!(!probe.is_answered(probe.send()));
    }
}
