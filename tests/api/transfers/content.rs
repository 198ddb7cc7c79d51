//! `need` and loose blobs.

use super::*;

#[test]
fn blobs_come_in_once_and_are_read_back() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let (first, second) = (b"the first".as_slice(), b"the second".as_slice());
    let present = daemon.push_blob("team/app", second);
    let answer =
        transfer.need(&[(&digest(first), Some(9)), (&present, None), (&digest(first), None)]).expect(200);
    let item = json!({ "event": "item", "digest": digest(first), "size": 9 });
    let done = json!({ "event": "done", "outcome": "ok", "missing": 1, "bytes": 9 });
    assert_eq!(answer.lines(), [item, done]);
    let path = format!("/blobs/{}", digest(first));
    assert_eq!(transfer.call("GET", &path, b"").code(404), "blob_unknown");
    let stored = json!({ "digest": digest(first), "size": 9, "present": false });
    assert_eq!(transfer.put(first).expect(201).json(), stored);
    assert_eq!(transfer.put(first).expect(200).json()["present"], true);
    assert_eq!(
        transfer.put(second).expect(200).json(),
        json!({ "digest": present, "size": 10, "present": true })
    );
    assert_eq!(transfer.call("GET", &path, b"").expect(200).text, "the first");
    // Only content of this transfer is read back.
    let other = Transfer::open(&daemon);
    assert_eq!(other.call("GET", &path, b"").code(404), "blob_unknown");
    // The digest is not known.
    let posted = transfer.call("POST", "/blobs", b"a stream").expect(201).json();
    assert_eq!(posted, json!({ "digest": digest(b"a stream"), "size": 8, "present": false }));
    for (content, present) in [(b"a stream".as_slice(), true), (second, true), (b"another stream", false)] {
        let posted = transfer.call("POST", "/blobs", content).expect(201).json();
        assert_eq!(posted["present"], present, "{posted}");
    }
    let all = format!("/blobs/{}?read=all", digest(second));
    assert_eq!(transfer.call("PUT", &all, b"a the second").code(400), "digest_invalid");
    assert_eq!(transfer.call("PUT", &all, second).expect(201).json()["present"], true);
    assert_eq!(transfer.call("POST", "/blobs", b"").expect(201).json()["digest"], digest(b""));
    // Loose blobs belong to no repository.
    daemon.get(&format!("/v2/team/app/blobs/{}", digest(first))).expect(404);
    assert_eq!(transfer.need(&[(&digest(first), Some(9))]).expect(200).lines().len(), 1);
}

#[test]
fn both_algorithms_and_chunked_bodies_are_accepted() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    // sha512 of "content".
    let digest = format!("sha512:{}", sha512(b"content"));
    let mut stream = open_connection(&transfer.socket);
    let path = format!("{}/blobs/{digest}", transfer.path);
    stream.write_all(head("PUT", &path, "Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
    stream.write_all(b"3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n").unwrap();
    assert_eq!(read(stream).expect(201).json(), json!({ "digest": digest, "size": 7, "present": false }));
    assert_eq!(transfer.call("GET", &format!("/blobs/{digest}"), b"").expect(200).text, "content");
}

fn sha512(content: &[u8]) -> String {
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha512sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn present_content_is_answered_before_its_body() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    transfer.put(b"content").expect(201);
    let path = format!("{}/blobs/{}", transfer.path, digest(b"content"));
    let mut stream = open_connection(&transfer.socket);
    let headers = "Content-Length: 7\r\nExpect: 100-continue\r\n";
    stream.write_all(head("PUT", &path, headers).as_bytes()).unwrap();
    // The body is never sent.
    assert_eq!(read(stream).expect(200).json()["present"], true);
    let path = format!("{}/blobs/{}", transfer.path, digest(b"another"));
    let mut stream = open_connection(&transfer.socket);
    stream.write_all(head("PUT", &path, headers).as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"another").unwrap();
    assert_eq!(read(stream).expect(201).json()["present"], false);
}

#[test]
fn wrong_bytes_and_unfinished_bodies_leave_nothing() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let path = format!("/blobs/{}", digest(b"content"));
    assert_eq!(transfer.call("PUT", &path, b"other").code(400), "digest_invalid");
    assert_eq!(transfer.call("PUT", "/blobs/sha256:xyz", b"").code(400), "digest_invalid");
    // A client that goes away in the middle.
    let mut stream = open_connection(&transfer.socket);
    stream
        .write_all(head("PUT", &format!("{}{path}", transfer.path), "Content-Length: 700\r\n").as_bytes())
        .unwrap();
    stream.write_all(b"con").unwrap();
    drop(stream);
    let uploads = daemon.data.join("uploads");
    let begun = std::time::Instant::now();
    while std::fs::read_dir(&uploads).unwrap().count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the unfinished upload stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(transfer.call("GET", &path, b"").code(404), "blob_unknown");
    transfer.put(b"content").expect(201);
}

#[test]
fn lines_of_need_are_checked() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let line = |size: &str| format!("{{\"digest\":\"{}\",\"size\":{size}}}\n", digest(b"x"));
    for body in ["x", "{}", "[1]", &line("-1"), &line("18446744073709551616"), &" ".repeat(2000)] {
        assert_eq!(transfer.call("POST", "/need", body.as_bytes()).code(400), "malformed", "{body}");
    }
    assert_eq!(transfer.call("POST", "/need", b"").expect(200).lines().len(), 1);
    let many: String =
        (0..100_001).map(|number| format!("{{\"digest\":\"sha256:{number:064x}\"}}\n")).collect();
    assert_eq!(transfer.call("POST", "/need", many.as_bytes()).code(413), "too_many");
    // The sizes add up without an overflow, and exceed any disk.
    let other = format!("{{\"digest\":\"{}\",\"size\":2}}", digest(b"y"));
    let full = format!("{}{other}", line("18446744073709551615"));
    let answer = transfer.call("POST", "/need", full.as_bytes());
    assert!(answer.text.contains("18446744073709551615 bytes"), "{}", answer.text);
    assert_eq!(answer.code(507), "full");
}

#[test]
fn quota_and_reserve_are_checked_before_the_first_byte() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", "1MiB")]);
    let transfer = Transfer::open(&daemon);
    let answer = transfer.need(&[(&digest(b"x"), Some(2 << 20))]);
    assert!(answer.text.contains("2097152") && answer.text.contains("1048576"), "{}", answer.text);
    assert_eq!(answer.code(507), "full");
    assert_eq!(transfer.need(&[(&digest(b"x"), Some(1 << 20))]).expect(200).lines().len(), 2);
    // A body without a need fails as well, and leaves nothing.
    assert_eq!(transfer.put(&vec![7; 2 << 20]).status, 507);
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    drop(daemon);
    // Only a transfer that moves content may use the reserve.
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_RESERVE", "1000000GiB")]);
    assert_eq!(Transfer::open(&daemon).need(&[(&digest(b"x"), Some(1))]).code(507), "full");
    assert_eq!(Transfer::open(&daemon).put(b"content").status, 507);
    let moving = Transfer::of(&daemon, "move");
    moving.need(&[(&digest(b"content"), Some(7))]).expect(200);
    moving.put(b"content").expect(201);
}
