//! Whether the loops that accept connections go round.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Asks loops for a sign of life.
#[derive(Default)]
pub(super) struct Heart {
    asked: watch::Sender<u64>,
    answered: Mutex<Vec<Arc<AtomicU64>>>,
}

/// The side of one loop.
pub(super) struct Beat {
    asked: watch::Receiver<u64>,
    answered: Arc<AtomicU64>,
}

impl Heart {
    /// The side of another loop.
    pub(super) fn beat(&self) -> Beat {
        let answered = Arc::new(AtomicU64::new(0));
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&answered));
        let mut asked = self.asked.subscribe();
        // A question that was asked before this loop began is for it, too.
        asked.mark_changed();
        Beat { asked, answered }
    }

    /// Asks all of them; gives the number of the question.
    pub(super) fn ask(&self) -> u64 {
        let number = *self.asked.borrow() + 1;
        self.asked.send_replace(number);
        number
    }

    /// Whether all of them have answered a question.
    pub(super) fn has_answered(&self, number: u64) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.iter().all(|answered| answered.load(Ordering::Relaxed) >= number)
    }
}

impl Beat {
    /// Waits for something, and answers questions meanwhile.
    pub(super) async fn through<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            tokio::select! {
                Ok(()) = self.asked.changed() => {
                    self.answered.store(*self.asked.borrow_and_update(), Ordering::Relaxed);
                }
                done = &mut wait => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_loop_that_goes_round_answers() {
        let heart = Heart::default();
        let mut one = heart.beat();
        let first = heart.ask();
        let mut stuck = heart.beat();
        tokio::time::timeout(std::time::Duration::from_millis(20), one.through(std::future::pending::<()>()))
            .await
            .unwrap_err();
        assert!(!heart.has_answered(first));
        stuck.through(tokio::time::sleep(std::time::Duration::from_millis(20))).await;
        assert!(heart.has_answered(first));
        assert!(!heart.has_answered(heart.ask()));
    }
}
