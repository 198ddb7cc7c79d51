//! Collections free unreferenced content after the grace period, and nothing else.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

/// Runs `holdfast gc` beside the daemon; returns the report.
pub fn collect(daemon: &Daemon, arguments: &[&str]) -> Value {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["gc", "--json", "--data"]).arg(&daemon.data).args(arguments);
    let text = run(&mut command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn has_file(daemon: &Daemon, digest: &str) -> bool {
    daemon.data.join("blobs/sha256").join(digest.trim_start_matches("sha256:")).exists()
}

pub fn delete(daemon: &Daemon, path: &str) {
    daemon.request("DELETE", path).send().expect(202);
}

#[test]
fn content_of_a_deleted_image_is_freed_and_shared_content_stays() {
    let daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"only of the first");
    let (second, bytes) = daemon.push_image("a", "2", b"only of the second");
    let unused = daemon.push_blob("a", b"never used");
    delete(&daemon, &format!("/v2/a/manifests/{first}"));
    let report = collect(&daemon, &[]);
    assert_eq!(report["freed_blobs"]["count"], 0, "within the grace period: {report}");
    assert_eq!(report["kept_young"]["count"], 3);
    let report = collect(&daemon, &["--grace", "0s", "--dry-run"]);
    assert_eq!((&report["freed_blobs"]["count"], &report["dry_run"]), (&3.into(), &true.into()));
    assert!(has_file(&daemon, &first) && has_file(&daemon, &unused));
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(report["freed_blobs"]["count"], 3, "{report}");
    let taken: Vec<&str> =
        report["taken"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect();
    assert!(taken.contains(&first.as_str()) && taken.contains(&digest(b"only of the first").as_str()));
    assert!(!has_file(&daemon, &first) && !has_file(&daemon, &unused));
    assert!(!daemon.data.join("trash").exists());
    daemon.request("HEAD", &format!("/v2/a/blobs/{unused}")).send().expect(404);
    daemon.get(&format!("/v2/a/blobs/{unused}")).expect(404);
    // The second image is complete, including the config that it shared with the first one.
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{second}")).expect(200).body, bytes);
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        daemon.get(&format!("/v2/a/blobs/{}", blob["digest"].as_str().unwrap())).expect(200);
    }
    assert_eq!(collect(&daemon, &["--grace", "0s"])["freed_blobs"]["count"], 0);
}

#[test]
fn a_collection_says_what_waits_how_much_and_until_when() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"of the first");
    daemon.push_image("a", "2", b"of the second");
    let says = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        run(command.env_clear().args(["gc", "--data"]).arg(&daemon.data).args(arguments))
    };
    assert!(says(&[]).contains("nothing waits for the end of its grace period"));
    // The tag alone: the manifest waits, and with it the content that only it references.
    delete(&daemon, "/v2/a/manifests/2");
    let (dry, real) = (says(&["--dry-run"]), says(&[]));
    let sentence =
        |text: &str| text.lines().find(|line| line.contains(" wait")).unwrap_or_default().to_owned();
    assert!(sentence(&dry).starts_with("1 image, 2 blobs ("), "{dry}");
    assert!(
        sentence(&dry).contains(") wait until 2")
            && sentence(&dry).contains(" UTC; `holdfast gc --grace 0s`")
    );
    let report = collect(&daemon, &[]);
    let bytes = report["waiting"]["blobs"]["bytes"].as_u64().unwrap();
    assert_eq!(sentence(&real).split(" until").next(), sentence(&dry).split(" until").next());
    let day = Duration::from_hours(24).as_secs();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = report["waiting"]["until"].as_u64().unwrap();
    assert!((now + day - 60..=now + day).contains(&until), "{report}");
    let jobs = run(Command::new(BINARY).env_clear().args(["jobs", "--data"]).arg(&daemon.data));
    assert!(jobs.contains("nothing due yet; 1 image, 2 blobs ("), "{jobs}");
    // What was said to wait is what goes.
    let freed = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(
        (freed["freed_blobs"]["bytes"].as_u64(), &freed["waiting"]["manifests"]),
        (Some(bytes), &0.into())
    );
    assert!(says(&[]).contains("nothing waits"));
}

