//! Full disks, on small file systems that root mounts, and the quota.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::*;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(directory.path()));
        SmallDisk(directory)
    }

    /// Mounts an ext4 file system, as cards have, from an image file.
    fn ext4(image: &Path, size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::File::create(image).unwrap().set_len(size).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image));
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(directory.path()));
        SmallDisk(directory)
    }

    fn free(&self) -> u64 {
        let statistics = nix::sys::statvfs::statvfs(self.0.path()).unwrap();
        statistics.blocks_available() * statistics.fragment_size()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.0.path()).status();
    }
}

fn delete(daemon: &Daemon, path: &str) {
    daemon.request("DELETE", path).send().expect(202);
}

#[test]
fn a_push_without_space_is_refused_and_other_requests_succeed() {
    let disk = SmallDisk::mount();
    let mut daemon = Daemon::at(&disk.0.path().join("data"));
    let (manifest, bytes) = daemon.push_image("a", "1", b"layer");
    let large = vec![1u8; 20 << 20];
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(&large));
    let refused = daemon.request("POST", &path).body(&large).send().expect(507);
    assert_eq!(refused.error_code(), "DENIED");
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    // Without a reserve a chunked body fills the disk to its end. The upload then has exactly the bytes that were
    // counted.
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_STORAGE_RESERVE", "0")]);
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).chunked(&large).send().expect(507);
    let range = daemon.get(&location).expect(204).required_header("range");
    let length = range.trim_start_matches("0-").parse::<usize>().unwrap() + 1;
    let part = digest(&large[..length]);
    daemon.request("PUT", &format!("{location}?digest={part}")).body(b"").send().expect(201);
    let file = daemon.data.join("blobs/sha256").join(part.trim_start_matches("sha256:"));
    assert_eq!(std::fs::metadata(file).unwrap().len(), length as u64);
    daemon.request("DELETE", &format!("/v2/a/blobs/{part}")).send().expect(202);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    daemon.push_image("b", "1", b"a layer that fits");
    daemon.request("DELETE", &format!("/v2/a/manifests/{manifest}")).send().expect(202);
}

#[test]
fn a_full_card_keeps_its_reserve_and_accepts_pushes_after_a_collection() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::ext4(&directory.path().join("card"), 64 << 20);
    let total = disk.free();
    let mut daemon = Daemon::at(&disk.0.path().join("data"));
    let layer = |number: u8| {
        (0..3 << 20).map(|at: u32| (at.wrapping_mul(31) >> 7) as u8 ^ number).collect::<Vec<u8>>()
    };
    let push = |daemon: &Daemon, number: u8| {
        let (tag, layer) = (format!("t{number}"), layer(number));
        let manifest = image(&digest(b"{}"), &digest(&layer), None);
        for content in [&layer[..], b"{}"] {
            let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
            let answer = daemon.request("POST", &path).body(content).send();
            if answer.status != 201 {
                assert_eq!((answer.status, answer.error_code().as_str()), (507, "DENIED"));
                return None;
            }
        }
        daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest).expect(201);
        Some((digest(&manifest), manifest))
    };
    let mut images = Vec::new();
    while let Some(image) = push(&daemon, images.len() as u8) {
        images.push(image);
        assert!(images.len() < 30, "the card never fills up");
    }
    assert!(images.len() > 8 && disk.free() >= total / 20, "{} images, {} free", images.len(), disk.free());
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    // Pulls and deletes succeed, also after a restart.
    daemon.stop_and_restart();
    for (digest, bytes) in &images {
        assert_eq!(&daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200).body, bytes);
    }
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(&layer(0)))).expect(200).body, layer(0));
    let half = images.len() / 2;
    for (digest, _) in &images[..half] {
        daemon.request("DELETE", &format!("/v2/a/manifests/{digest}")).send().expect(202);
    }
    assert_eq!(push(&daemon, 100), None);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    for number in 100..100 + half as u8 {
        assert!(push(&daemon, number).is_some(), "the freed space is not used again");
    }
    for (digest, bytes) in &images[half..] {
        assert_eq!(&daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200).body, bytes);
    }
}

