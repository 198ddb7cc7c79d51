//! The index: the names, contents and references of all repositories.
//!
//! Each read has a short snapshot of its own and works on mapped memory, without a system call. All writes go
//! through the one thread of [`writer`], which commits queued changes together (group commit). A change is durable
//! once its commit returns. A row that does not match its checksum is an error, never an answer.
//!
//! | layer | modules |
//! |---|---|
//! | the terms of the event feed | `event` |
//! | the port, rows and reads of any back end | `tables` |
//! | changes: what a request does to the tables | `changes` |
//! | the port of snapshots and transactions | `metadata_store` |
//! | the back end | `lmdb`, `wal` (its write-ahead log), `pending` (rows that only the log has), `log_tables` (the log alone), `reads` (its snapshots) |
//! | the writer thread | `writer`, `batch`, `page_retry`, `feed` (events in memory), `changed_names` |
//!
//! `docs/reference/format.md` has the tables to the byte.

mod batch;
pub(super) mod changed_names;
pub(super) mod changes;
pub(super) mod event;
pub(super) mod feed;
mod lmdb;
pub(super) mod log_tables;
pub(super) mod metadata_store;
mod page_retry;
mod pending;
mod reads;
pub(super) mod tables;
#[cfg(test)]
pub(super) mod test_index;
#[cfg(test)]
pub(super) mod test_tables;
pub(super) mod wal;
pub(super) mod writer;

pub use self::changes::feed::FeedBounds;
pub use self::event::{Cause, Event, EventKind, Note, NoteKind, Origin};
pub use self::feed::FailedLogin;
#[cfg(fuzzing)]
pub(super) use self::lmdb::is_sound;
pub(super) use self::lmdb::{Index, inspect, try_to_create};
#[cfg(test)]
pub(super) use self::lmdb::{list_page_in_use, open_environment};
pub use self::tables::daily::{Day, DayCounts};
pub use self::tables::entry::{Counts, ManifestEntry, Page};
pub use self::tables::feed::{EventId, ParseEventIdError};
pub use self::tables::jobs::{JobMoment, JobOutcome, JobRow};
pub(super) use self::tables::lists::{PageEnd, RepositoryPage};
