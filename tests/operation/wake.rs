//! `holdfast wake`: a daemon that sleeps is started if a background job is due, and else stays asleep.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

fn stop(mut daemon: Process) {
    signal(&daemon.0, "-TERM");
    assert!(daemon.0.wait().unwrap().success());
}

fn start(unit: &Unit) -> Process {
    let daemon = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    daemon
}

fn saved(unit: &Unit) -> Value {
    serde_json::from_str(&std::fs::read_to_string(unit.path("data/status.json")).unwrap()).unwrap()
}

/// Replaces the time at which the next job is due.
fn set_due(unit: &Unit, change: impl FnOnce(&mut Value)) {
    let mut status = saved(unit);
    change(&mut status);
    std::fs::write(unit.path("data/status.json"), status.to_string()).unwrap();
}

fn wake(unit: &Unit) -> Child {
    unit.command().arg("wake").stderr(Stdio::piped()).spawn().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns true if a connection waits in the control socket, within a time.
fn is_called(unit: &Unit, milliseconds: u16) -> bool {
    let mut connection = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    poll(&mut connection, PollTimeout::from(milliseconds)).unwrap() == 1
}

/// Asserts that `wake` succeeds without a connection to the control socket.
#[track_caller]
fn expect_asleep(unit: &Unit) {
    let output = wake(unit).wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert!(!is_called(unit, 0), "the daemon was started");
}

/// Asserts that `wake` starts the daemon, and returns what it is then.
#[track_caller]
fn expect_woken(unit: &Unit) -> Process {
    let woken = wake(unit);
    assert!(is_called(unit, 20_000), "the daemon was not started");
    let daemon = start(unit);
    let output = woken.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    daemon
}

fn job(unit: &Unit, name: &str) -> Value {
    serde_json::from_str(&run(unit.command().args(["jobs", name, "--json"]))).unwrap()
}

#[test]
fn sleeping_daemon_is_started_only_when_a_job_is_due() {
    let unit = Unit::new("gc.interval = \"1h\"");
    stop(start(&unit));
    let due = &saved(&unit)["next_due"]["at"];
    let wall = due["wall"].as_u64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(wall > now + 3000 && wall <= now + 3602, "{due}");
    assert!(due["seconds_since_boot"].is_u64() && due["boot_id"].is_string(), "{due}");
    expect_asleep(&unit);
    // The wall clock says nothing during the same boot.
    set_due(&unit, |status| status["next_due"]["at"]["wall"] = 0.into());
    expect_asleep(&unit);
    set_due(&unit, |status| status["next_due"]["at"]["seconds_since_boot"] = 0.into());
    stop(expect_woken(&unit));
    expect_asleep(&unit);
    // In another boot only the wall clock says when an hour has passed, unless it is behind the file.
    set_due(&unit, |status| status["next_due"]["at"]["boot_id"] = "other".into());
    expect_asleep(&unit);
    set_due(&unit, |status| status["saved"] = (now + 100_000).into());
    stop(expect_woken(&unit));
    std::fs::remove_file(unit.path("data/status.json")).unwrap();
    stop(expect_woken(&unit));
}

#[test]
fn directory_without_a_registry_starts_no_daemon() {
    expect_asleep(&Unit::new(""));
}

#[test]
fn due_job_has_run_when_wake_ends() {
    let unit = Unit::new("check.interval = \"1s\"\ngc.interval = \"off\"");
    stop(start(&unit));
    // The job is due a second after it was scheduled first, in whichever daemon.
    std::thread::sleep(std::time::Duration::from_secs(3));
    set_due(&unit, |status| assert!(status["next_due"]["at"].is_object()));
    let daemon = expect_woken(&unit);
    let check = job(&unit, "check");
    assert_eq!(check["last_outcome"], "ok", "{check}");
    stop(daemon);
}

#[test]
fn jobs_without_a_schedule_start_no_daemon() {
    let unit = Unit::new("gc.interval = \"off\"");
    stop(start(&unit));
    assert_eq!(saved(&unit)["next_due"], json!("never"));
    expect_asleep(&unit);
    // A file of an earlier release does not tell.
    set_due(&unit, |status| drop(status.as_object_mut().unwrap().remove("next_due")));
    stop(expect_woken(&unit));
}

#[test]
fn interval_counts_over_daemons_that_end_early() {
    let unit = Unit::new("check.interval = \"30d\"\ngc.interval = \"off\"");
    let daemon = start(&unit);
    let first = job(&unit, "check");
    assert!(first["last_end"].is_null() && first["last_outcome"].is_null(), "{first}");
    stop(daemon);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let daemon = start(&unit);
    let second = job(&unit, "check");
    let due = |job: &Value| job["next_due"].as_u64().unwrap();
    assert!(due(&second).abs_diff(due(&first)) <= 1, "{first} {second}");
    stop(daemon);
}

#[test]
fn daemon_that_runs_is_not_asked() {
    let unit = Unit::new("[service]\nidle = \"off\"");
    let _daemon = start(&unit);
    std::fs::write(unit.path("data/status.json"), "{}").unwrap();
    let output = wake(&unit).wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn without_a_socket_wake_fails_and_names_the_next_step() {
    let mut daemon = Daemon::start();
    daemon.stop();
    std::fs::remove_file(daemon.data.join("status.json")).unwrap();
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOLDFAST_SERVICE_CONTROL", daemon.data.join("none.sock"));
    let output = command.arg("wake").arg("--data").arg(&daemon.data).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("start holdfast.socket"), "{}", stderr(&output));
    assert!(!daemon.data.join("status.json").exists(), "wake opened the store");
    // The unit runs it as the owner of the data; another user cannot tell.
    command.uid(65534).gid(65534);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
fn collection_that_would_find_nothing_starts_no_daemon() {
    let unit = Unit::new("gc.interval = \"1s\"\n");
    let collected = |daemon: &Process| {
        let began = std::time::Instant::now();
        let before = job(&unit, "gc")["last_end"].as_u64();
        while job(&unit, "gc")["last_end"].as_u64() == before {
            assert!(
                began.elapsed() < std::time::Duration::from_secs(30),
                "no collection of {}",
                daemon.0.id()
            );
        }
    };
    let daemon = start(&unit);
    collected(&daemon);
    stop(daemon);
    assert_eq!(saved(&unit)["next_due"], json!("never"));
    // A blob without an image expires.
    let daemon = start(&unit);
    let blob = digest(b"x");
    Request::new(unit.address, "POST", &format!("/v2/a/blobs/uploads/?digest={blob}"))
        .body(b"x")
        .send()
        .expect(201);
    collected(&daemon);
    stop(daemon);
    assert!(saved(&unit)["next_due"]["at"].is_object(), "{}", saved(&unit));
}
