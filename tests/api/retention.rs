//! Retention rules, and content that is attached to images.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::*;

/// Runs `holdfast gc` with these rules while the daemon is stopped, because a daemon applies its own; returns the report.
fn collect(daemon: &mut Daemon, rules: &str, arguments: &[&str]) -> Value {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    daemon.stop();
    let mut command = Command::new(BINARY);
    command.env_clear().args(["gc", "--json", "--data"]).arg(&daemon.data);
    let text = run(command.arg("--config").arg(file.path()).args(arguments));
    daemon.start_again();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn tags(daemon: &Daemon, repository: &str) -> Vec<String> {
    let answer = daemon.get(&format!("/v2/{repository}/tags/list"));
    if answer.status == 404 {
        return Vec::new();
    }
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

/// Returns the attachment tag of an image.
fn attached(image: &str, suffix: &str) -> String {
    format!("{}{suffix}", image.replace(':', "-"))
}

fn rule(keys: &str) -> String {
    format!("[[retention]]\nrepositories = [\"*\"]\n{keys}\n")
}

#[test]
fn rules_that_match_nothing_are_named_by_a_collection() {
    let mut daemon = Daemon::start();
    daemon.push_image("prod/app", "1", b"layer");
    let rules = "[[retention]]\nrepositories = [\"prdo/*\"]\nkeep_newest = 1\n\
        [[retention]]\nrepositories = [\"prod/*\"]\nkeep_newest = 1\nkeep_tags = [\"v*\"]\n";
    let expected = [
        "[[retention]] for prdo/* matches no repository",
        "[[retention]] for prod/*: v* in keep_tags matches no tag",
    ];
    assert_eq!(collect(&mut daemon, rules, &["--dry-run"])["unmatched_rules"], json!(expected));
    assert!(collect(&mut daemon, &rule("keep_newest = 1"), &[]).get("unmatched_rules").is_none());
    // A collection by the schedule logs them.
    let mut daemon = Daemon::with_config(&format!("[gc]\ninterval = \"1s\"\n{rules}"));
    daemon.push_image("prod/app", "1", b"layer");
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    let end = Instant::now() + Duration::from_secs(20);
    let lines = loop {
        let lines = std::fs::read_to_string(log.path()).unwrap();
        if lines.contains("keep_tags matches no tag") {
            break lines;
        }
        assert!(Instant::now() < end, "{lines}");
        std::thread::sleep(Duration::from_millis(50));
    };
    for sentence in expected {
        assert_eq!(lines.matches(&format!("{sentence}; check the configuration")).count(), 1, "{lines}");
    }
}

#[test]
fn the_order_of_tags_of_one_second_survives_a_rebuild() {
    let mut daemon = Daemon::start();
    // By name the newest tag comes first.
    let pushed = ["8", "7", "6", "5", "4", "3", "2", "1"];
    for tag in pushed {
        daemon.push_image("app", tag, tag.as_bytes());
    }
    // A tag that moves becomes the newest one.
    daemon.push_image("app", "7", b"again");
    let taken = |report: &Value| {
        let taken = report["taken"].as_array().unwrap().iter();
        let mut tags: Vec<_> = taken.filter_map(|one| Some(one["tag"].as_str()?.to_owned())).collect();
        tags.sort();
        tags
    };
    let rules = rule("keep_newest = 3");
    assert_eq!(taken(&collect(&mut daemon, &rules, &["--dry-run"])), ["3", "4", "5", "6", "8"]);
    daemon.stop();
    run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
    daemon.start_again();
    assert_eq!(taken(&collect(&mut daemon, &rules, &["--dry-run"])), ["3", "4", "5", "6", "8"]);
    let report = collect(&mut daemon, &rules, &["--grace", "0s"]);
    assert_eq!(report["freed_tags"], 5, "{report}");
    assert_eq!(tags(&daemon, "app"), ["1", "2", "7"]);
}

#[test]
fn tags_of_one_push_have_an_order() {
    let mut daemon = Daemon::start();
    let (digest, bytes) = daemon.push_image("seed", "1", b"layer");
    for content in [&b"{\"architecture\":\"arm64\",\"os\":\"linux\"}"[..], b"layer"] {
        daemon.push_blob("app", content);
    }
    daemon.put_manifest("app", &format!("{digest}?tag=a&tag=b&tag=c"), OCI_MANIFEST, &bytes).expect(201);
    collect(&mut daemon, &rule("keep_newest = 1"), &[]);
    assert_eq!(tags(&daemon, "app"), ["c"]);
}

#[test]
fn attachment_tags_are_removed_with_their_image() {
    let mut daemon = Daemon::start();
    let mut images = Vec::new();
    for tag in ["1", "2", "3"] {
        let (image, _) = daemon.push_image("app", tag, tag.as_bytes());
        for suffix in [".sig", ".att", ".sbom", ""] {
            daemon.push_image("app", &attached(&image, suffix), format!("{image}{suffix}").as_bytes());
        }
        images.push(image);
    }
    let rules = rule("keep_newest = 2");
    let dry = collect(&mut daemon, &rules, &["--dry-run"]);
    assert_eq!((&dry["freed_tags"], &dry["taken"][0]["tag"]), (&json!(1), &json!("1")), "{dry}");
    let first = collect(&mut daemon, &rules, &[]);
    assert_eq!(first["freed_tags"], 1, "the image stays for the grace period: {first}");
    assert_eq!(tags(&daemon, "app").len(), 2 + 3 * 4);
    let dry = collect(&mut daemon, &rules, &["--dry-run", "--grace", "0s"]);
    assert_eq!((&dry["freed_tags"], &dry["freed_manifests"]), (&json!(4), &json!(5)), "{dry}");
    let second = collect(&mut daemon, &rules, &["--grace", "0s"]);
    assert_eq!((&second["freed_tags"], &second["freed_manifests"]), (&json!(4), &json!(5)), "{second}");
    let remaining = tags(&daemon, "app");
    assert_eq!(remaining.len(), 2 + 2 * 4, "{remaining:?}");
    assert!(!remaining.iter().any(|tag| tag.starts_with(&attached(&images[0], ""))), "{remaining:?}");
    for tag in ["2", "3"] {
        daemon.get(&format!("/v2/app/manifests/{tag}")).expect(200);
    }
    assert!(!daemon.data.join("blobs/sha256").join(&digest(b"1")[7..]).exists());
}

#[test]
fn without_a_rule_attachment_tags_stay() {
    let mut daemon = Daemon::start();
    let (image, _) = daemon.push_image("app", "1", b"layer");
    let signature = attached(&image, ".sig");
    daemon.push_image("app", &signature, b"signature");
    daemon.request("DELETE", "/v2/app/manifests/1").send().expect(202);
    let report = collect(&mut daemon, "", &["--grace", "0s"]);
    assert_eq!((&report["freed_tags"], &report["freed_manifests"]), (&json!(0), &json!(1)), "{report}");
    assert_eq!(tags(&daemon, "app"), [signature]);
}

#[test]
fn attachment_tags_without_an_image_expire_by_the_rule() {
    let mut daemon = Daemon::start();
    let elsewhere = |name: &str| attached(&digest(name.as_bytes()), ".sig");
    // One repository has only signatures, as with COSIGN_REPOSITORY of cosign.
    for name in ["a", "b", "c"] {
        daemon.push_image("signatures", &elsewhere(name), name.as_bytes());
        daemon.push_image("app", &elsewhere(name), name.as_bytes());
    }
    daemon.push_image("app", "1", b"image");
    daemon.push_image("app", &elsewhere("d"), b"d");
    collect(&mut daemon, &rule("keep_newest = 2"), &[]);
    let mut expected = vec![elsewhere("b"), elsewhere("c")];
    expected.sort();
    assert_eq!(tags(&daemon, "signatures"), expected);
    // Beside an image they take no place; those older than the oldest kept tag expire.
    assert_eq!(tags(&daemon, "app"), ["1".to_owned(), elsewhere("d")]);
    collect(&mut daemon, &rule("keep_younger = \"1h\""), &[]);
    assert_eq!(tags(&daemon, "app").len(), 2);
}

#[test]
fn a_tag_named_after_its_own_manifest_is_an_image_tag() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("app", "1", b"layer");
    daemon.put_manifest("app", &attached(&image, ""), OCI_MANIFEST, &bytes).expect(201);
    daemon.push_image("app", "2", b"other");
    collect(&mut daemon, &rule("keep_newest = 1"), &[]);
    assert_eq!(tags(&daemon, "app"), ["2"]);
}

#[test]
fn referrers_are_freed_with_their_subject() {
    let mut daemon = Daemon::start();
    let (config, layer) = (daemon.push_blob("app", b"{}"), daemon.push_blob("app", b"signature"));
    let sign = |subject: &str| {
        let signature = image(&config, &layer, Some(subject));
        let reference = digest(&signature);
        (signature, reference)
    };
    let mut images = Vec::new();
    for tag in ["1", "2"] {
        let (image, _) = daemon.push_image("app", tag, tag.as_bytes());
        let (signature, reference) = sign(&image);
        daemon.put_manifest("app", &reference, OCI_MANIFEST, &signature).expect(201);
        // The referrer has a tag as well.
        daemon.put_manifest("app", &format!("sbom-of-{tag}"), OCI_MANIFEST, &signature).expect(201);
        images.push((image, reference));
    }
    let rules = rule("keep_newest = 1\nremove_untagged = \"0s\"");
    collect(&mut daemon, &rules, &["--grace", "0s"]);
    // The image 1 is freed. The tag of its SBOM keeps the SBOM, and is an ordinary tag from now on.
    assert_eq!(tags(&daemon, "app"), ["2", "sbom-of-1", "sbom-of-2"]);
    collect(&mut daemon, &rules, &["--grace", "0s"]);
    assert_eq!(tags(&daemon, "app"), ["2", "sbom-of-2"]);
    daemon.get(&format!("/v2/app/manifests/{}", images[0].1)).expect(404);
    let referrers = daemon.get(&format!("/v2/app/referrers/{}", images[1].0)).expect(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], images[1].1);
}
