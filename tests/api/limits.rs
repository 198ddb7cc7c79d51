//! Limits of connections, headers, bodies, memory and descriptors that a client could use up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;

/// Returns true if the server closes the connection within twenty seconds; a lingering close takes up to ten.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    // A reset closes it as well.
    !matches!(stream.read_to_end(&mut rest), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn connections_over_the_limit_wait_for_a_slot() {
    let daemon =
        Daemon::with_env(&[("HOLDFAST_LIMITS_CONNECTIONS", "2"), ("HOLDFAST_LIMITS_HEADER_TIME", "1s")]);
    let mut idle: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(daemon.address).unwrap()).collect();
    let begun = Instant::now();
    daemon.get("/v2/").expect(200);
    assert!(begun.elapsed() > Duration::from_millis(500), "a third connection was served beside two");
    assert!(idle.iter_mut().all(is_ended), "idle connections stay open");
}

#[test]
fn slow_or_large_headers_are_refused() {
    let daemon =
        Daemon::with_env(&[("HOLDFAST_LIMITS_HEADER_TIME", "1s"), ("HOLDFAST_LIMITS_HEADER_BYTES", "8KiB")]);
    let mut slow = TcpStream::connect(daemon.address).unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nHost: ").unwrap();
    assert!(is_ended(&mut slow));
    let answer = daemon.request("GET", "/v2/").header("X-Large", &"x".repeat(20_000)).send();
    assert_eq!(answer.status, 431);
    daemon.get("/v2/").expect(200);
}

#[test]
fn a_stalled_body_gets_408_and_keeps_the_received_bytes() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_BODY_STALL", "1s")]);
    let location = daemon.start_upload("a");
    let request = daemon.request("PATCH", &location).header("Content-Length", "1000000");
    let mut stream = request.open();
    stream.write_all(&[7; 300_000]).unwrap();
    assert_eq!(Response::read(&mut stream, false).status, 408);
    assert!(is_ended(&mut stream));
    assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-299999");
}

#[test]
fn a_client_that_does_not_read_its_response_is_disconnected() {
    let daemon =
        Daemon::with_env(&[("HOLDFAST_LIMITS_BODY_STALL", "1s"), ("HOLDFAST_LIMITS_CONNECTIONS", "1")]);
    let digest = daemon.push_blob("a", &vec![3; 32 << 20]);
    let stream = daemon.request("GET", &format!("/v2/a/blobs/{digest}")).open();
    // The only slot is free again before the client has read a byte.
    daemon.get("/v2/").expect(200);
    drop(stream);
}

#[test]
fn one_byte_chunks_do_not_grow_memory() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    let mut stream = daemon.request("PATCH", &location).header("Transfer-Encoding", "chunked").open();
    let before = peak_memory(&daemon);
    let chunks = b"1\r\nx\r\n".repeat(500_000);
    stream.write_all(&chunks).unwrap();
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(Response::read(&mut stream, false).status, 202);
    let grown = peak_memory(&daemon) - before;
    assert!(grown < 4 << 10, "{grown} KiB for half a million bytes");
    assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-499999");
}

/// Returns the peak memory of the daemon in KiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_daemon_survives_more_connections_than_descriptors() {
    let daemon = Daemon::with_descriptors(48);
    daemon.push_image("a", "1", b"layer");
    let crowd: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(daemon.address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(crowd);
    daemon.get("/v2/a/manifests/1").expect(200);
    daemon.push_image("a", "2", b"another layer");
}
