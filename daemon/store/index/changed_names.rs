//! The names and link exceptions that changed since `index.json` or its journal was written last.
//!
//! A transaction adds its keys before it commits. So a snapshot at change number N has its keys here, and a writer that
//! takes the snapshot first and then the keys up to N misses none. The number of keys is bounded: beyond that
//! `index.json` is written as a whole.

use std::collections::BTreeMap;

use super::tables::Table;
use crate::base::Lock;

/// The maximum number of keys, some 2 MiB: more names than the two segments of the log have, so that the index never waits for a
/// whole `index.json` for lack of them.
const MAX_KEYS: usize = 16_384;

/// The key of a row in `tags`, `manifests` or `link_exceptions`.
pub(in crate::store) type ChangedKey = (Table, Vec<u8>);

/// Adds the names that depend on a row which changes from the first to the second value: its own, and for a tag also the
/// manifests of both, of which one without a tag is a name by itself. Returns false if a value cannot be read.
pub(super) fn note_row(
    names: &mut Vec<ChangedKey>,
    table: Table,
    key: &[u8],
    values: [Option<&[u8]>; 2],
) -> bool {
    let mut is_known = true;
    match table {
        Table::Tags => {
            let repository = key.iter().position(|byte| *byte == 0).map_or(key, |end| &key[..=end]);
            for row in values.into_iter().flatten() {
                match postcard::take_from_bytes::<&[u8]>(row) {
                    Ok((digest, _)) => names.push((Table::Manifests, [repository, digest].concat())),
                    Err(_) => is_known = false,
                }
            }
            names.push((table, key.to_vec()));
        }
        Table::LinkExceptions => names.push((table, key.to_vec())),
        Table::Manifests | Table::Sparse | Table::Orphans => names.push((Table::Manifests, key.to_vec())),
        Table::Meta
        | Table::Repositories
        | Table::ManifestRepositories
        | Table::Children
        | Table::Parents
        | Table::RepositoryBlobs
        | Table::BlobRepositories
        | Table::BlobTotals
        | Table::Blobs
        | Table::Referrers
        | Table::Uploads
        | Table::Uses
        | Table::Events
        | Table::Jobs
        | Table::Daily
        | Table::Synced
        | Table::TagsByDigest
        | Table::TagsByTime
        | Table::BlobCandidates => {}
    }
    is_known
}

/// The changed keys.
#[derive(Default)]
pub(in crate::store) struct ChangedNames(Lock<Keys>);

#[derive(Default)]
struct Keys {
    /// Each key with the change number of its last transaction.
    numbers: BTreeMap<ChangedKey, u64>,
    /// The highest change number of keys that were left out.
    left_out: Option<u64>,
    /// The change number up to which `index.json` and its journal have all names.
    saved: u64,
}

impl ChangedNames {
    /// Adds the keys of a transaction that is about to commit with this change number; `lacks_some` if they are not all.
    pub(super) fn add(&self, keys: Vec<ChangedKey>, lacks_some: bool, change: u64) {
        let mut all = self.0.lock();
        if lacks_some {
            all.left_out = all.left_out.max(Some(change));
        }
        for key in keys {
            if all.numbers.len() < MAX_KEYS || all.numbers.contains_key(&key) {
                all.numbers.insert(key, change);
            } else {
                all.left_out = all.left_out.max(Some(change));
            }
        }
    }

    /// Takes the keys of all transactions up to this change number; `None` if some were left out.
    pub(in crate::store) fn take(&self, change: u64) -> Option<Vec<ChangedKey>> {
        let mut all = self.0.lock();
        if all.left_out.is_some() {
            return None;
        }
        Some(all.numbers.extract_if(.., |_, number| *number <= change).map(|(key, _)| key).collect())
    }

    /// Asks for a whole `index.json`: the keys that were taken up to this change number are lost.
    pub(in crate::store) fn lose(&self, change: u64) {
        let mut all = self.0.lock();
        all.left_out = all.left_out.max(Some(change));
    }

    /// Notes that `index.json` and its journal have all names up to this change number.
    pub(in crate::store) fn set_saved(&self, change: u64) {
        let mut all = self.0.lock();
        all.saved = all.saved.max(change);
    }

    /// Returns the change number up to which `index.json` and its journal have all names.
    pub(in crate::store) fn saved(&self) -> u64 {
        self.0.lock().saved
    }

    /// Forgets the keys of all transactions up to this change number: `index.json` has been written from its snapshot.
    pub(in crate::store) fn forget(&self, change: u64) {
        let mut all = self.0.lock();
        all.saved = all.saved.max(change);
        all.left_out = all.left_out.filter(|number| *number > change);
        all.numbers.retain(|_, number| *number > change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ChangedKey {
        (Table::Tags, number.to_le_bytes().to_vec())
    }

    #[test]
    fn keys_of_later_transactions_stay() {
        let changed = ChangedNames::default();
        changed.add(vec![key(1), key(2)], false, 7);
        changed.add(vec![key(2), key(3)], false, 8);
        assert_eq!(changed.take(7), Some(vec![key(1)]));
        assert_eq!(changed.take(7), Some(vec![]));
        assert_eq!(changed.take(9), Some(vec![key(2), key(3)]));
    }

    #[test]
    fn keys_beyond_the_limit_ask_for_a_whole_file() {
        let changed = ChangedNames::default();
        changed.add((0..=MAX_KEYS).map(key).collect(), false, 7);
        changed.add(vec![key(0)], false, 8);
        assert_eq!(changed.take(9), None);
        changed.forget(6);
        assert_eq!(changed.take(9), None);
        changed.forget(7);
        assert_eq!(changed.take(9), Some(vec![key(0)]));
        changed.add(vec![key(0)], true, 10);
        assert_eq!(changed.take(10), None);
    }
}
