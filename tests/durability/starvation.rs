//! Clients that hold connections or transfer slowly do not starve others.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::*;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const SLOTS: (&str, &str) = ("HOLDFAST_LIMITS_CONNECTIONS", "16");
/// Number of connections that an attacker opens: more than there are slots.
const MANY: usize = 24;

/// A background thread that repeats its work until it is dropped.
struct Background(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Background {
    fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                work();
            }
        });
        Background(stop, Some(thread))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

/// Keeps many connections open that repeat a request with status 401; closed ones are replaced.
fn hold_with_refused_requests(request: impl Fn() -> Request + Send + 'static) -> Background {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut work = move || {
        held.retain_mut(|stream| {
            request().send_on(stream).is_ok()
                && Response::try_read(stream, false).is_ok_and(|answer| answer.status == 401)
        });
        while held.len() < MANY {
            let stream = connect_from(request().local().unwrap(), request().address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            held.push(stream);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // Takes all slots before the first other client connects.
    work();
    work();
    Background::start(work)
}

fn all_succeed(request: impl Fn() -> Request) {
    for _ in 0..20 {
        request().send().expect(200);
    }
}

#[test]
fn refused_requests_of_one_address_starve_no_other() {
    let daemon = Daemon::with_user("alice", "secret", &[SLOTS]);
    let address = daemon.address;
    let _attack =
        hold_with_refused_requests(move || Request::new(address, "GET", "/v2/").keep_alive().from(ATTACKER));
    all_succeed(|| daemon.request("GET", "/v2/").login("alice", "secret").from(CLIENT));
    // The same if both share an address, as behind a proxy that is not named.
    all_succeed(|| daemon.request("GET", "/v2/").login("alice", "secret").from(ATTACKER));
}

#[test]
fn clients_behind_a_trusted_proxy_are_limited_separately() {
    let trusted = ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.4");
    let daemon = Daemon::with_user("alice", "secret", &[SLOTS, trusted]);
    let address = daemon.address;
    let _attack = hold_with_refused_requests(move || {
        let request = Request::new(address, "GET", "/v2/").keep_alive().from(PROXY);
        request.header("X-Forwarded-For", "192.0.2.1")
    });
    let request = |client: &str| {
        let request = daemon.request("GET", "/v2/").login("alice", "secret").from(PROXY);
        request.header("X-Forwarded-For", client)
    };
    all_succeed(|| request("192.0.2.2"));
    all_succeed(|| daemon.request("GET", "/v2/").login("alice", "secret").from(CLIENT));
}

#[test]
fn silent_connections_do_not_starve_others_before_or_during_tls() {
    let daemon = Daemon::with_env(&[SLOTS, ("HOLDFAST_TLS_MODE", "auto")]);
    let silent: Vec<TcpStream> = (0..MANY).map(|_| connect_from(ATTACKER, daemon.address).unwrap()).collect();
    let mut handshakes: Vec<TcpStream> =
        (0..MANY).map(|_| connect_from(ATTACKER, daemon.address).unwrap()).collect();
    for stream in &mut handshakes {
        // The server may have closed it already.
        let _ = stream.write_all(&[0x16, 3, 1]);
    }
    all_succeed(|| daemon.request("GET", "/ca.crt").from(CLIENT));
    drop((silent, handshakes));
}

#[test]
fn slow_transfers_of_one_address_starve_no_other() {
    let daemon = Daemon::with_env(&[SLOTS, ("HOLDFAST_LIMITS_MINIMUM_RATE", "0")]);
    let digest = daemon.push_blob("a", &vec![3; 16 << 20]);
    let path = format!("/v2/a/blobs/{digest}");
    let readers: Vec<TcpStream> =
        (0..8).map(|_| daemon.request("GET", &path).from(ATTACKER).open()).collect();
    let upload = "/v2/a/blobs/uploads/?digest=sha256:".to_owned() + &"0".repeat(64);
    let senders: Vec<TcpStream> = (0..8)
        .map(|_| daemon.request("POST", &upload).header("Content-Length", "1000000").from(ATTACKER).open())
        .collect();
    all_succeed(|| daemon.request("GET", "/v2/").from(CLIENT));
    all_succeed(|| daemon.request("HEAD", &path).from(CLIENT));
    drop((readers, senders));
}

#[test]
fn connection_without_a_slot_gets_503_with_retry_after() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_CONNECTIONS", "1")]);
    let digest = daemon.push_blob("a", &vec![3; 32 << 20]);
    let reader = daemon.request("GET", &format!("/v2/a/blobs/{digest}")).from(ATTACKER).open();
    let mut begun = [0; 1000];
    (&reader).read_exact(&mut begun).unwrap();
    let answer = daemon.request("GET", "/v2/").from(CLIENT).send().expect(503);
    assert!(answer.required_header("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(answer.required_header("connection"), "close");
    drop(reader);
    daemon.request("GET", "/v2/").from(CLIENT).send().expect(200);
}

/// Sends the head of an upload and then single bytes, until a response arrives or `time` has passed; returns its
/// status.
fn drip(daemon: &Daemon, time: Duration) -> Option<u16> {
    let location = daemon.start_upload("a");
    let mut stream = daemon.request("PATCH", &location).header("Content-Length", "1000000").open();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let sent = stream.write_all(b"x");
        match stream.peek(&mut [0; 1]) {
            Ok(1) => return Some(Response::read(&mut stream, false).status),
            Ok(_) => panic!("the connection ended without a response: {sent:?}"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    None
}

#[test]
fn body_below_the_minimum_rate_gets_408() {
    let stall = ("HOLDFAST_LIMITS_BODY_STALL", "1s");
    let strict = Daemon::with_env(&[stall, ("HOLDFAST_LIMITS_MINIMUM_RATE", "1KiB")]);
    assert_eq!(drip(&strict, Duration::from_secs(60)), Some(408));
    let patient = Daemon::with_env(&[stall, ("HOLDFAST_LIMITS_MINIMUM_RATE", "0")]);
    assert_eq!(drip(&patient, Duration::from_secs(3)), None);
}

#[test]
fn reader_below_the_minimum_rate_loses_its_slot() {
    // Pushes without the minimum rate, which a busy machine may not reach.
    let mut daemon = Daemon::start();
    let digest = daemon.push_blob("a", &vec![3; 64 << 20]);
    daemon.stop();
    daemon.start_again_with_env(&[
        ("HOLDFAST_LIMITS_BODY_STALL", "1s"),
        ("HOLDFAST_LIMITS_MINIMUM_RATE", "64MiB"),
        ("HOLDFAST_LIMITS_CONNECTIONS", "1"),
    ]);
    let mut reader = daemon.request("GET", &format!("/v2/a/blobs/{digest}")).from(ATTACKER).open();
    let _attack = Background::start(move || {
        let _ = reader.read(&mut vec![0; 200_000]);
        std::thread::sleep(Duration::from_millis(50));
    });
    // The only slot becomes free although the reader never stops reading.
    daemon.request("GET", "/v2/").from(CLIENT).send().expect(200);
}

#[test]
fn idle_connection_without_a_permit_is_closed_under_pressure() {
    let daemon = Daemon::with_user(
        "alice",
        "secret",
        &[("HOLDFAST_LIMITS_CONNECTIONS", "4"), ("HOLDFAST_LIMITS_HEADER_TIME", "2s")],
    );
    let request = || daemon.request("GET", "/v2/").keep_alive().from(ATTACKER);
    let mut held: Vec<TcpStream> = (0..3).map(|_| request().open()).collect();
    for stream in &mut held {
        Response::read(stream, false).expect(401);
    }
    // Each sends requests more often than limits.header_time.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) && held.len() == 3 {
        held.retain_mut(|stream| {
            request().send_on(stream).is_ok() && Response::try_read(stream, false).is_ok()
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(held.len() < 3, "no connection was closed");
}
