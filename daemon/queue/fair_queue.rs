//! Round robin between holders that wait for a place.
//!
//! Each holder has a queue of its own, and the holders take turns: a holder with a thousand waiting entries delays a
//! holder with a single entry by one entry. A holder at its limit is passed over until it releases a place, and the
//! last places ([`Limits::reserved`]) go only to holders that have none. Entries wait in one of two lanes: the
//! preferred lane is served first, but every fourth place goes to the ordinary lane while entries wait there.
//!
//! Pure logic: the caller keeps the waiting tasks, wakes the one whose [`Ticket`] [`FairQueue::admit`] returns, and
//! calls `admit` after each change that may free a place. Memory is bounded by [`Limits::holders`] times
//! [`Limits::waiting_per_holder`], or by the caller if it sets these to [`usize::MAX`].

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The number of places in a row that go to the preferred lane while entries wait in the ordinary one.
const PREFERRED_IN_A_ROW: u32 = 3;

/// Bounds of a [`FairQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Places in all.
    pub places: usize,
    /// Places that one holder has at once. Fewer than `places` where a holder may keep one for long.
    pub places_per_holder: usize,
    /// The last free places, which go only to holders that have none, so that a few slow holders cannot take all of
    /// them. Below `places`.
    pub reserved: usize,
    /// Waiting entries of one holder.
    pub waiting_per_holder: usize,
    /// Holders that have a place or wait.
    pub holders: usize,
}

/// Lane in which an entry waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Served first.
    Preferred,
    /// Served when no preferred entry waits, and every fourth time.
    Ordinary,
}

/// Number of a waiting entry, unique in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Outcome of [`FairQueue::enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The entry has a place, which [`FairQueue::release`] returns.
    Admitted,
    /// The entry waits until [`FairQueue::admit`] returns its ticket.
    Waiting(Ticket),
    /// The limit of waiting entries per holder, or of holders, is reached.
    Refused,
}

/// The places and the entries that wait for them.
#[derive(Debug)]
pub struct FairQueue<H> {
    limits: Limits,
    used: usize,
    next: u64,
    holders: HashMap<H, Share>,
    /// Holders with waiting entries, the next one at the front.
    rotation: PerLane<VecDeque<H>>,
    /// Places that went to the preferred lane since the last one of the ordinary lane.
    in_a_row: u32,
}

/// The places and the waiting entries of one holder.
#[derive(Debug, Default)]
struct Share {
    held: usize,
    waiting: PerLane<VecDeque<Ticket>>,
}

impl Share {
    fn waits(&self) -> usize {
        self.waiting.preferred.len() + self.waiting.ordinary.len()
    }
}

#[derive(Debug, Default)]
struct PerLane<T> {
    preferred: T,
    ordinary: T,
}

impl<T> PerLane<T> {
    fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Preferred => &mut self.preferred,
            Lane::Ordinary => &mut self.ordinary,
        }
    }
}

impl<H: Clone + Eq + Hash> FairQueue<H> {
    /// Creates an empty queue.
    pub fn new(limits: Limits) -> Self {
        let rotation = PerLane { preferred: VecDeque::new(), ordinary: VecDeque::new() };
        FairQueue { limits, used: 0, next: 0, holders: HashMap::new(), rotation, in_a_row: 0 }
    }

    /// Takes a free place for a holder, or queues an entry in a lane.
    pub fn enter(&mut self, holder: &H, lane: Lane) -> Entered {
        let is_known = self.holders.contains_key(holder);
        if !is_known && self.holders.len() >= self.limits.holders {
            return Entered::Refused;
        }
        // No waiting entry is overtaken: `admit` was called when the place became free, and none could take it.
        if self.may_take(holder) {
            self.take(holder);
            return Entered::Admitted;
        }
        if self.holders.get(holder).map_or(0, Share::waits) >= self.limits.waiting_per_holder {
            return Entered::Refused;
        }
        self.next += 1;
        let ticket = Ticket(self.next);
        let waiting = self.holders.entry(holder.clone()).or_default().waiting.get_mut(lane);
        if waiting.is_empty() {
            self.rotation.get_mut(lane).push_back(holder.clone());
        }
        waiting.push_back(ticket);
        Entered::Waiting(ticket)
    }

    /// Returns a place to the queue.
    pub fn release(&mut self, holder: &H) {
        if let Some(share) = self.holders.get_mut(holder).filter(|share| share.held > 0) {
            share.held -= 1;
            self.used -= 1;
        }
        self.forget_if_empty(holder);
    }

    /// Removes an entry whose request was cancelled.
    pub fn leave(&mut self, holder: &H, ticket: Ticket) {
        let Some(share) = self.holders.get_mut(holder) else { return };
        for lane in [Lane::Preferred, Lane::Ordinary] {
            let waiting = share.waiting.get_mut(lane);
            let before = waiting.len();
            waiting.retain(|waiting| *waiting != ticket);
            if before > 0 && waiting.is_empty() {
                self.rotation.get_mut(lane).retain(|waiting| waiting != holder);
            }
        }
        self.forget_if_empty(holder);
    }

    /// Gives a free place to the next entry, and returns its holder and ticket. Returns `None` if no place is free, or
    /// if no waiting holder may have another one.
    pub fn admit(&mut self) -> Option<(H, Ticket)> {
        if self.used >= self.limits.places {
            return None;
        }
        let lanes = if self.in_a_row < PREFERRED_IN_A_ROW {
            [Lane::Preferred, Lane::Ordinary]
        } else {
            [Lane::Ordinary, Lane::Preferred]
        };
        for lane in lanes {
            if let Some(admitted) = self.admit_from(lane) {
                self.in_a_row = match lane {
                    Lane::Preferred => self.in_a_row.saturating_add(1),
                    Lane::Ordinary => 0,
                };
                return Some(admitted);
            }
        }
        if self.rotation.preferred.is_empty() && self.rotation.ordinary.is_empty() {
            self.in_a_row = 0;
        }
        None
    }

    fn admit_from(&mut self, lane: Lane) -> Option<(H, Ticket)> {
        for _ in 0..self.rotation.get_mut(lane).len() {
            let holder = self.rotation.get_mut(lane).pop_front()?;
            if !self.may_take(&holder) {
                self.rotation.get_mut(lane).push_back(holder);
                continue;
            }
            let waiting = self.holders.get_mut(&holder)?.waiting.get_mut(lane);
            let ticket = waiting.pop_front();
            if !waiting.is_empty() {
                self.rotation.get_mut(lane).push_back(holder.clone());
            }
            let Some(ticket) = ticket else { continue };
            self.take(&holder);
            return Some((holder, ticket));
        }
        None
    }

    /// Returns the number of places in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns true if a place is free that this holder may have.
    fn may_take(&self, holder: &H) -> bool {
        let held = self.holders.get(holder).map_or(0, |share| share.held);
        let reserved = if held == 0 { 0 } else { self.limits.reserved };
        self.used + reserved < self.limits.places && held < self.limits.places_per_holder
    }

    fn take(&mut self, holder: &H) {
        self.used += 1;
        self.holders.entry(holder.clone()).or_default().held += 1;
    }

    fn forget_if_empty(&mut self, holder: &H) {
        if self.holders.get(holder).is_some_and(|share| share.held == 0 && share.waits() == 0) {
            self.holders.remove(holder);
        }
    }
}
