//! Idle exit under socket activation: the daemon ends when it has nothing to do, and no client notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::unit::{Process, Unit, await_logged, signal};
use crate::support::*;

#[test]
fn daemon_stays_while_it_could_not_start_again() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Process(unit.start_with(&[], log.reopen().unwrap().into()));
    unit.await_notification("READY=1");
    // A configuration that a reload would refuse.
    unit.configure("[service]\nidle = \"100ms\"\n[auth]\nanonymous = \"perhaps\"\n");
    await_logged(&log, "perhaps");
    unit.get("/v2/").expect(200);
    // A certificate that cannot be parsed.
    std::fs::write(unit.path("key"), "nonsense").unwrap();
    let files = format!("certificate = {:?}\nkey = {:?}", unit.path("key"), unit.path("key"));
    unit.configure(&format!("[service]\nidle = \"100ms\"\n[tls]\nmode = \"files\"\n{files}\n"));
    await_logged(&log, "has no certificate in it");
    // A file of users that cannot be read, and a name that no certificate can have.
    let users = format!("[auth]\nhtpasswd = {:?}\n", unit.path("data"));
    unit.configure(&format!("[service]\nidle = \"100ms\"\n{users}"));
    await_logged(&log, "cannot read");
    unit.configure("[service]\nidle = \"100ms\"\n[tls]\nmode = \"auto\"\nnames = [\"m\u{fc}ller.lan\"]\n");
    await_logged(&log, "tls.names is \"m\u{fc}ller.lan\"");
    // Many times the idle time.
    std::thread::sleep(Duration::from_millis(800));
    assert!(child.0.try_wait().unwrap().is_none(), "the daemon exits");
    unit.get("/v2/").expect(200);
    unit.configure("[service]\nidle = \"100ms\"\n");
    child.expect_exit();
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("not exiting").count(), 4, "each reason is logged once: {text}");
}

/// Sets the flag on drop, also if the test panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts the daemon on each first connection, as systemd does, until `stop` is set; returns the number of starts.
fn activate(unit: &Unit, stop: &AtomicBool) -> usize {
    let mut starts = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = [PollFd::new(unit.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut connection, PollTimeout::from(50u8)).unwrap() == 0 {
            continue;
        }
        starts += 1;
        // No notifications, which would fill the socket's queue.
        let mut child = Process(unit.start(&[("NOTIFY_SOCKET", "")]));
        while child.0.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    starts
}

#[test]
fn idle_exit_never_refuses_connections() {
    let rounds = std::env::var("HOLDFAST_TEST_CONNECTIONS").map_or(60, |text| text.parse().unwrap());
    let unit = Unit::new("[service]\nidle = \"60ms\"\n");
    let stop = AtomicBool::new(false);
    let starts = std::thread::scope(|scope| {
        let manager = scope.spawn(|| activate(&unit, &stop));
        let stop_on_drop = StopOnDrop(&stop);
        for round in 0..rounds {
            // Around the moment of the idle exit.
            std::thread::sleep(Duration::from_millis(40 + round * 7 % 60));
            let answer = Request::new(unit.address, "GET", "/v2/").header("Connection", "close").try_send();
            assert_eq!(answer.expect("connection refused").status, 200, "round {round}");
        }
        drop(stop_on_drop);
        manager.join().unwrap()
    });
    assert!(starts as u64 > rounds / 10, "{starts} starts: the daemon hardly ever exited");
    println!("{rounds} connections, {starts} starts");
}

#[test]
fn unfinished_upload_prevents_idle_exit() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let mut child = Process(unit.start(&[]));
    let upload = Request::new(unit.address, "POST", "/v2/a/blobs/uploads/")
        .send()
        .expect(202)
        .required_header("location");
    std::thread::sleep(Duration::from_millis(600));
    assert!(child.0.try_wait().unwrap().is_none());
    Request::new(unit.address, "DELETE", &upload).send().expect(204);
    child.expect_exit();
    unit.await_notification("STOPPING=1");
}

#[test]
fn logged_in_administrator_prevents_idle_exit() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n[admin]\nsession = \"10m\"\n");
    add_user(&unit.path("data"), "alice", "secret");
    let mut child = Process(unit.start(&[]));
    let mut browser = browser::Browser::at(unit.address);
    browser.log_in("alice", "secret").expect(303);
    std::thread::sleep(Duration::from_millis(600));
    assert!(child.0.try_wait().unwrap().is_none());
    browser.post("/logout", &[]).expect(303);
    child.expect_exit();
}

#[test]
fn open_connection_prevents_idle_exit() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let mut stream = TcpStream::connect(unit.address).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.0.try_wait().unwrap().is_none());
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[test]
fn connection_accepted_at_the_last_moment_is_answered() {
    let unit = Unit::new("");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let mut stream = TcpStream::connect(unit.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The connection is accepted, and has sent nothing yet.
    while !run(unit.command().args(["status", "--json"])).contains("\"connections\": 1") {}
    signal(&child.0, "-TERM");
    // By now new connections are no longer accepted.
    std::thread::sleep(Duration::from_millis(300));
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(child.0.wait().unwrap().success());
}
