//! What nobody needs any more is freed, and nothing else.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::*;

/// Collects by the command line, beside the daemon; gives the report.
fn collect(daemon: &Daemon, arguments: &[&str]) -> Value {
    collect_with(daemon, arguments, &[])
}

fn collect_with(daemon: &Daemon, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["gc", "--json", "--data"]).arg(&daemon.data).args(arguments);
    command.envs(environment.iter().copied());
    let text = run(&mut command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn has_file(daemon: &Daemon, digest: &str) -> bool {
    daemon.data.join("blobs/sha256").join(digest.trim_start_matches("sha256:")).exists()
}

fn delete(daemon: &Daemon, path: &str) {
    daemon.request("DELETE", path).send().expect(202);
}

#[test]
fn what_a_delete_leaves_behind_is_freed_and_what_is_shared_stays() {
    let daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"only of the first");
    let (second, bytes) = daemon.push_image("a", "2", b"only of the second");
    let unused = daemon.push_blob("a", b"never used");
    delete(&daemon, &format!("/v2/a/manifests/{first}"));
    let report = collect(&daemon, &[]);
    assert_eq!(report["freed_blobs"]["count"], 0, "a push may be counting on it: {report}");
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
    assert_eq!(std::fs::read_dir(daemon.data.join("trash")).unwrap().count(), 0);
    daemon.request("HEAD", &format!("/v2/a/blobs/{unused}")).send().expect(404);
    daemon.get(&format!("/v2/a/blobs/{unused}")).expect(404);
    // The second has everything, its config among it, which was the first's too.
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{second}")).expect(200).body, bytes);
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        daemon.get(&format!("/v2/a/blobs/{}", blob["digest"].as_str().unwrap())).expect(200);
    }
    assert_eq!(collect(&daemon, &["--grace", "0s"])["freed_blobs"]["count"], 0);
}

#[test]
fn an_index_that_is_deleted_takes_its_platforms_and_what_is_about_it_along() {
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
    // The tag is gone, but the index still has the platform, and the signature its subject.
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
fn an_untagged_manifest_stays_unless_its_tag_was_deleted() {
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
fn a_repository_that_no_longer_needs_a_blob_forgets_it_while_others_keep_it() {
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
fn a_blob_that_a_client_asks_for_is_kept_for_another_grace_time() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_GRACE", "4s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let asked = daemon.push_blob("a", b"asked for");
    let forgotten = daemon.push_blob("a", b"forgotten");
    std::thread::sleep(Duration::from_secs(3));
    daemon.request("HEAD", &format!("/v2/a/blobs/{asked}")).send().expect(200);
    std::thread::sleep(Duration::from_secs(2));
    let report = collect(&daemon, &["--grace", "4s"]);
    assert_eq!((&report["freed_blobs"]["count"], &report["kept_young"]["count"]), (&1.into(), &1.into()));
    assert!(has_file(&daemon, &asked) && !has_file(&daemon, &forgotten));
    let manifest = image(&asked, &asked, None);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &manifest).expect(201);
}

/// An index of these manifests, which are in the repository `a`.
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

#[test]
fn a_manifest_that_a_client_asks_for_is_kept_for_another_grace_time() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_GRACE", "4s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    let (asked, asked_bytes) = daemon.push_image("a", "x", b"asked for");
    let (forgotten, forgotten_bytes) = daemon.push_image("a", "x", b"forgotten");
    let index = put_index(&daemon, "", &[&asked_bytes, &forgotten_bytes]);
    delete(&daemon, "/v2/a/manifests/x");
    delete(&daemon, &format!("/v2/a/manifests/{index}"));
    std::thread::sleep(Duration::from_secs(3));
    daemon.request("HEAD", &format!("/v2/a/manifests/{asked}")).send().expect(200);
    std::thread::sleep(Duration::from_secs(2));
    collect(&daemon, &["--grace", "4s"]);
    daemon.request("HEAD", &format!("/v2/a/manifests/{forgotten}")).send().expect(404);
    // What heard of it goes on from there, and what it pushes is whole.
    put_index(&daemon, "new", &[&asked_bytes]);
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{asked}")).expect(200).body, asked_bytes);
}

