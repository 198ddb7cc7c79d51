//! Low limits of open files: the daemon serves fewer clients at once, and no request fails for lack of a descriptor.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::*;

const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn begin_upload(daemon: &Daemon, number: usize) -> TcpStream {
    let path = format!("/v2/crowd{}/blobs/uploads/?digest=sha256:{}", number % 7, "0".repeat(64));
    let mut stream =
        daemon.request("POST", &path).keep_alive().header("Content-Length", "1000000").from(CROWD).open();
    // Fails if the daemon has refused the upload already.
    let _ = stream.write_all(&[7; 1000]);
    stream
}

/// Pulls an image of one layer.
fn pull(daemon: &Daemon, image: &str) {
    let get = |path: String| daemon.request("GET", &path).from(CLIENT).send().expect(200);
    let manifest = get(format!("/v2/{image}/manifests/1")).json();
    for descriptor in [&manifest["config"], &manifest["layers"][0]] {
        get(format!("/v2/{image}/blobs/{}", descriptor["digest"].as_str().unwrap()));
    }
}

/// Opens many uploads and connections at once: pulls succeed, the other requests get a Retry-After, and uploads succeed
/// afterwards.
fn crowd_is_served_with(limit: u32) {
    let daemon = Daemon::with_descriptors(limit);
    daemon.push_image("small", "1", b"layer");
    let count = limit as usize + 20;
    let mut crowd = Vec::new();
    for number in 0..count {
        crowd.push(begin_upload(&daemon, number));
        if number % (count / 8) == 0 {
            pull(&daemon, "small");
        }
    }
    let idle: Vec<TcpStream> = (0..50).map(|_| connect_from(CROWD, daemon.address).unwrap()).collect();
    for _ in 0..5 {
        pull(&daemon, "small");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(open <= limit as usize, "{open} descriptors of {limit}");
    let mut refused = 0;
    for stream in &mut crowd {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // Without a response: the upload is being received, or its connection was evicted.
        let Ok(answer) = Response::try_read(stream, false) else { continue };
        assert!(matches!(answer.status, 429 | 503), "{answer:?}");
        assert!(answer.required_header("retry-after").parse::<u32>().unwrap() > 0);
        refused += 1;
    }
    assert!(refused > 0, "no upload was refused");
    drop((crowd, idle));
    for (number, layer) in [b"another", b"onemore"].iter().enumerate() {
        push_as_client(&daemon, &format!("after{number}"), *layer);
        pull(&daemon, &format!("after{number}"));
    }
}

/// Pushes an image; retries while the daemon still closes the connections of the crowd.
fn push_as_client(daemon: &Daemon, name: &str, layer: &[u8]) {
    for _ in 0..100 {
        let digest = digest(layer);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let status = daemon.request("POST", &path).body(layer).from(CLIENT).send().status;
        if status == 201 {
            daemon.push_image(name, "1", layer);
            return;
        }
        assert!(matches!(status, 429 | 503), "{status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("uploads are still refused");
}

#[test]
fn crowd_is_served_with_64_descriptors() {
    crowd_is_served_with(64);
}

#[test]
fn crowd_is_served_with_256_descriptors() {
    crowd_is_served_with(256);
}

#[test]
fn crowd_is_served_with_1024_descriptors() {
    crowd_is_served_with(1024);
}

fn set_limit(daemon: &Daemon, limit: &str) {
    run(Command::new("prlimit").args(["--pid", &daemon.pid().to_string(), &format!("--nofile={limit}")]));
}

/// Returns the processor time of the daemon in clock ticks of 10 ms.
fn processor_time(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn accept_without_descriptors_waits_and_recovers() {
    let daemon = Daemon::start();
    let mut idle = daemon.request("GET", "/v2/").keep_alive().open();
    Response::read(&mut idle, false).expect(200);
    // Lowers the soft limit below the number of open files.
    set_limit(&daemon, "8:");
    let mut waiting = daemon.request("GET", "/v2/").from(CLIENT).open();
    waiting.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let before = processor_time(&daemon);
    Response::try_read(&mut waiting, false).unwrap_err();
    let used = processor_time(&daemon) - before;
    assert!(used < 50, "{used} ticks of processor time in a second of waiting");
    idle.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(matches!(idle.peek(&mut [0; 1]), Ok(0)), "the idle connection is kept");
    set_limit(&daemon, "1024:");
    waiting.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    Response::read(&mut waiting, false).expect(200);
    daemon.push_image("a", "1", b"layer");
}

#[test]
fn soft_limit_is_raised_and_a_low_one_lowers_the_connections() {
    let mut daemon = Daemon::with_descriptors(64);
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    daemon.stop();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("limits.connections is 512")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("64 open files"), "{text}");

    let daemon = Daemon::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1]);
}
