//! Deletes and collections on a full file system, down to the last free block. Mounting needs root.
//!
//! `HOLDFAST_TEST_BLOCKS=0-64 cargo test last_block` tries each number of free blocks from 0 to 64.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::support::*;

/// A file system in an image file, or in memory.
struct Card {
    mount: tempfile::TempDir,
    _image: tempfile::TempDir,
}

impl Card {
    fn ext4() -> Self {
        Self::format(64 << 20, Command::new("mkfs.ext4").args(["-q", "-m", "0"]))
    }

    /// A file system without `fallocate`.
    fn ext2(block: u32) -> Self {
        let mut command = Command::new("mkfs.ext2");
        Self::format(64 << 20, command.args(["-q", "-m", "0", "-b", &block.to_string()]))
    }

    fn xfs() -> Self {
        Self::format(300 << 20, Command::new("mkfs.xfs").arg("-q"))
    }

    fn format(size: u64, format: &mut Command) -> Self {
        let (directory, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let image = directory.path().join("card");
        std::fs::File::create(&image).unwrap().set_len(size).unwrap();
        run(format.arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount.path()));
        Card { mount, _image: directory }
    }

    fn memory() -> Self {
        let (directory, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(mount.path()));
        Card { mount, _image: directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    fn free(&self) -> u64 {
        let statistics = nix::sys::statvfs::statvfs(self.mount.path()).unwrap();
        statistics.blocks_available() * statistics.fragment_size()
    }

    /// Fills the file system with another file, except for `blocks` blocks.
    fn fill(&self, blocks: u64) {
        // Freed blocks are available only after a sync.
        nix::unistd::sync();
        let others = self.path("others");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&others).unwrap();
        for step in [16 << 20, 1 << 20, 64 << 10, 4096] {
            let end = |file: &std::fs::File| file.metadata().unwrap().len() as i64;
            while fallocate(&file, FallocateFlags::empty(), end(&file), step).is_ok() {}
        }
        for size in [4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        let length = file.metadata().unwrap().len() / 4096;
        file.set_len((length - blocks) * 4096).unwrap();
        file.sync_all().unwrap();
    }

    /// Waits until so many bytes are free: XFS frees in the background.
    fn wait_for(&self, bytes: u64) {
        let began = Instant::now();
        while self.free() < bytes {
            assert!(began.elapsed() < Duration::from_secs(20), "{} are free, not {bytes}", self.free());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn free_all(&self) {
        std::fs::remove_file(self.path("others")).unwrap();
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.mount.path()).status();
    }
}

/// Returns the numbers of free blocks or pages to try; few by default.
pub fn numbers() -> Vec<u64> {
    let Ok(text) = std::env::var("HOLDFAST_TEST_BLOCKS") else { return vec![0, 1, 5, 17, 64] };
    let (first, last) = text.split_once('-').expect("FIRST-LAST");
    RangeInclusive::new(first.parse().unwrap(), last.parse().unwrap()).collect()
}

fn layer(number: usize) -> Vec<u8> {
    (0..256 << 10).map(|at: usize| (at.wrapping_mul(31) >> 7) as u8 ^ number as u8).collect()
}

pub fn delete(daemon: &Daemon, repository: &str, reference: &str) {
    let began = Instant::now();
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = daemon.request("DELETE", &path).send();
    assert_eq!(answer.status, 202, "{reference}: {}", String::from_utf8_lossy(&answer.body));
    assert!(began.elapsed() < Duration::from_secs(2), "{reference}: {:?}", began.elapsed());
}

pub fn collect(data: &Path) {
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(data));
}

fn blob_file(daemon: &Daemon, digest: &str) -> PathBuf {
    daemon.data.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

fn wait_until_gone(daemon: &Daemon, digests: &[&str]) {
    let began = Instant::now();
    while digests.iter().any(|digest| blob_file(daemon, digest).exists()) {
        assert!(began.elapsed() < Duration::from_secs(30), "the daemon does not collect");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const IMAGES: usize = 12;

/// With `blocks` free blocks, deletes and collections work and free space, pulls keep working, and then a push works
/// again.
fn case(card: &Card, blocks: u64, used: bool) {
    let off = [("HOLDFAST_GC_INTERVAL", "off"), ("HOLDFAST_STORAGE_RESERVE", "0")];
    let soon =
        [("HOLDFAST_GC_INTERVAL", "300ms"), ("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_STORAGE_RESERVE", "0")];
    let mut daemon = Daemon::at_with_env(&card.path(&format!("data-{blocks}-{used}")), &off);
    if used {
        for number in 100..130 {
            let (image, _) = daemon.push_image("old", &number.to_string(), &layer(number));
            if number % 2 == 0 {
                delete(&daemon, "old", &image);
            }
        }
        collect(&daemon.data);
        daemon.stop_and_restart();
    }
    let push = |number: usize| daemon.push_image("a", &format!("t{number}"), &layer(number));
    let images: Vec<_> = (0..IMAGES).map(push).collect();
    let pulls = |daemon: &Daemon| {
        let (digest, bytes) = &images[IMAGES - 1];
        assert_eq!(&daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200).body, bytes);
        let blob = crate::support::digest(&layer(IMAGES - 1));
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, layer(IMAGES - 1));
    };
    let digests = |range: std::ops::Range<usize>| images[range].iter().map(|(digest, _)| digest.as_str());
    card.fill(blocks);
    let free = card.free();
    delete(&daemon, "a", "t0");
    digests(0..4).for_each(|digest| delete(&daemon, "a", digest));
    pulls(&daemon);
    collect(&daemon.data);
    pulls(&daemon);
    for digest in digests(0..4) {
        assert!(!blob_file(&daemon, digest).exists());
    }
    card.wait_for(free + 3 * (256 << 10));
    // The same with a daemon that is started on a full disk.
    card.fill(blocks);
    daemon.stop();
    daemon.start_again_with_env(&soon);
    digests(4..8).for_each(|digest| delete(&daemon, "a", digest));
    // Deleting its only tag makes a manifest an orphan.
    delete(&daemon, "a", "t10");
    wait_until_gone(&daemon, &digests(4..8).chain(digests(10..11)).collect::<Vec<_>>());
    pulls(&daemon);
    // The same with the command line alone.
    daemon.stop();
    daemon.start_again_with_env(&off);
    card.fill(blocks);
    digests(8..10).for_each(|digest| delete(&daemon, "a", digest));
    daemon.stop();
    collect(&daemon.data);
    for digest in digests(8..10) {
        assert!(!blob_file(&daemon, digest).exists());
    }
    daemon.start_again_with_env(&off);
    pulls(&daemon);
    assert!(!daemon.data.join("index/read-only").exists());
    assert_eq!(daemon.broken_index_count(), 0);
    // The freed space suffices for a push.
    card.wait_for(256 << 10);
    daemon.push_image("b", "1", b"a small layer");
    card.free_all();
    daemon.push_image("b", "2", &layer(200));
    daemon.stop();
    std::fs::remove_dir_all(&daemon.data).unwrap();
}

fn cases(card: &Card) {
    for blocks in numbers() {
        for used in [false, true] {
            println!("{blocks} blocks, {}", if used { "a used index" } else { "a new index" });
            case(card, blocks, used);
        }
    }
}

#[test]
fn deletes_and_collections_free_a_full_ext4() {
    cases(&Card::ext4());
}

#[test]
fn deletes_and_collections_free_a_full_ext2() {
    cases(&Card::ext2(4096));
}

#[test]
fn deletes_and_collections_free_a_full_ext2_of_small_blocks() {
    cases(&Card::ext2(1024));
}

#[test]
fn deletes_and_collections_free_a_full_xfs() {
    cases(&Card::xfs());
}

#[test]
fn deletes_and_collections_free_a_full_tmpfs() {
    cases(&Card::memory());
}
