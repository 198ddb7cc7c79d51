//! A disk that fails: system calls of the running daemon are made to answer EIO.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::failing::Failing;
use crate::support::*;

/// The status of a push of an image of its own, of whichever request failed first.
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

/// What `holdfast status` says beside the daemon.
fn status_of(daemon: &Daemon) -> String {
    run(Command::new(BINARY).env_clear().args(["status", "--data"]).arg(&daemon.data))
}

#[test]
fn what_fails_is_never_acknowledged_and_latches() {
    for (call, file) in [
        ("pwrite64", None),
        ("fdatasync", None),
        ("rename", None),
        ("fsync", None),
        ("fdatasync", Some("index/data.mdb")),
    ] {
        let mut daemon = Daemon::start();
        let (old, bytes) = daemon.push_image("a", "old", b"old layer");
        let file = file.map(|file| daemon.data.join(file).to_str().unwrap().to_owned());
        let failing = Failing::begin(daemon.process(), call, file.as_deref());
        let status = push(&daemon, "new");
        assert!(status >= 500, "{call} {file:?}: {status}");
        drop(failing);
        // The disk is well again, but what it had in its cache may be lost: nothing is written any more.
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

/// A disk that takes no new page of the index, from the start on.
#[test]
fn an_index_that_cannot_be_written_when_it_is_opened_is_read_all_the_same() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.stop();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=writev",
        "-e",
        "inject=writev:error=ENOSPC",
        "-P",
    ]);
    command.arg(daemon.data.join("index/data.mdb")).args([BINARY, "serve", "--data"]).arg(&daemon.data);
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
    // strace and what it runs.
    run(Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]));
    child.wait().unwrap();
    assert_eq!(pulled.unwrap().expect(200).body, bytes);
    pushed.unwrap().expect(507);
    daemon.restart_after_end();
    daemon.push_image("a", "2", b"there is room again");
}

#[test]
fn an_index_that_is_full_refuses_and_keeps_what_it_has() {
    let mut daemon = Daemon::with(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
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
    // What makes room is not refused, and then there is room.
    for tag in acknowledged.drain(..300) {
        daemon.request("DELETE", &format!("/v2/a/manifests/{tag}")).send().expect(202);
    }
    let put = daemon.put_manifest("a", "again", OCI_MANIFEST, &manifest);
    assert_eq!(put.status, 201, "after deletes there is room");
    daemon.kill_and_restart();
    let tags = daemon.get("/v2/a/tags/list?n=20000").json()["tags"].as_array().unwrap().len();
    assert!(tags >= 1000.min(acknowledged.len()), "{tags} of {}", acknowledged.len());
    for tag in &acknowledged {
        daemon.request("HEAD", &format!("/v2/a/manifests/{tag}")).send().expect(200);
    }
    daemon.stop();
    daemon.restart_with(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "16MiB")]);
    daemon.put_manifest("a", "more", OCI_MANIFEST, &manifest).expect(201);
}

#[test]
fn a_blob_that_cannot_be_read_is_no_short_answer_and_is_named_by_a_check() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"sound");
    let content = vec![7; 300 << 10];
    let (image, _) = daemon.push_image("a", "2", &content);
    let blob = digest(&content);
    let file = daemon.data.join("blobs/sha256").join(blob.trim_start_matches("sha256:"));
    let file = file.to_str().unwrap();
    {
        let _failing = Failing::begin(daemon.process(), "preadv2,pread64", Some(file));
        // Either no answer, or one that says that it failed: never some bytes that look like all.
        let answer = daemon.request("GET", &format!("/v2/a/blobs/{blob}")).try_send();
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 500));
        daemon.get("/v2/a/manifests/1").expect(200);
    }
    assert_eq!(
        daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body,
        content,
        "reading does not latch"
    );
    let check = |arguments: &[&str]| {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-P",
            file,
            "-e",
            "trace=read",
            "-e",
            "inject=read:error=EIO",
            BINARY,
            "check",
        ]);
        let output = command.args(arguments).arg("--data").arg(&daemon.data).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&[]).contains(&format!("unreadable   {blob}: Input/output error")));
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200);
    assert!(check(&["--repair"]).contains("(repaired)"));
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
    assert_eq!(daemon.push_image("a", "2", &content).0, image);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, content);
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

#[test]
fn a_sync_that_finds_the_disk_full_is_not_tried_again() {
    // What it should have written may be gone from the cache by then: the next sync says yes to nothing.
    let mut daemon = Daemon::start();
    let content = b"layer of new";
    let location =
        daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202).named("location");
    daemon.request("PATCH", &location).chunked(content).send().expect(202);
    let put = format!("{location}?digest={}", digest(content));
    let failing = Failing::begin_with("ENOSPC", daemon.process(), "fdatasync", None);
    assert!(daemon.request("PUT", &put).body(b"").send().status >= 500);
    drop(failing);
    daemon.request("PUT", &put).body(b"").send().expect(503);
    assert!(status_of(&daemon).contains("read-only: "));
    daemon.kill_and_restart();
    daemon.request("PUT", &put).body(b"").send().expect(201);
}
