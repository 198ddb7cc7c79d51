//! Descriptor budget: the numbers of connections and uploads that fit into `RLIMIT_NOFILE`.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything except connections: standard streams, log, runtime, index, locks, the control socket and its
/// clients, maintenance.
const RESERVE: u64 = 30;
/// The socket, and the file of the blob or upload that it transfers.
const PER_CONNECTION: u64 = 2;
/// Limit that is assumed if it cannot be read.
const DEFAULT_LIMIT: u64 = 1024;

/// Maximum numbers of open connections and uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// Connections with a slot.
    pub connections: usize,
    /// Evicted connections that are still open.
    pub closing: usize,
    /// Connections without a slot, which wait for one or for their 503.
    pub waiting: usize,
    /// Uploads being received. Fewer than connections, so that uploads alone cannot starve pulls.
    pub uploads: usize,
}

impl DescriptorBudget {
    /// Divides a limit among listeners and at most `configured` connections.
    pub fn new(limit: u64, configured: usize, listeners: usize) -> Self {
        let available = limit.saturating_sub(RESERVE + listeners as u64);
        // Closing and waiting connections are at most N / 4 + 12 together.
        let fits = available.saturating_sub(12) * 4 / (PER_CONNECTION * 4 + 1);
        let connections = configured.min(usize::try_from(fits).unwrap_or(usize::MAX)).max(1);
        DescriptorBudget {
            connections,
            closing: (connections / 8).clamp(4, 64),
            waiting: (connections / 8).clamp(8, 32),
            uploads: (connections * 3 / 4).max(1),
        }
    }
}

/// Raises the soft limit to the hard limit; returns the limit in effect.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return DEFAULT_LIMIT };
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    #[allow(clippy::useless_conversion, reason = "the type has 32 bits on some systems")]
    u64::from(if raised { hard } else { soft })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn large_limit_keeps_the_configured_connections() {
        let budget = DescriptorBudget::new(8192, 512, 2);
        assert_eq!((budget.connections, budget.uploads), (512, 384));
        assert_eq!((budget.closing, budget.waiting), (64, 32));
    }

    #[test]
    fn small_limit_lowers_connections_and_uploads() {
        let at = |limit| DescriptorBudget::new(limit, 512, 1).connections;
        assert_eq!((at(48), at(64), at(256), at(1024)), (2, 9, 94, 436));
        let least = DescriptorBudget::new(3, 512, 1);
        assert_eq!((least.connections, least.uploads), (1, 1));
    }

    proptest! {
        #[test]
        fn budget_fits_into_its_limit(limit in 48u64..100_000, configured in 1usize..100_000, listeners in 1usize..4) {
            let budget = DescriptorBudget::new(limit, configured, listeners);
            let connections = budget.connections as u64 * PER_CONNECTION;
            let sockets = (budget.closing + budget.waiting + listeners) as u64;
            prop_assert!(connections + sockets + RESERVE <= limit);
            prop_assert!(budget.connections <= configured);
            prop_assert!(budget.uploads < budget.connections || budget.connections == 1);
        }
    }
}