#[test]
fn a_deleted_index_is_freed_with_its_platforms_and_referrers() {
    let daemon = Daemon::start();
    let (platform, platform_bytes) = daemon.push_image("a", "arm64", b"of a platform");
    let (kept, _) = daemon.push_image("a", "kept", b"of another");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[
            {{"mediaType":"{OCI_MANIFEST}","digest":"{platform}","size":{0}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{kept}","size":{0}}}]}}"#,
        platform_bytes.len()
    );
    daemon.put_manifest("a", "all", OCI_INDEX, index.as_bytes()).expect(201);
    let index_digest = digest(index.as_bytes());
    let config = daemon.push_blob("a", b"{}");
    let signature = image(&config, &config, Some(&index_digest));
    let signature_digest = digest(&signature);
    daemon.put_manifest("a", &signature_digest, OCI_MANIFEST, &signature).expect(201);
    delete(&daemon, "/v2/a/manifests/arm64");
    // The platform has lost its tag, but not its parent, and the signature still has its subject.
    assert_eq!(collect(&daemon, &["--grace", "0s"])["freed_manifests"], 0);
    delete(&daemon, &format!("/v2/a/manifests/{index_digest}"));
    assert_eq!(collect(&daemon, &[])["freed_manifests"], 0);
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(report["freed_manifests"], 2, "{report}");
    assert!(!has_file(&daemon, &platform) && !has_file(&daemon, &signature_digest));
    assert!(!has_file(&daemon, &index_digest) && !has_file(&daemon, &digest(b"of a platform")));
    daemon.get(&format!("/v2/a/manifests/{platform}")).expect(404);
    daemon.get(&format!("/v2/a/manifests/{kept}")).expect(200);
    assert!(has_file(&daemon, &digest(b"of another")));
}

#[test]
fn a_manifest_is_freed_when_its_tag_is_deleted_but_not_when_it_moves() {
    let daemon = Daemon::start();
    let (moved, _) = daemon.push_image("a", "latest", b"old");
    let (by_digest, bytes) = daemon.push_image("a", "x", b"by digest");
    daemon.push_image("a", "latest", b"new");
    delete(&daemon, "/v2/a/manifests/x");
    daemon.put_manifest("a", &by_digest, OCI_MANIFEST, &bytes).expect(201);
    assert_eq!(collect(&daemon, &["--grace", "0s"])["freed_manifests"], 0);
    daemon.get(&format!("/v2/a/manifests/{moved}")).expect(200);
    daemon.get(&format!("/v2/a/manifests/{by_digest}")).expect(200);
    let (deleted, _) = daemon.push_image("b", "1", b"the only one");
    delete(&daemon, "/v2/b/manifests/1");
    assert_eq!(collect(&daemon, &["--grace", "0s"])["freed_manifests"], 1);
    assert!(!has_file(&daemon, &deleted));
    let catalog = daemon.get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], serde_json::json!(["a"]));
}

#[test]
fn a_repository_loses_a_blob_that_only_others_reference() {
    let daemon = Daemon::start();
    let layer = daemon.push_blob("b", b"shared");
    daemon.push_image("a", "1", b"shared");
    daemon.get(&format!("/v2/b/blobs/{layer}")).expect(200);
    collect(&daemon, &["--grace", "0s"]);
    daemon.get(&format!("/v2/b/blobs/{layer}")).expect(404);
    daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200);
    daemon
        .request("POST", &format!("/v2/b/blobs/uploads/?mount={layer}&from=a"))
        .body(b"")
        .send()
        .expect(201);
}

