//! Restarts: after a kill, with a lost or corrupt index, and on data directories of other systems and releases.

use std::process::Command;

use crate::support::browser::text;
use crate::support::*;

#[test]
fn an_acknowledged_push_survives_a_kill() {
    let mut daemon = Daemon::start();
    for round in 0..5 {
        let layer = format!("layer {round}");
        let (digest, bytes) = daemon.push_image("a", &format!("t{round}"), layer.as_bytes());
        daemon.kill_and_restart();
        assert_eq!(daemon.get(&format!("/v2/a/manifests/t{round}")).expect(200).body, bytes);
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200).body, bytes);
        let blob = crate::support::digest(layer.as_bytes());
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, layer.as_bytes());
    }
}

#[test]
fn an_upload_resumes_after_a_kill() {
    let mut daemon = Daemon::start();
    let content: Vec<u8> = (0..900_000u32).map(|i| (i % 253) as u8).collect();
    let (first, rest) = content.split_at(600_000);
    let location = daemon.start_upload("a");
    daemon.request("PATCH", &location).chunked(first).send().expect(202);
    daemon.kill_and_restart();
    assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-599999");
    let put = format!("{location}?digest={}", digest(&content));
    daemon.request("PUT", &put).header("Content-Range", "600000-899999").body(rest).send().expect(201);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(&content))).expect(200).body, content);
}

#[test]
fn a_lost_or_corrupt_index_is_rebuilt() {
    let mut daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("team/app", "1", b"layer");
    let (_, other) = daemon.push_image("zoo", "1", b"other");
    let index = daemon.data.join("index/data.mdb");
    for damage in ["gone", "zeroed", "garbage"] {
        daemon.stop();
        match damage {
            "gone" => std::fs::remove_file(&index).unwrap(),
            "zeroed" => std::fs::write(&index, vec![0u8; 65536]).unwrap(),
            _ => std::fs::write(&index, b"garbage").unwrap(),
        }
        daemon.start_again();
        assert_eq!(daemon.get("/v2/team/app/manifests/1").expect(200).body, bytes, "{damage}");
        assert_eq!(daemon.get("/v2/zoo/manifests/1").expect(200).body, other, "{damage}");
        daemon.request("HEAD", &format!("/v2/team/app/manifests/{digest}")).send().expect(200);
        daemon.get(&format!("/v2/zoo/blobs/{}", crate::support::digest(b"other"))).expect(200);
    }
    let kept = std::fs::read_dir(&daemon.data)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("index.broken-"));
    // The first round deleted the index, so that only its log was left to keep.
    assert_eq!(kept.count(), 3, "each corrupt index is kept, and the log of the one that is gone");
    // A normal restart on the rebuilt index.
    daemon.stop_and_restart();
    daemon.get("/v2/zoo/tags/list").expect(200);
}

#[test]
fn a_second_daemon_is_refused() {
    let daemon = Daemon::start();
    let output = daemon.start_another();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already serves"));
}

/// Starts on the data directory of another system or release, whose index has to be rebuilt.
fn start_on(card: &str, directory: &tempfile::TempDir) -> Daemon {
    let daemon = unpack(card, directory);
    assert_eq!(daemon.broken_index_count(), 1);
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    daemon
}

/// Starts on a data directory among the fixtures.
fn unpack(card: &str, directory: &tempfile::TempDir) -> Daemon {
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let card = format!("{}/tests/fixtures/{card}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    run(Command::new("tar").args(["-xzf", &card, "-C"]).arg(&data));
    Daemon::at(&data)
}

/// Returns the content of the first layer of an image.
fn layer(daemon: &Daemon, name: &str, tag: &str) -> Vec<u8> {
    let manifest = daemon.get(&format!("/v2/{name}/manifests/{tag}")).expect(200).json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    daemon.get(&format!("/v2/{name}/blobs/{layer}")).expect(200).body
}

#[test]
fn a_data_directory_of_a_32_bit_system_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    // The fixture was written by Holdfast on armv7.
    let daemon = start_on("from-32-bit", &directory);
    for name in ["team/app", "tools"] {
        assert_eq!(layer(&daemon, name, "1.0"), format!("layer of {name}").into_bytes());
    }
}