/// Runs a scenario with a grace time that its steps have to fit into, and again with a longer one where it returns false
/// because the machine was too slow for that.
fn with_grace(scenario: impl Fn(Duration) -> bool) {
    let graces = [4, 12, 36].map(Duration::from_secs);
    assert!(graces.into_iter().any(scenario), "the machine is too slow for this test");
}

fn daemon_with_grace(grace: Duration) -> Daemon {
    let grace = format!("{}s", grace.as_secs());
    Daemon::with(&[("HOLDFAST_GC_GRACE", &grace), ("HOLDFAST_GC_INTERVAL", "off")])
}

/// Asks for content late in the grace time after a delete, and collects after the end of that time. Returns false if the
/// collections may have ended after the grace time of the request.
fn ask_and_collect(daemon: &Daemon, path: &str, grace: Duration) -> bool {
    // Ages are in whole seconds.
    let second = Duration::from_secs(1);
    std::thread::sleep(grace / 4 * 3);
    let asked = Instant::now();
    daemon.request("HEAD", path).send().expect(200);
    std::thread::sleep(grace / 4 + second);
    for _ in 0..3 {
        collect(daemon, &["--grace", &format!("{}s", grace.as_secs())]);
    }
    asked.elapsed() + second < grace
}

#[test]
fn a_manifest_is_kept_though_the_index_that_lists_it_was_left_behind() {
    with_grace(is_manifest_kept_without_its_index);
}

fn is_manifest_kept_without_its_index(grace: Duration) -> bool {
    let daemon = daemon_with_grace(grace);
    let untagged = |layer: &[u8]| {
        let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", layer));
        let manifest = image(&config, &layer, None);
        daemon.put_manifest("a", &digest(&manifest), OCI_MANIFEST, &manifest).expect(201);
        manifest
    };
    let (asked, other) = (untagged(b"asked for"), untagged(b"the other"));
    put_index(&daemon, "x", &[&asked, &other]);
    delete(&daemon, "/v2/a/manifests/x");
    if !ask_and_collect(&daemon, &format!("/v2/a/manifests/{}", digest(&asked)), grace) {
        return false;
    }
    daemon.request("HEAD", &format!("/v2/a/manifests/{}", digest(&other))).send().expect(404);
    put_index(&daemon, "new", &[&asked, &untagged(b"a third")]);
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{}", digest(&asked))).expect(200).body, asked);
    true
}

#[test]
fn a_manifest_without_a_tag_is_kept_when_somebody_asks_for_it() {
    let text = "[gc]\ninterval = \"off\"\n[[retention]]\nrepositories = [\"*\"]\nremove_untagged = \"4s\"\n";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    let data = directory.path().join("data");
    std::fs::write(&file, format!("{text}[storage]\npath = {data:?}\n")).unwrap();
    let daemon = Daemon::with_file(&std::fs::read_to_string(&file).unwrap());
    let untagged = |content: &[u8]| {
        let blob = daemon.push_blob("a", content);
        let manifest = image(&blob, &blob, None);
        daemon.put_manifest("a", &digest(&manifest), OCI_MANIFEST, &manifest).expect(201);
        digest(&manifest)
    };
    let (asked, forgotten) = (untagged(b"asked for"), untagged(b"forgotten"));
    std::thread::sleep(Duration::from_secs(3));
    daemon.get(&format!("/v2/a/manifests/{asked}")).expect(200);
    std::thread::sleep(Duration::from_secs(2));
    collect(&daemon, &["--config", file.to_str().unwrap()]);
    daemon.request("HEAD", &format!("/v2/a/manifests/{asked}")).send().expect(200);
    daemon.request("HEAD", &format!("/v2/a/manifests/{forgotten}")).send().expect(404);
}

