//! The inspection of an index: reads every row and checks that the tables agree.
//!
//! LMDB trusts its file: reading a corrupt page may kill the process. So an inspection runs in a child process, and a
//! crash counts as corruption. A wrong list of free pages makes LMDB overwrite pages in use, and does not show in the
//! rows; so [`structure`] checks the file without LMDB. If its structure is wrong while all rows are healthy, they are copied
//! to a new file, which then replaces the index. The previous snapshot is always copied: the next commit would follow
//! the newest.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use heed::CompactionOption;
use rustix::fs::{Advice, fadvise};

use super::mapping::Env;
use super::preallocation::Preallocation;
use super::table::{self, Databases, Snapshot};
use super::{database, environment, mapping, structure};
use crate::store::error::StoreError;
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::{ReadTables, Table, consistency};
use crate::store::index::wal::{self, LogRow};
use crate::store::index_error::IndexError;

/// The parameters of an inspection.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// The directory of the index.
    pub directory: &'a Path,
    /// The size limit of the index, in bytes.
    pub map_size: usize,
    /// Reads LMDB's previous snapshot instead of the newest.
    pub previous: bool,
    /// The smallest acceptable change number.
    pub least_change: u64,
    /// The file to copy the rows to, unless the index can be used as it is.
    pub copy: Option<&'a Path>,
}

/// Reads every row of an index and checks it. Copies an index whose rows are healthy if it cannot be used as it is. Without
/// room on the disk, a copy of the previous snapshot is left out.
///
/// # Errors
/// [`StoreError::Index`] when the index is corrupt, or older than `least_change`; otherwise an error that says
/// nothing about the index ([`StoreError::is_environment_error`]).
pub fn inspect(inspection: &Inspection) -> Result<(), StoreError> {
    let Inspection { directory, map_size, previous, least_change, copy } = *inspection;
    let file = read_ahead(directory);
    // A daemon may write the index while it is inspected without a copy.
    let copy = copy.filter(|_| previous || !file.is_some_and(|file| is_sound(&file, directory, map_size)));
    let env = environment::open(directory, map_size, previous).map_err(IndexError::from)?;
    let version: Option<u32> = {
        let txn = env.read_txn().map_err(IndexError::from)?;
        Databases::meta_row(&env, &txn, meta::FORMAT)?
    };
    if version.is_some_and(|version| !meta::is_readable(version)) {
        // Rows of other versions are not readable here: opening refuses a newer version and rebuilds an older one.
        return Ok(());
    }
    let databases = {
        let txn = env.read_txn().map_err(IndexError::from)?;
        let databases = Databases::find(&env, &txn).map_err(IndexError::from)?;
        // An aborted transaction would close them.
        txn.commit().map_err(IndexError::from)?;
        databases
    };
    // The snapshot ends before the copy opens one.
    inspect_rows(directory, &env, &databases, least_change)?;
    match copy.map_or(Ok(()), |copy| copy_to(&env, &databases, copy, map_size)) {
        Err(error) if previous && error.is_environment_error() => Ok(()),
        // An index that LMDB would write to wrongly is not used without a copy.
        copied => copied,
    }
}

/// Reads the file in order into the page cache, because its trees have the pages in no order. If that fails, so does the
/// inspection.
fn read_ahead(directory: &Path) -> Option<File> {
    let file = File::open(directory.join("data.mdb")).ok()?;
    // As pages of their own: with read-ahead, the kernel keeps many as one folio, and a change of one page would be written as
    // the whole folio from then on.
    let _ = fadvise(&file, 0, None, Advice::Random);
    let _ = fadvise(&file, 0, None, Advice::WillNeed);
    Some(file)
}

/// Returns true if the structure of the file is sound, so that LMDB can write to it.
fn is_sound(file: &File, directory: &Path, map_size: usize) -> bool {
    structure::check(file, environment::map_length(directory, map_size) as u64).is_ok()
}

