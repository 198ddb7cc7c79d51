//! The back end of the index on the disk: LMDB with a checksum in each row, behind the write-ahead log. No other part of the store names it.

mod checkpoint;
mod commit;
mod database;
mod deferred;
mod environment;
mod free_pages;
pub(in crate::store) mod inspect;
mod mapping;
mod preallocation;
mod rows_error;
mod structure;
mod table;
mod transaction;

pub(in crate::store) use self::database::{Index, try_to_create};

#[cfg(test)]
pub(in crate::store) use self::mapping::open_environment;
#[cfg(fuzzing)]
pub(in crate::store) use self::structure::is_sound;
#[cfg(test)]
pub(in crate::store) use self::structure::tests::list_page_in_use;
