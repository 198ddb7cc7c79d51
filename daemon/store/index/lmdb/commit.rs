//! The commit of a transaction: LMDB's own, and the sync of the meta page that makes it durable.
//!
//! With its own sync LMDB writes the meta page with `O_DSYNC`, and refuses all later writes when that fails for any
//! reason. So LMDB only writes the page (`NO_META_SYNC`), and `fdatasync` follows here. The data pages that the meta
//! page points to are durable by then, and the pages of the previous snapshot are not overwritten before the commit
//! after the next: at any moment the medium has one of the two snapshots, whole.

use heed::RwTxn;

use super::mapping::Env;
use super::preallocation::Preallocation;
use super::table::Databases;
use crate::store::error::StoreError;
use crate::store::index::tables::{Table, meta};
use crate::store::index_error::IndexError;

/// Commits a transaction of LMDB. Once this returns `Ok`, it survives a power cut. `written` is called as soon as readers
/// see it, which may be before that, and again after each further commit that a failed sync makes necessary.
pub(super) fn commit(
    env: &Env,
    preallocation: &Preallocation,
    txn: RwTxn,
    databases: &Databases,
    written: &dyn Fn(),
) -> Result<(), StoreError> {
    let write = |txn: RwTxn| -> Result<(), IndexError> {
        let committed = txn.commit().map_err(|error| preallocation.commit_error(env, error));
        let committed = databases.noted(committed.map_err(IndexError::from));
        // Also after a failure: LMDB may have changed its meta page.
        written();
        committed
    };
    let sync =
        || -> Result<(), StoreError> { Ok(databases.noted(env.force_sync().map_err(IndexError::from))?) };
    write(txn)?;
    let Err(error) = sync() else { return Ok(()) };
    if !error.is_lack_of_resources() && !error.is_lack_of_space() {
        return Err(error);
    }
    // The kernel may have dropped the page and marked it clean, so that repeating the sync would succeed without
    // writing it. Another commit writes the other meta page, which contains this change as well.
    let again = || -> Result<(), StoreError> {
        let mut txn = databases.noted(env.write_txn().map_err(IndexError::from))?;
        // Any row makes LMDB write pages; this one stays as it is.
        databases.put_row(&mut txn, Table::Meta, meta::FORMAT, &databases.version)?;
        write(txn)?;
        sync()
    };
    again()?;
    log::warn!("the first sync of the index failed ({error}); a second commit made it durable");
    Ok(())
}