/// Fills the disk to the last byte, as another program would.
fn fill_up(disk: &SmallDisk) {
    let mut file = std::fs::File::create(disk.0.path().join("others")).unwrap();
    for size in [64 << 10, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    assert_eq!(disk.free(), 0);
}

/// Another program does not respect the reserve.
#[test]
fn a_disk_filled_to_the_last_byte_still_serves_and_collects() {
    let disk = SmallDisk::mount();
    let mut daemon = Daemon::at_with_env(&disk.0.path().join("data"), &[("HOLDFAST_GC_GRACE", "2s")]);
    let (old, _) = daemon.push_image("a", "1", b"old layer");
    let (new, bytes) = daemon.push_image("a", "1", &vec![7; 1 << 20]);
    delete(&daemon, &format!("/v2/a/manifests/{old}"));
    // After an unclean shutdown the index is inspected and copied, so that it has no free pages but the preallocated
    // ones.
    daemon.stop_without_marker();
    daemon.start_again();
    std::thread::sleep(Duration::from_secs(2));
    fill_up(&disk);
    let layer = |content: &[u8]| format!("/v2/a/blobs/{}", digest(content));
    assert_eq!(daemon.get(&layer(b"old layer")).expect(200).body, b"old layer");
    daemon.stop_without_marker();
    daemon.start_again();
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{new}")).expect(200).body, bytes);
    daemon.get(&layer(&vec![7; 1 << 20])).expect(200);
    // Each reading thread takes a slot in LMDB's lock file, which must not need new blocks.
    std::thread::scope(|scope| {
        for _ in 0..150 {
            scope.spawn(|| daemon.get("/v2/_catalog").expect(200));
        }
    });
    daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(507);
    delete(&daemon, "/v2/a/manifests/1");
    delete(&daemon, &format!("/v2/a/manifests/{new}"));
    let collect = |daemon: &Daemon| {
        run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    };
    collect(&daemon);
    assert!(disk.free() >= 1 << 20, "{} are free", disk.free());
    // `holdfast gc` frees space without a daemon as well.
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_STORAGE_RESERVE", "0")]);
    let (image, _) = daemon.push_image("a", "2", &vec![8; 256 << 10]);
    delete(&daemon, &format!("/v2/a/manifests/{image}"));
    daemon.stop();
    fill_up(&disk);
    collect(&daemon);
    assert!(disk.free() >= 256 << 10, "{} are free", disk.free());
}

/// However few pages are free, a healthy index is not reported as corrupt, and no name is lost.
#[test]
fn a_disk_that_fills_up_during_an_inspection_leaves_a_healthy_index_in_use() {
    for pages in 0..=24 {
        let disk = SmallDisk::mount();
        let mut daemon = Daemon::at(&disk.0.path().join("data"));
        daemon.push_image("a", "old", b"old layer");
        daemon.stop_and_restart();
        daemon.push_image("a", "new", b"new layer");
        daemon.kill();
        fill_up(&disk);
        let others = disk.0.path().join("others");
        let file = std::fs::OpenOptions::new().write(true).open(&others).unwrap();
        file.set_len(file.metadata().unwrap().len() / 4096 * 4096 - pages * 4096).unwrap();
        // The command recovers the index as the daemon does, and may fail because the disk is full.
        let mut collect = Command::new(BINARY);
        collect.env_clear().args(["gc", "--data"]).arg(&daemon.data);
        let collected = collect.output().unwrap();
        assert!(collected.status.code().is_some(), "{pages}: killed by a signal: {collected:?}");
        assert_eq!(daemon.broken_index_count(), 0, "{pages}: {collected:?}");
        std::fs::remove_file(&others).unwrap();
        daemon.start_again();
        for tag in ["old", "new"] {
            let answer = daemon.get(&format!("/v2/a/manifests/{tag}"));
            assert_eq!(answer.status, 200, "{tag} with {pages} pages: {collected:?}");
        }
    }
}

#[test]
fn the_quota_refuses_pushes_until_content_is_deleted_and_collected() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", "2MiB")]);
    let (image, _) = daemon.push_image("a", "1", &vec![1; 1 << 20]);
    let large = vec![2; 1 << 20];
    let push = || {
        let path = format!("/v2/a/blobs/uploads/?digest={}", digest(&large));
        daemon.request("POST", &path).body(&large).send()
    };
    let refused = push().expect(507);
    let message = refused.json()["errors"][0]["message"].to_string();
    assert!(message.contains("storage.quota"), "{message}");
    // Unfinished uploads count until they are cancelled.
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).body(&large[..900 << 10]).send().expect(202);
    daemon.request("PATCH", &location).body(&large[..400 << 10]).send().expect(507);
    daemon.request("DELETE", &location).send().expect(204);
    daemon.request("DELETE", &format!("/v2/a/manifests/{image}")).send().expect(202);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    push().expect(201);
}
