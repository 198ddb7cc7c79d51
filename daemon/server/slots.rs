//! Connection slots: [`Admission`] behind a lock, with the clock and the channels that close evicted connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::admission::{Admission, Decision, Holder, Id, Settings, Victim};
use crate::base::Lock;

/// Interval at which a waiting connection asks for admission again if no slot is released.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Close mode of an evicted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Gracefully, between requests.
    Graceful,
    /// Immediately.
    Abrupt,
}

/// Connection slots of a server.
pub(super) struct Slots {
    state: Lock<State>,
    released: Notify,
}

struct State {
    admission: Admission,
    endings: HashMap<Id, oneshot::Sender<Ending>>,
}

/// The slot of a connection, released on drop.
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: Id,
}

/// A request in progress on a connection, ended on drop.
pub(super) struct ActiveRequest(Arc<Slot>);

impl Slots {
    pub(super) fn new(settings: Settings) -> Self {
        let state = State { admission: Admission::new(settings), endings: HashMap::new() };
        Slots { state: Lock::new(state), released: Notify::new() }
    }

    /// Applies limits that a reload of the configuration may change.
    pub(super) fn adjust(&self, share: usize, unpermitted: Duration) {
        self.state.lock().admission.adjust(share, unpermitted);
    }

    /// Admits a new connection; the receiver resolves when it is evicted.
    pub(super) fn admit(self: &Arc<Self>, holder: Holder) -> Option<(Slot, oneshot::Receiver<Ending>)> {
        let mut state = self.state.lock();
        let id = match state.admission.admit(holder, Instant::now()) {
            Decision::Admitted(id) => id,
            Decision::Replaces(id, victim) => {
                state.end(victim);
                id
            }
            Decision::Later | Decision::Refused => return None,
        };
        let (sender, receiver) = oneshot::channel();
        state.endings.insert(id, sender);
        Some((Slot { slots: Arc::clone(self), id }, receiver))
    }

    /// Waits for a slot for at most `limit`.
    pub(super) async fn wait(
        self: &Arc<Self>,
        holder: Holder,
        limit: Duration,
    ) -> Option<(Slot, oneshot::Receiver<Ending>)> {
        let admitted = async {
            loop {
                let released = self.released.notified();
                if let Some(admitted) = self.admit(holder) {
                    return admitted;
                }
                // A connection that becomes idle can be evicted, but sends no notification.
                let _ = tokio::time::timeout(RETRY_INTERVAL, released).await;
            }
        };
        tokio::time::timeout(limit, admitted).await.ok()
    }

    /// Closes idle connections that have been without a permit for too long, under pressure only.
    pub(super) fn expire(&self) {
        let mut state = self.state.lock();
        for victim in state.admission.expire(Instant::now()) {
            state.end(victim);
        }
    }

    /// Closes one connection that is not transferring, because descriptors have run out.
    pub(super) fn shed(&self) {
        let mut state = self.state.lock();
        if let Some(victim) = state.admission.shed(Instant::now()) {
            state.end(victim);
        }
    }
}

impl State {
    fn end(&mut self, victim: Victim) {
        let ending = if victim.idle { Ending::Graceful } else { Ending::Abrupt };
        if let Some(sender) = self.endings.remove(&victim.id) {
            // A dropped receiver means that the connection is closing already.
            let _ = sender.send(ending);
        }
    }
}

impl Slot {
    /// Records the start of a request of this holder.
    pub(super) fn begin(self: &Arc<Self>, holder: Holder) -> ActiveRequest {
        self.slots.state.lock().admission.begin(self.id, holder, Instant::now());
        ActiveRequest(Arc::clone(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.admission.release(self.id);
        state.endings.remove(&self.id);
        drop(state);
        self.slots.released.notify_waiters();
    }
}

impl ActiveRequest {
    /// Records that the request has a permit.
    pub(super) fn permit(&self) {
        self.0.slots.state.lock().admission.permit(self.0.id, Instant::now());
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.slots.state.lock().admission.end(self.0.id, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u8) -> Holder {
        Holder::Client(IpAddr::from([10, 0, 0, number]))
    }

    #[tokio::test]
    async fn dropped_slot_goes_to_a_waiting_connection() {
        let settings = Settings { slots: 1, closing: 1, share: 1, unpermitted: Duration::from_secs(1) };
        let slots = Arc::new(Slots::new(settings));
        let (slot, _ending) = slots.admit(client(1)).unwrap();
        let slot = Arc::new(slot);
        let active = slot.begin(client(1));
        active.permit();
        assert!(slots.admit(client(2)).is_none());
        let waiting = {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.wait(client(2), Duration::from_secs(30)).await.is_some() })
        };
        drop((slot, active));
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn evicted_idle_connection_ends_gracefully() {
        let settings = Settings { slots: 1, closing: 1, share: 1, unpermitted: Duration::from_secs(1) };
        let slots = Arc::new(Slots::new(settings));
        let (slot, ending) = slots.admit(client(1)).unwrap();
        let slot = Arc::new(slot);
        drop(slot.begin(client(1)));
        assert!(slots.admit(client(2)).is_some());
        assert_eq!(ending.await, Ok(Ending::Graceful));
    }
}
