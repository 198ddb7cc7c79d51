//! The daemon under a service manager: watchdog, status, metrics and health by the command line.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::fault_injection::FaultInjection;
use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

#[test]
fn status_without_a_daemon_reports_socket_activation() {
    let unit = Unit::new("");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let service = format!("[service]\ncontrol = {:?}\n", unit.path("control"));
    unit.configure(&format!("storage.path = {:?}\n{service}", unit.path("data")));
    let mut status = Command::new(BINARY);
    status.env_clear().arg("status").arg("--config").arg(unit.path("holdfast.toml"));
    assert!(run(&mut status).contains("daemon        waiting for a connection"));
    // The status does not start a daemon, and another data directory is not the service's.
    let mut connection = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut connection, PollTimeout::ZERO).unwrap(), 0);
    assert!(run(unit.command().arg("status")).contains("daemon        not running"));
    let json: serde_json::Value = serde_json::from_str(&run(status.arg("--json"))).unwrap();
    assert_eq!(json["daemon_runs"], false);
    std::fs::remove_file(unit.path("control")).unwrap();
    let mut status = Command::new(BINARY);
    status.env_clear().arg("status").arg("--config").arg(unit.path("holdfast.toml"));
    assert!(run(&mut status).contains("daemon        not running"));
}

#[test]
fn watchdog_is_reset_while_reads_answer_and_not_while_they_hang() {
    const HANGS: Duration = Duration::from_secs(100);
    let unit = Unit::new("");
    let child = Process(unit.start(&[("WATCHDOG_USEC", "1000000")]));
    let began = Instant::now();
    (0..4).for_each(|_| drop(unit.await_notification("WATCHDOG=1")));
    assert!(began.elapsed() < Duration::from_secs(10));
    // The index writer waits for the disk in its next transaction: a restart would not help.
    let index = unit.path("data/index/wal.0");
    let hanging = FaultInjection::delay(child.0.id(), "fdatasync", index.to_str(), HANGS);
    let blob = digest(b"x");
    let address = unit.address;
    let push = std::thread::spawn(move || {
        let path = format!("/v2/a/blobs/uploads/?digest={blob}");
        Request::new(address, "POST", &path).body(b"x").send().expect(201);
    });
    // Earlier notifications are read in less than the watchdog timeout.
    let status = unit.await_notification("STATUS=the disk has not answered a write for");
    assert!(status.contains("pushes wait"), "{status}");
    (0..8).for_each(|_| drop(unit.await_notification("WATCHDOG=1")));
    drop(hanging);
    push.join().unwrap();
    // With hanging reads the daemon cannot serve.
    let read = unit.path("data/oci-layout");
    let hanging = FaultInjection::delay(child.0.id(), "openat,open", read.to_str(), HANGS);
    std::thread::sleep(Duration::from_millis(1000));
    let was_reset = || {
        unit.notify.set_nonblocking(true).unwrap();
        let mut is_reset = false;
        let mut buffer = [0; 4096];
        while let Ok(length) = unit.notify.recv(&mut buffer) {
            is_reset |= buffer[..length].starts_with(b"WATCHDOG");
        }
        unit.notify.set_nonblocking(false).unwrap();
        is_reset
    };
    was_reset();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!was_reset(), "the watchdog is reset though reads hang");
    drop(hanging);
    unit.await_notification("WATCHDOG=1");
}

#[test]
fn status_queries_the_daemon_and_waits_for_it() {
    let unit = Unit::new("");
    let refused = unit.command().args(["status", "--wait=300ms"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "no daemon answers: {refused:?}");
    let waiting = unit.command().args(["status", "--wait=20s"]).stdout(Stdio::piped()).spawn().unwrap();
    let _child = Process(unit.start(&[]));
    let text = String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains("daemon        running") && text.contains("uploads       0"), "{text}");
    Request::new(unit.address, "POST", "/v2/a/blobs/uploads/").send().expect(202);
    let status: serde_json::Value =
        serde_json::from_str(&run(unit.command().args(["status", "--json"]))).unwrap();
    assert_eq!((&status["uploads"], &status["read_only"]), (&1.into(), &serde_json::Value::Null), "{status}");
    unit.await_notification("1 upload");
    // Another data directory is not this daemon's.
    let elsewhere = unit.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut other = Command::new(BINARY);
    other
        .env_clear()
        .args(["status", "--data"])
        .arg(&elsewhere)
        .env("HOLDFAST_SERVICE_CONTROL", unit.path("control"));
    assert_eq!(other.output().unwrap().status.code(), Some(1));
}

#[test]
fn metrics_are_those_of_the_daemon_or_of_its_last_exit() {
    let unit = Unit::new("");
    let file = unit.path("holdfast.prom");
    unit.configure(&format!("[metrics]\nfile = {file:?}\naccess = \"users\"\n"));
    let print = || unit.command().arg("metrics").output().unwrap();
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let none = print();
    let error = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && error.contains("no daemon answers"), "{error}");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    unit.get("/v2/").expect(200);
    let running = print();
    assert!(text(&running).contains("holdfast_connections ") && running.status.success(), "{running:?}");
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let ended = print();
    assert_eq!(text(&ended), std::fs::read_to_string(&file).unwrap());
    let ping = "holdfast_http_requests_total{route=\"ping\",method=\"GET\",code=\"200\"} 1\n";
    assert!(text(&ended).contains(ping), "{}", text(&ended));
}

#[test]
fn status_waits_for_a_daemon_without_socket_activation() {
    let directory = tempfile::tempdir().unwrap();
    let port = unused_address().port();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(arguments).arg("--data").arg(directory.path());
        command.env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}")).env("HOLDFAST_TLS_MODE", "auto");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let _child = Process(command(&["serve"]).stderr(log.reopen().unwrap()).spawn().unwrap());
    assert!(command(&["status", "--wait=20s"]).status().unwrap().success());
    // Health checks are not logged at the default level; other requests are.
    Request::new(SocketAddr::from(([127, 0, 0, 1], port)), "GET", "/v2/").send().expect(308);
    let end = Instant::now() + Duration::from_secs(10);
    let lines = || std::fs::read_to_string(log.path()).unwrap().matches("GET /v2/").count();
    while lines() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lines(), 1);
}
