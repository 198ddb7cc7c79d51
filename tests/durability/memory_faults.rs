//! An index that is truncated while processes have it mapped: they report it, end by the signal, and the next start
//! repairs the index.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use crate::support::*;

/// Truncates the index to its two meta pages.
fn cut(daemon: &Daemon) {
    let file = std::fs::OpenOptions::new().write(true).open(daemon.data.join("index/data.mdb")).unwrap();
    file.set_len(2 * 4096).unwrap();
}

fn holdfast(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", BINARY]).args(arguments).arg("--data").arg(&daemon.data).env_clear();
    command.output().unwrap()
}

#[test]
fn a_daemon_reports_a_truncated_index_and_the_next_start_repairs_it() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    cut(&daemon);
    assert!(daemon.request("GET", "/v2/a/manifests/1").try_send().is_err());
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("holdfast: the index (index/data.mdb) was cut"), "{log:?}");
    assert!(daemon.data.join("index/suspect").exists());
    daemon.start_again();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    daemon.get(&format!("/v2/a/manifests/{image}")).expect(200);
    assert!(!daemon.data.join("index/suspect").exists());
    daemon.push_image("a", "2", b"another");
}

#[test]
fn commands_beside_a_daemon_report_a_truncated_index() {
    for arguments in [&["gc"][..], &["gc", "--dry-run"], &["check"], &["check", "--repair"]] {
        let mut daemon = Daemon::start();
        let (_, bytes) = daemon.push_image("a", "1", b"layer");
        // Writes index.json.
        daemon.stop_and_restart();
        cut(&daemon);
        let output = holdfast(&daemon, arguments);
        // If the daemon met the damage first and has ended, the command opens the store and recovers it.
        let is_repaired = output.status.success();
        let says_why = String::from_utf8_lossy(&output.stderr).contains("holdfast: ");
        assert!(is_repaired || (!output.status.success() && says_why), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}: {output:?}");
        let is_marked = daemon.data.join("index/suspect").exists();
        assert!(output.status.code().is_some() || is_marked, "{arguments:?}");
        daemon.kill_and_restart();
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes, "{arguments:?}");
    }
}

#[test]
fn commands_without_a_daemon_report_a_truncated_index() {
    for arguments in [&["gc"][..], &["gc", "--dry-run"], &["check"], &["ls"]] {
        let mut daemon = Daemon::start();
        let (_, bytes) = daemon.push_image("a", "1", b"layer");
        daemon.stop();
        cut(&daemon);
        let output = holdfast(&daemon, arguments);
        assert!(!output.stderr.is_empty(), "{arguments:?}: {output:?}");
        daemon.start_again();
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes, "{arguments:?}");
    }
}

/// The handler must let the process end by the signal.
#[test]
fn a_memory_fault_elsewhere_is_reported_and_ends_the_process() {
    for signal in ["SEGV", "BUS"] {
        let daemon = Daemon::start();
        let (_, bytes) = daemon.push_image("a", "1", b"layer");
        let mut command = Command::new(BINARY);
        let other = tempfile::tempdir().unwrap();
        command
            .env_clear()
            .env("HOLDFAST_LISTEN", "127.0.0.1:0")
            .arg("serve")
            .arg("--data")
            .arg(other.path());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("listens on") {
            line.clear();
            assert!(
                std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0,
                "the daemon does not start"
            );
        }
        run(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]));
        let output = child.wait_with_output().unwrap();
        let expected = if signal == "SEGV" { 11 } else { 7 };
        assert_eq!(output.status.signal(), Some(expected), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("memory fault"), "{output:?}");
        assert!(other.path().join("index/suspect").exists());
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    }
}