#[test]
fn retention_keeps_the_newest_young_and_named_tags() {
    let rules = r#"
        [[retention]]
        repositories = ["ci/*"]
        keep_newest = 2
        keep_tags = ["v*"]
        remove_untagged = "0s"
        [[retention]]
        repositories = ["young"]
        keep_younger = "1h"
    "#;
    let daemon = Daemon::with_config(rules);
    for tag in ["v1", "b1", "b2"] {
        daemon.push_image("ci/app", tag, tag.as_bytes());
    }
    for tag in ["b3", "b4"] {
        daemon.push_image("ci/app", tag, tag.as_bytes());
        daemon.push_image("other", tag, tag.as_bytes());
        daemon.push_image("young", tag, tag.as_bytes());
    }
    let dry = collect(&daemon, &["--dry-run"]);
    // The run that removes the tags also frees their manifests.
    assert_eq!((&dry["freed_tags"], &dry["freed_manifests"]), (&2.into(), &2.into()), "{dry}");
    let tags = |name: &str| daemon.get(&format!("/v2/{name}/tags/list")).json()["tags"].to_string();
    assert_eq!(tags("ci/app"), r#"["b1","b2","b3","b4","v1"]"#);
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!((&report["freed_tags"], &report["freed_manifests"]), (&2.into(), &2.into()), "{report}");
    assert!(!has_file(&daemon, &digest(b"b1")));
    assert_eq!(tags("ci/app"), r#"["b3","b4","v1"]"#);
    assert_eq!(tags("other"), r#"["b3","b4"]"#);
    assert_eq!(tags("young"), r#"["b3","b4"]"#);
    // The daemon rewrites index.json soon after a change.
    let began = Instant::now();
    loop {
        let layout = std::fs::read_to_string(daemon.data.join("index.json")).unwrap_or_default();
        if layout.contains("ci/app:b3") && !layout.contains("ci/app:b1") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{layout}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_upload_that_does_not_grow_expires() {
    const HALF: Duration = Duration::from_mins(40);
    let mut daemon = Daemon::with_env(&[("HOLDFAST_UPLOADS_EXPIRE", "1h")]);
    let start = || daemon.start_upload("a");
    let (abandoned, growing) = (start(), start());
    daemon.request("PATCH", &abandoned).body(b"half").send().expect(202);
    assert_eq!(collect(&daemon, &[])["kept_uploads"]["count"], 2);
    daemon.advance_clock(HALF);
    daemon.request("PATCH", &growing).body(b"more").send().expect(202);
    assert_eq!(collect(&daemon, &[])["kept_uploads"]["count"], 2);
    daemon.advance_clock(HALF);
    // The daemon has both uploads in its memory.
    daemon.get(&growing).expect(204);
    daemon.get(&abandoned).expect(204);
    let report = collect(&daemon, &[]);
    assert_eq!(
        (&report["freed_uploads"]["count"], &report["freed_uploads"]["bytes"]),
        (&1.into(), &4.into())
    );
    daemon.get(&growing).expect(204);
    // The upload in memory has gone with its file.
    let end = format!("{abandoned}?digest={}", digest(b"half"));
    daemon.request("PUT", &end).body(b"").send().expect(404);
    daemon.get(&abandoned).expect(404);
    daemon.get(&format!("/v2/a/blobs/{}", digest(b"half"))).expect(404);
}

#[test]
fn the_daemon_collects_at_its_interval() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "300ms"), ("HOLDFAST_GC_GRACE", "1s")]);
    let (image, _) = daemon.push_image("a", "1", b"layer");
    delete(&daemon, &format!("/v2/a/manifests/{image}"));
    let began = Instant::now();
    while has_file(&daemon, &image) || has_file(&daemon, &digest(b"layer")) {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn collection_by_other_rules_than_those_of_the_daemon_is_refused() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let file = daemon.data.join("other.toml");
    let gc = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().arg("gc").args(arguments);
        let output = command.arg("--data").arg(&daemon.data).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = file.to_str().unwrap();
    std::fs::write(&file, "log.level = \"warn\"\n").unwrap();
    assert_eq!(gc(&["--config", path]), (Some(0), String::new()), "the rules are the same");
    std::fs::write(&file, "[[retention]]\nrepositories = [\"*\"]\nkeep_newest = 1\n").unwrap();
    let (code, text) = gc(&["--config", path]);
    assert!(code == Some(1) && text.contains(path) && text.contains("systemctl reload holdfast"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    // A data directory alone says nothing about the rules.
    assert_eq!(gc(&[]), (Some(0), String::new()));
}