#[test]
fn an_index_of_version_1_without_checksums_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start_on("index-version-1", &directory);
    for tag in ["1", "2"] {
        assert_eq!(layer(&daemon, "team/app", tag), b"layer");
    }
}

#[test]
fn an_index_of_version_3_without_blob_totals_and_tag_order_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    // Its index.json has no checksum.
    let daemon = start_on("index-version-3", &directory);
    for tag in ["1", "2"] {
        assert_eq!(layer(&daemon, "team/app", tag), b"layer");
    }
    // A deleted blob stays deleted.
    let deleted = digest(b"deleted layer");
    daemon.get("/v2/team/app/manifests/incomplete").expect(200);
    daemon.get(&format!("/v2/team/app/blobs/{deleted}")).expect(404);
}

#[test]
fn an_index_of_version_4_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start_on("index-version-4", &directory);
    for (name, tag, content) in [
        ("team/app", "1.0", "layer one"),
        ("team/app", "latest", "layer three"),
        ("team/app", "signature", "sig"),
    ] {
        assert_eq!(layer(&daemon, name, tag), content.as_bytes());
    }
    let index = daemon.get("/v2/team/app/manifests/multi").expect(200).json();
    let platforms = index["manifests"].as_array().unwrap();
    assert_eq!(platforms.len(), 2);
    for platform in platforms {
        let digest = platform["digest"].as_str().unwrap();
        layer(&daemon, "team/app", digest);
    }
    let untagged = "sha256:2a8449e662783ab85d436b06d54222e4d188995b56c9c29f579e59caa8f8d302";
    assert_eq!(layer(&daemon, "team/app", untagged), b"layer two");
    let image = daemon.get("/v2/team/app/manifests/signature").expect(200).json();
    let subject = image["subject"]["digest"].as_str().unwrap();
    let referrers = daemon.get(&format!("/v2/team/app/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
    let tags = daemon.get("/v2/team/app/tags/list").expect(200).json();
    assert_eq!(tags["tags"], serde_json::json!(["1.0", "latest", "multi", "signature"]));
    // A deleted blob stays deleted in its repository.
    daemon.get("/v2/other/manifests/x").expect(200);
    daemon.get(&format!("/v2/other/blobs/{}", digest(b"layer one"))).expect(404);
    // The registry got an id, which stays.
    daemon.stop();
    let id = registry_id(&daemon);
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.start_again();
    daemon.stop();
    assert_eq!(registry_id(&daemon), id);
}

#[test]
fn an_index_of_version_6_is_taken_over_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    // Its daemon was killed: some of the changes are in the log alone.
    let mut daemon = unpack("index-version-6", &directory);
    assert_eq!(daemon.broken_index_count(), 0);
    let tags = |daemon: &Daemon| -> Vec<String> {
        let tags = daemon.get("/v2/team/app/tags/list").expect(200).json()["tags"].clone();
        serde_json::from_value(tags).unwrap()
    };
    assert_eq!(tags(&daemon)[..4], ["1.10", "1.9", "3.0", "latest"]);
    for (tag, content) in [("1.9", "layer one"), ("latest", "layer two"), ("3.0", "layer three")] {
        assert_eq!(layer(&daemon, "team/app", tag), content.as_bytes());
    }
    let page = text(&daemon.get("/repository/team/app").expect(200));
    assert!(page.contains("4 tags"), "the signature is not listed: {page}");
    let manifest = daemon.get("/v2/team/app/manifests/3.0").expect(200).body;
    let path = format!("/v2/team/app/manifests/{}", digest(&manifest));
    daemon.request("DELETE", &path).send().expect(202);
    assert_eq!(tags(&daemon)[..2], ["1.9", "latest"]);
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    daemon.stop();
    daemon.start_again();
    assert_eq!((tags(&daemon).len(), daemon.broken_index_count()), (3, 0));
}

/// Returns the id of the registry in `index.json`.
fn registry_id(daemon: &Daemon) -> String {
    let file = std::fs::read(daemon.data.join("index.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    file["annotations"]["io.holdfast.id"].as_str().unwrap().to_owned()
}

#[test]
fn each_registry_has_an_id_of_its_own() {
    let (mut first, mut second) = (Daemon::start(), Daemon::start());
    first.stop();
    second.stop();
    let (one, other) = (registry_id(&first), registry_id(&second));
    assert!(one != other && one.len() == 36, "{one} {other}");
}
