//! Tests of the writer thread.

use std::time::Duration;

use super::*;
use crate::store::clock::{ClockRow, StoreTime};
use crate::store::disk::Disk;
use crate::store::index::changes::CLOCK_SAVE_INTERVAL;
use crate::store::index::changes::marks::HoldCollection;
use crate::store::index::changes::sweep::RemoveUploadRows;
use crate::store::index::lmdb::Index;
use crate::store::index::tables::{ReadTables, Table, meta};

/// Starts the writer of an index of 1 MiB.
fn start(directory: &std::path::Path) -> (Arc<Index>, Writer, JoinHandle<()>) {
    let disk = Arc::new(Disk::open(directory, |_| ()).unwrap());
    let index = Arc::new(Index::open(&disk, 1 << 20).unwrap());
    let (writer, thread) = Writer::start(Arc::clone(&index), disk, Arc::default(), || ()).unwrap();
    (index, writer, thread)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clock_is_saved_with_every_name() {
    let directory = tempfile::tempdir().unwrap();
    let (index, writer, thread) = start(directory.path());
    let later = StoreTime::from_seconds(CLOCK_SAVE_INTERVAL.as_secs() / 2);
    index.clock.advance_to(later);
    let saved = || {
        let row: Option<ClockRow> = index.read().unwrap().row(Table::Meta, meta::CLOCK).unwrap();
        row.unwrap().time()
    };
    writer.submit(RemoveUploadRows(Vec::new())).await.unwrap();
    assert!(saved() < later, "the clock is saved without need");
    let before = index.clock.now();
    writer.submit(HoldCollection(true)).await.unwrap();
    // After a power cut the clock continues from the saved time, so that names that are set then are newer.
    assert!(before <= saved());
    drop(writer);
    thread.join().unwrap();
}

/// The rows that fill a page of LMDB, and the pages that are filled: most of the map.
const ROWS_PER_PAGE: u32 = 45;
const PAGES: u32 = 1050;

/// A full index, in which a checkpoint of deletes needs more pages than are free, and a reader that holds a snapshot for a
/// while.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn delete_waits_for_reader_that_holds_freed_pages() {
    let directory = tempfile::tempdir().unwrap();
    let (index, writer, thread) = start(directory.path());
    let rows: Vec<_> = (0..ROWS_PER_PAGE * PAGES).map(|key| (key.to_be_bytes(), [7; 72])).collect();
    index.set_rows(Table::Uploads, rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))));
    let looking = Duration::from_millis(500);
    let (begins, reads) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let _looks = index.read().unwrap();
        begins.send(()).unwrap();
        std::thread::sleep(looking);
    });
    reads.recv().unwrap();
    let began = std::time::Instant::now();
    // Each from another page.
    for page in 0..PAGES {
        writer.submit(RemoveUploadRows(vec![(page * ROWS_PER_PAGE).to_be_bytes().to_vec()])).await.unwrap();
    }
    assert!(began.elapsed() >= looking, "the reader held no pages");
    reader.join().unwrap();
    drop(writer);
    thread.join().unwrap();
}
