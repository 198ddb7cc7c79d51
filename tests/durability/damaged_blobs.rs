//! Missing and damaged files of blobs: a HEAD returns 404 for them, so that clients push them again.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// Kinds of damage to a file.
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

fn inflict(path: &Path, damage: Damage) {
    let open = || std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = std::fs::metadata(path).unwrap().len();
    match damage {
        Damage::Truncated => open().set_len(length - 1).unwrap(),
        Damage::Emptied => open().set_len(0).unwrap(),
        Damage::Longer => open().set_len(length + 1).unwrap(),
        Damage::Deleted => std::fs::remove_file(path).unwrap(),
        Damage::Directory | Damage::FullDirectory => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            if damage == Damage::FullDirectory {
                std::fs::write(path.join("x"), "x").unwrap();
            }
        }
    }
}

/// Pushes as Docker does, skipping the blobs for which HEAD returns 200; returns the number of blobs that were sent.
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
fn a_push_replaces_a_damaged_blob_and_a_damaged_manifest() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    let (layer, config) = (&b"the layer"[..], &b"{}"[..]);
    let (layer_digest, manifest) = (digest(layer), image(&digest(config), &digest(layer), None));
    assert_eq!(push(&daemon, "a", "1", layer, config), 2);
    for damage in ALL {
        let context = format!("{damage:?}");
        inflict(&file(&daemon, &layer_digest), damage);
        let blob = format!("/v2/a/blobs/{layer_digest}");
        for _ in 0..3 {
            daemon.request("HEAD", &blob).send().expect(404);
        }
        assert!(daemon.get(&blob).status >= 400 || damage == Damage::Longer, "{context}");
        // Mounts and manifests treat the blob as absent, too.
        let mount = format!("/v2/b/blobs/uploads/?mount={layer_digest}&from=a");
        daemon.request("POST", &mount).body(b"").send().expect(202);
        let refused = daemon.put_manifest("a", "2", OCI_MANIFEST, &manifest).expect(400);
        assert_eq!(refused.error_code(), "MANIFEST_BLOB_UNKNOWN", "{context}");
        assert!(String::from_utf8_lossy(&refused.body).contains(&layer_digest), "{context}");
        assert_eq!(push(&daemon, "a", "1", layer, config), 1, "{context}: only the damaged blob is sent");
        assert_eq!(daemon.get(&blob).expect(200).body, layer, "{context}");
        daemon.request("HEAD", &blob).send().expect(200);
        daemon.request("POST", &mount).body(b"").send().expect(201);
        // The same with the manifest.
        let by_digest = format!("/v2/a/manifests/{}", digest(&manifest));
        inflict(&file(&daemon, &digest(&manifest)), damage);
        // A HEAD by tag is one lookup in the index, until another request has found the damage.
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
        daemon.request("HEAD", &by_digest).send().expect(404);
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(404);
        assert_eq!(push(&daemon, "a", "1", layer, config), 0, "{context}");
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
        assert_eq!(daemon.get(&by_digest).expect(200).body, manifest, "{context}");
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    let logged = std::fs::read_to_string(log.path()).unwrap();
    let named = |digest: &str| {
        logged.matches(&format!("blob {digest} is missing or damaged on the disk; push it again")).count()
    };
    assert_eq!(named(&layer_digest), ALL.len(), "once for each damage: {logged}");
    assert!(!logged.contains("read-only"), "{logged}");
    daemon.stop_and_restart();
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer_digest}")).expect(200).body, layer);
}

#[test]
fn an_index_needs_a_platform_that_is_not_damaged() {
    let daemon = Daemon::start();
    let (first, first_bytes) = daemon.push_image("a", "1", b"one");
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": first, "size": first_bytes.len()}],
    }))
    .unwrap();
    inflict(&file(&daemon, &first), Damage::Deleted);
    daemon.put_manifest("a", "index", OCI_INDEX, &index).expect(400);
    daemon.put_manifest("a", &first, OCI_MANIFEST, &first_bytes).expect(201);
    daemon.put_manifest("a", "index", OCI_INDEX, &index).expect(201);
}

/// The file has the right length and other bytes, as after a bit flip on a worn card.
#[test]
fn a_manifest_with_a_flipped_bit_is_never_served() {
    let daemon = Daemon::start();
    let (layer, config) = (&b"the layer"[..], &b"{}"[..]);
    push(&daemon, "a", "1", layer, config);
    let manifest = image(&digest(config), &digest(layer), None);
    let by_digest = format!("/v2/a/manifests/{}", digest(&manifest));
    let path = file(&daemon, &digest(&manifest));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for _ in 0..3 {
        let served = daemon.get("/v2/a/manifests/1");
        assert!(served.status >= 400, "{}", served.status);
        daemon.request("HEAD", "/v2/a/manifests/1").send().expect(404);
        daemon.request("HEAD", &by_digest).send().expect(404);
    }
    assert_eq!(push(&daemon, "a", "1", layer, config), 0);
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, manifest);
    daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
    // From memory now: the right bytes, while the check reads the file.
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, manifest);
    let mut check = Command::new(BINARY);
    check.env_clear().args(["check", "--data"]).arg(&daemon.data);
    assert!(!check.status().unwrap().success());
}

#[test]
fn a_deleted_manifest_is_not_served_from_memory() {
    let daemon = Daemon::start();
    let (manifest, bytes) = daemon.push_image("a", "1", b"layer");
    let by_digest = format!("/v2/a/manifests/{manifest}");
    for _ in 0..2 {
        assert_eq!(daemon.get(&by_digest).expect(200).body, bytes);
    }
    daemon.get(&format!("/v2/b/manifests/{manifest}")).expect(404);
    daemon.request("DELETE", &by_digest).send().expect(202);
    daemon.get(&by_digest).expect(404);
    daemon.get("/v2/a/manifests/1").expect(404);
}
