//! Rate limit of the log lines that each client can cause.
//!
//! Lines with a field `client` count against the address in it; all others are the daemon's own and are not limited. An
//! address has two token buckets, so that ordinary lines do not crowd out warnings. Suppressed lines are counted, and the
//! counts are logged every ten seconds. The table is bounded: while it is full of busy addresses, further ones share one entry.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use log::kv::Key;
use log::{Level, Record};

use crate::base::Lock;

/// Interval of the summary of suppressed lines.
pub(super) const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of addresses in the table.
const ADDRESSES: usize = 2048;
/// Maximum number of addresses that a summary names; the others share one line.
const NAMED: usize = 20;
/// Minimum interval between two searches of the table for idle entries.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// Capacity of a bucket in lines, and its refill rate in lines per second.
#[derive(Clone, Copy)]
struct Budget {
    burst: f64,
    rate: f64,
}

/// Budgets of the two buckets of an address.
#[derive(Clone, Copy)]
struct Budgets {
    /// Shared by INFO, DEBUG and TRACE.
    routine: Budget,
    /// Shared by ERROR and WARN.
    notable: Budget,
}

impl Budgets {
    /// Returns the budgets for a burst of `lines` ordinary lines.
    fn new(lines: u32) -> Self {
        let lines = f64::from(lines);
        Budgets {
            routine: Budget { burst: lines, rate: lines / 25.0 },
            notable: Budget { burst: (lines / 5.0).max(1.0), rate: lines / 100.0 },
        }
    }
}

/// A token bucket.
struct Bucket {
    budget: Budget,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(budget: Budget, now: Instant) -> Self {
        Bucket { budget, left: budget.burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.budget.rate;
        self.left = (self.left + earned).min(self.budget.burst);
        self.at = now;
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.budget.burst
    }
}

struct Client {
    routine: Bucket,
    notable: Bucket,
    suppressed: u64,
}

impl Client {
    fn new(budgets: Budgets, now: Instant) -> Self {
        let Budgets { routine, notable } = budgets;
        Client { routine: Bucket::new(routine, now), notable: Bucket::new(notable, now), suppressed: 0 }
    }

    fn is_idle(&mut self, now: Instant) -> bool {
        self.suppressed == 0 && self.routine.is_full(now) && self.notable.is_full(now)
    }
}

/// Decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Logged,
    Suppressed,
    /// The first suppressed line since the last summary.
    FirstSuppressed,
}

struct Table {
    budgets: Budgets,
    clients: HashMap<IpAddr, Client>,
    /// Shared by all addresses that do not fit into the table.
    others: Client,
    /// Time of the last search for idle entries.
    searched: Option<Instant>,
    /// Time of the first suppressed line since the last summary.
    suppressed_since: Option<Instant>,
}

/// Limits the lines of each client.
pub(super) struct Limiter(Lock<Table>);

impl Limiter {
    /// Creates a limiter with a burst of `lines` per address.
    pub(super) fn new(lines: u32, now: Instant) -> Self {
        let budgets = Budgets::new(lines);
        Limiter(Lock::new(Table {
            budgets,
            clients: HashMap::new(),
            others: Client::new(budgets, now),
            searched: None,
            suppressed_since: None,
        }))
    }

    /// Decides about a line that a client has caused.
    pub(super) fn decide(&self, client: IpAddr, level: Level, now: Instant) -> Decision {
        let mut table = self.0.lock();
        let client = table.client(network(client), now);
        let bucket = if level <= Level::Warn { &mut client.notable } else { &mut client.routine };
        if bucket.take(now) {
            return Decision::Logged;
        }
        client.suppressed += 1;
        if table.suppressed_since.is_some() {
            return Decision::Suppressed;
        }
        table.suppressed_since = Some(now);
        Decision::FirstSuppressed
    }

    /// Returns the time until the next summary; `None` if no line was suppressed.
    pub(super) fn next_summary(&self, now: Instant) -> Option<Duration> {
        let table = self.0.lock();
        table.suppressed_since.map(|since| (since + SUMMARY_INTERVAL).saturating_duration_since(now))
    }

