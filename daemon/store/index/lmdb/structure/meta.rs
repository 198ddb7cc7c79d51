//! The meta pages: the two newest snapshots, each with the roots of its trees.

use super::page::{self, HEADER, WORD, u16_at, u32_at, word};
use super::source::{ReadAt, corrupt};
use crate::store::index_error::IndexError;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// The length of a tree's record.
const RECORD: usize = 8 + 5 * WORD;
/// The offsets in a meta page behind the magic number, the version, the address and the size of the map.
const TREES: usize = HEADER + 8 + 2 * WORD;
const LAST_PAGE: usize = TREES + 2 * RECORD;
const LENGTH: usize = LAST_PAGE + 2 * WORD;

/// The smallest and the largest page size of LMDB.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=0x8000;
/// Flags of the tree of free pages: keys are integers; and whether the index was created as a single file.
const INTEGER_KEYS: u16 = 0x08;
const SINGLE_FILE: u16 = 0x4000;

/// A snapshot.
#[derive(Debug)]
pub(super) struct Meta {
    /// The size of a page in bytes.
    pub(super) page_size: usize,
    /// The tree of free pages.
    pub(super) free: Tree,
    /// The tree of tables.
    pub(super) main: Tree,
    /// The number of the last page.
    pub(super) last_page: u64,
    /// The number of the transaction that made the snapshot.
    pub(super) transaction: u64,
}

/// The record of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// The number of levels.
    pub(super) depth: u64,
    /// The pages of each kind.
    pub(super) branch_pages: u64,
    pub(super) leaf_pages: u64,
    pub(super) overflow_pages: u64,
    /// The number of rows.
    pub(super) entries: u64,
    /// The first page; `None` for an empty tree.
    pub(super) root: Option<u64>,
}

impl Meta {
    /// Reads the newest snapshot.
    pub(super) fn newest(source: &(impl ReadAt + ?Sized)) -> Result<Self, IndexError> {
        let first = Self::read(source, 0, 0)?;
        let second = Self::read(source, 1, first.page_size as u64)?;
        if first.page_size != second.page_size {
            return Err(corrupt("the meta pages", "the page size"));
        }
        // Transaction N writes meta page N % 2; a new file has two of transaction 0.
        match (first.transaction, second.transaction) {
            (0, 0) => Ok(first),
            (even, odd) if even % 2 == 0 && odd.checked_add(1) == Some(even) => Ok(first),
            (even, odd) if even % 2 == 0 && even.checked_add(1) == Some(odd) => Ok(second),
            _ => Err(corrupt("the meta pages", "the number of the transaction")),
        }
    }

    fn read(source: &(impl ReadAt + ?Sized), number: u64, offset: u64) -> Result<Self, IndexError> {
        let mut bytes = [0; LENGTH];
        source.read_at(&mut bytes, offset)?;
        Self::parse(&bytes, number).ok_or_else(|| corrupt(format_args!("page {number}"), "the meta page"))
    }

    fn parse(bytes: &[u8], number: u64) -> Option<Self> {
        let is_meta = word(bytes, 0)? == number
            && page::flags(bytes)? == page::META
            && u32_at(bytes, HEADER)? == MAGIC
            && u32_at(bytes, HEADER + 4)? == VERSION;
        let free = bytes.get(TREES..TREES + RECORD)?;
        let page_size = u32_at(free, 0)?;
        let flags = u16_at(free, 4)?;
        let is_valid = is_meta
            && page_size.is_power_of_two()
            && PAGE_SIZES.contains(&page_size)
            && flags & !SINGLE_FILE == INTEGER_KEYS;
        let main = bytes.get(TREES + RECORD..LAST_PAGE)?;
        is_valid.then_some(Meta {
            page_size: page_size as usize,
            free: Tree::parse(free)?,
            main: Tree::parse(main).filter(|_| u16_at(main, 4) == Some(0))?,
            last_page: word(bytes, LAST_PAGE)?,
            transaction: word(bytes, LAST_PAGE + WORD)?,
        })
    }
}

impl Tree {
    /// Reads the record of a table in the tree of tables.
    pub(super) fn table(record: &[u8]) -> Result<Self, IndexError> {
        let is_whole = record.len() == RECORD && u16_at(record, 4) == Some(0);
        let tree = if is_whole { Self::parse(record) } else { None };
        tree.ok_or_else(|| corrupt("the tree of tables", "the record of a table"))
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let number = |index: usize| word(record, 8 + index * WORD);
        let root = number(4)?;
        Some(Tree {
            depth: u16_at(record, 6)?.into(),
            branch_pages: number(0)?,
            leaf_pages: number(1)?,
            overflow_pages: number(2)?,
            entries: number(3)?,
            root: (root != page::NO_PAGE).then_some(root),
        })
    }

    /// Returns the record without its root, to compare it with what was counted.
    pub(super) fn counts(&self) -> Self {
        Tree { root: None, ..self.clone() }
    }
}
