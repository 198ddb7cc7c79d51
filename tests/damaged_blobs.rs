//! Files of blobs that are missing, cut, or something else: no client hears that they are there, so that a push heals them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Deleted,
    Truncated,
    Emptied,
    Longer,
    Directory,
    FullDirectory,
}

const ALL: [Damage; 6] = [
    Damage::Deleted,
    Damage::Truncated,
    Damage::Emptied,
    Damage::Longer,
    Damage::Directory,
    Damage::FullDirectory,
];

fn file(daemon: &Daemon, digest: &str) -> PathBuf {
    daemon.data.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

fn damage(path: &Path, how: Damage) {
    let open = || std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = std::fs::metadata(path).unwrap().len();
    match how {
        Damage::Truncated => open().set_len(length - 1).unwrap(),
        Damage::Emptied => open().set_len(0).unwrap(),
        Damage::Longer => open().set_len(length + 1).unwrap(),
        Damage::Deleted => std::fs::remove_file(path).unwrap(),
        Damage::Directory | Damage::FullDirectory => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            if how == Damage::FullDirectory {
                std::fs::write(path.join("x"), "x").unwrap();
            }
        }
    }
}

/// Pushes as Docker does: what a HEAD finds is not sent. Gives the number of blobs that were sent.
fn push(daemon: &Daemon, repository: &str, tag: &str, layer: &[u8], config: &[u8]) -> usize {
    let mut sent = 0;
    for content in [layer, config] {
        let blob = digest(content);
        let head = daemon.request("HEAD", &format!("/v2/{repository}/blobs/{blob}")).send();
        if head.status == 404 {
            daemon.push_blob(repository, content);
            sent += 1;
        } else {
            head.expect(200);
        }
    }
    let manifest = image(&digest(config), &digest(layer), None);
    daemon.put_manifest(repository, tag, OCI_MANIFEST, &manifest).expect(201);
    sent
}

#[test]
fn a_push_heals_a_damaged_blob_and_a_damaged_manifest() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let log = daemon.restart_with_log(&[]);
    let (layer, config) = (&b"the layer"[..], &b"{}"[..]);
    let (layer_digest, manifest) = (digest(layer), image(&digest(config), &digest(layer), None));
    assert_eq!(push(&daemon, "a", "1", layer, config), 2);
    for how in ALL {
        let what = format!("{how:?}");
        damage(&file(&daemon, &layer_digest), how);
        let blob = format!("/v2/a/blobs/{layer_digest}");
        for _ in 0..3 {
            daemon.request("HEAD", &blob).send().expect(404);
        }
        assert!(daemon.get(&blob).status >= 400 || how == Damage::Longer, "{what}");
        // Neither a mount nor a manifest takes it for content that is there.
        let mount = format!("/v2/b/blobs/uploads/?mount={layer_digest}&from=a");
        daemon.request("POST", &mount).body(b"").send().expect(202);
        let refused = daemon.put_manifest("a", "2", OCI_MANIFEST, &manifest).expect(400);
        assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN", "{what}");
        assert!(String::from_utf8_lossy(&refused.body).contains(&layer_digest), "{what}");
        assert_eq!(push(&daemon, "a", "1", layer, config), 1, "{what}: only the damaged blob is sent");
        assert_eq!(daemon.get(&blob).expect(200).body, layer, "{what}");
        daemon.request("HEAD", &blob).send().expect(200);
        daemon.request("POST", &mount).body(b"").send().expect(201);
        // And a manifest.
        let by_digest = format!("/v2/a/manifests/{}", digest(&manifest));
        damage(&file(&daemon, &digest(&manifest)), how);
        // By tag it is one lookup in the index, until the damage has been met.
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
        daemon.request("HEAD", &by_digest).send().expect(404);
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(404);
        assert_eq!(push(&daemon, "a", "1", layer, config), 0, "{what}");
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
        assert_eq!(daemon.get(&by_digest).expect(200).body, manifest, "{what}");
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    let told = std::fs::read_to_string(log.path()).unwrap();
    let named =
        |digest: &str| told.matches(&format!("blob {digest} is missing or damaged on the disk; the")).count();
    assert_eq!(named(&layer_digest), ALL.len(), "once for each damage: {told}");
    assert!(!told.contains("read-only"), "{told}");
    daemon.stop_and_restart();
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer_digest}")).expect(200).body, layer);
}

#[test]
fn an_index_whose_platform_is_damaged_needs_another_one() {
    let daemon = Daemon::start();
    let (first, first_bytes) = daemon.push_image("a", "1", b"one");
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": first, "size": first_bytes.len()}],
    }))
    .unwrap();
    damage(&file(&daemon, &first), Damage::Deleted);
    daemon.put_manifest("a", "index", OCI_INDEX, &index).expect(400);
    daemon.put_manifest("a", &first, OCI_MANIFEST, &first_bytes).expect(201);
    daemon.put_manifest("a", "index", OCI_INDEX, &index).expect(201);
}
