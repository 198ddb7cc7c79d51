//! The lease of a transfer, and collections beside it.

use std::time::Instant;

use super::*;

#[test]
fn a_collection_spares_the_content_of_open_transfers() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    transfer.put(b"content").expect(201);
    collect_all(&daemon);
    let path = format!("/blobs/{}", digest(b"content"));
    assert_eq!(transfer.call("GET", &path, b"").expect(200).text, "content");
    let manifest = transfer.put_image(b"content");
    // Children of a large set, whose tags come last.
    transfer.images(&images("a", &[&manifest], &[])).expect(200);
    collect_all(&daemon);
    assert_eq!(transfer.name("a", &manifest, "1", 1)["outcome"], "set");
    transfer.put(b"not named").expect(201);
    transfer.call("DELETE", "", b"").expect(200);
    assert_eq!(transfer.call("POST", "/need", b"").code(404), "transfer_unknown");
    assert_eq!(transfer.call("DELETE", "", b"").code(404), "transfer_unknown");
    collect_all(&daemon);
    let other = Transfer::open(&daemon);
    let missing = other.need(&[(&digest(b"not named"), Some(9)), (&digest(b"content"), Some(7))]).expect(200);
    assert_eq!(missing.lines()[0]["digest"], digest(b"not named"));
    assert_eq!(missing.lines()[1]["missing"], 1);
}

#[test]
fn an_export_reads_content_that_is_deleted_meanwhile() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_DELETE", "true")]);
    let layer = vec![7; 5 << 20];
    let (image, bytes) = daemon.push_image("a", "1", &layer);
    let export = Transfer::of(&daemon, "export");
    assert_eq!(export.need(&[(&image, None), (&digest(&layer), None)]).expect(200).lines().len(), 1);
    daemon.request("DELETE", &format!("/v2/a/manifests/{image}")).send().expect(202);
    collect_all(&daemon);
    daemon.get("/v2/a/manifests/1").expect(404);
    let read = |digest: &str| export.call("GET", &format!("/blobs/{digest}"), b"").expect(200).text;
    assert_eq!(read(&image).as_bytes(), bytes);
    assert_eq!(read(&digest(&layer)).len(), layer.len(), "an export reads more than 4 MiB");
    // An export stores and names nothing.
    assert_eq!(export.put(b"x").code(409), "export");
    assert_eq!(export.images(&images("a", &[], &[])).code(409), "export");
    export.call("DELETE", "", b"").expect(200);
    collect_all(&daemon);
    assert!(!daemon.data.join("blobs/sha256").join(&image[7..]).exists());
}

#[test]
fn an_import_reads_back_small_content_only() {
    let daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    let large = vec![7; (4 << 20) + 1];
    transfer.put(&large).expect(201);
    assert_eq!(transfer.call("GET", &format!("/blobs/{}", digest(&large)), b"").code(413), "too_large");
    transfer.put(&large[1..]).expect(201);
    assert_eq!(
        transfer.call("GET", &format!("/blobs/{}", digest(&large[1..])), b"").expect(200).text.len(),
        4 << 20
    );
}

#[test]
fn open_transfers_are_bounded() {
    let daemon = Daemon::start();
    let open: Vec<Transfer> = (0..32).map(|_| Transfer::open(&daemon)).collect();
    assert_eq!(call(&daemon, "POST", "transfers", br#"{"purpose":"import"}"#).code(429), "busy");
    open[0].call("DELETE", "", b"").expect(200);
    Transfer::open(&daemon);
    assert_eq!(call(&daemon, "POST", "transfers", br#"{"purpose":"x"}"#).code(400), "malformed");
    assert_eq!(call(&daemon, "GET", "transfers", b"").code(405), "method_not_allowed");
    let unknown = "transfers/00000000-0000-4000-8000-000000000000/need";
    assert_eq!(call(&daemon, "POST", unknown, b"").code(404), "transfer_unknown");
    assert_eq!(call(&daemon, "POST", "transfers/x/need", b"").code(404), "not_found");
}

#[test]
fn after_a_kill_the_second_run_continues() {
    let mut daemon = Daemon::start();
    let transfer = Transfer::open(&daemon);
    transfer.put(b"first").expect(201);
    let path = format!("{}/blobs/{}", transfer.path, digest(b"second"));
    let mut stream = open_connection(&transfer.socket);
    stream.write_all(head("PUT", &path, "Content-Length: 6\r\n").as_bytes()).unwrap();
    stream.write_all(b"sec").unwrap();
    let uploads = || std::fs::read_dir(daemon.data.join("uploads")).unwrap().count();
    let began = Instant::now();
    while uploads() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the upload does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.kill_and_restart();
    let uploads = std::fs::read_dir(daemon.data.join("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "no client can resume the upload");
    assert_eq!(transfer.call("POST", "/need", b"").code(404), "transfer_unknown");
    let again = Transfer::open(&daemon);
    let missing =
        again.need(&[(&digest(b"first"), Some(5)), (&digest(b"second"), Some(6))]).expect(200).lines();
    assert_eq!(missing.len(), 2);
    assert_eq!(missing[0]["digest"], digest(b"second"), "what was acknowledged is there");
    let manifest = again.put_image(b"second");
    assert_eq!(again.name("a", &manifest, "1", 1)["outcome"], "set");
    daemon.kill_and_restart();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, manifest.as_bytes());
}
