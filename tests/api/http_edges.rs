//! Edge cases of HTTP/1.1: the length of a head, the host, framing, and the errors that hyper produces itself.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::*;

/// Sends raw bytes in pieces of at most this length, and returns the response.
fn send(daemon: &Daemon, bytes: &[u8], piece: usize) -> Response {
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    for part in bytes.chunks(piece) {
        // The daemon may refuse a long head before its end.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    Response::read(&mut stream, false)
}

/// Sends a head, to which the empty line is added.
fn send_head(daemon: &Daemon, head: &str) -> Response {
    send(daemon, format!("{head}\r\n").as_bytes(), usize::MAX)
}

/// Returns a request of exactly this number of bytes.
fn head_of(length: usize) -> Vec<u8> {
    let start = "GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\nX-Padding: ";
    let end = "\r\n\r\n";
    let padding = "x".repeat(length - start.len() - end.len());
    format!("{start}{padding}{end}").into_bytes()
}

#[test]
fn a_request_head_longer_than_header_bytes_is_431() {
    for (setting, limit) in [("8KiB", 8192), ("20000", 20_000), ("64KiB", 65_536), ("1MiB", 1 << 20)] {
        let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_HEADER_BYTES", setting)]);
        for piece in [usize::MAX, 1000] {
            assert_eq!(send(&daemon, &head_of(limit), piece).status, 200, "{setting} {piece}");
            assert_eq!(send(&daemon, &head_of(limit + 1), piece).status, 431, "{setting} {piece}");
        }
    }
}

#[test]
fn a_body_does_not_count_as_head() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_HEADER_BYTES", "8KiB")]);
    daemon.push_image("a", "1", &vec![7; 1 << 20]);
    let mut bytes = head_of(8192 - 19);
    bytes.truncate(bytes.len() - 2);
    bytes.extend(b"Content-Length: 20\r\n\r\n");
    bytes.extend([b'x'; 20]);
    assert_eq!(send(&daemon, &bytes, usize::MAX).status, 431);
    let mut bytes = head_of(8192 - 20);
    bytes.truncate(bytes.len() - 2);
    bytes.extend(b"Content-Length: 20\r\n\r\n");
    assert_eq!(bytes.len(), 8192);
    bytes.extend([b'x'; 20]);
    assert_eq!(send(&daemon, &bytes, usize::MAX).status, 200);
}

#[test]
fn a_request_names_exactly_one_host() {
    let daemon = Daemon::start();
    for head in [
        "GET /v2/ HTTP/1.1\r\n",
        "GET /v2/ HTTP/1.1\r\nHost:\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        "GET /v2/ HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a b\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a, b\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: :5000\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: [::1]evil.example\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: evil@localhost\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: localhost/evil.example\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a:99999\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\u{e9}\r\n",
        "GET http://a/v2/ HTTP/1.1\r\nHost: b\r\n",
        "GET http://a:81/v2/ HTTP/1.1\r\nHost: a\r\n",
        "GET http://localhost/v2/ HTTP/1.1\r\nHost: evil.example\r\n",
        "GET http://a/v2/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nAccept: text/html\r\n",
    ] {
        let answer = send_head(&daemon, head).expect(400);
        assert_eq!(answer.error_code(), "UNSUPPORTED", "{head:?}");
        assert_eq!(answer.required_header("connection"), "close", "{head:?}");
        assert_eq!(answer.required_header("content-security-policy"), "default-src 'none'; sandbox");
    }
    for head in [
        "GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n",
        "GET http://Registry:80/v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n",
        "GET /v2/ HTTP/1.0\r\nHost: registry\r\n",
        "GET http://registry/v2/ HTTP/1.0\r\n",
        // Without a host, from this machine.
        "GET /v2/ HTTP/1.0\r\n",
    ] {
        send_head(&daemon, head).expect(200);
    }
}

#[test]
fn a_host_in_the_target_is_checked_like_one_in_the_header() {
    let daemon = Daemon::start();
    for head in [
        "GET http://evil.example/v2/ HTTP/1.0\r\n",
        "GET http://evil.example/v2/ HTTP/1.1\r\nHost: evil.example\r\n",
        "GET http://evil.example/ HTTP/1.0\r\nAccept: text/html\r\n",
    ] {
        send_head(&daemon, head).expect(421);
    }
}

