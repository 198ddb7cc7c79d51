//! Errors of the API: the standard's JSON, and responses to requests that break off.

use std::io::Write;

use crate::support::browser::{Browser, text};
use crate::support::*;

#[test]
fn a_content_length_beyond_the_disk_is_refused() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).body(b"some").send().expect(202);
    let mut stream =
        daemon.request("PATCH", &location).header("Content-Length", "18446744073709551000").open();
    assert_eq!(Response::read(&mut stream, false).status, 507);
    daemon.get("/v2/").expect(200);
}

#[test]
fn errors_have_the_standards_json_and_name_no_file() {
    let daemon = Daemon::start();
    for (method, path, status, code) in [
        ("GET", "/v2/A/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/a/manifests/sha256:xyz", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/.INVALID_MANIFEST_NAME", 400, "MANIFEST_INVALID"),
        ("DELETE", "/v2/a/manifests/.INVALID_MANIFEST_NAME", 400, "MANIFEST_INVALID"),
        ("GET", "/v2/a/nothing", 404, "UNSUPPORTED"),
        ("POST", "/v2/", 405, "UNSUPPORTED"),
        ("PATCH", "/v2/a/blobs/uploads/nonsense", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", "/v2/a/blobs/uploads/00000000-0000-8000-8000-000000000000", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", "/other", 404, "UNSUPPORTED"),
    ] {
        let answer = daemon.request(method, path).send().expect(status);
        assert_eq!(answer.error_code(), code, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains(daemon.data.to_str().unwrap()), "{text}");
    }
    let head = daemon.request("HEAD", "/v2/a/manifests/1").send().expect(404);
    assert!(head.body.is_empty());
    daemon.request("HEAD", "/v2/a/manifests/.INVALID_MANIFEST_NAME").send().expect(404);
}

#[test]
fn the_api_and_the_admin_page_report_the_same_problem() {
    let daemon = Daemon::start();
    let json = daemon.get("/v2/none/tags/list").expect(404).json();
    assert_eq!(json["errors"][0]["message"], "repository none does not exist");
    assert_eq!(json["errors"][0]["detail"]["name"], "none");
    let page = Browser::new(&daemon).get("/repository/none").expect(404);
    assert!(text(&page).contains("Repository none does not exist."), "{page:?}");
    // A method that the endpoint does not have: the same status and `Allow`, in JSON and in HTML.
    let request = daemon.request("DELETE", "/v2/_catalog").send().expect(405);
    assert_eq!(request.required_header("allow"), "GET, HEAD");
    let request = daemon.request("DELETE", "/repositories").send().expect(405);
    assert_eq!(request.required_header("allow"), "GET, HEAD");
    assert!(text(&request).contains("does not support this method"), "{request:?}");
}

#[test]
fn a_client_reads_the_refusal_while_it_still_sends_its_body() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let body = vec![0u8; 20 << 20];
    daemon
        .request("POST", &format!("/v2/a/blobs/uploads/?digest={}", digest(b"")))
        .body(&body)
        .send()
        .expect(401);
    // With `Expect: 100-continue` the refusal comes instead of 100, and the body is never sent.
    let request = daemon
        .request("PUT", "/v2/a/manifests/1")
        .header("Expect", "100-continue")
        .header("Content-Length", "1000");
    let mut stream = request.open();
    assert_eq!(Response::read(&mut stream, false).status, 401);
}

#[test]
fn incomplete_requests_leave_the_daemon_healthy() {
    let daemon = Daemon::start();
    for bytes in [&b"\0\0\0"[..], b"GET", b"GET / HTTP/1.1\r\nHost", b"\xff\xfe GET"] {
        std::net::TcpStream::connect(daemon.address).unwrap().write_all(bytes).unwrap();
    }
    daemon.get("/v2/").expect(200);
}
