//! The pages of a snapshot: how they are read, and which were reached.

use super::meta::Meta;
use super::page::{self, HEADER, WORD, u32_at, word};
use super::source::{ReadAt, corrupt};
use crate::store::index_error::IndexError;

/// The first page behind the meta pages.
const FIRST: u64 = 2;
const BITS: u64 = u64::BITS as u64;

/// The pages of a snapshot.
pub(super) struct Pages<'source, S: ?Sized> {
    source: &'source S,
    page_size: usize,
    last: u64,
    /// A bit for each page that was reached.
    claimed: Vec<u64>,
    unclaimed: u64,
}

impl<'source, S: ReadAt + ?Sized> Pages<'source, S> {
    /// Returns the pages of a snapshot, none of which was reached; they must be within `limit` bytes.
    pub(super) fn new(source: &'source S, meta: &Meta, limit: u64) -> Result<Self, IndexError> {
        let last = meta.last_page;
        if last < FIRST - 1 || last >= limit / meta.page_size as u64 {
            return Err(corrupt("the meta page", "the number of the last page"));
        }
        let words =
            usize::try_from(last / BITS + 1).map_err(|_| corrupt("the meta page", "the last page"))?;
        Ok(Pages {
            source,
            page_size: meta.page_size,
            last,
            claimed: vec![0; words],
            unclaimed: last + 1 - FIRST,
        })
    }

    /// Marks a page as reached.
    ///
    /// # Errors
    /// [`IndexError::Corrupt`] if the snapshot does not have the page, or the page was reached before.
    pub(super) fn claim(&mut self, page: u64) -> Result<(), IndexError> {
        if !(FIRST..=self.last).contains(&page) {
            return Err(corrupt(format_args!("page {page}"), "a reference to it, which is not in the file,"));
        }
        let bit = 1 << (page % BITS);
        let word = usize::try_from(page / BITS).ok().and_then(|index| self.claimed.get_mut(index));
        match word {
            Some(word) if *word & bit == 0 => *word |= bit,
            _ => return Err(corrupt(format_args!("page {page}"), "the second reference to it")),
        }
        self.unclaimed -= 1;
        Ok(())
    }

    /// Checks that every page was reached.
    pub(super) fn all_claimed(&self) -> Result<(), IndexError> {
        if self.unclaimed == 0 {
            Ok(())
        } else {
            Err(corrupt("the list of free pages", "the number of pages"))
        }
    }

    /// Claims a page of a tree and reads it.
    pub(super) fn read(&mut self, page: u64, buffer: &mut [u8]) -> Result<(), IndexError> {
        self.claim(page)?;
        Ok(self.source.read_at(buffer, page * self.page_size as u64)?)
    }

    /// Claims the overflow pages of a value; returns how many they are.
    pub(super) fn read_overflow(&mut self, first: u64, length: u64) -> Result<u64, IndexError> {
        let wrong = || corrupt(format_args!("page {first}"), "the overflow page");
        if !(FIRST..=self.last).contains(&first) {
            return Err(wrong());
        }
        let mut header = [0; HEADER];
        self.source.read_at(&mut header, first * self.page_size as u64)?;
        let is_overflow = word(&header, 0) == Some(first) && page::flags(&header) == Some(page::OVERFLOW);
        let count = u64::from(u32_at(&header, WORD + 4).unwrap_or(0));
        // A value that got shorter keeps its pages.
        let has_room = HEADER as u64 + length <= count.saturating_mul(self.page_size as u64);
        if !is_overflow || !has_room || count > self.last {
            return Err(wrong());
        }
        (first..first + count).try_for_each(|page| self.claim(page))?;
        // The file may end before free pages, and not before these.
        let mut end = [0];
        self.source.read_at(&mut end, (first + count) * self.page_size as u64 - 1)?;
        Ok(count)
    }

    /// Reads bytes of a value in overflow pages, from an offset in the value.
    pub(super) fn read_value(&self, first: u64, offset: u64, buffer: &mut [u8]) -> Result<(), IndexError> {
        let begin = first * self.page_size as u64 + HEADER as u64;
        Ok(self.source.read_at(buffer, begin + offset)?)
    }
}
