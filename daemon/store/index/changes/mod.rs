//! The changes of the index as data, and their application to the tables.
//!
//! [`apply`] is a pure function of the change, the tables and the moment: it uses no disk, no clock and no socket. It
//! returns the reply, the events, and the work on files that follows the commit. Each change checks first and writes
//! afterwards, so that a refused change has written nothing.
//!
//! | group | modules |
//! |---|---|
//! | frame | `change` (the enum), `apply`, `applier`, `outcome` |
//! | requests | `blobs`, `push`, `deletes`, `leases`, `uses` (pulls) |
//! | transfers | `name_image` |
//! | beside the changes | `feed` (events), `daily` (totals of days) |
//! | collection | `sweep` |
//! | repair and rebuild | `repair`, `restore`, `marks`, `identity` |
//! | background jobs | `jobs` |
//! | rows that changes keep current | `removals`, `link_exceptions`, `sparse`, `blob_candidates`, `repository_stats`, `attached`, `tag_index` |

mod applier;
mod apply;
mod attached;
pub(in crate::store) mod blob_candidates;
pub(in crate::store) mod blobs;
mod change;
pub(in crate::store) mod daily;
pub(in crate::store) mod deletes;
pub(in crate::store) mod feed;
pub(in crate::store) mod identity;
pub(in crate::store) mod jobs;
pub(in crate::store) mod leases;
pub(in crate::store) mod link_exceptions;
pub(in crate::store) mod marks;
pub(in crate::store) mod name_image;
mod outcome;
pub(in crate::store) mod push;
mod removals;
pub(in crate::store) mod repair;
mod repository_stats;
pub(in crate::store) mod restore;
pub(in crate::store) mod sparse;
pub(in crate::store) mod sweep;
mod tag_index;
#[cfg(test)]
mod tests;
pub(in crate::store) mod uses;

#[cfg(test)]
pub(in crate::store) use self::applier::CLOCK_SAVE_INTERVAL;
pub(in crate::store) use self::applier::{begin, end_with_names};
pub(in crate::store) use self::apply::{FileFact, Needs};
pub(in crate::store) use self::change::{Change, Reply, TypedChange, apply};
#[cfg(test)]
pub(in crate::store) use self::change::{put_blob_unchecked, put_unchecked};
pub(in crate::store) use self::outcome::{FileActions, Now};
pub(in crate::store) use self::tag_index::index_more_tags;
#[cfg(test)]
pub(in crate::store) use crate::store::index::event::Event;
pub(in crate::store) use crate::store::index::event::Origin;
