//! Round robin between holders that wait for a place.
//!
//! Each holder has a queue of its own, and the holders take turns: a holder with a thousand waiting entries delays one
//! with a single entry by one entry. A holder that has all the places it may have is passed over until it gives one
//! back, and the last places ([`Limits::reserved`]) are for holders that have none. Pure logic: the caller keeps the waiting tasks, wakes the one whose [`Ticket`] [`FairQueue::admit`] returns, and
//! calls that after each change that may free a place.
//!
//! Memory is bounded by [`Limits::holders`] times [`Limits::waiting_per_holder`].

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Bounds of a [`FairQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Places that are held at once.
    pub places: usize,
    /// Places that one holder has at once. Fewer than `places` where a holder may keep one for long.
    pub places_per_holder: usize,
    /// The last free places, which only holders that have none can take: a few holders that keep theirs for long leave
    /// something to the others. Below `places`.
    pub reserved: usize,
    /// Entries of one holder that wait.
    pub waiting_per_holder: usize,
    /// Holders that hold or wait at once.
    pub holders: usize,
}

/// Number of a waiting entry, unique in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Outcome of [`FairQueue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The entry has a place; [`FairQueue::release`] gives it back.
    Admitted,
    /// The entry waits until [`FairQueue::admit`] returns its ticket.
    Waiting(Ticket),
    /// The holder has as many waiting entries as it may, or there are too many holders.
    Refused,
}

/// Places and the entries that wait for them.
#[derive(Debug)]
pub struct FairQueue<H> {
    limits: Limits,
    used: usize,
    next: u64,
    holders: HashMap<H, Share>,
    /// Holders with waiting entries, the one whose turn is next at the front.
    turns: VecDeque<H>,
}

#[derive(Debug, Default)]
struct Share {
    held: usize,
    waiting: VecDeque<Ticket>,
}

impl<H: Clone + Eq + Hash> FairQueue<H> {
    /// Creates an empty queue.
    pub fn new(limits: Limits) -> Self {
        FairQueue { limits, used: 0, next: 0, holders: HashMap::new(), turns: VecDeque::new() }
    }

    /// Takes a place for a holder, or lets the entry wait for one.
    pub fn enter(&mut self, holder: &H) -> Entered {
        let is_known = self.holders.contains_key(holder);
        if !is_known && self.holders.len() >= self.limits.holders {
            return Entered::Refused;
        }
        // No waiting entry could take a free place: `admit` has been called since the last one became free.
        if self.may_take(holder) {
            self.take(holder);
            return Entered::Admitted;
        }
        if self.waiting(holder) >= self.limits.waiting_per_holder {
            return Entered::Refused;
        }
        self.next += 1;
        let ticket = Ticket(self.next);
        let share = self.holders.entry(holder.clone()).or_default();
        if share.waiting.is_empty() {
            self.turns.push_back(holder.clone());
        }
        share.waiting.push_back(ticket);
        Entered::Waiting(ticket)
    }

    /// Gives a place back.
    pub fn release(&mut self, holder: &H) {
        if let Some(share) = self.holders.get_mut(holder).filter(|share| share.held > 0) {
            share.held -= 1;
            self.used -= 1;
        }
        self.forget_if_empty(holder);
    }

    /// Removes an entry that no longer waits, because its request was cancelled.
    pub fn leave(&mut self, holder: &H, ticket: Ticket) {
        let Some(share) = self.holders.get_mut(holder) else { return };
        let before = share.waiting.len();
        share.waiting.retain(|waiting| *waiting != ticket);
        if before > 0 && share.waiting.is_empty() {
            self.turns.retain(|turn| turn != holder);
        }
        self.forget_if_empty(holder);
    }

    /// Gives a free place to the entry whose turn it is, and returns its holder and ticket; nothing if no place is free
    /// or no holder may have another one.
    pub fn admit(&mut self) -> Option<(H, Ticket)> {
        if self.used >= self.limits.places {
            return None;
        }
        for _ in 0..self.turns.len() {
            let holder = self.turns.pop_front()?;
            if !self.may_take(&holder) {
                self.turns.push_back(holder);
                continue;
            }
            let share = self.holders.get_mut(&holder)?;
            let ticket = share.waiting.pop_front();
            if !share.waiting.is_empty() {
                self.turns.push_back(holder.clone());
            }
            let Some(ticket) = ticket else { continue };
            self.take(&holder);
            return Some((holder, ticket));
        }
        None
    }

    /// Returns how many places are held.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns true if there is a free place that a holder may have.
    fn may_take(&self, holder: &H) -> bool {
        let held = self.held(holder);
        let reserved = if held == 0 { 0 } else { self.limits.reserved };
        self.used + reserved < self.limits.places && held < self.limits.places_per_holder
    }

    fn take(&mut self, holder: &H) {
        self.used += 1;
        self.holders.entry(holder.clone()).or_default().held += 1;
    }

    fn held(&self, holder: &H) -> usize {
        self.holders.get(holder).map_or(0, |share| share.held)
    }

    fn waiting(&self, holder: &H) -> usize {
        self.holders.get(holder).map_or(0, |share| share.waiting.len())
    }

