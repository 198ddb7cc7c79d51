//! Interrupted and concurrent collections.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::api::collection::{collect, has_file};
use crate::support::fault_injection::FaultInjection;
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
    // Files of three power cuts, two of them under an earlier release: moved but not committed, committed but not
    // removed; and forgotten but not removed.
    let trash = daemon.data.join("trash");
    std::fs::create_dir_all(&trash).unwrap();
    for digest in [&layer, &image] {
        std::fs::rename(daemon.data.join("blobs/sha256").join(hex(digest)), trash.join(name(digest)))
            .unwrap();
    }
    std::fs::write(trash.join(name(&gone)), b"gone").unwrap();
    std::fs::write(daemon.data.join("blobs/sha256").join(hex(&digest(b"unknown"))), b"unknown").unwrap();
    daemon.start_again();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"layer");
    assert!(!trash.exists());
    let report = collect(&daemon, &[]);
    assert_eq!((&report["found"], &report["kept_needed"]["count"]), (&1.into(), &3.into()), "{report}");
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(report["freed_blobs"]["count"], 1, "{report}");
    assert!(!has_file(&daemon, &digest(b"unknown")));
}

/// Starts a collection whose commits and removals take a while, and waits until it runs. The pauses end with the injection.
fn collect_slowly(daemon: &Daemon) -> (Child, FaultInjection) {
    let pause = FaultInjection::delay(daemon.pid(), "fdatasync,unlink", None, Duration::from_millis(700));
    let mut command = Command::new(BINARY);
    command.args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data).env_clear();
    let collection = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until_it_runs(daemon);
    (collection, pause)
}

/// Waits until the daemon runs a collection; a command that starts later then finds it running.
fn wait_until_it_runs(daemon: &Daemon) {
    let began = Instant::now();
    loop {
        let shown =
            run(Command::new(BINARY).env_clear().args(["jobs", "gc", "--json", "--data"]).arg(&daemon.data));
        let job: serde_json::Value = serde_json::from_str(&shown).unwrap();
        if job["state"] == "running" {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no collection runs: {shown}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_blob_is_served_until_the_collection_commits() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let content = b"about to go";
    let blob = daemon.push_blob("a", content);
    let (mut gc, pause) = collect_slowly(&daemon);
    let (began, mut served) = (Instant::now(), 0);
    loop {
        let answer = daemon.get(&format!("/v2/a/blobs/{blob}"));
        if answer.status == 404 {
            break;
        }
        assert_eq!(answer.expect(200).body, content);
        served += 1;
        assert!(began.elapsed() < Duration::from_secs(60), "the collection frees nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(served > 1, "the collection has committed too early for this test");
    assert!(gc.try_wait().unwrap().is_none(), "the file is removed before the commit");
    // The check runs while the collection has forgotten the blob and removes its file.
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    assert!(gc.wait().unwrap().success());
    drop(pause);
    assert!(!has_file(&daemon, &blob));
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
}

#[test]
fn a_collection_waits_for_another_one() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    daemon.push_blob("a", b"about to go");
    let (mut first, pause) = collect_slowly(&daemon);
    let mut second = Command::new(BINARY);
    // Other options: it does not join the first one.
    second.env_clear().args(["gc", "--grace", "1ms", "--data"]).arg(&daemon.data).stdout(Stdio::piped());
    let mut second = second.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "the collection has not waited");
    assert!(first.wait().unwrap().success());
    drop(pause);
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("freed 0 tags, 0 manifests, 0 blobs"),
        "{output:?}"
    );
}
