//! After names may be lost, nothing is collected until the operator starts a collection (the collection hold).

use std::process::Command;
use std::time::{Duration, Instant};

use crate::durability::lost_names::{await_layout, command, has_blob, tags_in_layout};
use crate::support::*;

#[test]
fn unnamed_blobs_are_kept_until_the_operator_collects() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    std::fs::remove_file(daemon.data.join("index.json")).unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
    let blobs = || std::fs::read_dir(daemon.data.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 3);
    command(&daemon, &["gc", "--grace", "0s"]);
    assert_eq!(blobs(), 0);
}

/// Restarts a registry without its index, such that an automatic collection would start at once.
fn start_without_index(daemon: &mut Daemon) {
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn content_missing_in_a_stale_index_json_is_kept_until_the_operator_collects() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"first");
    await_layout(&daemon.data, "a:1", &first);
    daemon.push_image("a", "2", b"second");
    daemon.kill();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    start_without_index(&mut daemon);
    daemon.get("/v2/a/manifests/1").expect(200);
    assert!(has_blob(&daemon, b"second"));
    // The collection hold survives further rebuilds.
    daemon.stop();
    command(&daemon, &["check", "--rebuild"]);
    daemon.start_again();
    std::thread::sleep(Duration::from_secs(1));
    assert!(has_blob(&daemon, b"second"));
    daemon.stop();
    start_without_index(&mut daemon);
    assert!(has_blob(&daemon, b"second"));
    command(&daemon, &["gc", "--grace", "0s"]);
    assert!(has_blob(&daemon, b"first") && !has_blob(&daemon, b"second"));
    // Without a grace period a collection may take a blob before its manifest is pushed.
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let (third, _) = daemon.push_image("a", "3", b"third");
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    delete_and_rebuild(&mut daemon, &third);
    assert!(!has_blob(&daemon, b"third"), "the hold is still set");
}

/// Deletes an image, shuts down, and rebuilds the index.
fn delete_and_rebuild(daemon: &mut Daemon, image: &str) {
    daemon.request("DELETE", &format!("/v2/a/manifests/{image}")).send().expect(202);
    daemon.stop();
    command(daemon, &["check", "--rebuild"]);
    daemon.start_again();
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn name_with_an_unreadable_manifest_is_kept_in_a_copy() {
    let mut daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("a", "1", b"first");
    daemon.push_image("a", "2", b"second");
    daemon.stop();
    let file = daemon.data.join("blobs/sha256").join(digest(&manifest).trim_start_matches("sha256:"));
    std::fs::remove_file(file).unwrap();
    start_without_index(&mut daemon);
    daemon.get("/v2/a/manifests/1").expect(404);
    daemon.get("/v2/a/manifests/2").expect(200);
    assert!(has_blob(&daemon, b"first"));
    let kept = std::fs::read_dir(&daemon.data).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?.to_str()?.starts_with("index.json.kept-").then_some(path)
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read_to_string(&kept[0]).unwrap().contains("a:1"));
    let began = Instant::now();
    while tags_in_layout(&daemon.data).len() != 1 {
        assert!(began.elapsed() < Duration::from_secs(20), "index.json is not rewritten");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Overwrites bytes in the middle of `index.json`; the head at its end stays.
fn damage_the_middle(daemon: &Daemon) {
    let path = daemon.data.join("index.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle - 20..middle + 20].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rebuild_with_a_damaged_index_json_uses_a_healthy_index() {
    let mut daemon = Daemon::start();
    let images: Vec<_> = (0..5)
        .map(|number| daemon.push_image("a", &format!("t{number}"), format!("{number}").as_bytes()))
        .collect();
    daemon.stop();
    damage_the_middle(&daemon);
    command(&daemon, &["check", "--rebuild"]);
    daemon.start_again();
    for (number, (_, manifest)) in images.iter().enumerate() {
        assert_eq!(&daemon.get(&format!("/v2/a/manifests/t{number}")).expect(200).body, manifest);
    }
}

#[test]
fn nothing_is_collected_after_names_of_index_json_are_lost() {
    let mut daemon = Daemon::start();
    for number in 0..5 {
        daemon.push_image("a", &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    daemon.stop();
    damage_the_middle(&daemon);
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
    assert!((0..5).all(|number| has_blob(&daemon, format!("layer {number}").as_bytes())));
}

#[test]
fn manual_collection_that_finds_names_lost_removes_nothing() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    std::fs::write(daemon.data.join("index.json"), b"garbage").unwrap();
    let gc = || {
        Command::new(BINARY)
            .env_clear()
            .args(["gc", "--grace", "0s", "--data"])
            .arg(&daemon.data)
            .output()
            .unwrap()
    };
    let refused = gc();
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && line.contains("run `holdfast gc` again"), "{line}");
    assert!(has_blob(&daemon, b"layer"));
    assert!(gc().status.success());
    assert!(!has_blob(&daemon, b"layer"));
    daemon.start_again();
}
