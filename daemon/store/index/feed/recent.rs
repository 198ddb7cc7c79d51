//! Events that are kept in memory only, such as pulls: a pull must not cost a write to the disk.

use std::collections::VecDeque;

use crate::base::Lock;
use crate::store::index::event::Event;

/// The most events that are kept.
const KEPT: usize = 1000;

/// A ring of the last events.
#[derive(Default)]
pub(super) struct Recent(Lock<VecDeque<Event>>);

impl Recent {
    /// Adds an event, and drops the oldest one if the ring is full.
    pub(super) fn add(&self, event: Event) {
        let mut events = self.0.lock();
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Returns all events, oldest first.
    pub(super) fn all(&self) -> Vec<Event> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::changes::Origin;
    use crate::store::index::event::EventKind;

    #[test]
    fn the_oldest_events_are_dropped() {
        let recent = Recent::default();
        for time in 0..KEPT as u64 + 5 {
            recent.add(Event::new(EventKind::Pull, time, &Origin::system()));
        }
        let all = recent.all();
        assert_eq!((all[0].time, all.len()), (5, KEPT));
    }
}
