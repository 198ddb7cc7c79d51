//! The entries of the tree of free pages: the pages that a transaction freed, and that no newer one has used.
//!
//! The key is the number of the transaction. The value is a count and so many page numbers, all words, in falling
//! order. There may be bytes behind them, which LMDB reserved and did not need.

use super::page::{WORD, word};
use super::pages::Pages;
use super::source::{ReadAt, corrupt};
use super::tree::Value;
use crate::store::index_error::IndexError;

/// The words that are read at a time.
const WORDS: usize = 512;

/// Claims the pages of an entry. `newest` is the number of the snapshot's transaction.
pub(super) fn claim<S: ReadAt + ?Sized>(
    pages: &mut Pages<'_, S>,
    key: &[u8],
    value: Value<'_>,
    newest: u64,
) -> Result<(), IndexError> {
    let transaction = word(key, 0).unwrap_or(0);
    let wrong = |what| corrupt(format_args!("the free pages of transaction {transaction}"), what);
    if !(1..=newest).contains(&transaction) {
        return Err(wrong("the number"));
    }
    let list = List { value };
    let count = list.word(pages, 0)?.ok_or_else(|| wrong("the length"))?;
    if !list.length().is_multiple_of(WORD as u64) || count >= list.length() / WORD as u64 {
        return Err(wrong("the length"));
    }
    let (mut at, mut previous) = (1, u64::MAX);
    let mut buffer = [0; WORDS * WORD];
    while at <= count {
        let chunk = usize::try_from(count + 1 - at).unwrap_or(WORDS).min(WORDS);
        let words = &mut buffer[..chunk * WORD];
        list.read(pages, at * WORD as u64, words)?;
        for bytes in words.chunks_exact(WORD) {
            let page = word(bytes, 0).filter(|page| *page < previous).ok_or_else(|| wrong("the order"))?;
            pages.claim(page)?;
            previous = page;
        }
        at += chunk as u64;
    }
    Ok(())
}

/// The value of an entry.
struct List<'a> {
    value: Value<'a>,
}

impl List<'_> {
    fn length(&self) -> u64 {
        match self.value {
            Value::Inline(bytes) => bytes.len() as u64,
            Value::Overflow { length, .. } => length,
        }
    }

    fn word<S: ReadAt + ?Sized>(&self, pages: &Pages<'_, S>, at: u64) -> Result<Option<u64>, IndexError> {
        if self.length() < WORD as u64 {
            return Ok(None);
        }
        let mut bytes = [0; WORD];
        self.read(pages, at, &mut bytes)?;
        Ok(word(&bytes, 0))
    }

    fn read<S: ReadAt + ?Sized>(
        &self,
        pages: &Pages<'_, S>,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), IndexError> {
        match self.value {
            Value::Inline(bytes) => Ok(bytes.read_at(buffer, at)?),
            Value::Overflow { first, .. } => pages.read_value(first, at, buffer),
        }
    }
}
