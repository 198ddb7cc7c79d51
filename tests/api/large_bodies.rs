//! Large manifests and forms: slow senders occupy only their own share of the pools.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::*;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Sends the head and a part of a large manifest, and then nothing.
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
    let unloaded = put(CLIENT, "rest", false);
    unloaded.0.expect(201);
    let slow: Vec<TcpStream> =
        (0..8).map(|number| begin_large(&daemon, number, ["4000000", ""][number % 2], ATTACKER)).collect();
    // Without their own share, slow senders would hold the places for two minutes.
    let limit = (unloaded.1 * 20).max(Duration::from_secs(10));
    for is_chunked in [false, true] {
        let (answer, time) = put(CLIENT, "2", is_chunked);
        answer.expect(201);
        assert!(time < limit, "it took {time:?}, and {:?} without load", unloaded.1);
        // The same from the attacker's address, which has not used up its share.
        put(ATTACKER, "3", is_chunked).0.expect(201);
    }
    assert_eq!(daemon.get("/v2/a/manifests/2").expect(200).body, large);
    drop(slow);
}

#[test]
fn one_address_gets_its_share_of_the_places_for_large_manifests() {
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
    // The first push may arrive before the slow ones have their places.
    let begun = Instant::now();
    let mut refused = put(ATTACKER);
    while refused.status == 201 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no push is refused");
        refused = put(ATTACKER);
    }
    let refused = refused.expect(429);
    assert_eq!(refused.error_code(), "TOOMANYREQUESTS");
    assert!(refused.required_header("retry-after").parse::<u32>().unwrap() > 0);
    put(CLIENT).expect(201);
    // The files are unlinked, so a crash leaves none behind.
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    drop(slow);
    // Closed connections release their places.
    let begun = Instant::now();
    while put(ATTACKER).status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the places are not released");
    }
}

#[test]
fn a_few_addresses_cannot_take_all_places_for_large_manifests() {
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
    // The first push may arrive before the slow ones have their places.
    let begun = Instant::now();
    while put(Ipv4Addr::new(127, 0, 2, 1)).status != 429 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the slow ones do not have the places");
    }
    put(CLIENT).expect(201);
    drop(slow);
}

#[test]
fn slow_senders_of_large_forms_get_their_share_of_the_places() {
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
    // Another client gets a place, and then 403 for its wrong CSRF token.
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
            assert!(Response::read(stream, false).expect(429).header("retry-after").is_some());
            refused += 1;
            false
        });
    }
    // A small form needs no place.
    form(ATTACKER).body(&[b'x'; 1000]).send().expect(403);
    assert_eq!(slow.len(), 4);
}
