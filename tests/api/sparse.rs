//! Sparse manifests (`registry.sparse`): an image whose layers are missing, an index whose platforms are missing.

use std::process::Command;

use serde_json::{Value, json};

use super::collection::{collect, delete, has_file};
use crate::support;
use crate::support::browser::Browser;
use crate::support::index_rows::{rows, with_index};
use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

const CONFIG: &[u8] = br#"{"architecture":"arm64","os":"linux"}"#;

fn sparse_daemon() -> Daemon {
    Daemon::with_env(&[("HOLDFAST_REGISTRY_SPARSE", "true"), ("HOLDFAST_GC_INTERVAL", "off")])
}

/// Returns the manifest of an image with these layers.
fn image_of(layers: &[&[u8]]) -> Vec<u8> {
    let layer = |layer: &&[u8]| {
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        json!({"mediaType": media_type, "digest": digest(layer), "size": layer.len()})
    };
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(CONFIG), "size": CONFIG.len(),
    });
    let layers: Vec<_> = layers.iter().map(layer).collect();
    let image = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    serde_json::to_vec(&image).unwrap()
}

fn index_of(manifests: &[&[u8]]) -> Vec<u8> {
    let list: Vec<_> = manifests
        .iter()
        .map(|bytes| json!({"mediaType": OCI_MANIFEST, "digest": digest(bytes), "size": bytes.len()}))
        .collect();
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list})).unwrap()
}

fn code(response: &Response) -> String {
    response.json()["errors"][0]["code"].as_str().unwrap().to_owned()
}

fn blob(daemon: &Daemon, repository: &str, content: &[u8], status: u16) -> Response {
    daemon.get(&format!("/v2/{repository}/blobs/{}", digest(content))).expect(status)
}

/// Returns the number of manifests that are marked in the index of a stopped daemon.
fn marks(daemon: &Daemon) -> usize {
    with_index(&daemon.data, |index, txn| rows(index, txn, "sparse").len())
}

fn rebuild(daemon: &mut Daemon) {
    daemon.stop();
    run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
    daemon.start_again();
}

fn check(daemon: &Daemon, arguments: &[&str]) {
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data).args(arguments));
}

