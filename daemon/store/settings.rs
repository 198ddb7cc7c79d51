//! The settings and the role with which the store is opened.

use std::path::PathBuf;

use super::capacity_limits::CapacityLimits;
use super::immutable::ImmutableRule;
use super::index::changes::feed::FeedBounds;
use super::index::inspect::Inspection;
use super::retention::GracePeriods;

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; created if it is missing.
    pub path: PathBuf,
    /// The size limit of the index in bytes; a multiple of 64 KiB.
    pub index_map_size: usize,
    /// The number of idle upload sessions that stay in memory.
    pub idle_uploads: usize,
    /// The time for which a collection spares orphaned content.
    pub grace_periods: GracePeriods,
    /// The limits of pushes.
    pub capacity: CapacityLimits,
    /// The rules of immutable tags.
    pub immutable: Vec<ImmutableRule>,
    /// The bounds of the event feed.
    pub events: FeedBounds,
    /// Inspects an index: reads all of it. Runs in a process of its own, which a corrupt index may kill.
    pub inspect: fn(&Inspection) -> IndexHealth,
    /// Called with the reason when the store becomes read-only.
    pub on_read_only: fn(&str),
    /// Called with the progress of an opening that takes long.
    pub on_opening: fn(&str),
}

/// The kind of the process that owns a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A daemon, until it ends.
    Daemon,
    /// A command, because no daemon runs.
    Command,
}

/// The process that opens a data directory, as its only owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The daemon that serves it.
    Daemon,
    /// A command, while no daemon runs.
    Command,
    /// A command that rebuilds the index, while no daemon runs.
    Rebuild,
}

impl Role {
    /// Returns the kind of the process.
    pub(super) fn kind(self) -> OwnerKind {
        match self {
            Role::Daemon => OwnerKind::Daemon,
            Role::Command | Role::Rebuild => OwnerKind::Command,
        }
    }
}

/// Result of an inspection of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexHealth {
    /// The inspection read all of it, and its tables agree.
    Healthy,
    /// It is corrupt.
    Corrupt,
    /// The inspection failed for this reason, which says nothing about the index.
    Unknown(String),
}
