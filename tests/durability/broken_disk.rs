//! A failing disk: system calls of the running daemon return EIO; and an index that is full.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::fault_injection::FaultInjection;
use crate::support::*;

/// Pushes an image of its own; returns the status of the first request that failed, or of the last one.
fn push(daemon: &Daemon, tag: &str) -> u16 {
    let layer = format!("layer of {tag}").into_bytes();
    let digest = digest(&layer);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let blob = daemon.request("POST", &path).body(&layer).send();
    if blob.status != 201 {
        return blob.status;
    }
    daemon.put_manifest("a", tag, OCI_MANIFEST, &image(&digest, &digest, None)).status
}

/// Returns the output of `holdfast status` beside the daemon.
fn status_of(daemon: &Daemon) -> String {
    run(Command::new(BINARY).env_clear().args(["status", "--data"]).arg(&daemon.data))
}

#[test]
fn failed_writes_are_never_acknowledged_and_close_the_latch() {
    for (call, file) in [
        ("pwrite64", None),
        ("fdatasync", None),
        ("rename", None),
        ("fsync", None),
        ("fdatasync", Some("index/wal.0")),
    ] {
        let mut daemon = Daemon::start();
        let (old, bytes) = daemon.push_image("a", "old", b"old layer");
        let file = file.map(|file| daemon.data.join(file).to_str().unwrap().to_owned());
        let failing = FaultInjection::fail(daemon.pid(), call, file.as_deref());
        let status = push(&daemon, "new");
        assert!(status >= 500, "{call} {file:?}: {status}");
        drop(failing);
        // The disk works again, but pages of its cache may be lost: the store stays read-only.
        let refused = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(503);
        let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("read-only"), "{call}: {message}");
        daemon.request("DELETE", "/v2/a/manifests/old").send().expect(503);
        assert!(status_of(&daemon).contains("read-only: "), "{call}");
        assert_eq!(daemon.get("/v2/a/manifests/old").expect(200).body, bytes, "{call}");
        daemon.get("/v2/a/manifests/new").expect(404);
        daemon.kill_and_restart();
        assert!(status_of(&daemon).contains("running"), "{call}");
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{old}")).expect(200).body, bytes, "{call}");
        daemon.get("/v2/a/manifests/new").expect(404);
        assert_eq!(push(&daemon, "new"), 201, "{call}");
        daemon.kill_and_restart();
        daemon.get("/v2/a/manifests/new").expect(200);
    }
}

/// The disk has no space for a new page of the index from the start on.
#[test]
fn an_index_that_cannot_be_written_at_the_start_still_serves_pulls() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.stop();
    let port = unused_address().port();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=writev,pwrite64",
        "-e",
        "inject=writev,pwrite64:error=ENOSPC",
    ]);
    for file in ["data.mdb", "wal.0", "wal.1"] {
        command.arg("-P").arg(daemon.data.join("index").join(file));
    }
    command.args([BINARY, "serve", "--data"]).arg(&daemon.data);
    command.env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}")).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let get = |path: &str| Request::new(address, "GET", path).try_send();
    let end = Instant::now() + Duration::from_secs(20);
    while get("/v2/").is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let pulled = get(&format!("/v2/a/manifests/{image}"));
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"new"));
    let pushed = Request::new(address, "POST", &path).body(b"new").try_send();
    // The process group: strace and the daemon.
    run(Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]));
    child.wait().unwrap();
    assert_eq!(pulled.unwrap().expect(200).body, bytes);
    pushed.unwrap().expect(507);
    daemon.start_again();
    daemon.push_image("a", "2", b"a layer that fits");
}

#[test]
fn a_full_index_refuses_pushes_and_keeps_all_acknowledged_tags() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
    let (_, manifest) = daemon.push_image("a", "first", b"layer");
    let mut acknowledged = Vec::new();
    let refused = (0..20_000).find_map(|number| {
        let tag = format!("{number}-{}", "x".repeat(100));
        let answer = daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest);
        match answer.status {
            201 => acknowledged.push(tag),
            _ => return Some(answer),
        }
        None
    });
    let refused = refused.expect("an index of 1 MiB holds 20,000 tags").expect(507);
    assert!(String::from_utf8_lossy(&refused.body).contains("storage.index_map_size"));
    assert!(acknowledged.len() > 400);
    // Deletes are not refused, and make space for pushes.
    for tag in acknowledged.drain(..300) {
        daemon.request("DELETE", &format!("/v2/a/manifests/{tag}")).send().expect(202);
    }
    let put = daemon.put_manifest("a", "again", OCI_MANIFEST, &manifest);
    assert_eq!(put.status, 201, "no space after deletes");
    daemon.kill_and_restart();
    let tags = daemon.get("/v2/a/tags/list?n=20000").json()["tags"].as_array().unwrap().len();
    assert!(tags >= 1000.min(acknowledged.len()), "{tags} of {}", acknowledged.len());
    for tag in &acknowledged {
        daemon.request("HEAD", &format!("/v2/a/manifests/{tag}")).send().expect(200);
    }
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "16MiB")]);
    daemon.put_manifest("a", "more", OCI_MANIFEST, &manifest).expect(201);
}

#[test]
fn an_unreadable_blob_is_an_error_of_its_pull_and_a_check_reports_it() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"sound");
    let content = vec![7; 300 << 10];
    let (image, _) = daemon.push_image("a", "2", &content);
    let blob = digest(&content);
    let file = daemon.data.join("blobs/sha256").join(blob.trim_start_matches("sha256:"));
    let file = file.to_str().unwrap();
    {
        let _failing = FaultInjection::fail(daemon.pid(), "preadv2,pread64", Some(file));
        // A broken connection or a 500, but never a truncated body that looks complete.
        let answer = daemon.request("GET", &format!("/v2/a/blobs/{blob}")).try_send();
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 500));
        daemon.get("/v2/a/manifests/1").expect(200);
    }
    assert_eq!(
        daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body,
        content,
        "a failed read does not close the latch"
    );
    let check = |arguments: &[&str]| {
        // The daemon makes the check.
        let _failing = FaultInjection::fail(daemon.pid(), "read", Some(file));
        let mut command = Command::new(BINARY);
        command.arg("check").args(arguments).arg("--data").arg(&daemon.data);
        let output = command.env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&[]).contains(&format!("unreadable   {blob}: Input/output error")));
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200);
    assert!(check(&["--repair"]).contains("(set aside in damaged/)"));
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
    assert_eq!(daemon.push_image("a", "2", &content).0, image);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, content);
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

#[test]
fn a_sync_that_fails_on_a_full_disk_closes_the_latch() {
    // The pages may be gone from the cache, so that the next sync would succeed without having written them.
    let mut daemon = Daemon::start();
    let content = b"layer of new";
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).chunked(content).send().expect(202);
    let put = format!("{location}?digest={}", digest(content));
    let failing = FaultInjection::fail_with("ENOSPC", daemon.pid(), "fdatasync", None);
    assert!(daemon.request("PUT", &put).body(b"").send().status >= 500);
    drop(failing);
    daemon.request("PUT", &put).body(b"").send().expect(503);
    assert!(status_of(&daemon).contains("read-only: "));
    daemon.kill_and_restart();
    daemon.request("PUT", &put).body(b"").send().expect(201);
}
