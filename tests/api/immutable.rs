//! Immutable tags: they are set once, and neither moved nor deleted unless their rule allows it.

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::*;

const RULES: &str = "
[gc]
interval = \"off\"
[[immutable]]
repositories = [\"prod/*\"]
tags = [\"v*\"]
[[immutable]]
repositories = [\"stage/*\"]
tags = [\"*\"]
delete = true
";

fn tags(daemon: &Daemon, repository: &str) -> serde_json::Value {
    daemon.get(&format!("/v2/{repository}/tags/list")).expect(200).json()["tags"].clone()
}

#[track_caller]
fn assert_refused(answer: Response) {
    let answer = answer.expect(403);
    assert_eq!(answer.error_code(), "DENIED");
    let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("is immutable"), "{message}");
}

/// Pushes another image under the tag `other`; returns its digest and bytes.
fn push_other(daemon: &Daemon, repository: &str) -> (String, Vec<u8>) {
    daemon.push_image(repository, "other", b"another layer")
}

#[test]
fn an_immutable_tag_is_set_once() {
    let daemon = Daemon::with_config(RULES);
    let (digest, bytes) = daemon.push_image("prod/app", "v1", b"layer");
    let (other, other_bytes) = push_other(&daemon, "prod/app");
    let put = |reference: &str, bytes: &[u8]| daemon.put_manifest("prod/app", reference, OCI_MANIFEST, bytes);
    put("v1", &bytes).expect(201);
    assert_refused(put("v1", &other_bytes));
    assert_refused(put(&format!("{other}?tag=new&tag=v1"), &other_bytes));
    assert_eq!(tags(&daemon, "prod/app"), json!(["other", "v1"]), "the push sets no tag");
    put(&format!("{digest}?tag=v1&tag=v2"), &bytes).expect(201);
    // Tags that no pattern matches may move.
    put("other", &bytes).expect(201);
    daemon.push_image("ci/app", "v1", b"layer");
    daemon.push_image("ci/app", "v1", b"another layer");
    assert_eq!(daemon.get("/v2/prod/app/manifests/v1").expect(200).body, bytes);
}

#[test]
fn an_immutable_tag_is_not_deleted_unless_its_rule_allows_it() {
    let daemon = Daemon::with_config(RULES);
    let (digest, _) = daemon.push_image("prod/app", "v1", b"layer");
    let delete = |path: &str| daemon.request("DELETE", path).send();
    assert_refused(delete("/v2/prod/app/manifests/v1"));
    assert_refused(delete(&format!("/v2/prod/app/manifests/{digest}")));
    assert_eq!(delete("/v2/prod/app/manifests/v9").expect(404).error_code(), "MANIFEST_UNKNOWN");
    daemon.push_image("prod/app", "latest", b"more");
    delete("/v2/prod/app/manifests/latest").expect(202);
    daemon.push_image("stage/app", "1", b"layer");
    let (_, bytes) = push_other(&daemon, "stage/app");
    assert_refused(daemon.put_manifest("stage/app", "1", OCI_MANIFEST, &bytes));
    delete("/v2/stage/app/manifests/1").expect(202);
    daemon.put_manifest("stage/app", "1", OCI_MANIFEST, &bytes).expect(201);
    // The admin page refuses it, too.
    let mut browser = Browser::new(&daemon);
    let page = text(&browser.delete("prod/app", &["v1"]).expect(403));
    assert!(page.contains("immutable"), "{page}");
    assert_eq!(tags(&daemon, "prod/app"), json!(["v1"]));
}

#[test]
fn content_of_an_immutable_tag_is_not_deleted() {
    let daemon = Daemon::with_config(RULES);
    let delete = |path: &str| daemon.request("DELETE", path).send();
    for (repository, status) in [("prod/app", 403), ("stage/app", 202)] {
        let (image, bytes) = daemon.push_image(repository, "part", b"layer");
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": image, "size": bytes.len()}]});
        daemon.put_manifest(repository, "v1", OCI_INDEX, index.to_string().as_bytes()).expect(201);
        // The tag of the platform is not immutable.
        delete(&format!("/v2/{repository}/manifests/part")).expect(202);
        // The blob first, while the manifest still references it.
        for part in [format!("blobs/{}", digest(b"layer")), format!("manifests/{image}")] {
            let path = format!("/v2/{repository}/{part}");
            let answer = delete(&path).expect(status);
            if status == 403 {
                assert_eq!(answer.error_code(), "DENIED");
                let message = answer.json()["errors"][0]["message"].to_string();
                assert!(message.contains("references sha256:"), "{message}");
                daemon.get(&path).expect(200);
            }
        }
    }
    // Unreferenced and absent content.
    let free = daemon.push_blob("prod/app", b"free");
    delete(&format!("/v2/prod/app/blobs/{free}")).expect(202);
    assert_eq!(delete(&format!("/v2/prod/app/blobs/{free}")).expect(404).error_code(), "BLOB_UNKNOWN");
    // An image without an immutable tag is deleted before its layer.
    let (image, _) = daemon.push_image("prod/other", "latest", b"another layer");
    let layer = format!("/v2/prod/other/blobs/{}", digest(b"another layer"));
    delete(&layer).expect(403);
    delete(&format!("/v2/prod/other/manifests/{image}")).expect(202);
    delete(&layer).expect(202);
}

#[test]
fn attachment_tags_may_move_where_all_tags_are_immutable() {
    let daemon = Daemon::with_config(RULES);
    let (image, _) = daemon.push_image("stage/app", "1", b"layer");
    let signature = format!("{}.sig", image.replace(':', "-"));
    daemon.push_image("stage/app", &signature, b"one signature");
    daemon.push_image("stage/app", &signature, b"two signatures");
}

#[test]
fn retention_may_remove_immutable_tags() {
    let rules = format!("{RULES}[[retention]]\nrepositories = [\"prod/*\"]\nkeep_newest = 1\n");
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), &rules).unwrap();
    let daemon = Daemon::with_config(&rules);
    daemon.push_image("prod/app", "v1", b"layer");
    daemon.push_image("prod/app", "v2", b"another layer");
    let mut command = std::process::Command::new(BINARY);
    run(command.env_clear().args(["gc", "--data"]).arg(&daemon.data).arg("--config").arg(file.path()));
    assert_eq!(tags(&daemon, "prod/app"), json!(["v2"]));
    daemon.push_image("prod/app", "v1", b"anew");
}

#[test]
fn only_one_of_concurrent_pushes_sets_the_tag() {
    let daemon = Daemon::with_config(RULES);
    let (_, first) = daemon.push_image("prod/app", "a", b"layer");
    let (_, second) = push_other(&daemon, "prod/app");
    for round in 0..20 {
        let put =
            |bytes: &[u8]| daemon.put_manifest("prod/app", &format!("v{round}"), OCI_MANIFEST, bytes).status;
        let mut statuses = std::thread::scope(|scope| {
            let pushes =
                [&first, &second, &second, &first].map(|bytes| scope.spawn(move || (bytes, put(bytes))));
            pushes.map(|push| push.join().unwrap())
        });
        statuses.sort();
        let set: Vec<_> =
            statuses.iter().filter(|(_, status)| *status == 201).map(|(bytes, _)| *bytes).collect();
        assert!(set.len() == 2 && set[0] == set[1], "{:?}", statuses.map(|(_, status)| status));
        let stored = daemon.get(&format!("/v2/prod/app/manifests/v{round}")).expect(200).body;
        assert_eq!(&stored, set[0]);
    }
}

#[test]
fn a_changed_rule_applies_after_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    std::fs::write(&file, "").unwrap();
    let daemon = Daemon::with_config_file(&file);
    daemon.push_image("prod/app", "v1", b"layer");
    let (_, bytes) = push_other(&daemon, "prod/app");
    std::fs::write(&file, RULES).unwrap();
    run(std::process::Command::new("kill").args(["-HUP", &daemon.pid().to_string()]));
    let begun = std::time::Instant::now();
    // Each delete before the reload succeeds, so that the tag is pushed again.
    while daemon.request("DELETE", "/v2/prod/app/manifests/v1").send().status != 403 {
        assert!(begun.elapsed().as_secs() < 30, "the rule is not reloaded");
        daemon.push_image("prod/app", "v1", b"layer");
    }
    assert_refused(daemon.put_manifest("prod/app", "v1", OCI_MANIFEST, &bytes));
}
