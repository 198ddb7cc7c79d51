//! Races of the events of an upload, with each system call of an upload delayed in turn; the cost of catching up a
//! hash; the limit of unfinished uploads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::fault_injection::FaultInjection;
use crate::support::*;

/// The system calls of an upload.
const CALLS: [&str; 8] = ["openat", "flock", "pwrite64", "fdatasync", "rename", "unlink", "statx", "close"];
/// The delay of each call, longer than a request.
const DELAY: Duration = Duration::from_millis(40);
/// The delay of a late body, in milliseconds.
const LATE: u64 = 90;
/// The number of concurrent uploads.
const WORKERS: usize = 12;
const FIRST: &[u8] = b"the first part, ";
const MORE: &[u8] = b"and more";
/// The bytes of a PATCH, at the offset where a PUT writes [`MORE`].
const OTHER: &[u8] = b"OTHER";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Patch,
    /// A PATCH whose body arrives after other requests have ended.
    LatePatch,
    Put,
    PutWithBody,
    Delete,
}

const EVENTS: [Event; 5] = [Event::Patch, Event::LatePatch, Event::Put, Event::PutWithBody, Event::Delete];

/// Returns the first part of a round; the number makes its content unique.
fn first(round: usize) -> Vec<u8> {
    [format!("{round}: ").as_bytes(), FIRST].concat()
}

impl Event {
    /// Sends the request; returns the content that was acknowledged as a blob.
    fn happen(self, daemon: &Daemon, location: &str, round: usize) -> Option<Vec<u8>> {
        let whole = [first(round), MORE.to_vec()].concat();
        let (method, content, body): (_, _, &[u8]) = match self {
            Event::Patch => ("PATCH", None, OTHER),
            Event::LatePatch => {
                patch_late(daemon, location);
                return None;
            }
            Event::Put => ("PUT", Some(first(round)), b""),
            Event::PutWithBody => ("PUT", Some(whole), MORE),
            Event::Delete => ("DELETE", None, b""),
        };
        let query = content.as_ref().map(|content| format!("?digest={}", digest(content)));
        let path = format!("{location}{}", query.unwrap_or_default());
        // A test may kill the daemon at any moment.
        let answer = daemon.request(method, &path).body(body).try_send().ok()?;
        assert!(answer.status < 500 || answer.status == 503, "{self:?}: {}", answer.status);
        content.filter(|_| answer.status == 201)
    }
}

fn patch_late(daemon: &Daemon, location: &str) {
    let Ok(mut stream) = TcpStream::connect(daemon.address) else { return };
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: registry\r\nContent-Length: {}\r\n\r\n", OTHER.len());
    let _ = stream.write_all(head.as_bytes());
    std::thread::sleep(Duration::from_millis(LATE));
    let _ = stream.write_all(OTHER);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.read(&mut [0; 12]);
}

/// Runs two events on one upload at once, and a third a moment later; returns the acknowledged content.
fn round(daemon: &Daemon, number: usize, events: [Event; 3]) -> Vec<Vec<u8>> {
    let start = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").try_send();
    let Ok(Some(location)) = start.map(|start| start.header("location").map(str::to_owned)) else {
        return Vec::new();
    };
    let _ = daemon.request("PATCH", &location).body(&first(number)).try_send();
    std::thread::scope(|scope| {
        let location = &location;
        let happening = events.into_iter().enumerate().map(|(place, event)| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis([0, 3, 60][place]));
                event.happen(daemon, location, number)
            })
        });
        let happening: Vec<_> = happening.collect();
        happening.into_iter().filter_map(|event| event.join().unwrap()).collect()
    })
}

/// Returns all pairs of events, each with a third one.
fn all_pairs() -> Vec<[Event; 3]> {
    let pairs = EVENTS.into_iter().flat_map(|first| EVENTS.map(|second| [first, second]));
    pairs.enumerate().map(|(number, [first, second])| [first, second, EVENTS[number % 4]]).collect()
}

#[track_caller]
fn verify(daemon: &Daemon, acknowledged: &[Vec<u8>], case: &str) {
    for content in acknowledged {
        let blob = daemon.get(&format!("/v2/a/blobs/{}", digest(content))).expect(200).body;
        let file = daemon.data.join("blobs/sha256").join(&digest(content)["sha256:".len()..]);
        let file = std::fs::read(file).unwrap();
        let [blob, file, content] = [&blob, &file, content].map(|bytes| String::from_utf8_lossy(bytes));
        assert_eq!((&blob, &file), (&content, &content), "{case}");
    }
}

