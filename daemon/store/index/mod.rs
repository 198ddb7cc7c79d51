//! The index: the names, contents and references of all repositories, in LMDB.
//!
//! Each read has a short transaction of its own and works on mapped memory, without a system call. All writes go
//! through the one thread of [`writer`], which commits queued changes together (group commit). A change is durable
//! once [`Index::commit`] returns. A row that does not match its checksum is an error, never an answer.
//!
//! | group | modules |
//! |---|---|
//! | tables | `schema`, `rows`, `keys`, `table` (rows with checksums) |
//! | opening and space | `database`, `environment`, `commit`, `preallocation`, `free_pages`, `inspect` |
//! | reads | `lookups`, `lists`, `overview`, `names`, `entry`, `parents`, `lease` |
//! | changes | `writer`, `batch`, `push`, `deletes`, `watches`, `attached`, `repair` |
//! | rows that changes keep current | `link_exceptions`, `repository_stats` |
//! | collection | `mark`, `candidates`, `sweep`, `forecast`, `dry_run` |
//!
//! `docs/format.md` has the tables to the byte.

mod attached;
mod batch;
pub(super) mod candidates;
mod commit;
mod database;
pub(super) mod deletes;
mod dry_run;
mod entry;
mod environment;
pub(super) mod forecast;
mod free_pages;
pub(super) mod inspect;
mod keys;
pub(super) mod lease;
pub(super) mod link_exceptions;
mod lists;
mod lookups;
mod mark;
pub(super) mod names;
mod overview;
mod parents;
mod preallocation;
pub(super) mod push;
mod repair;
mod repository_stats;
pub(super) mod rows;
mod schema;
pub(super) mod sweep;
mod table;
#[cfg(test)]
pub(super) mod test_index;
pub(super) mod watches;
pub(super) mod writer;

pub(super) use self::database::Index;
pub use self::entry::{Counts, ManifestEntry, Page};
pub(super) use self::lists::{PageEnd, RepositoryPage};
