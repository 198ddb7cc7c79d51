//! Deletes and collections in an index whose map is full, down to the last page.
//!
//! `HOLDFAST_TEST_BLOCKS=0-64 cargo test last_page` tries each number of free pages from 0 to 64.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::last_block::{collect, delete, numbers};
use crate::support::*;

const PAGE: u64 = 4096;
const KEY: &str = "HOLDFAST_STORAGE_INDEX_MAP_SIZE";

/// Returns the number of pages of the index: both meta pages have the number of the last page at byte 136, followed
/// by the transaction number.
fn pages(data: &Path) -> u64 {
    let file = std::fs::File::open(data.join("index/data.mdb")).unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    };
    let newest = if number(PAGE + 144) > number(144) { PAGE } else { 0 };
    number(newest + 136) + 1
}

fn tag(number: usize) -> String {
    format!("{number}-{}", "x".repeat(100))
}

/// With a map of `map` pages, of which `left` are unused, pushes are refused, and deletes and collections work.
fn case(data: &Path, (map, left): (u64, u64), (images, tags): (&[(String, Vec<u8>)], usize)) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("data");
    run(Command::new("cp").arg("-a").arg(data).arg(&copy));
    let size = (map * PAGE).to_string();
    let daemon = Daemon::at_with_env(&copy, &[(KEY, &size), ("HOLDFAST_GC_INTERVAL", "off")]);
    let (digest, bytes) = &images[images.len() - 1];
    daemon.put_manifest("more", "1", OCI_INDEX, bytes).expect(400);
    let refused = daemon.put_manifest("a", "new", OCI_INDEX, bytes);
    // 64 pages are reserved for deletes, and the file has a few free pages.
    if left < 40 {
        assert!(String::from_utf8_lossy(&refused.expect(507).body).contains("storage.index_map_size"));
    }
    for number in 0..tags / 2 {
        delete(&daemon, "a", &tag(number));
    }
    for (digest, _) in &images[..images.len() - 1] {
        delete(&daemon, "a", digest);
    }
    let gc = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        run(command.env_clear().env(KEY, &size).arg("gc").args(arguments).arg("--data").arg(&copy))
    };
    gc(&["--grace", "0s"]);
    assert_eq!(&daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200).body, bytes);
    for number in tags / 2..tags - 1 {
        delete(&daemon, "a", &tag(number));
    }
    gc(&["--grace", "0s"]);
    daemon.put_manifest("a", "new", OCI_INDEX, bytes).expect(201);
    daemon.push_image("b", "1", b"another layer");
    assert!(!copy.join("index/read-only").exists());
}

/// Returns an image index that references many missing manifests, so that it takes much of the store's index.
fn manifest(number: usize, there: &(String, Vec<u8>)) -> Vec<u8> {
    let child = |digest: String, size: usize| serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    let missing = (0..40).map(|other| child(digest(format!("{number}-{other}").as_bytes()), 1));
    let all: Vec<_> = missing.chain([child(there.0.clone(), there.1.len())]).collect();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": all});
    serde_json::to_vec(&index).unwrap()
}

#[test]
fn deletes_and_collections_work_with_any_number_of_free_pages() {
    let mut wanted = numbers();
    let mut daemon = Daemon::with_env(&[(KEY, "16MiB"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let there = daemon.push_image("a", "there", b"layer");
    let image = |number| manifest(number, &there);
    let images: Vec<_> = (0..150).map(image).map(|bytes| (digest(&bytes), bytes)).collect();
    for (digest, bytes) in &images {
        daemon.put_manifest("a", digest, OCI_INDEX, bytes).expect(201);
    }
    let mut tags = 0;
    for _ in 0..400 {
        for _ in 0..10 {
            daemon.put_manifest("a", &tag(tags), OCI_INDEX, &images[149].1).expect(201);
            tags += 1;
        }
        // After an unclean shutdown the index is copied without its free pages.
        daemon.stop_without_marker();
        daemon.start_again();
        daemon.stop();
        let used = pages(&daemon.data);
        wanted.retain(|left| {
            if !(used + left).is_multiple_of(16) {
                return true;
            }
            println!("{left} of {} pages, {tags} tags", used + left);
            case(&daemon.data, (used + left, *left), (&images, tags));
            false
        });
        if wanted.is_empty() {
            return;
        }
        daemon.start_again();
    }
    panic!("left: {wanted:?}");
}

/// Clients that push into a full index without pause do not block deletes.
#[test]
fn deletes_succeed_beside_refused_pushes() {
    let daemon = Daemon::with_env(&[(KEY, "1MiB"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let (_, manifest) = daemon.push_image("a", "first", b"layer");
    let (ended, refused, next) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(60) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let answer = daemon.put_manifest("a", &tag(number), OCI_MANIFEST, &manifest);
                    if answer.status != 201 {
                        answer.expect(507);
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while refused.load(Ordering::Relaxed) < 20 && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let list = daemon.get("/v2/a/tags/list?n=400").json();
        for tag in list["tags"].as_array().unwrap() {
            delete(&daemon, "a", tag.as_str().unwrap());
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(refused.load(Ordering::Relaxed) >= 20);
    collect(&daemon.data);
}
