//! The reader on files that LMDB wrote: after random transactions they are sound, and damage never makes it panic or
//! overlook a page that is used twice.
#![expect(clippy::cast_possible_truncation, reason = "a page number of these files fits")]

use std::fs::File;
use std::path::Path;

use heed::types::Bytes;
use heed::{Database, RwTxn};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::mapping::{self, Env};
use super::page::{HEADER, WORD};
use super::*;

const MAP: usize = 64 << 20;
const TABLES: [&str; 3] = ["one", "two", "three"];

type Table = Database<Bytes, Bytes>;

/// A change of a table: the rows from a key on get values of this length, or are deleted.
#[derive(Clone, Debug)]
struct Change {
    table: usize,
    first: u16,
    count: u16,
    length: Option<usize>,
}

/// A transaction, and what happens around it.
#[derive(Clone, Debug)]
struct Step {
    changes: Vec<Change>,
    /// The transaction ends without a commit.
    aborts: bool,
    /// A reader of the snapshot before stays until the next step that has one.
    reader: bool,
    /// The process ends after the step, and the index is opened again.
    reopens: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let length = prop_oneof![
        3 => (0..200usize).prop_map(Some),
        1 => (1900..2200usize).prop_map(Some),
        1 => (2000..40_000usize).prop_map(Some),
        3 => Just(None),
    ];
    (0..TABLES.len(), 0..600u16, 1..300u16, length).prop_map(|(table, first, count, length)| Change {
        table,
        first,
        count,
        length,
    })
}

fn step() -> impl Strategy<Value = Step> {
    (vec(change(), 1..6), prop::bool::weighted(0.1), prop::bool::weighted(0.3), prop::bool::weighted(0.1))
        .prop_map(|(changes, aborts, reader, reopens)| Step { changes, aborts, reader, reopens })
}

/// Keys of different lengths, in no order of their numbers.
fn key(number: u16) -> Vec<u8> {
    let spread = number.wrapping_mul(40_503).to_be_bytes();
    [&spread[..], &vec![b'k'; usize::from(number % 97)]].concat()
}

fn apply(txn: &mut RwTxn, tables: &[Table], change: &Change) {
    let table = tables[change.table];
    for number in change.first..change.first + change.count {
        match change.length {
            // Values of overflow pages are few.
            Some(length) if length < 3000 || number % 40 == 0 => {
                table.put(txn, &key(number), &vec![7; length]).unwrap();
            }
            Some(_) => {}
            None => drop(table.delete(txn, &key(number)).unwrap()),
        }
    }
}

fn open(directory: &Path) -> (Env, Vec<Table>) {
    let env = mapping::open_environment(directory, MAP, false).unwrap();
    let mut txn = env.write_txn().unwrap();
    let tables = TABLES.map(|name| env.create_database(&mut txn, Some(name)).unwrap()).to_vec();
    txn.commit().unwrap();
    (env, tables)
}

fn file_of(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("data.mdb")).unwrap()
}

fn checked(file: &[u8]) -> Result<(), IndexError> {
    check(file, MAP as u64)
}

/// Applies the steps; calls `seen` with the file after each.
fn run(directory: &Path, steps: &[Step], seen: &mut dyn FnMut(Vec<u8>)) {
    let (mut env, mut tables) = open(directory);
    let mut reader = None;
    for step in steps {
        if step.reader {
            drop(reader.take());
            reader = Some(env.clone().static_read_txn().unwrap());
        }
        let mut txn = env.write_txn().unwrap();
        for change in &step.changes {
            apply(&mut txn, &tables, change);
        }
        if step.aborts {
            txn.abort();
        } else {
            txn.commit().unwrap();
        }
        seen(file_of(directory));
        if step.reopens {
            drop(reader.take());
            env.prepare_for_closing().wait();
            (env, tables) = open(directory);
        }
    }
    drop(reader);
    env.prepare_for_closing().wait();
}

/// A file with branch pages, overflow pages, and free pages in several entries.
fn rich_file() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let put = |table, count, length| Change { table, first: 0, count, length: Some(length) };
    let delete = |first, count| Change { table: 0, first, count, length: None };
    let steps = [
        vec![put(0, 900, 150), put(1, 50, 10)],
        vec![put(2, 200, 9000)],
        vec![delete(100, 700)],
        vec![put(1, 20, 30)],
        vec![delete(0, 20)],
    ];
    let step = |changes| Step { changes, aborts: false, reader: true, reopens: false };
    let mut last = Vec::new();
    run(directory.path(), &steps.map(step), &mut |file| last = file);
    last
}

