//! A page of a tree: its header, and the nodes in it.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | a word | the page's own number |
//! | a word | 2 | unused |
//! | + 2 | 2 | flags: the kind of the page |
//! | + 4 | 2, 2 | the end of the offsets, and the beginning of the nodes; in an overflow page the number of its pages in 4 bytes |
//! | + 8 | 2 each | the offset of each node, in the order of the keys |
//!
//! The nodes fill the end of the page without gaps. A node has 8 bytes, its key, and in a leaf its value: 4 bytes are
//! the length of the value, 2 are flags, and 2 the length of the key. In a branch page the first 6 bytes are the number
//! of the page below.

use std::cmp::Ordering;

use super::source::corrupt;
use crate::store::index_error::IndexError;

/// The bytes of a word of LMDB: that of the machine.
pub(super) const WORD: usize = size_of::<usize>();
/// The length of the header of a page.
pub(super) const HEADER: usize = WORD + 8;
/// The length of the header of a node.
const NODE: usize = 8;
/// The longest key.
const LONGEST_KEY: usize = 511;

/// The number that stands for no page.
pub(super) const NO_PAGE: u64 = if WORD == 8 { u64::MAX } else { u32::MAX as u64 };

/// Flags of pages.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
pub(super) const OVERFLOW: u16 = 0x04;
pub(super) const META: u16 = 0x08;

/// Flags of nodes in leaves: the value is in overflow pages, or it is the record of a table.
const BIG: u16 = 0x01;
const TABLE: u16 = 0x02;

/// The kinds of trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The tree of free pages, whose keys are integers.
    Free,
    /// The tree of tables: names, and the records of their trees.
    Main,
    /// A table.
    Table,
}

impl Kind {
    /// Compares two keys.
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Kind::Free => word(left, 0).cmp(&word(right, 0)),
            Kind::Main | Kind::Table => left.cmp(right),
        }
    }

    /// Returns true if each key is above the one before.
    fn is_sorted<'a>(self, keys: impl Iterator<Item = &'a [u8]>) -> bool {
        keys.is_sorted_by(|left, right| self.compare(left, right).is_lt())
    }
}

/// Returns the word at an offset of the bytes.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<WORD>()?;
    Some(usize::from_ne_bytes(*bytes) as u64)
}

/// Returns the four bytes at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Returns the two bytes at an offset.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// Returns the flags of a page.
pub(super) fn flags(page: &[u8]) -> Option<u16> {
    u16_at(page, WORD + 2)
}

/// A page of a tree, whose nodes are all within it and do not overlap.
pub(super) struct TreePage {
    bytes: Vec<u8>,
    is_leaf: bool,
    /// The nodes in the order of the keys.
    nodes: Vec<Node>,
    /// The nodes in the order of their places.
    places: Vec<(usize, usize)>,
    /// In a branch page, the next node to descend to.
    pub(super) next: usize,
}

/// A node: the places of its parts in the page.
#[derive(Clone, Copy)]
struct Node {
    key: (usize, usize),
    value: (usize, usize),
    /// The number of the page below, or the length of the value.
    number: u64,
    is_big: bool,
}

impl TreePage {
    /// Returns a buffer for pages of this size.
    pub(super) fn new(page_size: usize) -> Self {
        TreePage { bytes: vec![0; page_size], is_leaf: false, nodes: Vec::new(), places: Vec::new(), next: 0 }
    }

    /// Returns the buffer for the bytes of another page, which [`TreePage::parse`] then checks.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Checks the page in the buffer and finds its nodes.
    pub(super) fn parse(&mut self, number: u64, kind: Kind) -> Result<(), IndexError> {
        let wrong = |what| corrupt(format_args!("page {number}"), what);
        self.next = 0;
        if word(&self.bytes, 0) != Some(number) {
            return Err(wrong("its number"));
        }
        self.is_leaf = match flags(&self.bytes) {
            Some(LEAF) => true,
            Some(BRANCH) => false,
            _ => return Err(wrong("its kind")),
        };
        self.find_nodes(kind).ok_or_else(|| wrong("a node"))?;
        if !self.is_packed() {
            return Err(wrong("the place of a node"));
        }
        let least = if self.is_leaf { 1 } else { 2 };
        if self.nodes.len() < least {
            return Err(wrong("the number of nodes"));
        }
        // The first key of a branch page means nothing: it is below all others.
        let first = usize::from(!self.is_leaf);
        let keys = (first..self.nodes.len()).map(|index| self.key(index));
        if kind.is_sorted(keys) { Ok(()) } else { Err(wrong("the order of its keys")) }
    }

