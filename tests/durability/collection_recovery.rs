//! Interrupted and concurrent collections.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::api::collection::{collect, has_file};
use crate::support::*;

#[test]
fn an_interrupted_collection_is_recovered_at_the_next_start() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    let layer = digest(b"layer");
    let gone = digest(b"gone");
    daemon.stop();
    let name = |digest: &str| digest.replacen(':', "-", 1);
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    // Files of three power cuts: moved but not committed, committed but not removed, forgotten but not moved.
    let trash = daemon.data.join("trash");
    for digest in [&layer, &image] {
        std::fs::rename(daemon.data.join("blobs/sha256").join(hex(digest)), trash.join(name(digest)))
            .unwrap();
    }
    std::fs::write(trash.join(name(&gone)), b"gone").unwrap();
    std::fs::write(daemon.data.join("blobs/sha256").join(hex(&digest(b"unknown"))), b"unknown").unwrap();
    daemon.start_again();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"layer");
    assert_eq!(std::fs::read_dir(&trash).unwrap().count(), 0);
    let report = collect(&daemon, &[]);
    assert_eq!((&report["found"], &report["kept_needed"]["count"]), (&1.into(), &3.into()), "{report}");
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(report["freed_blobs"]["count"], 1, "{report}");
    assert!(!has_file(&daemon, &digest(b"unknown")));
}

/// Starts a collection that pauses after it has moved a file to the trash and before it commits.
fn collect_slowly(daemon: &Daemon) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=rename", "-e", "inject=rename:delay_exit=4000000", BINARY, "gc"]);
    command.args(["--grace", "0s", "--data"]).arg(&daemon.data).env_clear();
    let output = Stdio::null;
    let child =
        command.stdout(output()).stderr(output()).spawn().expect("the package strace has to be installed");
    let began = Instant::now();
    while std::fs::read_dir(daemon.data.join("trash")).unwrap().count() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the collection moves no file");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_blob_is_served_until_the_collection_commits() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let content = b"about to go";
    let blob = daemon.push_blob("a", content);
    let mut gc = collect_slowly(&daemon);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, content);
    assert!(gc.try_wait().unwrap().is_none(), "the collection has ended too early for this test");
    // The check waits for the transaction of the collection before it reads.
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    assert!(gc.wait().unwrap().success());
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
}

#[test]
fn a_collection_waits_for_another_one() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    daemon.push_blob("a", b"about to go");
    // Creates the file of the lock.
    collect(&daemon, &[]);
    let mut other = Command::new("flock");
    other.arg(daemon.data.join("index/collection.lock")).args(["sh", "-c", "echo locked; cat"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    other.stdout.take().unwrap().read_exact(&mut line).unwrap();
    let mut gc = Command::new(BINARY);
    gc.env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data).stdout(Stdio::piped());
    let mut gc = gc.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(gc.try_wait().unwrap().is_none(), "the collection has not waited");
    drop(other.stdin.take());
    let output = gc.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 blob (11 B)"), "{output:?}");
    other.wait().unwrap();
}