fn page_size(file: &[u8]) -> usize {
    Meta::newest(file).unwrap().page_size
}

/// Returns the numbers of the pages of a kind, by their headers.
fn pages_of_kind(file: &[u8], flags: u16) -> Vec<usize> {
    let size = page_size(file);
    (2..file.len() / size).filter(|page| page::flags(&file[page * size..]) == Some(flags)).collect()
}

#[test]
fn new_file_and_a_rich_file_are_sound() {
    let directory = tempfile::tempdir().unwrap();
    let env = mapping::open_environment(directory.path(), MAP, false).unwrap();
    checked(&file_of(directory.path())).unwrap();
    env.prepare_for_closing().wait();
    let (env, _) = open(directory.path());
    checked(&file_of(directory.path())).unwrap();
    env.prepare_for_closing().wait();
    let file = rich_file();
    checked(&file).unwrap();
    let meta = Meta::newest(&file[..]).unwrap();
    assert!(meta.free.entries > 1 && pages_of_kind(&file, page::OVERFLOW).len() > 1);
}

#[test]
fn a_compacted_copy_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let (env, tables) = open(directory.path());
    let mut txn = env.write_txn().unwrap();
    for length in [100, 9000] {
        apply(&mut txn, &tables, &Change { table: 0, first: 0, count: 500, length: Some(length) });
    }
    txn.commit().unwrap();
    let copy = directory.path().join("copy");
    let mut file = File::create_new(&copy).unwrap();
    env.copy_to_file(&mut file, heed::CompactionOption::Enabled).unwrap();
    checked(&std::fs::read(&copy).unwrap()).unwrap();
    env.prepare_for_closing().wait();
}

/// Finds an entry of the tree of free pages, and returns the offset of its first page number.
fn free_entry(file: &[u8]) -> usize {
    let meta = Meta::newest(file).unwrap();
    let size = page_size(file);
    let mut at = meta.free.root.unwrap() as usize * size;
    for _ in 1..meta.free.depth {
        let node = at + usize::from(u16::from_ne_bytes(file[at + HEADER..][..2].try_into().unwrap()));
        at = u32::from_ne_bytes(file[node..][..4].try_into().unwrap()) as usize * size;
    }
    let count = (page::u16_at(file, at + WORD + 4).unwrap() as usize - HEADER) / 2;
    for index in 0..count {
        let node = at + usize::from(page::u16_at(file, at + HEADER + 2 * index).unwrap());
        let value = node + 8 + WORD;
        let is_inline = page::u16_at(file, node + 4) == Some(0);
        if is_inline && page::word(file, value).unwrap() > 0 {
            return value + WORD;
        }
    }
    panic!("no entry is in a leaf");
}

/// Lists the root of the tree of tables as a free page, in a file whose tree of free pages is small.
pub(in crate::store) fn list_page_in_use(file: &mut [u8]) {
    let at = free_entry(file);
    let root = Meta::newest(file).unwrap().main.root.unwrap() as usize;
    file[at..at + WORD].copy_from_slice(&root.to_ne_bytes());
}

#[test]
fn a_free_page_in_use_or_a_lost_one_is_found() {
    let file = rich_file();
    let at = free_entry(&file);
    let size = page_size(&file);
    let listed = page::word(&file, at).unwrap() as usize;
    let with = |number: usize| {
        let mut damaged = file.clone();
        damaged[at..at + WORD].copy_from_slice(&number.to_ne_bytes());
        checked(&damaged)
    };
    with(listed).unwrap();
    for number in (0..file.len() / size + 2).filter(|number| *number != listed) {
        assert!(with(number).unwrap_err().is_corruption(), "page {number} instead of {listed}");
    }
    // A shorter entry loses a page.
    let mut damaged = file.clone();
    let count = page::word(&file, at - WORD).unwrap() as usize;
    damaged[at - WORD..at].copy_from_slice(&(count - 1).to_ne_bytes());
    assert!(checked(&damaged).is_err());
}

#[test]
fn a_page_that_two_trees_share_is_found() {
    let file = rich_file();
    let size = page_size(&file);
    // Each branch page refers to the page of its neighbour.
    let branches: Vec<_> = pages_of_kind(&file, 1);
    let mut found = 0;
    for branch in branches {
        let at = branch * size;
        let node = |index: usize| at + usize::from(page::u16_at(&file, at + HEADER + 2 * index).unwrap());
        let mut damaged = file.clone();
        damaged.copy_within(node(1)..node(1) + 6, node(0));
        // A branch page of an older snapshot is free.
        found += usize::from(checked(&damaged).is_err());
    }
    assert!(found > 0);
}

