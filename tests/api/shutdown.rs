//! Shutdown: running requests finish, and neither unfinished heads nor blocked threads delay it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::*;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

#[test]
fn shutdown_succeeds_while_all_threads_block_on_a_file() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    let users = daemon.data.join("htpasswd");
    std::fs::remove_file(&users).unwrap();
    // Opening a FIFO blocks until it has a writer.
    run(std::process::Command::new("mkfifo").arg(&users));
    let stuck: Vec<TcpStream> =
        (0..80).map(|_| daemon.request("GET", "/v2/").login("alice", "secret").open()).collect();
    assert!(daemon.stop_within(Duration::from_secs(60)));
    drop(stuck);
    // The index is closed.
    assert!(daemon.data.join("index/clean").exists());
}

/// Opens connections that stop inside a head, or between two requests.
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
            Response::read(&mut stream, false).expect(200);
            stream.write_all(rest.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    held
}

#[test]
fn idle_connections_of_tls_and_of_the_control_socket_do_not_delay_a_stop() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    daemon.kill();
    let log = daemon.start_again_with_log(&[("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_LOG_LEVEL", "info")]);
    let address = daemon.address.to_string();
    // Idle after a request, and in the middle of a head, both over TLS.
    let mut clients: Vec<std::process::Child> =
        ["GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /v2/ HT"]
            .into_iter()
            .map(|head| {
                let mut client = std::process::Command::new("openssl");
                client.args(["s_client", "-quiet", "-connect", &address]);
                let piped = std::process::Stdio::piped;
                let mut client = client.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
                client.stdin.as_mut().unwrap().write_all(head.as_bytes()).unwrap();
                client
            })
            .collect();
    let mut answer = [0; 12];
    clients[0].stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let idle = connect_from(ATTACKER, daemon.address).unwrap();
    let control: Vec<_> = ["", "GET /_holdfast/v1/sta"]
        .into_iter()
        .map(|head| {
            let mut stream =
                std::os::unix::net::UnixStream::connect(daemon.data.join("control.sock")).ok()?;
            stream.write_all(head.as_bytes()).ok().map(|()| stream)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    assert!(daemon.stop_within(Duration::from_secs(15)), "{:?}", begun.elapsed());
    drop((idle, control));
    for mut client in clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.trim_end().ends_with("INFO  stopped"), "{text}");
}

#[test]
fn shutdown_finishes_requests_and_does_not_wait_for_unfinished_heads() {
    for mode in ["off", "auto"] {
        let mut daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", mode)]);
        let mut held = Vec::new();
        let mut upload = None;
        if mode == "off" {
            held = unfinished(&daemon);
            let head = format!("/v2/a/blobs/uploads/?digest={}", digest(b"slow content"));
            let mut stream = daemon.request("POST", &head).header("Content-Length", "12").from(CLIENT).open();
            stream.write_all(b"slow ").unwrap();
            // The head has arrived, and the upload has begun.
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
            // Connections are accepted in order, so the others are accepted by now.
            daemon.request("GET", "/ca.crt").from(CLIENT).send().expect(200);
        }
        let begun = Instant::now();
        run(std::process::Command::new("kill").arg(daemon.pid().to_string()));
        for stream in &mut held {
            // Closed, with a reset if it had unread bytes.
            stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
            let end = stream.read(&mut [0; 1]);
            let still_open = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
            assert!(!end.as_ref().is_err_and(still_open), "{mode}: {end:?}");
        }
        if let Some(mut stream) = upload {
            stream.write_all(b"content").unwrap();
            Response::read(&mut stream, false).expect(201);
        }
        daemon.wait();
        // Many times the usual duration, and less than the half minute that requests in progress have.
        assert!(begun.elapsed() < Duration::from_secs(20), "{mode}: {:?}", begun.elapsed());
    }
}
