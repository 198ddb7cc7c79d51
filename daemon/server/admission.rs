//! Admission and eviction: decides which connections get a slot, and which lose theirs under pressure.
//!
//! While slots are free every connection gets one. Under pressure the holder with the most connections loses slots first,
//! beginning with its idle connections without a permit. A holder that recently had a permit is trusted: trusted holders have
//! a reserve of slots and may evict connections of untrusted ones. A transfer with a permit is evicted only in favour of a
//! trusted holder, and only while its own holder has more than its share.
//!
//! Pure logic: time is a parameter, and the caller closes the evicted connections. Memory is bounded by the number of slots
//! and by [`TRUSTED_HOLDERS`].

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lru::LruCache;

/// Duration of trust after the last permit of a holder.
const TRUST: Duration = Duration::from_hours(1);
/// Maximum number of trusted holders in memory.
const TRUSTED_HOLDERS: usize = 4096;
/// Grace period for the first request of a new connection: a TLS handshake and a bcrypt take a small machine seconds.
const FRESH: Duration = Duration::from_secs(5);
/// Maximum number of connections of a holder with that grace period.
const FEW: usize = 4;

/// Number of a connection.
pub(super) type Id = u64;

/// The party that a connection counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A client: its IPv4 address, or the /64 network of its IPv6 address.
    Client(IpAddr),
    /// A trusted proxy that has not named a client yet. Its connections do not count together.
    Proxy,
}

/// Limits of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Number of slots.
    pub(super) slots: usize,
    /// Maximum number of evicted connections that are still open.
    pub(super) closing: usize,
    /// Number of connections that a holder keeps under pressure.
    pub(super) share: usize,
    /// Time limit of an idle connection without a permit, under pressure.
    pub(super) unpermitted: Duration,
}

/// Outcome of [`Admission::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The connection has a slot.
    Admitted(Id),
    /// The connection takes the slot of another one, which the caller closes.
    Replaces(Id, Victim),
    /// Too many evicted connections are still open: retry when one of them is closed.
    Later,
    /// No slot is free, and no connection may be evicted for this one.
    Refused,
}

/// A connection that has lost its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    /// Number of the connection.
    pub(super) id: Id,
    /// True between requests: the connection can be closed gracefully.
    pub(super) idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first request: TLS handshake or incomplete headers.
    New,
    /// During a request.
    Busy,
    /// Between requests.
    Idle,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    holder: Holder,
    accepted: Instant,
    phase: Phase,
    /// Start of the current phase.
    since: Instant,
    /// True if the current or last request has a permit.
    permitted: bool,
    /// Start of the period in which no request had a permit.
    unpermitted: Instant,
}

impl Connection {
    fn is_transfer(&self) -> bool {
        self.phase == Phase::Busy && self.permitted
    }
}

/// Rights of a new connection.
#[derive(Clone, Copy, Debug)]
struct Claim {
    holder: Option<Holder>,
    /// Number of connections of the same holder.
    count: usize,
    trusted: bool,
    below_share: bool,
}

/// Step of a connection whose handshake, headers or request has just begun.
const BEGINNING: u8 = 3;

/// Eviction order, lowest first: tier, connections of the holder, step, time.
type Rank = (u8, Reverse<usize>, u8, Duration);

/// State of all slots.
pub(super) struct Admission {
    settings: Settings,
    next: Id,
    connections: HashMap<Id, Connection>,
    counts: HashMap<Holder, usize>,
    closing: HashSet<Id>,
    /// Time of the last permit of each trusted holder.
    trusted: LruCache<Holder, Instant>,
}

impl Admission {
    pub(super) fn new(settings: Settings) -> Self {
        Admission {
            settings,
            next: 0,
            connections: HashMap::new(),
            counts: HashMap::new(),
            closing: HashSet::new(),
            // Bounded by `permit`: a bounded cache would allocate its whole table ahead.
            trusted: LruCache::unbounded(),
        }
    }

    /// Applies limits that a reload of the configuration may change.
    pub(super) fn adjust(&mut self, share: usize, unpermitted: Duration) {
        self.settings.share = share;
        self.settings.unpermitted = unpermitted;
    }

    /// Decides about a new connection.
    pub(super) fn admit(&mut self, holder: Holder, now: Instant) -> Decision {
        let claim = self.claim(holder, now);
        if self.connections.len() < self.open_to(&claim) {
            return Decision::Admitted(self.insert(holder, now));
        }
        let Some(victim) = self.weakest(&claim, now) else { return Decision::Refused };
        if self.closing.len() >= self.settings.closing {
            return Decision::Later;
        }
        let victim = self.evict(victim);
        Decision::Replaces(self.insert(holder, now), victim)
    }

    /// Evicts one connection that is not transferring, because descriptors have run out.
    pub(super) fn shed(&mut self, now: Instant) -> Option<Victim> {
        let claim = Claim { holder: None, count: 0, trusted: true, below_share: false };
        self.weakest(&claim, now).map(|id| self.evict(id))
    }