/// Damages each field of each header and of each node of some pages.
#[test]
fn damage_of_every_field_is_found_or_harmless() {
    let file = rich_file();
    let size = page_size(&file);
    let meta = Meta::newest(&file[..]).unwrap();
    let roots = [meta.free.root.unwrap(), meta.main.root.unwrap()];
    for root in roots {
        let at = root as usize * size;
        let lower = usize::from(page::u16_at(&file, at + WORD + 4).unwrap());
        // The unused field says nothing.
        for offset in (0..lower).filter(|offset| !(WORD..WORD + 2).contains(offset)) {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at + offset] ^= 1 << bit;
                assert!(checked(&damaged).is_err(), "byte {offset}, bit {bit} of page {root}");
            }
        }
    }
    let newest = if meta.transaction.is_multiple_of(2) { 0 } else { size };
    // Behind the address and the size of the map, which LMDB does not use here.
    for offset in (0..HEADER + 8).chain(HEADER + 8 + 2 * WORD..HEADER + 8 + 4 * WORD + 2 * (8 + 5 * WORD)) {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[newest + offset] ^= 1 << bit;
            // Unused: three fields of the header, and one of the tree of tables; and the mark of a single file.
            let main = HEADER + 8 + 2 * WORD + 8 + 5 * WORD;
            let unused = [WORD..WORD + 2, WORD + 4..WORD + 8, main..main + 4];
            let is_mark = offset == HEADER + 8 + 2 * WORD + 5 && bit == 6;
            // With a smaller number of its transaction, the snapshot before is the newest.
            let is_older = Meta::newest(&damaged[..]).is_ok_and(|found| found.transaction < meta.transaction);
            let is_harmless = is_mark || is_older || unused.iter().any(|unused| unused.contains(&offset));
            assert!(is_harmless || checked(&damaged).is_err(), "byte {offset}, bit {bit} of the meta page");
        }
    }
}

#[test]
fn truncated_files_are_refused() {
    let file = rich_file();
    let size = page_size(&file);
    for length in (0..file.len()).step_by(size / 2 + 1) {
        let _ = checked(&file[..length]);
    }
    assert!(checked(&file[..size]).is_err() && checked(&[]).is_err());
    assert!(check(&file[..], file.len() as u64 / 2).is_err(), "the map is shorter");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn files_of_random_transactions_are_sound(steps in vec(step(), 1..14)) {
        let directory = tempfile::tempdir().unwrap();
        let mut number = 0;
        run(directory.path(), &steps, &mut |file| {
            checked(&file).unwrap_or_else(|error| panic!("after step {number}: {error}"));
            number += 1;
        });
    }

    #[test]
    fn a_commit_that_was_cut_off_leaves_a_sound_file(
        steps in vec(step(), 2..8), kept in vec(any::<bool>(), 4096),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        run(directory.path(), &steps, &mut |file| files.push(file));
        let size = page_size(&files[0]);
        for pair in files.windows(2) {
            // Any of the pages of a commit are written before its meta page.
            let mut cut = pair[0].clone();
            cut.resize(pair[1].len().max(cut.len()), 0);
            let pages = cut.chunks_mut(size).zip(pair[1].chunks(size)).skip(2);
            for ((old, new), _) in pages.zip(kept.iter().cycle()).filter(|(_, kept)| **kept) {
                old.copy_from_slice(new);
            }
            // Reopening commits more than one transaction.
            let number = |file: &[u8]| Meta::newest(file).unwrap().transaction;
            if number(&pair[1]) <= number(&pair[0]) + 1 {
                checked(&cut).unwrap();
            }
        }
    }

    #[test]
    fn damage_makes_no_panic(
        flips in vec((any::<prop::sample::Index>(), 0..8u8), 1..20),
        words in vec((any::<prop::sample::Index>(), any::<u16>()), 0..20),
    ) {
        thread_local!(static FILE: Vec<u8> = rich_file());
        let mut file = FILE.with(Clone::clone);
        for (at, bit) in &flips {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        for (at, value) in &words {
            let at = at.index(file.len() / 2) * 2;
            file[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        let _ = checked(&file);
    }
}
