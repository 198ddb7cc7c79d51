//! The waiting room: a bounded number of connections without a slot, which wait for one or for their 503.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::admission::Holder;
use crate::base::Lock;

/// Places of connections that wait for a slot.
///
/// Half of the places are for waiting connections, and one client gets at most half of those: beyond that its new connection
/// displaces the one of its own that has waited longest. The other half is for displaced connections that are not closed yet.
pub(super) struct WaitingRoom {
    places: usize,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: HashMap<Holder, VecDeque<(u64, oneshot::Sender<()>)>>,
    displaced: usize,
}

/// A place in the waiting room, released on drop.
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    holder: Holder,
    number: u64,
}

impl WaitingRoom {
    pub(super) fn new(places: usize) -> Self {
        WaitingRoom { places, state: Lock::default() }
    }

    /// Takes a place; the receiver resolves when another connection displaces this one. `None` if the room is full.
    pub(super) fn enter(self: &Arc<Self>, holder: Holder) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut state = self.state.lock();
        let capacity = self.places.div_ceil(2);
        let own = state.waiting.get(&holder).map_or(0, VecDeque::len);
        let has_share = holder != Holder::Proxy && own >= capacity.div_ceil(2);
        if has_share || state.waiting.values().map(VecDeque::len).sum::<usize>() >= capacity {
            if state.displaced >= self.places - capacity {
                return None;
            }
            state.displace_oldest(if has_share { Some(holder) } else { None });
        }
        state.next += 1;
        let number = state.next;
        let (sender, receiver) = oneshot::channel();
        state.waiting.entry(holder).or_default().push_back((number, sender));
        Some((Place { room: Arc::clone(self), holder, number }, receiver))
    }
}

impl State {
    /// Displaces the oldest connection of this holder, or of the holder with the most.
    fn displace_oldest(&mut self, holder: Option<Holder>) {
        let most = || self.waiting.iter().max_by_key(|(_, places)| places.len()).map(|(holder, _)| *holder);
        let Some(holder) = holder.or_else(most) else { return };
        let Some(places) = self.waiting.get_mut(&holder) else { return };
        if let Some((_, sender)) = places.pop_front() {
            self.displaced += 1;
            // A dropped receiver means that the connection is closing already.
            let _ = sender.send(());
        }
        self.remove_if_empty(holder);
    }

    fn remove_if_empty(&mut self, holder: Holder) {
        if self.waiting.get(&holder).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&holder);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        let places = state.waiting.get_mut(&self.holder);
        let position =
            places.as_ref().and_then(|places| places.iter().position(|(number, _)| *number == self.number));
        match places.zip(position) {
            Some((places, position)) => drop(places.remove(position)),
            None => state.displaced = state.displaced.saturating_sub(1),
        }
        state.remove_if_empty(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u8) -> Holder {
        Holder::Client(IpAddr::from([10, 0, 0, number]))
    }

    #[test]
    fn one_client_gets_half_of_the_places_for_its_newest_connections() {
        let room = Arc::new(WaitingRoom::new(8));
        let mut own: Vec<_> = (0..10).map_while(|_| room.enter(client(1))).collect();
        // Two wait, and the four before them are displaced.
        assert_eq!(own.len(), 6);
        let displaced: Vec<bool> = own.iter_mut().map(|(_, receiver)| receiver.try_recv().is_ok()).collect();
        assert_eq!(displaced, [true, true, true, true, false, false]);
        let others = (room.enter(client(2)), room.enter(client(3)));
        assert!(others.0.is_some() && others.1.is_some());
        assert!(room.enter(client(4)).is_none());
        own.drain(..4);
        assert!(room.enter(client(4)).is_some());
        drop((own, others));
        let state = room.state.lock();
        assert!(state.waiting.is_empty() && state.displaced == 0);
    }
}
