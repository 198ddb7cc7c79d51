//! Tests of the writer thread.

use std::time::Duration;

use super::*;
use crate::store::clock::{ClockRow, StoreTime};
use crate::store::index::batch::CLOCK_SAVE_INTERVAL;
use crate::store::index::schema;

/// Starts the writer of an index of 1 MiB.
fn start(directory: &std::path::Path) -> (Arc<Index>, Writer, JoinHandle<()>) {
    let disk = Arc::new(Disk::open(directory, |_| ()).unwrap());
    let index = Arc::new(Index::open(&disk, 1 << 20).unwrap());
    let (writer, thread) = Writer::start(Arc::clone(&index), disk, || ()).unwrap();
    (index, writer, thread)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clock_is_saved_with_every_name() {
    let directory = tempfile::tempdir().unwrap();
    let (index, writer, thread) = start(directory.path());
    let later = StoreTime::from_seconds(CLOCK_SAVE_INTERVAL.as_secs() / 2);
    index.clock.advance_to(later);
    let saved = || {
        let txn = index.env.read_txn().unwrap();
        schema::row::<ClockRow>(index.tables.meta, &txn, schema::CLOCK).unwrap().unwrap().time()
    };
    writer.submit(|_| Ok(())).await.unwrap();
    assert!(saved() < later, "the clock is saved without need");
    let given = writer.submit(|batch| {
        batch.names_changed();
        Ok(batch.store_time)
    });
    // After a power cut the clock continues from the saved time, so that names that are set then are newer.
    assert!(given.await.unwrap() <= saved());
    drop(writer);
    thread.join().unwrap();
}

const KEYS: std::ops::Range<u32> = 0..200;

/// A full index, in which 30 deletes need more pages than are free, and a reader that holds a snapshot for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn delete_waits_for_reader_that_holds_freed_pages() {
    let directory = tempfile::tempdir().unwrap();
    let (index, writer, thread) = start(directory.path());
    let row = |batch: &mut Batch, key: u32| {
        let table = batch.index.tables.meta;
        Ok(table.put(&mut batch.txn, &key.to_be_bytes(), &[7; 3900])?)
    };
    for key in KEYS {
        writer.submit(move |batch| row(batch, key)).await.unwrap();
    }
    let looking = Duration::from_millis(500);
    let (begins, reads) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let _looks = index.env.read_txn().unwrap();
        begins.send(()).unwrap();
        std::thread::sleep(looking);
    });
    reads.recv().unwrap();
    let began = std::time::Instant::now();
    for key in KEYS {
        let delete = move |batch: &mut Batch| {
            let table = batch.index.tables.meta;
            Ok(table.delete(&mut batch.txn, &key.to_be_bytes())?)
        };
        assert!(writer.submit(delete).await.unwrap());
    }
    assert!(began.elapsed() >= looking, "the reader held no pages");
    reader.join().unwrap();
    drop(writer);
    thread.join().unwrap();
}
