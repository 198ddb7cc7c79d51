//! Pushes of blobs: in chunks, in one request, by a mount, after a lost connection.

use std::io::Write;

use holdfast::oci::{Algorithm, Hasher};

use crate::support::*;

#[test]
fn a_blob_is_pushed_with_post_patch_and_put_as_docker_does() {
    let daemon = Daemon::start();
    let content = vec![7u8; 700_000];
    let start = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202);
    let location = start.required_header("location");
    let patched = daemon.request("PATCH", &location).chunked(&content).send().expect(202);
    assert_eq!(patched.required_header("range"), format!("0-{}", content.len() - 1));
    let status = daemon.get(&location).expect(204);
    assert_eq!(status.required_header("range"), patched.required_header("range"));
    let digest = digest(&content);
    let put = format!("{}?digest={digest}", patched.required_header("location"));
    let done = daemon.request("PUT", &put).body(b"").send().expect(201);
    assert_eq!(done.required_header("docker-content-digest"), digest);
    assert_eq!(daemon.get(&done.required_header("location")).expect(200).body, content);
    assert_eq!(daemon.get(&location).expect(404).error_code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn chunks_are_accepted_in_order_only() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    let chunk = |range: &str, bytes: &[u8]| {
        daemon.request("PATCH", &location).header("Content-Range", range).body(bytes).send()
    };
    assert_eq!(chunk("1-3", b"abc").expect(416).required_header("range"), "0-0");
    chunk("0-2", b"abc").expect(202);
    let refused = chunk("2-3", b"xx").expect(416);
    assert_eq!(
        (refused.required_header("range"), refused.required_header("location")),
        ("0-2".into(), location.clone())
    );
    assert_eq!(chunk("3-9", b"de").expect(400).error_code(), "SIZE_INVALID");
    chunk("3-4", b"de").expect(202);
    let put = format!("{location}?digest={}", digest(b"abcdefg"));
    daemon.request("PUT", &put).header("Content-Range", "5-6").body(b"fg").send().expect(201);
}

#[test]
fn an_empty_blob_and_a_sha512_digest_are_pushed_in_one_request() {
    let daemon = Daemon::start();
    daemon.push_blob("a", b"");
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(b""))).expect(200).body, b"");
    let sha512 = Hasher::digest(Algorithm::Sha512, b"hello").to_string();
    let path = format!("/v2/a/blobs/uploads/?digest={sha512}");
    daemon.request("POST", &path).body(b"hello").send().expect(201);
    let start = daemon.request("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512").body(b"").send();
    let put = format!("{}?digest={sha512}", start.expect(202).required_header("location"));
    daemon.request("PUT", &put).body(b"hello").send().expect(201);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{sha512}")).expect(200).body, b"hello");
    // The algorithm of the digest decides, not the one that the upload was opened with.
    let start = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202);
    daemon.request("PATCH", &start.required_header("location")).body(b"hel").send().expect(202);
    let put = format!("{}?digest={sha512}", start.required_header("location"));
    daemon.request("PUT", &put).body(b"lo").send().expect(201);
}

#[test]
fn a_wrong_digest_is_refused_and_leaves_no_file() {
    let daemon = Daemon::start();
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"other"));
    let answer = daemon.request("POST", &path).body(b"hello").send().expect(400);
    assert_eq!(answer.error_code(), "DIGEST_INVALID");
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
    let start = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202);
    let answer = daemon.request("PUT", &start.required_header("location")).body(b"hello").send().expect(400);
    assert_eq!(answer.error_code(), "DIGEST_INVALID");
    daemon.request("DELETE", &start.required_header("location")).send().expect(204);
    daemon.get(&start.required_header("location")).expect(404);
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let daemon = Daemon::start();
    let blob = daemon.push_blob("from", b"hello");
    let mount = |query: &str| {
        daemon.request("POST", &format!("/v2/to/blobs/uploads/?mount={blob}{query}")).body(b"").send()
    };
    daemon.get(&format!("/v2/to/blobs/{blob}")).expect(404);
    mount("&from=nowhere").expect(202);
    assert!(mount("&from=from").expect(201).required_header("location").ends_with(&blob));
    daemon.get(&format!("/v2/to/blobs/{blob}")).expect(200);
    let anywhere = format!("/v2/third/blobs/uploads/?mount={blob}");
    daemon.request("POST", &anywhere).body(b"").send().expect(201);
    let unknown = format!("/v2/to/blobs/uploads/?mount={}&from=from", digest(b"x"));
    daemon.request("POST", &unknown).body(b"").send().expect(202);
}

#[test]
fn upload_resumes_after_a_lost_connection() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    let mut broken = daemon.request("PATCH", &location).header("Transfer-Encoding", "chunked").open();
    broken.write_all(b"5\r\nhello\r\n").unwrap();
    broken.flush().unwrap();
    drop(broken);
    for _ in 0..200 {
        if daemon.get(&location).expect(204).required_header("range") == "0-4" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let put = format!("{location}?digest={}", digest(b"hello world"));
    daemon.request("PUT", &put).header("Content-Range", "5-10").body(b" world").send().expect(201);
}

#[test]
fn expect_continue_is_answered_with_100() {
    let daemon = Daemon::start();
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"hello"));
    let request =
        daemon.request("POST", &path).header("Expect", "100-continue").header("Content-Length", "5");
    let mut stream = request.open();
    assert_eq!(Response::read(&mut stream, false).status, 100);
    stream.write_all(b"hello").unwrap();
    assert_eq!(Response::read(&mut stream, false).status, 201);
}
