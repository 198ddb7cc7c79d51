//! Imports of the same content into several repositories of another registry.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::relay::Relay;
use super::stub::{Memory, Stub};
use super::*;

const SIZE: usize = 4 << 20;

fn import(address: &str, medium: &str) -> Output {
    holdfast(&["import", "--to", address, "--plain-http", medium], None)
}

#[test]
fn blob_of_two_repositories_is_sent_once_and_mounted() {
    let image = Image::of_layers(&[&noise(1, SIZE)]);
    let directory = tempfile::tempdir().unwrap();
    layout(directory.path(), &[("a:1", &image), ("b/c:1", &image), ("d:1", &image)]);
    let (registry, daemon) = (Registry2::start(), Daemon::start());
    for address in [registry.address, daemon.address] {
        let relay = Relay::start(address, u64::MAX);
        done(&import(&relay.address.to_string(), &path(&directory, "")));
        assert!(relay.sent() < 2 * SIZE as u64, "{}", relay.sent());
        for repository in ["a", "b/c", "d"] {
            let request = |path: &str| Request::new(address, "GET", path);
            assert_has(request, repository, "1", &image);
        }
    }
}

#[test]
fn blob_that_is_not_mounted_is_sent_to_each_repository() {
    for mounts in [true, false] {
        let image = Image::of_layers(&[&noise(1, 300_000)]);
        let directory = tempfile::tempdir().unwrap();
        layout(directory.path(), &[("a:1", &image), ("b:1", &image)]);
        let memory = Arc::new(Mutex::new(Memory::new(mounts)));
        let answering = Arc::clone(&memory);
        let stub = Stub::start("127.0.0.1", move |request| answering.lock().unwrap().answer(request));
        done(&import(&stub.address.to_string(), &path(&directory, "")));
        for repository in ["a", "b"] {
            assert_has(|path| Request::new(stub.address, "GET", path), repository, "1", &image);
        }
        let seen = stub.seen();
        let count = |method: &str, words: &str| {
            seen.iter().filter(|request| request.method == method && request.path.contains(words)).count()
        };
        // Layer and config.
        assert_eq!(count("PATCH", "/v2/a/"), 2, "{seen:?}");
        assert_eq!(count("POST", "from=a"), 2, "{seen:?}");
        assert_eq!(count("PATCH", "/v2/b/"), if mounts { 0 } else { 2 }, "{seen:?}");
    }
}

/// Two names for one index, of which the medium has one image and the content list the other too.
#[test]
fn manifest_of_one_repository_is_not_taken_for_that_of_another() {
    let (here, there) = (Image::of(b"here"), Image::of(b"there"));
    let multi = Image::index(&[&here, &there]);
    let directory = tempfile::tempdir().unwrap();
    let list = |image: &Image| json!({"digest": image.digest, "size": image.manifest.len()});
    let list = json!({"format": 1, "whole": false, "roots": [], "blobs": [list(&multi), list(&here)],
        "left_out": [list(&there)]});
    let index = ["a:1", "b:1"].map(|name| multi.descriptor(&[("io.containerd.image.name", name)]));
    let mut medium = Media::default();
    medium.layout("", &[&multi], &index).add("holdfast/export.json", list.to_string().as_bytes());
    for digest in [&there.digest, &digest(b"there")] {
        medium.remove(&format!("blobs/{}", digest.replace(':', "/")));
    }
    medium.write_to(directory.path());
    // Without its manifest as a blob, which would be mounted.
    let mut blobs = there.clone();
    blobs.content.remove(&there.digest);
    for (complete, other) in [("a", "b"), ("b", "a")] {
        let registry = Registry2::start();
        registry.push(complete, &there.digest, &blobs);
        let output = import(&registry.address.to_string(), &path(&directory, ""));
        fails(&output, 1, &there.digest);
        let text = text(&output);
        let has = |repository: &str, outcome: &str| {
            let is_row = |line: &str| line.starts_with(&format!("{repository}:1 ")) && line.contains(outcome);
            assert!(text.lines().any(is_row), "{repository} is not {outcome}: {text}");
        };
        has(complete, "taken");
        has(other, "missing");
        assert_has(|path| registry.request("GET", path), complete, "1", &multi);
        registry.request("GET", &format!("/v2/{other}/manifests/1")).send().expect(404);
    }
}
