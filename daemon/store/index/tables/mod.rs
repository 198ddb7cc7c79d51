//! The tables of the index behind a port, their rows, and all reads of them.
//!
//! | group | modules |
//! |---|---|
//! | the port | `port`, `memory` (for tests) |
//! | rows | `keys`, `rows`, `meta`, `entry`, `link_exceptions`, `sparse`, `uses`, `jobs`, `stats`, `synced`, `daily` |
//! | reads of requests | `lookups`, `tag_index`, `tag_lists`, `ranked`, `lists`, `overview`, `repository_lists`, `search`, `names`, `untagged`, `emptied`, `parents`, `lease` |
//! | reads of a collection | `mark`, `candidates`, `blob_candidates`, `forecast`, `dry_run` |
//! | the event feed | `feed` |
//! | inspection | `consistency` |

pub(in crate::store) mod blob_candidates;
pub(in crate::store) mod candidates;
pub(in crate::store) mod consistency;
pub(in crate::store) mod daily;
pub(in crate::store) mod dry_run;
pub(in crate::store) mod emptied;
pub(in crate::store) mod entry;
pub(in crate::store) mod feed;
pub(in crate::store) mod forecast;
pub(in crate::store) mod jobs;
pub(in crate::store) mod keys;
pub(in crate::store) mod lease;
pub(in crate::store) mod link_exceptions;
pub(in crate::store) mod lists;
pub(in crate::store) mod lookups;
pub(in crate::store) mod mark;
#[cfg(test)]
pub(in crate::store) mod memory;
pub(in crate::store) mod meta;
pub(in crate::store) mod names;
pub(in crate::store) mod overview;
pub(in crate::store) mod parents;
pub(in crate::store) mod port;
mod ranked;
pub(in crate::store) mod repository_lists;
pub(in crate::store) mod rows;
pub(in crate::store) mod search;
pub(in crate::store) mod sparse;
pub(in crate::store) mod stats;
pub(in crate::store) mod synced;
pub(in crate::store) mod tag_index;
pub(in crate::store) mod tag_lists;
pub(in crate::store) mod untagged;
pub(in crate::store) mod uses;

pub(in crate::store) use self::port::{Bounds, ReadTables, Row, Table, WriteTables};
