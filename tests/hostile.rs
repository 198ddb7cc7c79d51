//! Clients that hold connections do not starve others.

use std::io::{Read, Write};
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
/// As many connections as an attacker opens.
const MANY: usize = 24;

/// Background thread that repeats its work until it is dropped.
struct Background(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Background {
    fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
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

/// Keeps many connections open that get 401 again and again; closed ones are replaced.
fn hold_with_refused_requests(request: impl Fn() -> Request + Send + 'static) -> Background {
    let mut held: Vec<TcpStream> = Vec::new();
    let work = move || {
        held.retain_mut(|stream| {
            request().send_on(stream).is_ok()
                && Answer::try_read(stream, false).is_ok_and(|answer| answer.status == 401)
        });
        while held.len() < MANY {
            let stream = connect_from(request().local().unwrap(), request().address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            held.push(stream);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut work = work;
    // All slots are taken before the first other client comes.
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
    // Also where both share an address, as behind a proxy that is not named.
    all_succeed(|| daemon.request("GET", "/v2/").login("alice", "secret").from(ATTACKER));
}

#[test]
fn clients_behind_a_trusted_proxy_are_limited_one_by_one() {
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
    let daemon = Daemon::with(&[SLOTS, ("HOLDFAST_TLS_MODE", "auto")]);
    let silent: Vec<TcpStream> = (0..MANY).map(|_| connect_from(ATTACKER, daemon.address).unwrap()).collect();
    let mut handshakes: Vec<TcpStream> =
        (0..MANY).map(|_| connect_from(ATTACKER, daemon.address).unwrap()).collect();
    for stream in &mut handshakes {
        // One that is closed already takes nothing.
        let _ = stream.write_all(&[0x16, 3, 1]);
    }
    all_succeed(|| daemon.request("GET", "/ca.crt").from(CLIENT));
    drop((silent, handshakes));
}

#[test]
fn slow_transfers_of_one_address_starve_no_other() {
    let daemon = Daemon::with(&[SLOTS, ("HOLDFAST_LIMITS_MINIMUM_RATE", "0")]);
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
fn connection_without_a_slot_is_told_when_to_come_back() {
    let daemon = Daemon::with(&[("HOLDFAST_LIMITS_CONNECTIONS", "1")]);
    let digest = daemon.push_blob("a", &vec![3; 32 << 20]);
    let reader = daemon.request("GET", &format!("/v2/a/blobs/{digest}")).from(ATTACKER).open();
    let mut begun = [0; 1000];
    (&reader).read_exact(&mut begun).unwrap();
    let answer = daemon.request("GET", "/v2/").from(CLIENT).send().expect(503);
    assert!(answer.named("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(answer.named("connection"), "close");
    drop(reader);
    daemon.request("GET", "/v2/").from(CLIENT).send().expect(200);
}

/// Sends the head of an upload and then a byte now and then, until an answer comes or `time` has passed.
fn drip(daemon: &Daemon, time: Duration) -> Option<u16> {
    let location =
        daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202).named("location");
    let mut stream = daemon.request("PATCH", &location).header("Content-Length", "1000000").open();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let sent = stream.write_all(b"x");
        match stream.peek(&mut [0; 1]) {
            Ok(1) => return Some(Answer::read(&mut stream, false).status),
            Ok(_) => panic!("the connection ended without an answer: {sent:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    None
}

#[test]
fn body_below_the_minimum_rate_is_refused() {
    let stall = ("HOLDFAST_LIMITS_BODY_STALL", "1s");
    let strict = Daemon::with(&[stall, ("HOLDFAST_LIMITS_MINIMUM_RATE", "1KiB")]);
    assert_eq!(drip(&strict, Duration::from_secs(60)), Some(408));
    let patient = Daemon::with(&[stall, ("HOLDFAST_LIMITS_MINIMUM_RATE", "0")]);
    assert_eq!(drip(&patient, Duration::from_secs(3)), None);
}

#[test]
fn reader_below_the_minimum_rate_is_let_go() {
    // A busy machine may push more slowly than that.
    let mut daemon = Daemon::start();
    let digest = daemon.push_blob("a", &vec![3; 64 << 20]);
    daemon.stop();
    daemon.restart_with(&[
        ("HOLDFAST_LIMITS_BODY_STALL", "1s"),
        ("HOLDFAST_LIMITS_MINIMUM_RATE", "64MiB"),
        ("HOLDFAST_LIMITS_CONNECTIONS", "1"),
    ]);
    let mut reader = daemon.request("GET", &format!("/v2/a/blobs/{digest}")).from(ATTACKER).open();
    let _attack = Background::start(move || {
        let _ = reader.read(&mut vec![0; 200_000]);
        std::thread::sleep(Duration::from_millis(50));
    });
    // The only slot is free again though the reader takes something all the time.
    daemon.request("GET", "/v2/").from(CLIENT).send().expect(200);
}

#[test]
fn idle_connection_without_a_permit_ends_when_slots_are_short() {
    let daemon = Daemon::with_user(
        "alice",
        "secret",
        &[("HOLDFAST_LIMITS_CONNECTIONS", "4"), ("HOLDFAST_LIMITS_HEADER_TIME", "2s")],
    );
    let request = || daemon.request("GET", "/v2/").keep_alive().from(ATTACKER);
    let mut held: Vec<TcpStream> = (0..3).map(|_| request().open()).collect();
    for stream in &mut held {
        Answer::read(stream, false).expect(401);
    }
    // Each asks often enough for the time limit of headers.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) && held.len() == 3 {
        held.retain_mut(|stream| {
            request().send_on(stream).is_ok() && Answer::try_read(stream, false).is_ok()
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(held.len() < 3, "all are kept");
}

#[test]
fn daemon_ends_though_all_its_threads_wait_for_a_file() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    let users = daemon.data.join("htpasswd");
    std::fs::remove_file(&users).unwrap();
    // Opening it blocks until there is a writer, which never comes.
    run(std::process::Command::new("mkfifo").arg(&users));
    let stuck: Vec<TcpStream> =
        (0..80).map(|_| daemon.request("GET", "/v2/").login("alice", "secret").open()).collect();
    assert!(daemon.stop_within(Duration::from_secs(60)));
    drop(stuck);
    // It has closed its index.
    assert!(daemon.data.join("index/clean").exists());
}

/// Opens connections that stay in the middle of a head, or between two requests.
fn unfinished(daemon: &Daemon) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for head in ["GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: registry\r\nX-Slow: "] {
        for _ in 0..4 {
            let mut stream = connect_from(ATTACKER, daemon.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    for rest in ["", "GET /v2/ HTTP/1.1\r\nHost: reg"] {
        for _ in 0..4 {
            let mut stream = daemon.request("GET", "/v2/").keep_alive().from(ATTACKER).open();
            Answer::read(&mut stream, false).expect(200);
            stream.write_all(rest.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    held
}

#[test]
fn unfinished_heads_do_not_delay_the_end_and_requests_are_finished() {
    for mode in ["off", "auto"] {
        let mut daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", mode)]);
        let mut held = Vec::new();
        let mut upload = None;
        if mode == "off" {
            held = unfinished(&daemon);
            let head = format!("/v2/a/blobs/uploads/?digest={}", digest(b"slow content"));
            let mut stream = daemon.request("POST", &head).header("Content-Length", "12").from(CLIENT).open();
            stream.write_all(b"slow ").unwrap();
            // Its head has come, and the upload has begun.
            while std::fs::read_dir(daemon.data.join("uploads")).unwrap().next().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            upload = Some(stream);
        } else {
            for _ in 0..8 {
                let mut stream = connect_from(ATTACKER, daemon.address).unwrap();
                stream.write_all(&[0x16, 3, 1]).unwrap();
                held.push(stream);
            }
            // Connections are accepted in their order, so that this one is the last.
            daemon.request("GET", "/ca.crt").from(CLIENT).send().expect(200);
        }
        let begun = Instant::now();
        run(std::process::Command::new("kill").arg(daemon.process().to_string()));
        for stream in &mut held {
            // Closed, with a reset if there was something unread.
            stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
            let end = stream.read(&mut [0; 1]);
            let still_open = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(!end.as_ref().is_err_and(still_open), "{mode}: {end:?}");
        }
        if let Some(mut stream) = upload {
            stream.write_all(b"content").unwrap();
            Answer::read(&mut stream, false).expect(201);
        }
        daemon.wait();
        // Many times what it takes; those that are inside a head had half a minute before.
        assert!(begun.elapsed() < Duration::from_secs(20), "{mode}: it took {:?}", begun.elapsed());
    }
}

/// The head and a part of a large manifest, as a client that then sends no more.
fn begin_large(daemon: &Daemon, number: usize, length: &str, from: Ipv4Addr) -> TcpStream {
    let path = format!("/v2/a/manifests/slow{number}");
    let request = daemon.request("PUT", &path).header("Content-Type", OCI_INDEX).from(from);
    let mut stream = if length.is_empty() {
        let mut stream = request.header("Transfer-Encoding", "chunked").open();
        stream.write_all(b"30000\r\n").unwrap();
        stream
    } else {
        request.header("Content-Length", length).open()
    };
    stream.write_all(&[b' '; 150_000]).unwrap();
    stream
}

#[test]
fn slow_senders_of_large_manifests_do_not_delay_those_of_others() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let large = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": image, "size": 1}], "x": "x".repeat(3 << 20)});
    let large = serde_json::to_vec(&large).unwrap();
    let put = |from: Ipv4Addr, tag: &str, is_chunked: bool| {
        let put = daemon.request("PUT", &format!("/v2/a/manifests/{tag}")).header("Content-Type", OCI_INDEX);
        let put = put.from(from);
        let begun = Instant::now();
        let answer = if is_chunked { put.chunked(&large).send() } else { put.body(&large).send() };
        (answer, begun.elapsed())
    };
    let at_rest = put(CLIENT, "rest", false);
    at_rest.0.expect(201);
    let slow: Vec<TcpStream> =
        (0..8).map(|number| begin_large(&daemon, number, ["4000000", ""][number % 2], ATTACKER)).collect();
    // A place that a client could keep by sending slowly was free again after two minutes.
    let patience = (at_rest.1 * 20).max(Duration::from_secs(10));
    for is_chunked in [false, true] {
        let (answer, time) = put(CLIENT, "2", is_chunked);
        answer.expect(201);
        assert!(time < patience, "it took {time:?}, and {:?} at rest", at_rest.1);
        // Also from the same address: it has not used up its share.
        put(ATTACKER, "3", is_chunked).0.expect(201);
    }
    assert_eq!(daemon.get("/v2/a/manifests/2").expect(200).body, large);
    drop(slow);
}

#[test]
fn one_address_has_a_share_of_the_large_manifests_that_arrive() {
    let daemon = Daemon::start();
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let large = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": image, "size": 1}], "x": "x".repeat(200_000)});
    let large = serde_json::to_vec(&large).unwrap();
    let put = |from: Ipv4Addr| {
        let put = daemon.request("PUT", "/v2/a/manifests/2").header("Content-Type", OCI_INDEX);
        put.from(from).body(&large).send()
    };
    let slow: Vec<TcpStream> =
        (0..80).map(|number| begin_large(&daemon, number, "4000000", ATTACKER)).collect();
    // The first may come before the slow ones have been read.
    let begun = Instant::now();
    let mut refused = put(ATTACKER);
    while refused.status == 201 {
        assert!(begun.elapsed() < Duration::from_secs(60), "none is refused");
        refused = put(ATTACKER);
    }
    let refused = refused.expect(429);
    assert_eq!(refused.code(), "TOOMANYREQUESTS");
    assert!(refused.named("retry-after").parse::<u32>().unwrap() > 0);
    put(CLIENT).expect(201);
    // Nothing of it has a name that a crash could leave behind.
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    drop(slow);
    // The places are free again once the connections are gone.
    let begun = Instant::now();
    while put(ATTACKER).status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the places are not free again");
    }
}

#[test]
fn a_few_addresses_do_not_take_all_places_of_large_manifests() {
    let daemon = Daemon::start();
    let large = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [], "x": "x".repeat(200_000)});
    let large = serde_json::to_vec(&large).unwrap();
    let put = |from: Ipv4Addr| {
        let put = daemon.request("PUT", "/v2/a/manifests/2").header("Content-Type", OCI_INDEX);
        put.from(from).body(&large).send()
    };
    let slow: Vec<TcpStream> = (0..80)
        .map(|number| begin_large(&daemon, number, "4000000", Ipv4Addr::new(127, 0, 2, 1 + number as u8 % 5)))
        .collect();
    // The first may come before the slow ones have been read.
    let begun = Instant::now();
    while put(Ipv4Addr::new(127, 0, 2, 1)).status != 429 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the slow ones do not have the places");
    }
    put(CLIENT).expect(201);
    drop(slow);
}

#[test]
fn slow_senders_of_large_forms_have_a_few_places() {
    const SLOW: usize = 24;
    let daemon = Daemon::start();
    let form = |from: Ipv4Addr| {
        let post = daemon.request("POST", "/delete").header("Origin", "http://registry").from(from);
        post.header("Accept", "text/html").header("Content-Type", "application/x-www-form-urlencoded")
    };
    let mut slow: Vec<TcpStream> = (0..SLOW)
        .map(|_| {
            let mut stream = form(ATTACKER).header("Content-Length", "200000").open();
            stream.write_all(&[b'x'; 1000]).unwrap();
            stream
        })
        .collect();
    // Others have places, and its token is wrong.
    form(CLIENT).body(&[b'x'; 200_000]).send().expect(403);
    let begun = Instant::now();
    let mut refused = 0;
    while refused < SLOW - 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{refused} are refused");
        slow.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            if stream.peek(&mut [0]).is_err() {
                return true;
            }
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            assert!(Answer::read(stream, false).expect(429).header("retry-after").is_some());
            refused += 1;
            false
        });
    }
    // A small form needs no place.
    form(ATTACKER).body(&[b'x'; 1000]).send().expect(403);
    assert_eq!(slow.len(), 4);
}
