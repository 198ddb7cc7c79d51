//! `holdfast gc --dry-run` reports what a real run at that time frees.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bulk::Bulk;
use crate::support::*;

fn collect(daemon: &Daemon, arguments: &[&str]) -> Value {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["gc", "--json", "--data"]).arg(&daemon.data).args(arguments);
    let text = run(&mut command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Removes the fields of a report that differ from run to run.
fn comparable(mut report: Value) -> Value {
    // The two runs are at different times.
    for field in ["from", "until"] {
        report["waiting"][field].take();
    }
    let fields = report.as_object_mut().unwrap();
    for name in ["dry_run", "milliseconds"] {
        fields.remove(name).unwrap();
    }
    report
}

fn put_index(daemon: &Daemon, repository: &str, reference: &str, manifests: &[&str]) -> String {
    let manifests: Vec<Value> = manifests
        .iter()
        .map(|digest| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let bytes = serde_json::to_vec(&index).unwrap();
    let reference = if reference.is_empty() { digest(&bytes) } else { reference.to_owned() };
    daemon.put_manifest(repository, &reference, OCI_INDEX, &bytes).expect(201);
    digest(&bytes)
}

/// Pushes a signature of a manifest with a layer of its own; returns its digest.
fn sign(daemon: &Daemon, repository: &str, subject: &str) -> String {
    let layer = daemon.push_blob(repository, format!("signature of {subject} in {repository}").as_bytes());
    let bytes = image(&layer, &layer, Some(subject));
    daemon.put_manifest(repository, &digest(&bytes), OCI_MANIFEST, &bytes).expect(201);
    digest(&bytes)
}

fn fill(daemon: &Daemon, round: u32) {
    for repository in ["ci/app", "ci/lib", "keep"] {
        for number in 0..6 {
            let layer = format!("layer {round} {number} of {repository}");
            let (image, _) = daemon.push_image(repository, &format!("b{round}-{number}"), layer.as_bytes());
            let signature = sign(daemon, repository, &image);
            // A signature of the signature.
            sign(daemon, repository, &signature);
        }
        let mut platforms = Vec::new();
        for number in 0..3 {
            let (platform, _) =
                daemon.push_image(repository, "p", format!("platform {round} {number}").as_bytes());
            platforms.push(platform);
        }
        daemon.request("DELETE", &format!("/v2/{repository}/manifests/p")).send().expect(202);
        let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
        let inner = put_index(daemon, repository, "", &platforms[..2]);
        let outer = put_index(daemon, repository, &format!("index{round}"), &[&inner, platforms[2]]);
        sign(daemon, repository, &outer);
        if round.is_multiple_of(2) {
            daemon.request("DELETE", &format!("/v2/{repository}/manifests/{outer}")).send().expect(202);
        }
        // An unreferenced blob, and a mount of a blob that only other repositories reference.
        daemon.push_blob(repository, format!("orphan {round} of {repository}").as_bytes());
        let blob = digest(format!("layer {round} 0 of {repository}").as_bytes());
        let mount = format!("/v2/other/blobs/uploads/?mount={blob}&from={repository}");
        daemon.request("POST", &mount).body(b"").send().expect(201);
    }
    let (deleted, _) = daemon.push_image("keep", "deleted", format!("deleted {round}").as_bytes());
    sign(daemon, "keep", &deleted);
    daemon.request("DELETE", &format!("/v2/keep/manifests/{deleted}")).send().expect(202);
}

const RULES: &str = r#"
    [[retention]]
    repositories = ["ci/app"]
    keep_newest = 2
    keep_tags = ["index*"]
    remove_untagged = "0s"
    [[retention]]
    repositories = ["ci/lib"]
    keep_newest = 1
    remove_untagged = "30s"
"#;

#[test]
fn a_dry_run_reports_what_a_real_run_frees() {
    let mut daemon = Daemon::with_config(&format!("[gc]\ninterval = \"off\"\n{RULES}"));
    let mut taken = 0;
    // With a grace period a run orphans content that a later run frees.
    for (round, grace) in ["0s", "30s", "1h", "0s"].into_iter().enumerate() {
        fill(&daemon, round as u32);
        let last = fill_young(&daemon, round);
        for _ in 0..4 {
            // No period ends between the two runs: the content that was orphaned last is twice as old as the short
            // periods, and far from the long one.
            daemon.advance_clock(Duration::from_mins(1));
            let dry = collect(&daemon, &["--grace", grace, "--dry-run"]);
            let real = collect(&daemon, &["--grace", grace]);
            assert_eq!(comparable(dry), comparable(real.clone()), "round {round}, grace {grace}");
            let count = real["taken"].as_array().unwrap().len();
            taken += count;
            if count == 0 {
                break;
            }
        }
        daemon.get(&format!("/v2/keep/manifests/{last}")).expect(200);
    }
    assert!(taken > 100, "{taken} items were freed");
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

/// Pushes an image that stays; returns its digest.
fn fill_young(daemon: &Daemon, round: usize) -> String {
    daemon.push_image("keep", &format!("young{round}"), format!("young {round}").as_bytes()).0
}

/// Exceeds all limits of a step: manifests of one read, referrers of one transaction, rows of one manifest,
/// repositories that have a blob.
#[test]
fn a_dry_run_of_a_large_collection_reports_what_a_real_run_frees() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    daemon.stop();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    let mut bulk = Bulk::new(&daemon.data);
    let mut platforms: Vec<String> =
        (0..1100).map(|number| bulk.name("a", None, &bulk.image(number, None))).collect();
    platforms.sort();
    for number in 2000..2700 {
        let referrer = bulk.image(number, Some(&platforms[0]));
        bulk.name("a", None, &referrer);
    }
    for number in 3000..3003 {
        bulk.name("a", Some(&format!("t{number}")), &bulk.image(number, None));
    }
    bulk.write();
    daemon.start_again();
    let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
    put_index(&daemon, "a", "outer", &platforms);
    for tag in ["outer", "t3000", "t3001", "t3002"] {
        daemon.request("DELETE", &format!("/v2/a/manifests/{tag}")).send().expect(202);
    }
    let blob = daemon.push_blob("from", b"everywhere");
    for number in 0..70 {
        let path = format!("/v2/r{number}/blobs/uploads/?mount={blob}&from=from");
        daemon.request("POST", &path).body(b"").send().expect(201);
    }
    let mut taken = Vec::new();
    for run in 0..6 {
        let dry = collect(&daemon, &["--grace", "0s", "--dry-run"]);
        let real = collect(&daemon, &["--grace", "0s"]);
        assert_eq!(comparable(dry), comparable(real.clone()), "run {run}");
        taken.push(real["freed_manifests"].as_u64().unwrap());
    }
    assert_eq!(taken.iter().sum::<u64>(), 1 + 3 + 1100 + 700, "{taken:?}");
    daemon.get(&format!("/v2/r69/blobs/{blob}")).expect(404);
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}