#[test]
fn a_blob_is_kept_though_what_leads_to_it_was_left_behind_above() {
    with_grace(is_blob_kept_without_what_leads_to_it);
}

fn is_blob_kept_without_what_leads_to_it(grace: Duration) -> bool {
    let daemon = daemon_with_grace(grace);
    let layer = daemon.push_blob("a", b"asked for");
    let config = daemon.push_blob("a", b"{}");
    let manifest = image(&config, &layer, None);
    daemon.put_manifest("a", &digest(&manifest), OCI_MANIFEST, &manifest).expect(201);
    put_index(&daemon, "x", &[&manifest]);
    delete(&daemon, "/v2/a/manifests/x");
    if !ask_and_collect(&daemon, &format!("/v2/a/blobs/{layer}"), grace) {
        return false;
    }
    daemon.request("HEAD", &format!("/v2/a/manifests/{}", digest(&manifest))).send().expect(404);
    let manifest = image(&layer, &layer, None);
    daemon.put_manifest("a", "new", OCI_MANIFEST, &manifest).expect(201);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"asked for");
    true
}

#[test]
fn retention_keeps_the_newest_the_young_and_the_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
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
    std::fs::write(&file, rules).unwrap();
    let daemon = Daemon::start();
    for tag in ["v1", "b1", "b2"] {
        daemon.push_image("ci/app", tag, tag.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(1100));
    for tag in ["b3", "b4"] {
        daemon.push_image("ci/app", tag, tag.as_bytes());
        daemon.push_image("other", tag, tag.as_bytes());
        daemon.push_image("young", tag, tag.as_bytes());
    }
    let options = ["--config", file.to_str().unwrap()];
    let dry = collect(&daemon, &[options[0], options[1], "--dry-run"]);
    // Without their tags the manifests are taken by the same run.
    assert_eq!((&dry["freed_tags"], &dry["freed_manifests"]), (&2.into(), &2.into()), "{dry}");
    let tags = |name: &str| daemon.get(&format!("/v2/{name}/tags/list")).json()["tags"].to_string();
    assert_eq!(tags("ci/app"), r#"["b1","b2","b3","b4","v1"]"#);
    let report = collect(&daemon, &[options[0], options[1], "--grace", "0s"]);
    assert_eq!((&report["freed_tags"], &report["freed_manifests"]), (&2.into(), &2.into()), "{report}");
    assert!(!has_file(&daemon, &digest(b"b1")));
    assert_eq!(tags("ci/app"), r#"["b3","b4","v1"]"#);
    assert_eq!(tags("other"), r#"["b3","b4"]"#);
    assert_eq!(tags("young"), r#"["b3","b4"]"#);
    // index.json follows, though it was the command line that changed the index.
    let layout = std::fs::read_to_string(daemon.data.join("index.json")).unwrap();
    assert!(layout.contains("ci/app:b3") && !layout.contains("ci/app:b1"), "{layout}");
}

#[test]
fn uploads_that_nobody_goes_on_with_end() {
    let daemon = Daemon::start();
    let start =
        || daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(202).named("location");
    let (dead, alive) = (start(), start());
    daemon.request("PATCH", &dead).body(b"half").send().expect(202);
    let expire = [("HOLDFAST_UPLOADS_EXPIRE", "6s")];
    assert_eq!(collect_with(&daemon, &[], &expire)["kept_uploads"]["count"], 2);
    std::thread::sleep(Duration::from_secs(3));
    daemon.request("PATCH", &alive).body(b"more").send().expect(202);
    assert_eq!(collect_with(&daemon, &[], &expire)["kept_uploads"]["count"], 2);
    std::thread::sleep(Duration::from_millis(3500));
    let report = collect_with(&daemon, &[], &expire);
    assert_eq!(
        (&report["freed_uploads"]["count"], &report["freed_uploads"]["bytes"]),
        (&1.into(), &4.into())
    );
    daemon.get(&alive).expect(204);
    // The daemon still holds the other in memory, and notices when it is to become a blob.
    let end = format!("{dead}?digest={}", digest(b"half"));
    daemon.request("PUT", &end).body(b"").send().expect(404);
    daemon.get(&dead).expect(404);
    daemon.get(&format!("/v2/a/blobs/{}", digest(b"half"))).expect(404);
}

#[test]
fn the_daemon_collects_by_itself() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_INTERVAL", "300ms"), ("HOLDFAST_GC_GRACE", "1s")]);
    let (image, _) = daemon.push_image("a", "1", b"layer");
    delete(&daemon, &format!("/v2/a/manifests/{image}"));
    let began = Instant::now();
    while has_file(&daemon, &image) || has_file(&daemon, &digest(b"layer")) {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_an_interrupted_collection_leaves_is_put_right() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    let layer = digest(b"layer");
    let gone = digest(b"gone");
    daemon.stop();
    let name = |digest: &str| digest.replacen(':', "-", 1);
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    // Moved, but the transaction was not committed; and committed, but not removed; and forgotten, but not moved.
    let trash = daemon.data.join("trash");
    for digest in [&layer, &image] {
        std::fs::rename(daemon.data.join("blobs/sha256").join(hex(digest)), trash.join(name(digest)))
            .unwrap();
    }
    std::fs::write(trash.join(name(&gone)), b"gone").unwrap();
    std::fs::write(daemon.data.join("blobs/sha256").join(hex(&digest(b"unknown"))), b"unknown").unwrap();
    daemon.restart_after_end();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"layer");
    assert_eq!(std::fs::read_dir(&trash).unwrap().count(), 0);
    let report = collect(&daemon, &[]);
    assert_eq!((&report["found"], &report["kept_needed"]["count"]), (&1.into(), &3.into()), "{report}");
    let report = collect(&daemon, &["--grace", "0s"]);
    assert_eq!(report["freed_blobs"]["count"], 1, "{report}");
    assert!(!has_file(&daemon, &digest(b"unknown")));
}

/// Begins a collection that stops for a while after it has moved a file to the trash, before it commits.
fn collect_slowly(daemon: &Daemon) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=rename", "-e", "inject=rename:delay_exit=4000000", BINARY, "gc"]);
    command.args(["--grace", "0s", "--data"]).arg(&daemon.data).env_clear();
    let output = Stdio::null;
    let child =
        command.stdout(output()).stderr(output()).spawn().expect("the package strace has to be installed");
    let began = Instant::now();
    while std::fs::read_dir(daemon.data.join("trash")).unwrap().count() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is collected");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn what_a_collection_has_not_committed_is_still_there() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let content = b"about to go";
    let blob = daemon.push_blob("a", content);
    let mut gc = collect_slowly(&daemon);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, content);
    assert!(gc.try_wait().unwrap().is_none(), "the collection has ended before it was looked at");
    // It waits for the collection's transaction before it reads anything.
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    assert!(gc.wait().unwrap().success());
    daemon.get(&format!("/v2/a/blobs/{blob}")).expect(404);
}

#[test]
fn one_collection_goes_on_at_a_time() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_INTERVAL", "off")]);
    daemon.push_blob("a", b"about to go");
    // Creates the lock, as another collection does.
    collect(&daemon, &[]);
    let mut other = Command::new("flock");
    other.arg(daemon.data.join("index/collection.lock")).args(["sh", "-c", "echo locked; cat"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    other.stdout.take().unwrap().read_exact(&mut line).unwrap();
    let mut gc = Command::new(BINARY);
    gc.env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data).stdout(Stdio::piped());
    let mut gc = gc.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(gc.try_wait().unwrap().is_none(), "it has not waited");
    drop(other.stdin.take());
    let output = gc.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 blob (11 B)"), "{output:?}");
    other.wait().unwrap();
}