/// Runs `holdfast gc` beside the daemon until `stop`, with uploads that expire at once.
fn expire_beside(daemon: &Daemon, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_UPLOADS_EXPIRE", "0s");
        run(command.args(["gc", "--data"]).arg(&daemon.data));
    }
}

#[test]
fn acknowledged_blobs_are_intact_after_races_of_requests_and_expiry() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_UPLOADS_EXPIRE", "0s")]);
    let (stop, numbers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut all = 0;
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| expire_beside(&daemon, &stop));
        for call in CALLS {
            let slow = FaultInjection::delay(daemon.pid(), call, None, DELAY);
            let triples = all_pairs();
            // Each worker has an upload of its own.
            let acknowledged: Vec<Vec<u8>> = std::thread::scope(|scope| {
                let workers: Vec<_> = triples
                    .chunks(triples.len().div_ceil(WORKERS))
                    .map(|triples| {
                        scope.spawn(|| {
                            let next = || numbers.fetch_add(1, Ordering::Relaxed);
                            triples.iter().flat_map(|events| round(&daemon, next(), *events)).collect()
                        })
                    })
                    .collect();
                workers.into_iter().flat_map(|worker| -> Vec<_> { worker.join().unwrap() }).collect()
            });
            drop(slow);
            verify(&daemon, &acknowledged, call);
            all += acknowledged.len();
        }
        stop.store(true, Ordering::Relaxed);
        beside.join().unwrap();
    });
    assert!(all > 20, "only {all} of {} uploads were acknowledged", numbers.into_inner());
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

/// The delay of the unlink, long enough for requests in between.
const SLOW_UNLINK: Duration = Duration::from_millis(200);

/// Lets an upload expire between the head and the body of a PATCH, while a PUT ends it; returns the acknowledged
/// content.
fn expire_during_patch(daemon: &Daemon, number: usize) -> Option<Vec<u8>> {
    let location = daemon.start_upload("a");
    // On a busy machine the upload may have expired already, and this round shows nothing.
    let begun = daemon.request("PATCH", &location).body(&first(number)).send();
    if begun.status == 404 {
        return None;
    }
    begun.expect(202);
    // The first collection records the upload, a later one removes it.
    std::thread::sleep(Duration::from_millis(10 + 5 * (number % 12) as u64));
    std::thread::scope(|scope| {
        scope.spawn(|| patch_late(daemon, &location));
        std::thread::sleep(Duration::from_millis(45));
        let event = if number.is_multiple_of(2) { Event::Put } else { Event::PutWithBody };
        event.happen(daemon, &location, number)
    })
}

#[test]
fn an_upload_that_is_being_unlinked_is_not_resumed() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "20ms"), ("HOLDFAST_UPLOADS_EXPIRE", "0s")]);
    let _slow = FaultInjection::delay(daemon.pid(), "unlink", None, SLOW_UNLINK);
    let acknowledged: Vec<_> = (0..36).filter_map(|number| expire_during_patch(&daemon, number)).collect();
    assert!(!acknowledged.is_empty());
    verify(&daemon, &acknowledged, "expiry");
}

#[test]
fn acknowledged_blobs_are_intact_after_a_kill_during_races() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    for (number, call) in CALLS.into_iter().enumerate() {
        let events =
            [[Event::PutWithBody, Event::Delete, Event::Put], [Event::Patch, Event::Put, Event::PutWithBody]];
        let events = events[number % 2];
        let location = daemon.start_upload("a");
        daemon.request("PATCH", &location).body(&first(number)).send().expect(202);
        let slow = FaultInjection::delay(daemon.pid(), call, None, DELAY);
        let process = daemon.pid().to_string();
        let acknowledged: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let (daemon, location) = (&daemon, &location);
            let happening: Vec<_> =
                events.map(|event| scope.spawn(move || event.happen(daemon, location, number))).into();
            std::thread::sleep(Duration::from_millis(40));
            run(Command::new("kill").args(["-9", &process]));
            happening.into_iter().filter_map(|event| event.join().unwrap()).collect()
        });
        drop(slow);
        daemon.start_again();
        verify(&daemon, &acknowledged, call);
        // The upload can be resumed, or it does not exist.
        let again = daemon.get(&location);
        if again.status == 204 {
            let acknowledged = Event::Put.happen(&daemon, &location, number);
            verify(&daemon, &acknowledged.into_iter().collect::<Vec<_>>(), call);
        } else {
            again.expect(404);
        }
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

