//! The last copy of each tag from another registry. Only times of that registry are compared, so that a wrong clock here
//! does not matter. A lost row lets the next copy of a tag that differs be refused once.

use serde::{Deserialize, Serialize};

use super::keys;
use super::port::{ReadTables, Table};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;

/// The last copy of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct SyncedRow {
    /// The digest that the tag had at the other registry, as [`keys::digest_key`] encodes it.
    pub(in crate::store) digest: Vec<u8>,
    /// The time at which the tag was pushed there, in seconds since 1970 by the clock of that registry.
    pub(in crate::store) pushed: u64,
}

impl SyncedRow {
    /// Returns the row of a copy.
    pub(in crate::store) fn new(digest: &Digest, pushed: u64) -> Self {
        SyncedRow { digest: keys::digest_key(digest), pushed }
    }
}

/// Returns the key of a copied tag. A rule has no zero byte: it is `import:` and the id of a registry.
pub(in crate::store) fn key(rule: &str, repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    let mut key = rule.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&keys::tag_key(repository, tag));
    key
}

/// Lookups of copies.
pub(in crate::store) trait Synced: ReadTables {
    /// Returns the last copy of a tag by this rule.
    fn synced(
        &self,
        rule: &str,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<SyncedRow>, StoreError> {
        Ok(self.row(Table::Synced, &key(rule, repository, tag))?)
    }
}

impl<T: ReadTables> Synced for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_key_fits_into_lmdb() {
        let rule = format!("import:{}", uuid::Uuid::nil());
        let (repository, tag) = ("a".repeat(255).parse().unwrap(), "t".repeat(128).parse().unwrap());
        assert!(key(&rule, &repository, &tag).len() <= 511);
    }
}
