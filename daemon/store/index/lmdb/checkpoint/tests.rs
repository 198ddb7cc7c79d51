//! Tests of commits to the log and of checkpoints, on real files. A crash is played by a copy of the files: everything that
//! was written is there, and the process knows nothing more.
#![expect(clippy::disallowed_methods, reason = "the tests copy and damage the files of an index")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::disk::Disk;
use crate::store::files::FileOperation;
use crate::store::files::observer::{Observer, observe};
use crate::store::index::lmdb::inspect::{Inspection, inspect};

/// The size of the index in bytes: its segments have 16 blocks.
const MAP_SIZE: usize = 1 << 20;
const TABLE: Table = Table::Uploads;

fn open(directory: &Path) -> Index {
    Index::open(&Disk::open(directory, |_| ()).unwrap(), MAP_SIZE).unwrap()
}

/// Copies the files of an index as a crash leaves them.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("index")).unwrap();
    for name in ["data.mdb", "wal.0", "wal.1"] {
        let name = Path::new("index").join(name);
        if directory.join(&name).exists() {
            fs::copy(directory.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

fn set(index: &Index, rows: &[(u32, Option<Vec<u8>>)]) {
    let mut tables = index.begin().unwrap();
    for (key, value) in rows {
        match value {
            Some(value) => tables.put(TABLE, &key.to_be_bytes(), value).unwrap(),
            None => drop(tables.delete(TABLE, &key.to_be_bytes()).unwrap()),
        }
    }
    index.commit_rows(tables).unwrap();
}

/// Opens an index, and sets so many rows in a transaction each.
fn with_rows(directory: &Path, count: u32) -> Index {
    let index = open(directory);
    for key in 0..count {
        set(&index, &[(key, Some(vec![7; 100]))]);
    }
    index
}

fn rows(index: &Index) -> BTreeMap<u32, Vec<u8>> {
    let snapshot = index.read().unwrap();
    let rows: BTreeMap<_, _> = snapshot
        .rows(TABLE)
        .unwrap()
        .map(|row| {
            row.map(|(key, value)| (u32::from_be_bytes(key.try_into().unwrap()), value.to_vec())).unwrap()
        })
        .collect();
    assert_eq!(snapshot.len(TABLE).unwrap(), rows.len() as u64);
    rows
}

fn is_healthy(directory: &Path) -> Result<(), StoreError> {
    let directory = directory.join("index");
    inspect(&Inspection {
        directory: &directory,
        map_size: MAP_SIZE,
        previous: false,
        least_change: 0,
        copy: None,
    })
}

fn data(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("index/data.mdb")).unwrap()
}

fn segment(directory: &Path, number: u8) -> PathBuf {
    directory.join(format!("index/wal.{number}"))
}

/// Changes a byte of a file.
fn flip(file: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn small_transactions_do_not_touch_the_file_of_lmdb() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let before = data(directory.path());
    for key in 0..10 {
        set(&index, &[(key, Some(vec![7; 100]))]);
    }
    assert!(data(directory.path()) == before);
    let crash = crashed(directory.path());
    assert_eq!(rows(&open(crash.path())), rows(&index));
    index.checkpoint().unwrap();
    assert_eq!((index.pending_rows(), rows(&index).len()), (0, 10));
    assert!(data(directory.path()) != before);
    let crash = crashed(directory.path());
    let _ = fs::remove_file(segment(crash.path(), 0));
    assert_eq!(rows(&open(crash.path())).len(), 10, "the rows are in LMDB");
}

#[test]
fn a_record_that_was_cut_off_counts_as_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let index = with_rows(directory.path(), 5);
    let end = index.deferred.lock().log.end.offset;
    drop(index);
    for cut in [1, 40, 120] {
        let crash = crashed(directory.path());
        flip(&segment(crash.path(), 0), end - 4096 + cut);
        is_healthy(crash.path()).unwrap();
        let index = open(crash.path());
        assert_eq!(rows(&index).keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        // Its place is used again.
        set(&index, &[(9, Some(vec![]))]);
        drop(index);
        assert_eq!(rows(&open(crash.path())).len(), 5);
    }
}

#[test]
fn a_damaged_record_before_others_is_found_by_an_inspection() {
    let directory = tempfile::tempdir().unwrap();
    let index = with_rows(directory.path(), 5);
    drop(index);
    is_healthy(directory.path()).unwrap();
    for block in 0..4 {
        let crash = crashed(directory.path());
        flip(&segment(crash.path(), 0), block * 4096 + 50);
        assert!(
            matches!(is_healthy(crash.path()), Err(StoreError::Index(IndexError::Corrupt(_)))),
            "block {block}"
        );
    }
    // The shutdown marker tells that a record is missing. Nothing is written in its place.
    let last = 6;
    for block in [2, 5] {
        let crash = crashed(directory.path());
        flip(&segment(crash.path(), 0), block * 4096 + 50);
        let disk = Disk::open(crash.path(), |_| ()).unwrap();
        let log = fs::read(segment(crash.path(), 0)).unwrap();
        assert!(
            matches!(Index::open_after(&disk, MAP_SIZE, last), Err(StoreError::Index(_))),
            "block {block}"
        );
        assert!(fs::read(segment(crash.path(), 0)).unwrap() == log);
    }
    let disk = Disk::open(directory.path(), |_| ()).unwrap();
    assert_eq!(rows(&Index::open_after(&disk, MAP_SIZE, last).unwrap()).len(), 5);
}

/// Fails the syncs of files while it is switched on.
#[derive(Default)]
struct FailingSyncs(AtomicBool);

impl Observer for FailingSyncs {
    fn before(&self, operation: FileOperation<'_>) -> std::io::Result<()> {
        if matches!(operation, FileOperation::Sync(_)) && self.0.load(Ordering::Relaxed) {
            return Err(std::io::Error::from_raw_os_error(libc::ENOMEM));
        }
        Ok(())
    }

    fn after(&self, _operation: FileOperation<'_>, _error: Option<&std::io::Error>) {}
}

#[test]
fn a_record_that_failed_does_not_hide_those_in_the_other_segment() {
    let directory = tempfile::tempdir().unwrap();
    let failing = Arc::new(FailingSyncs::default());
    let _observed = observe(directory.path(), Arc::clone(&failing) as Arc<dyn Observer>);
    // All but one block of a segment.
    let index = with_rows(directory.path(), 14);
    let change = |key: u32, length: usize| {
        let mut tables = index.begin().unwrap();
        tables.put(TABLE, &key.to_be_bytes(), &vec![7; length]).unwrap();
        index.commit_rows(tables)
    };
    failing.0.store(true, Ordering::Relaxed);
    let refused = change(50, 100);
    assert!(matches!(refused, Err(Failed::Unknown(StoreError::OutOfResources { .. }))), "{refused:?}");
    failing.0.store(false, Ordering::Relaxed);
    // Of two blocks, so that it does not fit into the place of the one that failed.
    change(51, 5000).unwrap();
    change(52, 100).unwrap();
    let crash = crashed(directory.path());
    is_healthy(crash.path()).unwrap();
    let found = rows(&open(crash.path()));
    assert!(found.contains_key(&51) && found.contains_key(&52), "{:?}", found.keys());
    assert_eq!(found, rows(&index));
}

#[test]
fn records_of_another_index_are_not_taken() {
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let index = open(old.path());
    set(&index, &[(1, Some(vec![1]))]);
    drop(index);
    drop(open(new.path()));
    fs::copy(segment(old.path(), 0), segment(new.path(), 0)).unwrap();
    is_healthy(new.path()).unwrap();
    assert!(rows(&open(new.path())).is_empty());
}

#[test]
fn content_that_looks_like_a_record_is_not_taken_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    // A client cannot know the id; a copy of a whole record has the one of another index.
    let other = tempfile::tempdir().unwrap();
    let foreign = open(other.path());
    set(&foreign, &[(77, Some(vec![7; 10]))]);
    let record = fs::read(segment(other.path(), 0)).unwrap()[4096..8192].to_vec();
    for shift in 0..64 {
        set(&index, &[(shift, Some([vec![0; 4096 - 100 + shift as usize], record.clone()].concat()))]);
    }
    let found = rows(&index);
    drop(index);
    is_healthy(directory.path()).unwrap();
    assert_eq!(rows(&open(directory.path())), found);
}

#[test]
fn readers_see_whole_transactions_during_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    set(&index, &(0..20).map(|key| (key, Some(vec![0]))).collect::<Vec<_>>());
    let (ended, index) = (AtomicBool::new(false), &index);
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let found = rows(index);
                    let values: Vec<_> = found.values().map(|value| value[0]).collect();
                    assert!(
                        values.len() == 20 && values.windows(2).all(|pair| pair[0] == pair[1]),
                        "{values:?}"
                    );
                }
            })
        });
        for round in 1..200u8 {
            set(index, &(0..20).map(|key| (key, Some(vec![round]))).collect::<Vec<_>>());
            if round % 3 == 0 {
                index.work_deferred().unwrap();
            }
        }
        ended.store(true, Ordering::Relaxed);
        // The scope would not wait until the threads have given up their places in LMDB's table of readers.
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// A step of the property test.
#[derive(Clone, Debug)]
enum Step {
    /// Commits rows with values of this length; no value deletes.
    Commit(Vec<(u32, Option<usize>)>),
    Deferred,
    Checkpoint,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = |length: std::ops::Range<usize>| (0..60u32, proptest::option::weighted(0.7, length));
    let small = proptest::collection::vec(row(0..300), 1..6);
    // More than a record takes.
    let large = proptest::collection::vec(row(1500..3000), 12..20);
    let step = prop_oneof![
        12 => small.prop_map(Step::Commit),
        1 => large.prop_map(Step::Commit),
        3 => Just(Step::Deferred),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_index_has_every_transaction_after_any_crash(steps in steps()) {
        let mut directory = tempfile::tempdir().unwrap();
        let (mut index, mut model, mut number) = (open(directory.path()), BTreeMap::new(), 0u8);
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    number = number.wrapping_add(1);
                    let changes: Vec<_> = changes
                        .into_iter()
                        .map(|(key, length)| (key, length.map(|length| vec![number; length])))
                        .collect();
                    set(&index, &changes);
                    for (key, value) in changes {
                        match value {
                            Some(value) => drop(model.insert(key, value)),
                            None => drop(model.remove(&key)),
                        }
                    }
                }
                Step::Deferred => drop(index.work_deferred().unwrap()),
                Step::Checkpoint => index.checkpoint().unwrap(),
                Step::Crash => {
                    let copy = crashed(directory.path());
                    drop(index);
                    directory = copy;
                    is_healthy(directory.path()).unwrap();
                    index = open(directory.path());
                }
            }
            prop_assert_eq!(&rows(&index), &model);
        }
    }
}
