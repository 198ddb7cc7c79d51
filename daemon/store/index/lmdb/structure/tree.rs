//! The walk over a tree, from its root to its leaves in the order of the keys.

use std::cmp::Ordering;

use super::meta::Tree;
use super::page::{Kind, TreePage};
use super::pages::Pages;
use super::source::{ReadAt, corrupt};
use crate::store::index_error::IndexError;

/// The most levels of a tree: LMDB has no room for more in a cursor.
const MOST_LEVELS: u64 = 32;

/// The value of a row.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// In the leaf.
    Inline(&'a [u8]),
    /// In overflow pages.
    Overflow {
        /// The first of them.
        first: u64,
        /// The length of the value in bytes.
        length: u64,
    },
}

/// Called for each row.
pub(super) type Visit<'a, 'source, S> =
    dyn FnMut(&mut Pages<'source, S>, &[u8], Value<'_>) -> Result<(), IndexError> + 'a;

/// The pages from the root to the present one.
pub(super) struct Walk {
    page_size: usize,
    path: Vec<TreePage>,
    /// The number of pages of `path` in use.
    level: usize,
    /// The last key of the last leaf, if there was one.
    last_key: Option<Vec<u8>>,
    /// The key of the branch page above which all keys of the next leaf are.
    least_key: Option<Vec<u8>>,
    counted: Tree,
}

impl Walk {
    /// Returns a walk over pages of this size, which is used for one tree after the other.
    pub(super) fn new(page_size: usize) -> Self {
        Walk {
            page_size,
            path: Vec::new(),
            level: 0,
            last_key: None,
            least_key: None,
            counted: Tree::default(),
        }
    }

    /// Walks over a tree, claims its pages, and compares its record with what was found.
    pub(super) fn tree<'source, S: ReadAt + ?Sized>(
        &mut self,
        pages: &mut Pages<'source, S>,
        tree: &Tree,
        kind: Kind,
        visit: &mut Visit<'_, 'source, S>,
    ) -> Result<(), IndexError> {
        (self.level, self.last_key, self.least_key) = (0, None, None);
        self.counted = Tree { depth: tree.depth, ..Tree::default() };
        let is_empty = tree.root.is_none();
        if tree.depth > MOST_LEVELS || (tree.depth == 0) != is_empty {
            return Err(corrupt("a tree", "the number of levels"));
        }
        let mut next = tree.root;
        while let Some(page) = next {
            self.descend(pages, page, kind, tree.depth)?;
            if self.path[self.level - 1].is_leaf() {
                self.leaf(pages, kind, visit)?;
                self.level -= 1;
            }
            next = self.next_child(kind)?;
        }
        if self.counted == tree.counts() { Ok(()) } else { Err(corrupt("a tree", "the number of its pages")) }
    }

    /// Reads a page one level below the present one.
    fn descend<S: ReadAt + ?Sized>(
        &mut self,
        pages: &mut Pages<'_, S>,
        page: u64,
        kind: Kind,
        depth: u64,
    ) -> Result<(), IndexError> {
        if self.level as u64 >= depth {
            return Err(corrupt(format_args!("page {page}"), "its level"));
        }
        if self.path.len() == self.level {
            self.path.push(TreePage::new(self.page_size));
        }
        let present = &mut self.path[self.level];
        pages.read(page, present.buffer())?;
        present.parse(page, kind)?;
        self.level += 1;
        // All leaves are on the last level, and no branch page is.
        if present.is_leaf() != (self.level as u64 == depth) {
            return Err(corrupt(format_args!("page {page}"), "its level"));
        }
        let count =
            if present.is_leaf() { &mut self.counted.leaf_pages } else { &mut self.counted.branch_pages };
        *count += 1;
        Ok(())
    }

    /// Reads the rows of the leaf.
    fn leaf<'source, S: ReadAt + ?Sized>(
        &mut self,
        pages: &mut Pages<'source, S>,
        kind: Kind,
        visit: &mut Visit<'_, 'source, S>,
    ) -> Result<(), IndexError> {
        let leaf = &self.path[self.level - 1];
        let first = leaf.key(0);
        let is_above =
            |key: &Option<Vec<u8>>, least| key.as_ref().is_none_or(|key| kind.compare(first, key) >= least);
        if !is_above(&self.last_key, Ordering::Greater) || !is_above(&self.least_key, Ordering::Equal) {
            return Err(corrupt("a tree", "the order of its keys"));
        }
        for index in 0..leaf.len() {
            let value = match leaf.value(index) {
                Ok(bytes) => Value::Inline(bytes),
                Err((first, length)) => {
                    self.counted.overflow_pages += pages.read_overflow(first, length)?;
                    Value::Overflow { first, length }
                }
            };
            visit(pages, leaf.key(index), value)?;
        }
        self.counted.entries += leaf.len() as u64;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(leaf.key(leaf.len() - 1));
        self.least_key = None;
        Ok(())
    }

    /// Returns the next page in the order of the keys: from the lowest branch page that has one left.
    fn next_child(&mut self, kind: Kind) -> Result<Option<u64>, IndexError> {
        while let Some(branch) = self.level.checked_sub(1).and_then(|index| self.path.get_mut(index)) {
            let index = branch.next;
            let Some(child) = branch.child(index) else {
                self.level -= 1;
                continue;
            };
            branch.next += 1;
            if index > 0 {
                // A lookup of a key from here on descends to this page, so that all keys before are below it.
                let key = branch.key(index);
                if self.last_key.as_ref().is_some_and(|last| kind.compare(last, key).is_ge()) {
                    return Err(corrupt("a tree", "the key of a branch page"));
                }
                let least = self.least_key.get_or_insert_default();
                least.clear();
                least.extend_from_slice(key);
            }
            return Ok(Some(child));
        }
        Ok(None)
    }
}