    fn forget_if_empty(&mut self, holder: &H) {
        if self.holders.get(holder).is_some_and(|share| share.held == 0 && share.waiting.is_empty()) {
            self.holders.remove(holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits =
        Limits { places: 1, places_per_holder: 1, reserved: 0, waiting_per_holder: 3, holders: 4 };

    fn ticket(entered: Entered) -> Ticket {
        match entered {
            Entered::Waiting(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn holders_take_turns_whatever_the_length_of_their_queues() {
        let mut queue = FairQueue::new(LIMITS);
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        for _ in 0..3 {
            ticket(queue.enter(&'a'));
        }
        ticket(queue.enter(&'b'));
        ticket(queue.enter(&'c'));
        let (mut order, mut holder) = (String::new(), 'a');
        for _ in 0..5 {
            queue.release(&holder);
            holder = queue.admit().unwrap().0;
            order.push(holder);
            assert_eq!(queue.admit(), None);
        }
        assert_eq!(order, "abcaa");
        queue.release(&holder);
        assert!(queue.holders.is_empty() && queue.turns.is_empty() && queue.used() == 0);
    }

    #[test]
    fn a_holder_with_all_its_places_leaves_the_others_to_the_rest() {
        let mut queue = FairQueue::new(Limits { places: 2, ..LIMITS });
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        ticket(queue.enter(&'a'));
        assert_eq!(queue.admit(), None);
        assert_eq!(queue.enter(&'b'), Entered::Admitted);
        let waits = ticket(queue.enter(&'c'));
        queue.release(&'b');
        // The second entry of `a` came first.
        assert_eq!(queue.admit(), Some(('c', waits)));
        queue.release(&'a');
        assert_eq!(queue.admit().map(|(holder, _)| holder), Some('a'));
    }

    #[test]
    fn the_last_places_are_for_holders_that_have_none() {
        let limits = Limits { places: 4, places_per_holder: 2, reserved: 2, ..LIMITS };
        let mut queue = FairQueue::new(limits);
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        assert_eq!(queue.enter(&'b'), Entered::Admitted);
        let second = ticket(queue.enter(&'b'));
        // A place is free, but not for a holder that has one.
        assert_eq!((queue.used(), queue.admit()), (3, None));
        assert_eq!(queue.enter(&'c'), Entered::Admitted);
        let waits = ticket(queue.enter(&'d'));
        assert_eq!(queue.admit(), None);
        queue.release(&'a');
        // The entry of `b` came first.
        assert_eq!((queue.admit(), queue.admit()), (Some(('d', waits)), None));
        queue.release(&'c');
        queue.release(&'d');
        assert_eq!((queue.used(), queue.admit()), (2, None));
        queue.release(&'a');
        assert_eq!(queue.admit(), Some(('b', second)));
    }

    #[test]
    fn a_holder_that_gives_its_only_place_back_can_have_a_reserved_one() {
        let mut queue = FairQueue::new(Limits { places: 2, places_per_holder: 2, reserved: 1, ..LIMITS });
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        let waits = ticket(queue.enter(&'a'));
        assert_eq!(queue.enter(&'b'), Entered::Admitted);
        assert_eq!(queue.admit(), None);
        queue.release(&'a');
        assert_eq!(queue.admit(), Some(('a', waits)));
    }

    #[test]
    fn queues_and_holders_are_bounded() {
        let mut queue = FairQueue::new(LIMITS);
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        for _ in 0..3 {
            ticket(queue.enter(&'a'));
        }
        assert_eq!(queue.enter(&'a'), Entered::Refused);
        for holder in ['b', 'c', 'd'] {
            ticket(queue.enter(&holder));
        }
        assert_eq!(queue.enter(&'e'), Entered::Refused);
    }

    #[test]
    fn a_cancelled_entry_leaves_the_queue() {
        let mut queue = FairQueue::new(LIMITS);
        assert_eq!(queue.enter(&'a'), Entered::Admitted);
        let (first, second) = (ticket(queue.enter(&'b')), ticket(queue.enter(&'b')));
        let other = ticket(queue.enter(&'c'));
        queue.leave(&'b', first);
        queue.leave(&'c', other);
        queue.release(&'a');
        assert_eq!(queue.admit(), Some(('b', second)));
        // Too late: the entry has its place.
        queue.leave(&'b', second);
        queue.release(&'b');
        assert!(queue.holders.is_empty() && queue.turns.is_empty() && queue.used() == 0);
    }

    proptest! {
        /// Whatever happens, no bound is exceeded and no place stays free while an entry could take it.
        #[test]
        fn places_are_bounded_and_never_idle(steps in prop::collection::vec((0_u8..3, 0_u8..4), 1..200), reserved in 0_usize..3) {
            let limits = Limits { places: 3, places_per_holder: 2, reserved, waiting_per_holder: 3, holders: 4 };
            let mut queue = FairQueue::new(limits);
            let (mut held, mut waiting): (Vec<u8>, Vec<(u8, Ticket)>) = (Vec::new(), Vec::new());
            for (step, holder) in steps {
                match step {
                    0 => match queue.enter(&holder) {
                        Entered::Admitted => held.push(holder),
                        Entered::Waiting(ticket) => waiting.push((holder, ticket)),
                        Entered::Refused => {}
                    },
                    1 => if let Some(at) = held.iter().position(|one| *one == holder) {
                        held.remove(at);
                        queue.release(&holder);
                    },
                    _ => if let Some(at) = waiting.iter().position(|(one, _)| *one == holder) {
                        queue.leave(&holder, waiting.remove(at).1);
                    },
                }
                while let Some((holder, ticket)) = queue.admit() {
                    let at = waiting.iter().position(|one| *one == (holder, ticket));
                    prop_assert!(at.is_some());
                    waiting.remove(at.unwrap());
                    held.push(holder);
                }
                let of = |holder: u8| held.iter().filter(|one| **one == holder).map(|_| 1).sum::<usize>();
                prop_assert!(held.len() <= limits.places && held.len() == queue.used());
                for holder in 0..4 {
                    let waits = waiting.iter().filter(|(one, _)| *one == holder).count();
                    prop_assert!(of(holder) <= 2 && waits <= 3);
                    let open = limits.places - if of(holder) == 0 { 0 } else { reserved };
                    prop_assert!(waits == 0 || of(holder) == 2 || held.len() >= open);
                }
            }
        }
    }
}
