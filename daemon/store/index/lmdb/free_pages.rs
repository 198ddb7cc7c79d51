//! Free pages of the index's map that are reserved for deletes.
//!
//! LMDB writes every changed page to a new place (copy-on-write), so that a delete takes free pages before it frees
//! any, and the pages that a commit frees can be reused after the next commit and only when no older reader is left.
//! So pushes are refused while fewer pages are free than deletes may need, and each commit leaves enough for one more:
//! an index without a free page could never be written again.

use heed::RwTxn;

use super::mapping::Env;
use super::table::Databases;
use crate::store::error::StoreError;
use crate::store::index::tables::Table;

/// The bytes of the map that are reserved for deletes, at least and at most.
const RESERVE: (u64, u64) = (256 << 10, 16 << 20);
/// The pages that a commit leaves. The map is larger than the configured size by more than that; see
/// [`super::environment`].
const FREE_AFTER_COMMIT: u64 = 16;

/// Returns how many bytes of an index of this size pushes may use.
pub(super) fn push_limit(map_size: u64) -> u64 {
    map_size.saturating_sub(reserve(map_size))
}

fn reserve(map_size: u64) -> u64 {
    (map_size / 16).clamp(RESERVE.0, RESERVE.1)
}

/// Ensures before a commit that enough pages stay free. LMDB does not report how many are, so rows that fill them are
/// written and deleted again. This happens only once the file is longer than the configured size: until then the extra
/// pages of the map are unused.
pub(super) fn reserve_free_pages(
    env: &Env,
    databases: &Databases,
    txn: &mut RwTxn,
    map_size: u64,
) -> Result<(), StoreError> {
    let page_size = u64::from(env.stat().page_size);
    if (env.info().last_page_number as u64 + 1) * page_size <= map_size {
        return Ok(());
    }
    // A row that fills one page: the page size less the page header, the node header and the checksum.
    let row = vec![0; usize::try_from(page_size).unwrap_or(4096) - 64];
    let key = |number: u64| format!("page-{number}").into_bytes();
    (0..FREE_AFTER_COMMIT).try_for_each(|number| databases.put(txn, Table::Meta, &key(number), &row))?;
    (0..FREE_AFTER_COMMIT)
        .try_for_each(|number| databases.delete(txn, Table::Meta, &key(number)).map(drop))?;
    Ok(())
}
