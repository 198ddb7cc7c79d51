//! Access to blobs: a manifest that references a blob of another repository grants no access to it, also after a
//! rebuild of the index.

use std::process::Command;

use serde_json::json;

use crate::support::*;

/// Rebuilds the index, as the operator does.
fn rebuild(daemon: &mut Daemon) {
    daemon.stop();
    run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
    daemon.start_again();
}

/// Pushes an image whose only layer is foreign.
fn push_foreign(daemon: &Daemon, repository: &str, tag: &str, layer: &str) {
    let config = daemon.push_blob(repository, b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": layer, "size": 6, "urls": ["https://elsewhere.example/layer"],
        }],
    });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    daemon.put_manifest(repository, tag, OCI_MANIFEST, &bytes).expect(201);
}

fn status(daemon: &Daemon, repository: &str, digest: &str) -> u16 {
    daemon.get(&format!("/v2/{repository}/blobs/{digest}")).status
}

fn delete_blob(daemon: &Daemon, repository: &str, digest: &str) {
    daemon.request("DELETE", &format!("/v2/{repository}/blobs/{digest}")).send().expect(202);
}

fn has_file(daemon: &Daemon, digest: &str) -> bool {
    daemon.data.join("blobs").join(digest.replace(':', "/")).exists()
}

#[test]
fn a_foreign_descriptor_grants_no_access_to_other_repositories() {
    let mut daemon = Daemon::start();
    daemon.push_image("a/app", "1", b"secret");
    let secret = digest(b"secret");
    push_foreign(&daemon, "b/app", "1", &secret);
    for _ in 0..2 {
        assert_eq!(status(&daemon, "a/app", &secret), 200);
        assert_eq!(status(&daemon, "b/app", &secret), 404);
        let mount = format!("/v2/c/app/blobs/uploads/?mount={secret}&from=b/app");
        daemon.request("POST", &mount).body(b"").send().expect(202);
        rebuild(&mut daemon);
    }
    let check =
        Command::new(BINARY).env_clear().args(["check", "--repair", "--data"]).arg(&daemon.data).output();
    assert!(check.unwrap().status.success());
    assert_eq!(status(&daemon, "b/app", &secret), 404);
}

#[test]
fn a_pushed_foreign_layer_stays() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s")]);
    let layer = daemon.push_blob("b/app", b"pushed");
    push_foreign(&daemon, "b/app", "1", &layer);
    for _ in 0..3 {
        assert_eq!(status(&daemon, "b/app", &layer), 200);
        run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
        assert_eq!(status(&daemon, "b/app", &layer), 200);
        rebuild(&mut daemon);
    }
    // The link exception is removed with the last manifest that references the layer, and the blob with both.
    let path = "/v2/b/app/manifests/1";
    let manifest = daemon.get(path).expect(200).required_header("docker-content-digest");
    daemon.request("DELETE", &format!("/v2/b/app/manifests/{manifest}")).send().expect(202);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    assert!(!has_file(&daemon, &layer));
    daemon.stop();
    let layout = std::fs::read_to_string(daemon.data.join("index.json")).unwrap();
    assert!(!layout.contains("io.holdfast.links"), "{layout}");
    daemon.start_again();
}

#[test]
fn a_foreign_layer_pushed_after_its_image_stays() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let layer = digest(b"pushed later");
    push_foreign(&daemon, "b/app", "1", &layer);
    daemon.push_blob("b/app", b"pushed later");
    for _ in 0..2 {
        run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
        assert_eq!(status(&daemon, "b/app", &layer), 200);
        rebuild(&mut daemon);
    }
}

#[test]
fn a_foreign_descriptor_protects_no_content_from_collection() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let secret = daemon.push_blob("a/app", b"secret");
    push_foreign(&daemon, "b/app", "1", &secret);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    assert!(!has_file(&daemon, &secret));
}

/// An image may reference a manifest as its config.
#[test]
fn a_deleted_manifest_does_not_return_as_a_blob() {
    let mut daemon = Daemon::start();
    let (deleted, _) = daemon.push_image("a", "1", b"layer");
    let layer = daemon.push_blob("a", b"layer");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &image(&deleted, &layer, None)).expect(201);
    daemon.request("DELETE", &format!("/v2/a/manifests/{deleted}")).send().expect(202);
    for _ in 0..2 {
        assert_eq!(status(&daemon, "a", &deleted), 404);
        daemon.get(&format!("/v2/a/manifests/{deleted}")).expect(404);
        rebuild(&mut daemon);
        run(Command::new(BINARY).env_clear().args(["check", "--repair", "--data"]).arg(&daemon.data));
    }
    assert!(has_file(&daemon, &deleted), "it is within its grace period");
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    assert!(!has_file(&daemon, &deleted));
    // It can be pushed again as a manifest.
    daemon.push_image("a", "1", b"layer");
    rebuild(&mut daemon);
    daemon.get(&format!("/v2/a/manifests/{deleted}")).expect(200);
}

#[test]
fn a_head_by_a_user_without_push_right_renews_no_lease() {
    let file = |data: &std::path::Path| {
        format!(
            "[storage]\npath = {:?}\n[gc]\ninterval = \"200ms\"\ngrace = \"2s\"\n\
             [[auth.rule]]\nusers = [\"reader\"]\nrepositories = [\"*\"]\nallow = [\"pull\"]\n\
             [[auth.rule]]\nusers = [\"writer\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\"]\n",
            data
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for user in ["reader", "writer"] {
        add_user(&data, user, "a password");
    }
    let daemon = Daemon::with_config_at(&data, &file(&data));
    let push = |content: &[u8]| {
        let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
        daemon.request("POST", &path).login("writer", "a password").body(content).send().expect(201);
        digest(content)
    };
    let (read, kept) = (push(b"only read"), push(b"about to be used"));
    let ask = |user: &str, blob: &str| {
        daemon.request("HEAD", &format!("/v2/a/blobs/{blob}")).login(user, "a password").send().status
    };
    let began = std::time::Instant::now();
    while ask("reader", &read) == 200 {
        assert_eq!(ask("writer", &kept), 200);
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "the reader renews the lease");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(ask("writer", &kept), 200);
}

#[test]
fn a_deleted_blob_stays_deleted_after_a_rebuild() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s")]);
    daemon.push_image("a", "1", b"regretted");
    daemon.push_image("b", "1", b"regretted");
    let layer = digest(b"regretted");
    delete_blob(&daemon, "a", &layer);
    for _ in 0..2 {
        assert_eq!((status(&daemon, "a", &layer), status(&daemon, "b", &layer)), (404, 200));
        daemon.get("/v2/a/manifests/1").expect(200);
        rebuild(&mut daemon);
    }
    let repair = ["check", "--repair", "--data"];
    run(Command::new(BINARY).env_clear().args(repair).arg(&daemon.data));
    assert_eq!((status(&daemon, "a", &layer), status(&daemon, "b", &layer)), (404, 200));
    delete_blob(&daemon, "b", &layer);
    // Both manifests still reference the blob, but both repositories have deleted it.
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    assert!(!has_file(&daemon, &layer), "a deleted blob is freed");
    rebuild(&mut daemon);
    run(Command::new(BINARY).env_clear().args(repair).arg(&daemon.data));
    assert_eq!((status(&daemon, "a", &layer), status(&daemon, "b", &layer)), (404, 404));
    // A push restores it, also for later rebuilds.
    daemon.push_blob("a", b"regretted");
    for _ in 0..2 {
        assert_eq!((status(&daemon, "a", &layer), status(&daemon, "b", &layer)), (200, 404));
        run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
        rebuild(&mut daemon);
    }
}