    /// Evicts idle connections that have been without a permit for too long, under pressure only.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Victim> {
        if self.connections.len() < self.settings.slots - self.settings.slots / 4 {
            return Vec::new();
        }
        let may_close = self.settings.closing.saturating_sub(self.closing.len());
        let is_expired = |connection: &Connection| {
            let time = now.saturating_duration_since(connection.unpermitted);
            connection.phase == Phase::Idle && !connection.permitted && time >= self.settings.unpermitted
        };
        let expired = self.connections.iter().filter(|(_, connection)| is_expired(connection));
        let expired: Vec<Id> = expired.map(|(id, _)| *id).take(may_close).collect();
        expired.into_iter().map(|id| self.evict(id)).collect()
    }

    /// Records the start of a request. Behind a trusted proxy each request may belong to another client.
    pub(super) fn begin(&mut self, id: Id, holder: Holder, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = std::mem::replace(&mut connection.holder, holder);
        if connection.permitted {
            connection.unpermitted = now;
        }
        connection.permitted = false;
        (connection.phase, connection.since) = (Phase::Busy, now);
        if before != holder {
            self.uncount(before);
            *self.counts.entry(holder).or_default() += 1;
        }
    }

    /// Records that the current request has a permit, and trusts its holder.
    pub(super) fn permit(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.permitted = true;
        let holder = connection.holder;
        self.trusted.put(holder, now);
        if self.trusted.len() > TRUSTED_HOLDERS {
            self.trusted.pop_lru();
        }
    }

    /// Records the end of a request.
    pub(super) fn end(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        (connection.phase, connection.since) = (Phase::Idle, now);
    }

    /// Removes a closed connection.
    pub(super) fn release(&mut self, id: Id) {
        if let Some(connection) = self.connections.remove(&id) {
            self.uncount(connection.holder);
        }
        self.closing.remove(&id);
    }

    fn claim(&self, holder: Holder, now: Instant) -> Claim {
        let count = if holder == Holder::Proxy { 0 } else { self.count(holder) };
        Claim {
            holder: Some(holder),
            count,
            trusted: self.trusts(holder, now),
            below_share: count < self.settings.share,
        }
    }

    /// Returns how many slots may be in use before such a connection has to evict another one.
    fn open_to(&self, claim: &Claim) -> usize {
        let slots = self.settings.slots;
        let reserve = slots / 8;
        match claim {
            Claim { trusted: true, below_share: true, .. } => slots,
            // Half of the reserve is for clients that have yet to log in.
            Claim { count: 0, .. } => slots - reserve / 2,
            Claim { .. } => slots - reserve,
        }
    }

    /// Returns the connection to evict first.
    fn weakest(&self, claim: &Claim, now: Instant) -> Option<Id> {
        let all = self.connections.iter();
        let ranked = all.filter_map(|(id, connection)| Some((self.rank(connection, claim, now)?, *id)));
        ranked.min().map(|(_, id)| id)
    }

    /// Returns the eviction rank of a connection; `None` if it must not be evicted for this claim.
    fn rank(&self, connection: &Connection, claim: &Claim, now: Instant) -> Option<Rank> {
        let count = if connection.holder == Holder::Proxy { 1 } else { self.count(connection.holder) };
        let trusted = self.trusts(connection.holder, now);
        let age = |since| now.saturating_duration_since(since);
        if connection.is_transfer() {
            let is_over_share = count > self.settings.share && claim.holder != Some(connection.holder);
            let gives_way = claim.trusted && claim.below_share && is_over_share;
            // The youngest transfer loses the least work.
            return gives_way.then(|| (3, Reverse(count), 0, age(connection.since)));
        }
        let idle = connection.phase == Phase::Idle;
        let outranked = claim.trusted && (!trusted || (idle && claim.below_share));
        let fresh = age(connection.accepted) < FRESH && count <= FEW;
        let tier = match (trusted, fresh) {
            (false, false) => 0,
            (true, _) => 1,
            (false, true) => 2,
        };
        let step = match (idle, connection.permitted) {
            (true, false) => 0,
            (false, _) if age(connection.since) >= FRESH => 1,
            (true, true) => 2,
            (false, _) => BEGINNING,
        };
        // A flood from many untrusted addresses must not keep out a trusted one: its handshakes and first requests are
        // protected, within its share.
        let is_protected = trusted && !claim.trusted && step == BEGINNING && count <= self.settings.share;
        if is_protected {
            return None;
        }
        // A burst of connections from one holder must not evict its own members before their first request.
        let own = claim.holder == Some(connection.holder) && step != BEGINNING;
        if !(own || outranked || count > claim.count) {
            return None;
        }
        Some((tier, Reverse(count), step, Duration::MAX.saturating_sub(age(connection.since))))
    }

    fn evict(&mut self, id: Id) -> Victim {
        let connection = self.connections.remove(&id);
        if let Some(connection) = connection {
            self.uncount(connection.holder);
        }
        self.closing.insert(id);
        Victim { id, idle: connection.is_some_and(|connection| connection.phase == Phase::Idle) }
    }

    fn insert(&mut self, holder: Holder, now: Instant) -> Id {
        self.next += 1;
        let connection = Connection {
            holder,
            accepted: now,
            phase: Phase::New,
            since: now,
            permitted: false,
            unpermitted: now,
        };
        self.connections.insert(self.next, connection);
        *self.counts.entry(holder).or_default() += 1;
        self.next
    }

    fn count(&self, holder: Holder) -> usize {
        self.counts.get(&holder).copied().unwrap_or_default()
    }

    fn uncount(&mut self, holder: Holder) {
        if let Some(count) = self.counts.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&holder);
            }
        }
    }

    fn trusts(&self, holder: Holder, now: Instant) -> bool {
        let recently = |time: &Instant| now.saturating_duration_since(*time) < TRUST;
        holder == Holder::Proxy || self.trusted.peek(&holder).is_some_and(recently)
    }
}

#[cfg(test)]
mod tests;