/// Returns the annotations of the names in `index.json` of a stopped daemon that are sparse, and all link exceptions.
fn layout(daemon: &Daemon) -> (Vec<String>, usize) {
    let file = std::fs::read(daemon.data.join("index.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let names = file["manifests"].as_array().unwrap().iter();
    let sparse = names.filter(|one| one["annotations"]["io.holdfast.sparse"] == "true");
    let name = |one: &Value| {
        let annotations = &one["annotations"];
        let name = annotations["org.opencontainers.image.ref.name"].as_str();
        name.or(annotations["io.holdfast.repository"].as_str()).unwrap().to_owned()
    };
    let links = file["io.holdfast.links"].as_array().map_or(0, Vec::len);
    (sparse.map(name).collect(), links)
}

#[test]
fn without_the_switch_a_push_that_lost_a_layer_fails() {
    let daemon = Daemon::start();
    daemon.push_blob("a", CONFIG);
    let refused = daemon.put_manifest("a", "1", OCI_MANIFEST, &image_of(&[b"missing"])).expect(400);
    assert_eq!(code(&refused), "MANIFEST_BLOB_UNKNOWN");
    daemon.put_manifest("a", "1", OCI_INDEX, &index_of(&[b"missing"])).expect(400);
}

#[test]
fn missing_content_is_accepted_and_a_pull_of_it_gets_404() {
    let daemon = sparse_daemon();
    daemon.push_blob("a", b"here");
    let image = image_of(&[b"here", b"missing"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, image);
    assert_eq!(blob(&daemon, "a", b"here", 200).body, b"here");
    for missing in [&b"missing"[..], CONFIG] {
        assert_eq!(code(&blob(&daemon, "a", missing, 404)), "BLOB_UNKNOWN");
        daemon.request("HEAD", &format!("/v2/a/blobs/{}", digest(missing))).send().expect(404);
    }
    let index = index_of(&[&image, b"missing platform"]);
    daemon.put_manifest("a", "multi", OCI_INDEX, &index).expect(201);
    daemon.put_manifest("a", "none", OCI_INDEX, &index_of(&[b"another"])).expect(201);
    let platform = daemon.get(&format!("/v2/a/manifests/{}", digest(b"missing platform"))).expect(404);
    assert_eq!(code(&platform), "MANIFEST_UNKNOWN");
    daemon.get(&format!("/v2/a/manifests/{}", digest(&image))).expect(200);
    let tags = daemon.get("/v2/a/tags/list").expect(200).json();
    assert_eq!(tags["tags"], json!(["1", "multi", "none"]));
}

#[test]
fn the_mark_goes_with_the_last_hole_and_survives_a_rebuild_until_then() {
    let mut daemon = sparse_daemon();
    daemon.push_blob("a", b"one");
    let image = image_of(&[b"one", b"two"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    let index = index_of(&[&image, b"platform"]);
    daemon.put_manifest("a", "multi", OCI_INDEX, &index).expect(201);
    daemon.kill_and_restart();
    daemon.get("/v2/a/manifests/1").expect(200);
    for _ in 0..2 {
        rebuild(&mut daemon);
        check(&daemon, &[]);
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, image);
        assert_eq!(daemon.get("/v2/a/manifests/multi").expect(200).body, index);
        blob(&daemon, "a", b"one", 200);
        blob(&daemon, "a", b"two", 404);
        daemon.stop();
        assert_eq!(marks(&daemon), 2);
        assert_eq!(layout(&daemon).0, ["a:1", "a:multi"]);
        daemon.start_again();
    }
    daemon.push_blob("a", b"two");
    daemon.push_blob("a", CONFIG);
    daemon.stop();
    assert_eq!((marks(&daemon), layout(&daemon).0), (1, vec!["a:multi".to_owned()]));
    daemon.start_again();
    // The missing platform is any manifest of that digest.
    rebuild(&mut daemon);
    blob(&daemon, "a", b"two", 200);
    blob(&daemon, "a", CONFIG, 200);
    check(&daemon, &[]);
    collect(&daemon, &["--grace", "0s"]);
    for content in [&b"one"[..], b"two", CONFIG] {
        blob(&daemon, "a", content, 200);
    }
}

#[test]
fn a_rebuild_gives_a_repository_no_blob_of_another_one() {
    let mut daemon = sparse_daemon();
    daemon.push_image("private", "1", b"secret");
    let image = image_of(&[b"secret"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    for _ in 0..2 {
        blob(&daemon, "a", b"secret", 404);
        blob(&daemon, "private", b"secret", 200);
        rebuild(&mut daemon);
    }
    // A mount fills the hole.
    let mount = format!("/v2/a/blobs/uploads/?mount={}&from=private", digest(b"secret"));
    daemon.request("POST", &mount).body(b"").send().expect(201);
    rebuild(&mut daemon);
    blob(&daemon, "a", b"secret", 200);
}

#[test]
fn checks_and_collections_work_with_holes() {
    let mut daemon = sparse_daemon();
    daemon.push_blob("a", b"one");
    let image = image_of(&[b"one", b"two"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    daemon.put_manifest("a", "multi", OCI_INDEX, &index_of(&[&image, b"platform"])).expect(201);
    check(&daemon, &[]);
    check(&daemon, &["--repair"]);
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!((&report["freed_blobs"]["count"], &report["freed_manifests"]), (&0.into(), &0.into()));
    assert!(has_file(&daemon, &digest(b"one")));
    // A signature of a sparse image, and of one that is missing altogether.
    let signature = support::image(&digest(b"one"), &digest(b"one"), Some(&digest(&image)));
    daemon.put_manifest("a", "signature", OCI_MANIFEST, &signature).expect(201);
    let referrers = daemon.get(&format!("/v2/a/referrers/{}", digest(&image))).expect(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], digest(&signature));
    for path in ["/v2/a/manifests/multi", "/v2/a/manifests/signature"] {
        delete(&daemon, path);
    }
    delete(&daemon, &format!("/v2/a/manifests/{}", digest(&image)));
    collect(&daemon, &["--grace", "0s"]);
    collect(&daemon, &["--grace", "0s"]);
    check(&daemon, &[]);
    daemon.stop();
    assert_eq!((marks(&daemon), layout(&daemon)), (0, (Vec::new(), 0)));
    assert!(!has_file(&daemon, &digest(b"one")) && !has_file(&daemon, &digest(&image)));
}

#[test]
fn sparse_manifests_stay_when_the_switch_is_turned_off() {
    let mut daemon = sparse_daemon();
    daemon.push_blob("a", CONFIG);
    let image = image_of(&[b"missing"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    daemon.stop();
    daemon.start_again_with_env(&[]);
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, image);
    daemon.put_manifest("a", "2", OCI_MANIFEST, &image).expect(400);
    daemon.put_manifest("a", "2", OCI_MANIFEST, &image_of(&[b"other"])).expect(400);
    check(&daemon, &[]);
    daemon.push_blob("a", b"missing");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &image).expect(201);
    daemon.stop();
    assert_eq!(marks(&daemon), 0);
}

#[test]
fn a_reload_switches_it() {
    let unit = Unit::new("");
    let child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let put = |tag: &str, status: u16| {
        let request = Request::new(unit.address, "PUT", &format!("/v2/a/manifests/{tag}"));
        request.header("Content-Type", OCI_MANIFEST).body(&image_of(&[b"missing"])).send().expect(status);
    };
    put("1", 400);
    for (setting, status) in [("true", 201), ("false", 400)] {
        unit.configure(&format!("registry.sparse = {setting}\n"));
        signal(&child.0, "-HUP");
        unit.await_notification("RELOADING=1");
        unit.await_notification("READY=1");
        put("2", status);
    }
}

#[test]
fn the_page_of_an_image_tells_what_is_here() {
    let daemon = sparse_daemon();
    daemon.push_blob("a", b"one");
    let image = image_of(&[b"one", b"two", b"three"]);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    daemon.put_manifest("a", "multi", OCI_INDEX, &index_of(&[&image, b"platform"])).expect(201);
    daemon.push_image("a", "whole", b"whole");
    add_user(&daemon.data, "alice", "secret");
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let mut page = |tag: &str| browser.page(&format!("/image/a:{tag}"));
    let text = page("1");
    // The other image has brought the config.
    assert!(text.contains("1 of 3 layers here<"), "{text}");
    assert!(page("multi").contains("1 of 2 platforms here<"));
    assert!(!page("whole").contains("presence"));
}

#[test]
fn a_missing_configuration_is_not_called_too_large() {
    let daemon = sparse_daemon();
    daemon.push_blob("a", b"one");
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image_of(&[b"one"])).expect(201);
    add_user(&daemon.data, "alice", "secret");
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let text = browser.page("/image/a:1");
    assert!(text.contains("1 of 1 layers here, without the configuration"), "{text}");
    assert!(!text.contains("too-large") && !text.contains("raw-config"));
    // The list of tags learns the platform once the configuration is there.
    assert!(!browser.page("/repository/a").contains("linux/arm64"));
    let upload = format!("/v2/a/blobs/uploads/?digest={}", digest(CONFIG));
    daemon.request("POST", &upload).login("alice", "secret").body(CONFIG).send().expect(201);
    assert!(browser.page("/repository/a").contains("linux/arm64"));
}

#[test]
fn copies_of_incomplete_images_follow_the_rule_of_a_push() {
    let mut daemon = sparse_daemon();
    let image = image_of(&[b"one", b"two"]);
    daemon.push_blob("a", b"one");
    daemon.push_blob("a", CONFIG);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &image).expect(201);
    let index = index_of(&[&image, b"platform"]);
    daemon.put_manifest("a", "multi", OCI_INDEX, &index).expect(201);
    let copy = |daemon: &Daemon, bytes: &[u8], to: &str, tag: &str| {
        let mut browser = Browser::new(daemon);
        browser.page("/repositories");
        let digest = digest(bytes);
        browser.post("/copy", &[("name", "a"), ("digest", &digest), ("to", to), ("tag", tag)])
    };
    for to in ["a", "b"] {
        copy(&daemon, &image, to, "sparse").expect(303);
    }
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let named = &digest(b"two")["sha256:".len()..][..12];
    for (bytes, to) in [(&image, "a"), (&image, "c"), (&index, "c")] {
        let refused = support::browser::text(&copy(&daemon, bytes, to, "new").expect(422));
        assert!(
            refused.contains(&format!("Missing: {named}.")) && refused.contains("registry.sparse"),
            "{refused}"
        );
        daemon.get(&format!("/v2/{to}/manifests/new")).expect(404);
    }
    daemon.get("/v2/c/tags/list").expect(404);
    // As a push, an index that has one of its platforms gets another tag.
    let put =
        |tag: &str, media_type: &str, bytes: &[u8]| daemon.put_manifest("a", tag, media_type, bytes).status;
    assert_eq!((put("pushed", OCI_MANIFEST, &image), put("pushed", OCI_INDEX, &index)), (400, 201));
    copy(&daemon, &index, "a", "new").expect(303);
    daemon.get("/v2/a/manifests/new").expect(200);
}
