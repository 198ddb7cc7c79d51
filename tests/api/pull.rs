//! Pulls of blobs and manifests: ranges, conditional requests, references.

use crate::support::*;

#[test]
fn blobs_are_pulled_whole_by_range_and_conditionally() {
    let daemon = Daemon::start();
    let content: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
    let digest = daemon.push_blob("a/b", &content);
    let path = format!("/v2/a/b/blobs/{digest}");
    let whole = daemon.get(&path).expect(200);
    assert_eq!(whole.body, content);
    assert_eq!(whole.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.required_header("cache-control").contains("immutable"));
    let head = daemon.request("HEAD", &path).send().expect(200);
    assert_eq!(head.required_header("content-length"), content.len().to_string());
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=999-300000", 999, 300_001),
        ("bytes=1000000-", 1_000_000, 1_000_003),
        ("bytes=-3", 1_000_000, 1_000_003),
    ] {
        let part = daemon.request("GET", &path).header("Range", range).send().expect(206);
        assert_eq!(part.body, &content[from..to], "{range}");
        assert_eq!(
            part.required_header("content-range"),
            format!("bytes {from}-{}/{}", to - 1, content.len())
        );
    }
    // Several ranges, an unknown unit and a stale If-Range get the whole blob.
    for (header, value) in [("Range", "bytes=0-1,5-6"), ("Range", "lines=1-2")] {
        assert_eq!(daemon.request("GET", &path).header(header, value).send().expect(200).body, content);
    }
    let stale = daemon.request("GET", &path).header("Range", "bytes=0-1").header("If-Range", "\"other\"");
    assert_eq!(stale.send().expect(200).body.len(), content.len());
    for range in ["bytes=1000003-", "bytes=5-4", "bytes=-0", "bytes=99999999999999999999-"] {
        let behind = daemon.request("GET", &path).header("Range", range).send().expect(416);
        assert_eq!(behind.required_header("content-range"), "bytes */1000003", "{range}");
    }
    let etag = whole.required_header("etag");
    let known = daemon.request("GET", &path).header("If-None-Match", &etag).send().expect(304);
    assert_eq!(known.required_header("etag"), etag);
}

#[test]
fn manifests_are_pulled_by_tag_and_digest_with_any_accept() {
    let daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("a", "1", b"layer");
    for reference in ["1", digest.as_str()] {
        let path = format!("/v2/a/manifests/{reference}");
        let answer = daemon.request("GET", &path).header("Accept", "text/html").send().expect(200);
        assert_eq!((answer.body, answer.status), (bytes.clone(), 200));
        let head = daemon.request("HEAD", &path).send().expect(200);
        assert_eq!(head.required_header("content-type"), OCI_MANIFEST);
        assert_eq!(head.required_header("content-length"), bytes.len().to_string());
        assert_eq!(head.required_header("docker-content-digest"), digest);
        daemon
            .request("GET", &path)
            .header("If-None-Match", &head.required_header("etag"))
            .send()
            .expect(304);
    }
    assert_eq!(daemon.get("/v2/a/manifests/2").expect(404).error_code(), "MANIFEST_UNKNOWN");
    assert_eq!(daemon.get("/v2/b/manifests/2").expect(404).error_code(), "NAME_UNKNOWN");
}
