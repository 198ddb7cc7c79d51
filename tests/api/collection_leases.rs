//! Leases: a HEAD that returned 200 protects content for another grace period, as its client skips the upload.
//!
//! The tests move the clock of the store instead of waiting.

use std::time::Duration;

use serde_json::json;

use super::collection::{collect, delete, has_file};
use crate::support::*;

/// Times for a grace period of an hour: a lease is renewed late in the period, and the collection runs after its end.
const LATE: Duration = Duration::from_mins(50);
const AFTER: Duration = Duration::from_mins(30);

fn daemon() -> Daemon {
    Daemon::with_env(&[("HOLDFAST_GC_GRACE", "1h"), ("HOLDFAST_GC_INTERVAL", "off")])
}

/// Pushes an index of these manifests to the repository `a`; without a reference, by its digest. Returns the digest.
fn put_index(daemon: &Daemon, reference: &str, manifests: &[&[u8]]) -> String {
    let list: Vec<_> = manifests
        .iter()
        .map(|bytes| json!({"mediaType": OCI_MANIFEST, "digest": digest(bytes), "size": bytes.len()}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list});
    let bytes = serde_json::to_vec(&index).unwrap();
    let reference = if reference.is_empty() { digest(&bytes) } else { reference.to_owned() };
    daemon.put_manifest("a", &reference, OCI_INDEX, &bytes).expect(201);
    digest(&bytes)
}

/// Pushes an untagged image to the repository `a`; returns the manifest.
fn push_untagged(daemon: &Daemon, layer: &[u8]) -> Vec<u8> {
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", layer));
    let manifest = image(&config, &layer, None);
    daemon.put_manifest("a", &digest(&manifest), OCI_MANIFEST, &manifest).expect(201);
    manifest
}

/// Asks for content late in the grace period after a delete, and collects several times after the end of that period.
fn renew_and_collect(daemon: &mut Daemon, path: &str) {
    daemon.advance_clock(LATE);
    daemon.request("HEAD", path).send().expect(200);
    daemon.advance_clock(AFTER);
    for _ in 0..3 {
        collect(daemon, &["--grace", "1h"]);
    }
}

#[test]
fn a_head_renews_the_lease_of_a_blob() {
    let mut daemon = daemon();
    let asked = daemon.push_blob("a", b"asked for");
    let forgotten = daemon.push_blob("a", b"forgotten");
    daemon.advance_clock(LATE);
    daemon.request("HEAD", &format!("/v2/a/blobs/{asked}")).send().expect(200);
    daemon.advance_clock(AFTER);
    let report = collect(&daemon, &["--grace", "1h"]);
    assert_eq!((&report["freed_blobs"]["count"], &report["kept_young"]["count"]), (&1.into(), &1.into()));
    assert!(has_file(&daemon, &asked) && !has_file(&daemon, &forgotten));
    let manifest = image(&asked, &asked, None);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &manifest).expect(201);
}

#[test]
fn a_head_renews_the_lease_of_a_manifest() {
    let mut daemon = daemon();
    let (asked, asked_bytes) = daemon.push_image("a", "x", b"asked for");
    let (forgotten, forgotten_bytes) = daemon.push_image("a", "x", b"forgotten");
    let index = put_index(&daemon, "", &[&asked_bytes, &forgotten_bytes]);
    delete(&daemon, "/v2/a/manifests/x");
    delete(&daemon, &format!("/v2/a/manifests/{index}"));
    daemon.advance_clock(LATE);
    daemon.request("HEAD", &format!("/v2/a/manifests/{asked}")).send().expect(200);
    daemon.advance_clock(AFTER);
    collect(&daemon, &["--grace", "1h"]);
    daemon.request("HEAD", &format!("/v2/a/manifests/{forgotten}")).send().expect(404);
    // A client that relies on the lease pushes a complete index.
    put_index(&daemon, "new", &[&asked_bytes]);
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{asked}")).expect(200).body, asked_bytes);
}

#[test]
fn a_lease_of_a_manifest_outlives_its_orphaned_index() {
    let mut daemon = daemon();
    let (asked, other) = (push_untagged(&daemon, b"asked for"), push_untagged(&daemon, b"the other"));
    put_index(&daemon, "x", &[&asked, &other]);
    delete(&daemon, "/v2/a/manifests/x");
    renew_and_collect(&mut daemon, &format!("/v2/a/manifests/{}", digest(&asked)));
    daemon.request("HEAD", &format!("/v2/a/manifests/{}", digest(&other))).send().expect(404);
    put_index(&daemon, "new", &[&asked, &push_untagged(&daemon, b"a third")]);
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{}", digest(&asked))).expect(200).body, asked);
}

#[test]
fn a_lease_of_a_blob_outlives_its_orphaned_manifests() {
    let mut daemon = daemon();
    let layer = digest(b"asked for");
    let manifest = push_untagged(&daemon, b"asked for");
    put_index(&daemon, "x", &[&manifest]);
    delete(&daemon, "/v2/a/manifests/x");
    renew_and_collect(&mut daemon, &format!("/v2/a/blobs/{layer}"));
    daemon.request("HEAD", &format!("/v2/a/manifests/{}", digest(&manifest))).send().expect(404);
    let manifest = image(&layer, &layer, None);
    daemon.put_manifest("a", "new", OCI_MANIFEST, &manifest).expect(201);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"asked for");
}

#[test]
fn a_pull_renews_the_lease_of_an_untagged_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    let rules = "[gc]\ninterval = \"off\"\n[[retention]]\nrepositories = [\"*\"]\nremove_untagged = \"1h\"\n";
    std::fs::write(&file, rules).unwrap();
    let mut daemon = Daemon::with_config_file(&file);
    let (asked, forgotten) =
        (digest(&push_untagged(&daemon, b"asked for")), digest(&push_untagged(&daemon, b"forgotten")));
    daemon.advance_clock(LATE);
    daemon.get(&format!("/v2/a/manifests/{asked}")).expect(200);
    daemon.advance_clock(AFTER);
    collect(&daemon, &["--config", file.to_str().unwrap()]);
    daemon.request("HEAD", &format!("/v2/a/manifests/{asked}")).send().expect(200);
    daemon.request("HEAD", &format!("/v2/a/manifests/{forgotten}")).send().expect(404);
}
