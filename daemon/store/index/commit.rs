//! The commit of a transaction: LMDB's own, and the sync of the meta page that makes it durable.
//!
//! LMDB would sync the meta page by writing it with `O_DSYNC`, and takes no writes any more when that fails, for whatever
//! reason. So it only writes the page (`NO_META_SYNC`), and the sync follows here. The pages that it points at are on the
//! medium by then. Until the next commit but one nothing overwrites those of the state before, so that the medium has
//! either state, whole.

use heed::{Env, RwTxn};

use super::preallocation::Preallocation;
use super::schema::{self, Tables, VERSION};
use crate::store::error::StoreError;

/// As [`Index::commit`], for an index that is being opened.
pub(super) fn commit(
    env: &Env,
    preallocation: &Preallocation,
    txn: RwTxn,
    tables: &Tables,
) -> Result<(), StoreError> {
    txn.commit().map_err(|error| preallocation.commit_error(env, error))?;
    let Err(error) = env.force_sync().map_err(StoreError::from) else { return Ok(()) };
    if !error.is_lack_of_resources() && !error.is_lack_of_room() {
        return Err(error);
    }
    // The kernel may have dropped the page and count it as written, so that the same sync must not be tried again. Another
    // commit writes the other meta page, which holds this change as well.
    let again = || -> Result<(), StoreError> {
        let mut txn = env.write_txn()?;
        // Any row will do, also one that says what it said.
        schema::put_row(tables.meta, &mut txn, b"version", &VERSION)?;
        txn.commit().map_err(|error| preallocation.commit_error(env, error))?;
        Ok(env.force_sync()?)
    };
    again()?;
    log::warn!("the index could not be synced at once ({error}); a second commit has done it");
    Ok(())
}
