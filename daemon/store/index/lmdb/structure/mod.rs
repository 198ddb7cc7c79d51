//! The structure of LMDB's file, checked without LMDB.
//!
//! LMDB trusts its file: a page that two trees share, or a page in use that the tree of free pages lists, is overwritten
//! by a later commit, and none of that shows in the rows. So this reader walks the whole file: the meta pages, the tree
//! of free pages, the tree of tables, and every table. It reads pages into buffers of its own, so that no file, however
//! damaged, can end the process. The memory that it needs is a bit for each page, and one page for each level of a tree.
//!
//! LMDB promises this for each snapshot, after a commit as after a power cut: each page up to the last one is reachable
//! exactly once, as a page of a tree or as an entry of the tree of free pages. Pages that a commit frees are in that
//! commit's entry, also while readers of older snapshots use them; those that it allocated and freed again ("loose"
//! pages) are in an entry as well. A commit that was cut off has written to free pages only. A file that breaks the
//! promise may still have healthy rows, which a copy saves.
//!
//! The format is that of LMDB 0.9 (data version 1), with the word size and the byte order of this machine.

mod free_list;
mod meta;
mod page;
mod pages;
mod source;
#[cfg(test)]
pub(in crate::store) mod tests;
mod tree;

use self::meta::Meta;
use self::page::Kind;
use self::pages::Pages;
use self::source::{ReadAt, corrupt};
use self::tree::{Value, Walk};
use crate::store::index_error::IndexError;

/// The most tables that are read; LMDB's limit for this index is lower.
const MOST_TABLES: usize = 128;

/// Checks the structure of the newest snapshot in a file, which may have pages up to `limit` bytes.
///
/// # Errors
/// [`IndexError::Corrupt`] if the file breaks a rule of the format; [`IndexError::Io`] if it cannot be read.
pub(in crate::store) fn check<S: ReadAt + ?Sized>(source: &S, limit: u64) -> Result<(), IndexError> {
    let meta = Meta::newest(source)?;
    let mut pages = Pages::new(source, &meta, limit)?;
    let mut walk = Walk::new(meta.page_size);
    walk.tree(&mut pages, &meta.free, Kind::Free, &mut |pages, key, value| {
        free_list::claim(pages, key, value, meta.transaction)
    })?;
    let mut tables = Vec::new();
    walk.tree(&mut pages, &meta.main, Kind::Main, &mut |_, _, value| match value {
        Value::Inline(record) if tables.len() < MOST_TABLES => {
            tables.push(meta::Tree::table(record)?);
            Ok(())
        }
        _ => Err(corrupt("the tree of tables", "an entry")),
    })?;
    for table in &tables {
        walk.tree(&mut pages, table, Kind::Table, &mut |_, _, _| Ok(()))?;
    }
    pages.all_claimed()
}

/// Returns true if the structure of the bytes of a file is sound.
#[cfg(fuzzing)]
pub(in crate::store) fn is_sound(bytes: &[u8]) -> bool {
    check(bytes, 1 << 30).is_ok()
}