    fn find_nodes(&mut self, kind: Kind) -> Option<()> {
        self.nodes.clear();
        let lower = usize::from(u16_at(&self.bytes, WORD + 4)?);
        let offsets = self.bytes.get(HEADER..lower)?;
        let (offsets, rest) = offsets.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        for (index, offset) in offsets.iter().enumerate() {
            let at = usize::from(u16::from_ne_bytes(*offset));
            let node = if self.is_leaf {
                leaf_node(&self.bytes, at, kind)?
            } else {
                branch_node(&self.bytes, at, kind, index == 0)?
            };
            self.nodes.push(node);
        }
        Some(())
    }

    /// Returns true if the nodes fill the page from the end of its free space to its own end, one behind the other.
    fn is_packed(&mut self) -> bool {
        self.places.clear();
        self.places.extend(self.nodes.iter().map(|node| {
            // Each node takes an even number of bytes.
            (node.key.0 - NODE, node.value.1.next_multiple_of(2))
        }));
        self.places.sort_unstable();
        let (Some(lower), Some(upper)) =
            (u16_at(&self.bytes, WORD + 4), u16_at(&self.bytes, WORD + 6).map(usize::from))
        else {
            return false;
        };
        let mut end = upper;
        let follows = self.places.iter().all(|place| std::mem::replace(&mut end, place.1) == place.0);
        follows && usize::from(lower) <= upper && end == self.bytes.len()
    }

    /// Returns true for a leaf.
    pub(super) fn is_leaf(&self) -> bool {
        self.is_leaf
    }

    /// Returns the number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the key of a node.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        self.bytes_of(self.nodes.get(index).map(|node| node.key))
    }

    /// Returns the number of the page below a node of a branch page.
    pub(super) fn child(&self, index: usize) -> Option<u64> {
        self.nodes.get(index).map(|node| node.number)
    }

    /// Returns the value of a node in a leaf, or the first of its overflow pages and its length.
    pub(super) fn value(&self, index: usize) -> Result<&[u8], (u64, u64)> {
        let node = self.nodes.get(index);
        let value = self.bytes_of(node.map(|node| node.value));
        match node {
            Some(node) if node.is_big => Err((word(value, 0).unwrap_or(NO_PAGE), node.number)),
            _ => Ok(value),
        }
    }

    fn bytes_of(&self, place: Option<(usize, usize)>) -> &[u8] {
        place.and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

fn leaf_node(page: &[u8], at: usize, kind: Kind) -> Option<Node> {
    let (length, flags) = (u32_at(page, at)?, u16_at(page, at + 4)?);
    let key_length = usize::from(u16_at(page, at + 6)?);
    let is_big = match (flags, kind) {
        (0, Kind::Free | Kind::Table) | (TABLE, Kind::Main) => false,
        (BIG, Kind::Free | Kind::Table) => true,
        _ => return None,
    };
    let is_key = match kind {
        Kind::Free => key_length == WORD,
        Kind::Main | Kind::Table => (1..=LONGEST_KEY).contains(&key_length),
    };
    let value_length = if is_big { WORD } else { usize::try_from(length).ok()? };
    let key = (at + NODE, at + NODE + key_length);
    let value = (key.1, key.1.checked_add(value_length)?);
    // A longer node would be in overflow pages: two of the longest have room in a page.
    let longest = (((page.len() - HEADER) / 2) & !1) - 2;
    let is_valid = is_key && at.is_multiple_of(2) && value.1 <= page.len() && value.1 - at <= longest;
    is_valid.then_some(Node { key, value, number: length.into(), is_big })
}

fn branch_node(page: &[u8], at: usize, kind: Kind, is_first: bool) -> Option<Node> {
    let (low, high) = (u32_at(page, at)?, u16_at(page, at + 4)?);
    let key_length = usize::from(u16_at(page, at + 6)?);
    let number = if WORD == 8 { u64::from(high) << 32 | u64::from(low) } else { low.into() };
    let key = (at + NODE, at + NODE + key_length);
    let is_key = match kind {
        Kind::Free => key_length == WORD,
        Kind::Main | Kind::Table => (1..=LONGEST_KEY).contains(&key_length),
    };
    let is_key = is_key || (is_first && key_length == 0);
    let is_valid = is_key && at.is_multiple_of(2) && key.1 <= page.len();
    is_valid.then_some(Node { key, value: (key.1, key.1), number, is_big: false })
}