/// The attempts to read the log while a daemon writes it: it may overwrite what is being read.
const ATTEMPTS: u32 = 5;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads every row of the newest snapshot, with those of the log.
fn inspect_rows(
    directory: &Path,
    env: &Env,
    databases: &Databases,
    least_change: u64,
) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let snapshot = Snapshot::new(env.read_txn().map_err(IndexError::from)?, databases);
        // An index of an earlier release has no log.
        let row: Option<LogRow> = snapshot.row(Table::Meta, meta::LOG)?;
        let Some(row) = row else { return inspect_snapshot(&snapshot, least_change) };
        // After the snapshot, which may be one in the middle of a checkpoint: the log has all of its rows then.
        let least = wal::last_record(directory, &row.id)?;
        let (replayed, pending) = database::replay(directory, &snapshot, &row)?;
        if replayed.last >= least {
            return inspect_snapshot(&snapshot.over(&pending), least_change);
        }
        drop(snapshot);
        std::thread::sleep(ATTEMPT_PAUSE);
    }
    Err(IndexError::Corrupt("a record of the log is damaged or missing".into()).into())
}

fn inspect_snapshot(snapshot: &Snapshot<'_>, least_change: u64) -> Result<(), StoreError> {
    if snapshot.change()? < least_change {
        return Err(IndexError::Row("index.json is newer".into()).into());
    }
    consistency::check(snapshot)
}

/// Copies an index whose rows are all readable; an error here says nothing about them.
fn copy_to(env: &Env, databases: &Databases, copy: &Path, map_size: usize) -> Result<(), StoreError> {
    let copied = create(copy).map_err(heed::Error::from);
    let copied = copied.and_then(|mut file| env.copy_to_file(&mut file, CompactionOption::Enabled));
    match copied.map_err(|error| StoreError::from(IndexError::from(error))) {
        Ok(()) => {}
        Err(error) if error.is_environment_error() => {
            remove(copy)?;
            return Err(error);
        }
        Err(_) => {
            // The number of pages does not add up: the list of free pages is wrong, and the old file must not be
            // used. Reading row by row does not depend on that list.
            remove(copy)?;
            copy_rows(env, databases, copy, map_size).or_else(|error| {
                remove(copy)?;
                Err(StoreError::io("copy the index", std::io::Error::other(error.to_string())))
            })?;
        }
    }
    // Without room on the disk, the margin is allocated once the old index is gone.
    let _ = preallocate(copy, map_size);
    Ok(())
}

/// Creates the file of a copy, with the permissions that LMDB gives an index.
#[expect(clippy::disallowed_methods, reason = "a process that does nothing else fills the file")]
fn create(copy: &Path) -> std::io::Result<File> {
    remove_file(copy)?;
    File::options().read(true).write(true).create_new(true).mode(0o600).open(copy)
}

/// Removes an incomplete copy, which must not be used.
fn remove(copy: &Path) -> Result<(), StoreError> {
    remove_file(copy).map_err(|error| StoreError::io("remove an incomplete copy of the index", error))
}

#[expect(clippy::disallowed_methods, reason = "the file was made here, by a process that does nothing else")]
fn remove_file(copy: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The rows that one transaction copies; they stay in memory until its end.
const AT_ONCE: usize = 10_000;

/// Copies the rows one by one.
fn copy_rows(old: &Env, databases: &Databases, copy: &Path, map_size: usize) -> Result<(), IndexError> {
    let env = mapping::open_environment_file(copy, map_size)?;
    let snapshot = Snapshot::new(old.read_txn()?, databases);
    for table in Table::ALL {
        let mut new = env.write_txn()?;
        let target = table::create(&env, &mut new, table)?;
        for (number, row) in snapshot.rows(table)?.enumerate() {
            let (key, value) = row?;
            table::put(target, &mut new, table, (key, value))?;
            if number % AT_ONCE == AT_ONCE - 1 {
                new.commit()?;
                new = env.write_txn()?;
            }
        }
        new.commit()?;
    }
    Ok(())
}

/// Allocates the margin of a copy; see [`Preallocation`].
fn preallocate(copy: &Path, map_size: usize) -> Result<(), IndexError> {
    let env = mapping::open_environment_file(copy, map_size)?;
    Preallocation::new(&env)?.refill(&env);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test makes an old copy")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_is_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy.mdb");
        // One that an earlier inspection left.
        std::fs::write(&copy, "old").unwrap();
        let mode = create(&copy).unwrap().metadata().unwrap().permissions().mode();
        assert_eq!((mode & 0o777, std::fs::read(&copy).unwrap().len()), (0o600, 0));
    }
}
