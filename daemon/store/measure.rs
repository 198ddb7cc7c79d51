//! The state of the store for health checks and metrics, kept in memory because they must not wait for the disk: the
//! last measurement, and the totals of the collections and checks of this process.

use arc_swap::ArcSwapOption;

use super::index::Counts;
use crate::base::Lock;

/// A measurement of the store and its disk.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The stored content.
    pub counts: Counts,
    /// The number of unfinished uploads.
    pub uploads: u64,
    /// The size of the file system, in bytes.
    pub total_bytes: u64,
    /// The free space of the file system, in bytes.
    pub free_bytes: u64,
    /// The bytes that the index uses, and its limit for pushes.
    pub index: (u64, u64),
    /// True if a push would be refused for lack of space: reserve, quota or a full index.
    pub full: bool,
}

/// The results of the collections and checks of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceTotals {
    /// The bytes that collections have freed.
    pub freed_bytes: u64,
    /// The number of faults that the last check found.
    pub faults: Option<u64>,
}

/// The reason why the store does not serve all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// The latch is closed: the disk failed, and nothing is written until a restart.
    ReadOnly,
    /// The disk has not answered for five seconds.
    Hanging,
    /// Pushes are refused for lack of space.
    Full,
}

/// The last measurement and the totals.
#[derive(Default)]
pub(super) struct Measurements {
    pub(super) last: ArcSwapOption<Measured>,
    pub(super) totals: Lock<MaintenanceTotals>,
}