#[test]
fn plain_http_beside_tls_never_redirects_to_a_malformed_host() {
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    for host in ["evil.example/x", "a@b", "[::1]x"] {
        let answer = send_head(&daemon, &format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n")).expect(400);
        assert_eq!(answer.header("location"), None);
    }
    send_head(&daemon, "GET /v2/ HTTP/1.0\r\n").expect(400);
    let answer =
        send_head(&daemon, "GET /v2/ HTTP/1.1\r\nHost: registry:5000\r\nConnection: close\r\n").expect(308);
    assert_eq!(answer.required_header("location"), "https://registry:5000/v2/");
}

/// Checks a response of hyper's own, which has to have the headers of all responses.
#[track_caller]
fn expect_refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{answer:?}");
    assert_eq!(answer.required_header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(answer.required_header("x-content-type-options"), "nosniff");
    assert_eq!(answer.required_header("content-type"), "application/json");
    assert_eq!(answer.required_header("connection"), "close");
    assert!(answer.header("date").is_some());
}

#[test]
fn an_unparsable_request_gets_the_standards_json_also_behind_pipelined_ones() {
    let daemon = Daemon::start();
    let blob = daemon.push_blob("a", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let good = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: registry\r\n\r\n");
    for bad in ["nonsense\r\n\r\n", "GET /v2/ HTTP/1.1\r\nHost : a\r\n\r\n", "GET /v2/ HTTP/7.0\r\n\r\n"] {
        for before in [
            vec![],
            vec![("GET", "/v2/".to_owned(), 200)],
            vec![("HEAD", "/v2/".to_owned(), 200), ("GET", format!("/v2/a/blobs/{blob}"), 200)],
            vec![("GET", "/v2/none/tags/list".to_owned(), 404), ("HEAD", format!("/v2/a/blobs/{blob}"), 200)],
        ] {
            let mut bytes: String = before.iter().map(|(method, path, _)| good(method, path)).collect();
            bytes += bad;
            let mut stream = TcpStream::connect(daemon.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            let mut rest = std::io::BufReader::new(&all[..]);
            for (method, path, status) in &before {
                let answer = Response::read_one(&mut rest, *method == "HEAD");
                assert_eq!(answer.status, *status, "{method} {path}");
            }
            expect_refused(&Response::read_one(&mut rest, false), 400, "UNSUPPORTED");
            assert!(rest.fill_buf().unwrap().is_empty());
        }
    }
}

#[test]
fn a_content_length_beyond_any_body_gets_its_own_error() {
    let daemon = Daemon::start();
    for (length, status, code) in [
        ("18446744073709551615", 413, "SIZE_INVALID"),
        ("18446744073709551616", 400, "UNSUPPORTED"),
        ("99999999999999999999999999", 400, "UNSUPPORTED"),
        ("-1", 400, "UNSUPPORTED"),
        ("1, 2", 400, "UNSUPPORTED"),
    ] {
        for path in ["/v2/a/blobs/uploads/", "/v2/a/manifests/1"] {
            let head = format!("PUT {path} HTTP/1.1\r\nHost: registry\r\nContent-Length: {length}\r\n");
            expect_refused(&send_head(&daemon, &head), status, code);
        }
    }
}

#[test]
fn a_large_head_and_a_huge_content_length_get_different_errors() {
    let daemon = Daemon::start();
    let fields = |count: usize| {
        let fields: String = (0..count - 1).map(|number| format!("X-Field-{number}: x\r\n")).collect();
        format!("GET /v2/ HTTP/1.1\r\nHost: registry\r\n{fields}")
    };
    assert_eq!(send_head(&daemon, &format!("{}Connection: close\r\n", fields(99))).status, 200);
    let refused = send_head(&daemon, &fields(101));
    assert!(String::from_utf8_lossy(&refused.body).contains("100 header fields"), "{refused:?}");
    expect_refused(&refused, 431, "UNSUPPORTED");
    for (second, status, code) in [
        (head_of(70_000), 431, "UNSUPPORTED"),
        (format!("{}\r\n", fields(101)).into_bytes(), 431, "UNSUPPORTED"),
        (b"PUT /v2/ HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec(), 413, "SIZE_INVALID"),
    ] {
        let mut stream = TcpStream::connect(daemon.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let first = b"GET /v2/ HTTP/1.1\r\nHost: registry\r\n\r\n";
        // The daemon may refuse it before its end.
        let _ = stream.write_all(&[&first[..], &second].concat());
        let mut answers = std::io::BufReader::new(stream);
        Response::read_one(&mut answers, false).expect(200);
        expect_refused(&Response::read_one(&mut answers, false), status, code);
    }
}

#[test]
fn the_error_of_a_malformed_head_request_has_no_body() {
    let daemon = Daemon::start();
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"HEAD /v2/ HTTP/1.1\r\nHost : x\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8(all).unwrap();
    assert!(all.starts_with("HTTP/1.1 400 ") && all.ends_with("\r\n\r\n"), "{all}");
}

#[test]
fn a_transfer_coding_other_than_chunked_is_not_implemented() {
    let daemon = Daemon::start();
    let path = daemon.start_upload("a");
    for coding in ["gzip, chunked", "chunked, chunked", "identity, chunked"] {
        let head = format!("PATCH {path} HTTP/1.1\r\nHost: registry\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let answer = send(&daemon, format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes(), usize::MAX).expect(501);
        assert_eq!(
            (answer.error_code().as_str(), answer.required_header("connection").as_str()),
            ("UNSUPPORTED", "close")
        );
    }
    // hyper itself refuses a body that it cannot delimit.
    let head = format!("PATCH {path} HTTP/1.1\r\nHost: registry\r\nTransfer-Encoding: gzip\r\n");
    expect_refused(&send_head(&daemon, &head), 400, "UNSUPPORTED");
    let status = daemon.request("GET", &path).send().expect(204);
    assert_eq!(status.required_header("range"), "0-0");
    daemon.request("PATCH", &path).chunked(b"abc").send().expect(202);
}

#[test]
fn a_bare_line_feed_ends_a_line_of_a_head_and_not_of_a_chunk() {
    let daemon = Daemon::start();
    let answer = send(&daemon, b"GET /v2/ HTTP/1.1\nHost: registry\nConnection: close\n\n", usize::MAX);
    assert_eq!(answer.status, 200);
    let path = daemon.start_upload("a");
    for body in ["3\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3;a\nb\r\nabc\r\n0\r\n\r\n"] {
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let answer = send(&daemon, format!("{head}{body}").as_bytes(), usize::MAX);
        assert_eq!(answer.status, 400, "{body:?}");
    }
}
