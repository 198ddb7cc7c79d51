//! Distribution specification, "Pushing a blob monolithically", "Mounting a blob from another repository", "Cancel a
//! blob upload".

use super::*;

#[test]
fn post_then_put_start_is_202_with_a_location_that_has_a_uuid() {
    let daemon = Daemon::start();
    let (first, second) = (daemon.start_upload("a"), daemon.start_upload("a"));
    assert_ne!(first, second);
    let id = first.rsplit('/').next().unwrap().split('?').next().unwrap();
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{id} is not a UUID");
}

#[test]
fn post_then_put_end_is_201_with_a_pullable_location() {
    let daemon = Daemon::start();
    let path = with_query(&daemon.start_upload("a"), &format!("digest={}", digest(b"layer")));
    let answer = daemon.request("PUT", &path).body(b"layer").send().expect(201);
    assert_eq!(daemon.get(&answer.required_header("location")).expect(200).body, b"layer");
}

#[test]
fn single_post_is_201_with_a_pullable_location() {
    let daemon = Daemon::start();
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"layer"));
    let answer = daemon.request("POST", &path).body(b"layer").send().expect(201);
    assert_eq!(daemon.get(&answer.required_header("location")).expect(200).body, b"layer");
}

#[test]
fn single_post_digest_matches_the_content() {
    let daemon = Daemon::start();
    let path = format!("/v2/a/blobs/uploads/?digest={}", unknown());
    assert_eq!(
        daemon.request("POST", &path).body(b"layer").send().expect(400).error_code(),
        "DIGEST_INVALID"
    );
    daemon.request("HEAD", &format!("/v2/a/blobs/{}", unknown())).send().expect(404);
}

#[test]
fn single_post_length_matches_the_content() {
    let daemon = Daemon::start();
    // A body that ends before its `Content-Length`.
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"layer"));
    let mut stream = std::net::TcpStream::connect(daemon.address).unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 500\r\n\r\nlayer", daemon.address);
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = Response::try_read(&mut stream, false);
    daemon.request("HEAD", &format!("/v2/a/blobs/{}", digest(b"layer"))).send().expect(404);
}

#[test]
fn pushing_blobs_digest_that_is_invalid_or_unsupported_is_400() {
    let daemon = Daemon::start();
    for wrong in ["sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256", ""] {
        let path = with_query(&daemon.start_upload("a"), &format!("digest={wrong}"));
        let answer = daemon.request("PUT", &path).body(b"layer").send().expect(400);
        assert_eq!(answer.error_code(), "DIGEST_INVALID", "{wrong}");
    }
}

#[test]
fn mounting_is_201_with_a_pullable_location() {
    let daemon = Daemon::start();
    let digest = daemon.push_blob("from/here", b"layer");
    let path = format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here");
    let answer = daemon.request("POST", &path).send().expect(201);
    assert!(answer.required_header("location").contains("/v2/to/there/blobs/"));
    assert_eq!(daemon.get(&answer.required_header("location")).expect(200).body, b"layer");
}

#[test]
fn mounting_unknown_content_starts_an_upload() {
    let daemon = Daemon::start();
    let path = format!("/v2/a/blobs/uploads/?mount={}&from=b", unknown());
    let location = daemon.request("POST", &path).send().expect(202).required_header("location");
    let path = with_query(&location, &format!("digest={}", digest(b"layer")));
    daemon.request("PUT", &path).body(b"layer").send().expect(201);
}

#[test]
fn cancelling_is_204_and_ends_the_upload() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    daemon.request("DELETE", &location).send().expect(204);
    assert_eq!(daemon.get(&location).expect(404).error_code(), "BLOB_UPLOAD_UNKNOWN");
}