/// Returns the number of bytes that the daemon has read, by any system call.
fn bytes_read(daemon: &Daemon) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.parse().unwrap()
}

fn sha512(content: &[u8]) -> String {
    holdfast::oci::Hasher::digest(holdfast::oci::Algorithm::Sha512, content).to_string()
}

/// Starts a PUT, and disconnects once the daemon answers `100 Continue`: the hash is current then.
fn start_put(daemon: &Daemon, location: &str, digest: &str) {
    use std::io::{BufRead, BufReader};
    let put = daemon.request("PUT", &format!("{location}?digest={digest}"));
    let stream = put.header("Expect", "100-continue").header("Content-Length", "5").open();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains("100"), "{line}");
}

#[test]
fn an_upload_is_read_again_once_per_algorithm() {
    let mut daemon = Daemon::start();
    let content: Vec<u8> = (0..24u32 << 20).map(|i| (i % 251) as u8).collect();
    let size = content.len() as u64;
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).chunked(&content).send().expect(202);
    let before = bytes_read(&daemon);
    for _ in 0..4 {
        start_put(&daemon, &location, &sha512(&content));
        start_put(&daemon, &location, &digest(&content));
    }
    let again = bytes_read(&daemon) - before;
    assert!((size..size * 3 / 2).contains(&again), "{again} bytes of {size} were read again");
    // After a restart no hash is in memory: one read per algorithm.
    daemon.kill_and_restart();
    let before = bytes_read(&daemon);
    for _ in 0..4 {
        start_put(&daemon, &location, &digest(&content));
        start_put(&daemon, &location, &sha512(&content));
    }
    let again = bytes_read(&daemon) - before;
    assert!((size * 2..size * 5 / 2).contains(&again), "{again} bytes of {size} were read again");
    let put = format!("{location}?digest={}", sha512(&content));
    daemon.request("PUT", &put).body(b"").send().expect(201);
    let blob = daemon.get(&format!("/v2/a/blobs/{}", sha512(&content))).expect(200);
    assert!(blob.body == content);
}

#[test]
fn catching_up_a_hash_stops_when_the_client_disconnects() {
    let mut daemon = Daemon::start();
    let content = vec![7; 64 << 20];
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).body(&content).send().expect(202);
    daemon.kill_and_restart();
    let before = bytes_read(&daemon);
    let slow = FaultInjection::delay(daemon.pid(), "pread64", None, Duration::from_millis(4));
    let put = daemon.request("PUT", &format!("{location}?digest={}", digest(&content)));
    let stream = put.body(b"").open();
    wait_until("reading has started", || bytes_read(&daemon) - before > 1 << 20);
    drop(stream);
    let mut last = 0;
    wait_until("reading has stopped", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, bytes_read(&daemon)) == last
    });
    drop(slow);
    let read = bytes_read(&daemon) - before;
    assert!(read < content.len() as u64 / 2, "{read} bytes were read for a disconnected client");
    daemon.request("DELETE", &location).send().expect(204);
}

#[track_caller]
fn wait_until(expected: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "not within 30 seconds: {expected}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn unfinished_uploads_over_the_limit_are_evicted_empty_and_oldest_first() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_UNFINISHED_UPLOADS", "20")]);
    let start = |repository: &str| {
        let path = format!("/v2/{repository}/blobs/uploads/");
        daemon.request("POST", &path).body(b"").send().expect(202).required_header("location")
    };
    let begun = start("team/app");
    daemon.request("PATCH", &begun).body(b"begun ").send().expect(202);
    for _ in 0..100 {
        start("other");
    }
    let files = std::fs::read_dir(daemon.data.join("uploads")).unwrap().count();
    assert!(files <= 20, "{files} files");
    // The upload with content was not evicted for empty ones.
    let put = format!("{begun}?digest={}", digest(b"begun and ended"));
    daemon.request("PUT", &put).body(b"and ended").send().expect(201);
    // When all have content, the oldest are evicted.
    let oldest = start("other");
    daemon.request("PATCH", &oldest).body(b"x").send().expect(202);
    for _ in 0..40 {
        let location = start("other");
        daemon.request("PATCH", &location).body(b"x").send().expect(202);
    }
    assert!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count() <= 20);
    daemon.get(&oldest).expect(404);
    daemon.push_image("team/app", "1", b"layer");
}
