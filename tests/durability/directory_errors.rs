//! I/O errors in the middle of a directory listing: the error is not the end of the list, and unlisted files are not
//! gone.

use std::process::{Command, Output, Stdio};

use crate::support::fault_injection::FaultInjection;
use crate::support::*;

/// Runs a command whose second read of a directory fails, after the first one has returned entries.
fn with_broken_directory(daemon: &Daemon, directory: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=getdents64", "-P"]);
    command.arg(daemon.data.join(directory)).args(["-e", "inject=getdents64:error=EIO:when=2", BINARY]);
    command.args(arguments).arg("--data").arg(&daemon.data);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOLDFAST_LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null()).output().unwrap()
}

fn upload(daemon: &Daemon, content: &[u8]) -> String {
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).chunked(content).send().expect(202);
    location
}

#[test]
fn a_collection_stops_at_a_listing_that_fails() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let (_, bytes) = daemon.push_image("a", "1", b"layer");
    let location = upload(&daemon, b"half");
    for directory in ["uploads", "blobs/sha256", "blobs/sha512", "trash"] {
        // An earlier release has left it.
        std::fs::create_dir_all(daemon.data.join("trash")).unwrap();
        if directory == "blobs/sha512" {
            std::fs::write(daemon.data.join(directory).join("a".repeat(128)), "x").unwrap();
        }
        // The daemon makes the collection. Each second read fails: others list the directory for its status, too.
        let path = daemon.data.join(directory);
        let failing = FaultInjection::fail_with("EIO:when=2+2", daemon.pid(), "getdents64", path.to_str());
        let mut command = Command::new(BINARY);
        command.env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data);
        let output = command.output().unwrap();
        drop(failing);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{directory}: {output:?}");
        assert!(told.contains("Input/output error"), "{directory}: {told}");
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes, "{directory}");
        daemon.get(&format!("/v2/a/blobs/{}", digest(b"layer"))).expect(200);
        assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-3", "{directory}");
    }
    let put = format!("{location}?digest={}", digest(b"half"));
    daemon.request("PUT", &put).body(b"").send().expect(201);
}

#[test]
fn a_rebuild_stops_at_a_listing_that_fails_and_the_next_one_is_complete() {
    for directory in ["blobs/sha256", "trash", "uploads"] {
        let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
        let (image, bytes) = daemon.push_image("a", "1", b"layer");
        let location = upload(&daemon, b"half");
        daemon.stop();
        std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
        // An earlier release has left it.
        std::fs::create_dir_all(daemon.data.join("trash")).unwrap();
        let output = with_broken_directory(&daemon, directory, &["serve"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{directory}: {output:?}");
        assert!(told.contains("Input/output error"), "{directory}: {told}");
        daemon.start_again();
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes, "{directory}");
        daemon.get(&format!("/v2/a/manifests/{image}")).expect(200);
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(b"layer"))).expect(200).body, b"layer");
        assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-3", "{directory}");
        run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    }
}