    /// Takes the counts of suppressed lines, as messages.
    pub(super) fn summary(&self) -> Vec<String> {
        let mut table = self.0.lock();
        table.suppressed_since = None;
        let counts =
            table.clients.iter_mut().map(|(address, client)| (*address, take(&mut client.suppressed)));
        let mut counts: Vec<(IpAddr, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        let mut rest = take(&mut table.others.suppressed);
        drop(table);
        counts.sort_by_key(|(address, count)| (std::cmp::Reverse(*count), *address));
        rest += counts.iter().skip(NAMED).map(|(_, count)| count).sum::<u64>();
        let named = counts.iter().take(NAMED);
        let mut messages: Vec<String> = named
            .map(|(address, count)| format!("suppressed {count} lines from {}", shown(*address)))
            .collect();
        if rest > 0 {
            messages.push(format!("suppressed {rest} lines from other addresses"));
        }
        messages
    }
}

impl Table {
    fn client(&mut self, address: IpAddr, now: Instant) -> &mut Client {
        let is_full = self.clients.len() >= ADDRESSES && !self.clients.contains_key(&address);
        let may_search = self.searched.is_none_or(|at| now.saturating_duration_since(at) >= SEARCH_INTERVAL);
        if is_full && may_search {
            self.searched = Some(now);
            self.clients.retain(|_, client| !client.is_idle(now));
        }
        if self.clients.len() >= ADDRESSES && !self.clients.contains_key(&address) {
            return &mut self.others;
        }
        let budgets = self.budgets;
        self.clients.entry(address).or_insert_with(|| Client::new(budgets, now))
    }
}

fn take(count: &mut u64) -> u64 {
    std::mem::take(count)
}

/// Returns the client that a record names.
pub(super) fn client(record: &Record) -> Option<IpAddr> {
    record.key_values().get(Key::from_str("client"))?.to_string().parse().ok()
}

/// Returns the address that a client counts as: an IPv6 client can use any address of its /64.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

fn shown(network: IpAddr) -> String {
    if network.is_ipv6() { format!("{network}/64") } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn logged(limiter: &Limiter, client: IpAddr, level: Level, now: Instant, lines: u32) -> usize {
        (0..lines).filter(|_| limiter.decide(client, level, now) == Decision::Logged).count()
    }

    #[test]
    fn each_address_has_a_burst_and_a_rate() {
        let now = Instant::now();
        let limiter = Limiter::new(500, now);
        assert_eq!(logged(&limiter, address(1), Level::Info, now, 1000), 500);
        assert_eq!(logged(&limiter, address(1), Level::Info, now + Duration::from_secs(1), 1000), 20);
        assert_eq!(logged(&limiter, address(2), Level::Info, now, 10), 10);
        // Warnings have their own budget.
        assert_eq!(logged(&limiter, address(1), Level::Warn, now, 60), 60);
        assert_eq!(logged(&limiter, address(1), Level::Error, now, 60), 40);
        let later = now + Duration::from_hours(1);
        assert_eq!(logged(&limiter, address(1), Level::Debug, later, 1000), 500);
    }

    #[test]
    fn budgets_follow_the_configured_number_of_lines() {
        let now = Instant::now();
        let limiter = Limiter::new(50, now);
        let second = now + Duration::from_secs(1);
        assert_eq!(logged(&limiter, address(1), Level::Info, now, 1000), 50);
        assert_eq!(logged(&limiter, address(1), Level::Info, second, 1000), 2);
        assert_eq!(logged(&limiter, address(1), Level::Warn, now, 1000), 10);
        // Even the smallest budget lets a single warning through.
        let limiter = Limiter::new(1, now);
        assert_eq!(logged(&limiter, address(1), Level::Warn, now, 1000), 1);
    }

    #[test]
    fn suppressed_lines_are_summarised_once() {
        let now = Instant::now();
        let limiter = Limiter::new(500, now);
        assert_eq!(limiter.next_summary(now), None);
        logged(&limiter, address(0x0a00_0001), Level::Info, now, 500);
        let first = limiter.decide(address(0x0a00_0001), Level::Info, now);
        let next = limiter.decide(address(0x0a00_0001), Level::Info, now);
        assert_eq!((first, next), (Decision::FirstSuppressed, Decision::Suppressed));
        assert_eq!(limiter.next_summary(now + Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert_eq!(limiter.next_summary(now + Duration::from_secs(40)), Some(Duration::ZERO));
        assert_eq!(limiter.summary(), ["suppressed 2 lines from 10.0.0.1"]);
        assert_eq!((limiter.next_summary(now), limiter.summary()), (None, Vec::new()));
    }

    #[test]
    fn ipv6_network_is_one_client() {
        let now = Instant::now();
        let limiter = Limiter::new(500, now);
        for number in 0..600_u128 {
            let client = Ipv6Addr::from_bits((0x2001_0db8 << 96) + number);
            limiter.decide(client.into(), Level::Info, now);
        }
        assert_eq!(limiter.summary(), ["suppressed 100 lines from 2001:db8::/64"]);
    }

    #[test]
    fn table_is_bounded() {
        let now = Instant::now();
        let limiter = Limiter::new(500, now);
        for number in 0..10_000 {
            limiter.decide(address(number), Level::Info, now);
        }
        assert_eq!(limiter.0.lock().clients.len(), ADDRESSES);
        let messages = limiter.summary();
        assert_eq!(messages, [format!("suppressed {} lines from other addresses", 10_000 - ADDRESSES - 500)]);
        // Idle entries are removed for a new address.
        limiter.decide(address(20_000), Level::Info, now + Duration::from_mins(1));
        assert_eq!(limiter.0.lock().clients.len(), 1);
    }

    #[test]
    fn summary_of_many_addresses_has_few_lines() {
        let now = Instant::now();
        let limiter = Limiter::new(500, now);
        for number in 0..100 {
            logged(&limiter, address(number), Level::Info, now, 501);
        }
        let messages = limiter.summary();
        assert_eq!(messages.len(), NAMED + 1);
        assert_eq!(messages[NAMED], "suppressed 80 lines from other addresses");
    }

    #[test]
    fn client_is_read_from_its_field_only() {
        let fields = [("client", "192.0.2.1")];
        let record = Record::builder().args(format_args!("x")).key_values(&fields).build();
        assert_eq!(client(&record), Some([192, 0, 2, 1].into()));
        assert_eq!(client(&Record::builder().args(format_args!("client=1")).build()), None);
    }
}
