//! Bundles as those of k3s and RKE2: a Docker archive of hundreds of images, compressed with zstd.

use std::process::Child;
use std::time::{Duration, Instant};

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use super::*;
use crate::support::small_disk::SmallDisk;

const IMAGES: usize = 600;
/// The time within which a bundle is imported on a busy machine, by an unoptimised build.
const TIME: Duration = Duration::from_secs(300);
/// The memory of the command and of the daemon, in KiB: the decoder alone holds a window of 8 MiB.
const MEMORY: u64 = 64 << 10;

/// Returns a Docker archive of images with two common layers, which are links as in `docker save`, and one of their own.
fn docker_archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: Result<&[u8], &str>| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content {
            Ok(bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, bytes).unwrap();
            }
            Err(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    };
    let layer = |seed: usize, length: usize| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(length as u64);
        builder.append_data(&mut header, "file", &noise(seed as u64, length)[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let common = [layer(10_001, 400_000), layer(10_002, 100_000)];
    let mut list: Vec<Value> = Vec::new();
    for number in 0..IMAGES {
        let own = layer(number, 3_000);
        let mut paths = Vec::new();
        for (at, content) in common.iter().chain([&own]).enumerate() {
            let path = format!("{:064x}/layer.tar", number * 10 + at);
            if number > 0 && at < common.len() {
                add(&path, Err(&format!("../{at:064x}/layer.tar")));
            } else {
                add(&path, Ok(content));
            }
            paths.push(path);
        }
        let ids: Vec<String> = common.iter().chain([&own]).map(|layer| digest(layer)).collect();
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string();
        let path = format!("{}.json", &digest(config.as_bytes())[7..]);
        add(&path, Ok(config.as_bytes()));
        list.push(json!({"Config": path, "Layers": paths, "RepoTags": [format!("docker.io/rancher/image{number}:v1.{number}")]}));
    }
    add("manifest.json", Ok(Value::from(list).to_string().as_bytes()));
    builder.into_inner().unwrap()
}

/// Returns the peak memory of a process in KiB; `None` if it has ended.
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Waits for the end of a command; returns its peak memory.
fn measured(child: &mut Child) -> u64 {
    let (began, mut most) = (Instant::now(), 0);
    while child.try_wait().unwrap().is_none() {
        most = most.max(peak(child.id()).unwrap_or(0));
        assert!(began.elapsed() < TIME, "the import takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
    most
}

#[test]
fn bundle_of_600_images_is_imported_in_bounded_time_and_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("k3s-airgap-images-amd64.tar.zst");
    std::fs::write(&file, compress_to_vec(&docker_archive()[..], CompressionLevel::Fastest)).unwrap();
    // In memory: thousands of syncs are for other tests.
    let disk = SmallDisk::mount(256);
    let daemon = Daemon::at(&disk.path().join("data"));
    for round in ["first", "second"] {
        let mut command = import(&daemon, &file);
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut child = command.stdout(output.reopen().unwrap()).spawn().unwrap();
        let command = measured(&mut child);
        let told = std::fs::read_to_string(output.path()).unwrap();
        assert!(child.wait().unwrap().success(), "{told}");
        let served = peak(daemon.pid()).unwrap();
        assert!(
            command < MEMORY && served < MEMORY,
            "{round}: {command} KiB in the command, {served} KiB in the daemon"
        );
        let outcome = if round == "first" { "taken" } else { "present" };
        let rows = told.lines().filter(|line| line.split_whitespace().nth(1) == Some(outcome));
        assert_eq!(rows.count(), IMAGES, "{told}");
    }
    // The two common layers, and one layer, one config and one manifest for each image.
    assert_eq!(contents::blob_files(&daemon).len(), 2 + 3 * IMAGES);
    for number in 0..IMAGES {
        let path = format!("/v2/rancher/image{number}/manifests/v1.{number}");
        let manifest = daemon.get(&path).expect(200).json();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
    }
}
