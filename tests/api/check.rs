//! `holdfast check` finds corrupt content, and the next push replaces it.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

fn check(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["check", "--data"]).arg(&daemon.data).args(arguments);
    command.output().unwrap()
}

/// Runs a check; returns its exit code and its report.
fn report(daemon: &Daemon, arguments: &[&str]) -> (i32, Value) {
    let output = check(daemon, &[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code().unwrap(), report)
}

fn file(daemon: &Daemon, digest: &str) -> PathBuf {
    daemon.data.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// Flips a bit of a blob on the disk.
fn corrupt(daemon: &Daemon, digest: &str) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file(daemon, digest)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 3).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_healthy_registry_has_no_faults() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.push_image("b/c", "2", b"another layer");
    let (code, report) = report(&daemon, &[]);
    assert_eq!((code, &report["faults"]), (0, &0.into()), "{report}");
    assert_eq!(
        (&report["blobs"]["count"], &report["manifests"], &report["tags"]),
        (&5.into(), &2.into(), &2.into())
    );
    let text = String::from_utf8(check(&daemon, &[]).stdout).unwrap();
    assert!(text.starts_with("checked 5 blobs"), "{text}");
}

#[test]
fn a_corrupt_layer_is_reported_and_replaced_by_the_next_push() {
    let daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"a layer that decays");
    let layer = digest(b"a layer that decays");
    corrupt(&daemon, &layer);
    let output = check(&daemon, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("corrupt      {layer}")), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--repair"));
    // A check without --repair changes no file, but a client is asked to send the layer again.
    assert!(daemon.data.join("blobs").join(layer.replacen(':', "/", 1)).exists());
    daemon.request("HEAD", &format!("/v2/a/blobs/{layer}")).send().expect(404);
    let (code, repaired) = report(&daemon, &["--repair"]);
    assert_eq!(
        (code, &repaired["set_aside"], &repaired["repaired"]),
        (1, &1.into(), &0.into()),
        "{repaired}"
    );
    assert!(daemon.data.join("damaged").join(layer.replacen(':', "-", 1)).exists());
    daemon.request("HEAD", &format!("/v2/a/blobs/{layer}")).send().expect(404);
    // The image stays and is incomplete until its layer is pushed again.
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{image}")).expect(200).body, bytes);
    assert_eq!(report(&daemon, &[]).1["list"][0]["kind"], "incomplete");
    daemon.push_image("a", "1", b"a layer that decays");
    assert_eq!(report(&daemon, &[]).0, 0);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"a layer that decays");
}

#[test]
fn a_push_after_a_check_heals_without_a_repair() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"a layer that decays");
    let layer = digest(b"a layer that decays");
    corrupt(&daemon, &layer);
    assert_eq!(report(&daemon, &[]).0, 1);
    daemon.push_image("a", "1", b"a layer that decays");
    daemon.request("HEAD", &format!("/v2/a/blobs/{layer}")).send().expect(200);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"a layer that decays");
    assert_eq!(report(&daemon, &[]).0, 0);
}

#[test]
fn an_import_heals_what_a_check_found() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"a layer that decays");
    let medium = daemon.data.with_extension("medium");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(arguments).arg(&medium).arg("--data").arg(&daemon.data);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(&["export", "a:1", "-o"]);
    let layer = digest(b"a layer that decays");
    for repair in [&[][..], &["--repair"]] {
        corrupt(&daemon, &layer);
        assert_eq!(report(&daemon, repair).0, 1);
        run(&["import"]);
        assert_eq!(report(&daemon, &[]).0, 0, "{repair:?}");
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{layer}")).expect(200).body, b"a layer that decays");
    }
}

#[test]
fn one_push_heals_all_images_that_need_a_corrupt_layer() {
    let daemon = Daemon::start();
    for (repository, tag) in [("team/app", "1"), ("team/app", "2"), ("other", "1")] {
        daemon.push_image(repository, tag, b"a shared layer");
    }
    let layer = digest(b"a shared layer");
    corrupt(&daemon, &layer);
    let texts = |arguments: &[&str]| {
        let Output { status, stdout, stderr } = check(&daemon, arguments);
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code().unwrap(), stdout, stderr)
    };
    let (code, found, advice) = texts(&[]);
    assert!(code == 1 && found.contains("; needed by other:1, team/app:1, team/app:2\n"), "{found}");
    assert!(advice.contains("1 fault; run `holdfast check --repair`, then push other:1 again"), "{advice}");
    let (code, repaired, advice) = texts(&["--repair"]);
    assert!(
        code == 1 && repaired.contains(&layer) && repaired.contains("(set aside in damaged/)"),
        "{repaired}"
    );
    assert!(!repaired.contains("repaired") && !repaired.contains("incomplete"), "{repaired}");
    assert!(advice.contains("1 fault; 1 set aside; push other:1 again, which heals all of them"), "{advice}");
    // A check before the push says the same, and does not ask for another repair.
    let (code, _, advice) = texts(&[]);
    assert!(code == 1 && advice.contains("push other:1 again") && !advice.contains("--repair"), "{advice}");
    daemon.request("HEAD", &format!("/v2/other/blobs/{layer}")).send().expect(404);
    daemon.push_image("other", "1", b"a shared layer");
    daemon.get(&format!("/v2/team/app/blobs/{layer}")).expect(200);
    let (code, found, _) = texts(&[]);
    assert!(code == 0 && found.contains("0 faults"), "{found}");
}

#[test]
fn a_push_restores_a_blob_only_where_it_was() {
    let daemon = Daemon::with_env(&[("HOLDFAST_REGISTRY_SPARSE", "true")]);
    daemon.push_image("own", "1", b"a secret layer");
    let layer = digest(b"a secret layer");
    let config = daemon.push_blob("other", b"{}");
    let foreign = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":14,
            "urls":["https://example.org/"]}}]}}"#
    );
    daemon.put_manifest("other", "foreign", OCI_MANIFEST, foreign.as_bytes()).expect(201);
    let sparse = image(&config, &layer, None);
    daemon.put_manifest("sparse", "1", OCI_MANIFEST, &sparse).expect(201);
    corrupt(&daemon, &layer);
    report(&daemon, &["--repair"]);
    daemon.push_image("own", "1", b"a secret layer");
    daemon.get(&format!("/v2/own/blobs/{layer}")).expect(200);
    for stranger in ["other", "sparse"] {
        daemon.request("HEAD", &format!("/v2/{stranger}/blobs/{layer}")).send().expect(404);
    }
}

#[test]
fn a_corrupt_manifest_loses_its_tags_until_it_is_pushed_again() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let config = daemon.push_blob("a", b"{}");
    let signature = image(&config, &config, Some(&subject));
    let signature_digest = digest(&signature);
    daemon.put_manifest("a", "signature", OCI_MANIFEST, &signature).expect(201);
    corrupt(&daemon, &signature_digest);
    let repaired = report(&daemon, &["--repair"]).1;
    assert_eq!(
        (&repaired["set_aside"], &repaired["list"][0]["images"][0]),
        (&1.into(), &"a:signature".into())
    );
    daemon.request("HEAD", "/v2/a/manifests/signature").send().expect(404);
    let referrers = daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"], serde_json::json!([]));
    assert_eq!(report(&daemon, &[]).0, 0);
    daemon.put_manifest("a", "signature", OCI_MANIFEST, &signature).expect(201);
    assert_eq!(daemon.get("/v2/a/manifests/signature").expect(200).body, signature);
}

#[test]
fn missing_and_truncated_files_are_found() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"gone");
    daemon.push_image("a", "2", b"too short");
    std::fs::remove_file(file(&daemon, &digest(b"gone"))).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(file(&daemon, &digest(b"too short")))
        .unwrap()
        .set_len(3)
        .unwrap();
    let (code, found) = report(&daemon, &["--repair"]);
    let mut kinds: Vec<_> =
        found["list"].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!((code, kinds), (1, vec!["missing", "rotten"]));
    daemon.push_image("a", "1", b"gone");
    daemon.push_image("a", "2", b"too short");
    assert_eq!(report(&daemon, &[]).0, 0);
}

#[test]
fn rebuild_needs_the_data_directory_without_a_daemon() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a/b", "1", b"layer");
    let untagged = daemon.put_manifest("a/b", &digest(&bytes), OCI_MANIFEST, &bytes);
    untagged.expect(201);
    let refused = check(&daemon, &["--rebuild"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("another holdfast already serves"));
    daemon.stop();
    let output = check(&daemon, &["--rebuild"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let aside = std::fs::read_dir(&daemon.data).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(aside.into_iter().any(|name| name.to_string_lossy().starts_with("index.broken-")));
    daemon.start_again();
    assert_eq!(daemon.get("/v2/a/b/manifests/1").expect(200).body, bytes);
    daemon.get(&format!("/v2/a/b/manifests/{image}")).expect(200);
}

/// Empties a table of the index.
fn empty_table(daemon: &Daemon, name: &str) {
    let mut options = heed::EnvOpenOptions::new();
    let options = options.max_dbs(32).map_size(64 << 20);
    // SAFETY: the test opens its own index once, and the file is one of LMDB.
    #[expect(unsafe_code, reason = "there is no other way to open an index")]
    let index = unsafe { options.open(daemon.data.join("index")) }.unwrap();
    let mut txn = index.write_txn().unwrap();
    let table =
        index.open_database::<heed::types::Bytes, heed::types::Bytes>(&txn, Some(name)).unwrap().unwrap();
    table.clear(&mut txn).unwrap();
    txn.commit().unwrap();
    index.prepare_for_closing().wait();
}

#[test]
fn a_repair_rebuilds_an_index_that_contradicts_itself() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"layer");
    // A stop writes the rows of the log to LMDB.
    daemon.stop_and_restart();
    empty_table(&daemon, "manifests");
    let (code, found) = report(&daemon, &[]);
    let kinds: Vec<&str> = (0..3).filter_map(|at| found["list"][at]["kind"].as_str()).collect();
    assert_eq!((code, kinds), (1, vec!["index", "miscounted", "dangling"]), "{found}");
    let refused = String::from_utf8(check(&daemon, &["--repair"]).stderr).unwrap();
    assert!(refused.contains("stop the daemon"), "{refused}");
    daemon.stop();
    assert_eq!(report(&daemon, &["--repair"]).0, 0);
    daemon.start_again();
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
    daemon.get(&format!("/v2/a/manifests/{image}")).expect(200);
}

#[test]
fn a_repair_rebuilds_a_damaged_index() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    std::fs::remove_file(daemon.data.join("index/clean")).unwrap();
    let index = std::fs::OpenOptions::new().write(true).open(daemon.data.join("index/data.mdb")).unwrap();
    let length = index.metadata().unwrap().len();
    index.write_all_at(&vec![0; length as usize - 8192], 8192).unwrap();
    let output = |arguments: &[&str]| {
        Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data).output().unwrap()
    };
    // The status opens no store.
    let status = output(&["status"]);
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(status.status.success() && text.contains("daemon        not running"), "{text}");
    // A command that opens the store recovers it as a daemon does, and says so.
    let opened = output(&["gc", "--dry-run"]);
    let line = String::from_utf8(opened.stderr).unwrap();
    assert!(opened.status.success() && line.contains("the index has been rebuilt"), "{line}");
    assert_eq!(report(&daemon, &["--repair"]).0, 0);
    daemon.start_again();
    daemon.get("/v2/a/manifests/1").expect(200);
}

#[test]
fn a_check_stays_below_its_rate() {
    let daemon = Daemon::start();
    for number in 0..4u8 {
        daemon.push_blob("a", &vec![number; 512 << 10]);
    }
    let began = Instant::now();
    assert_eq!(report(&daemon, &["--rate", "1MiB"]).0, 0);
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!(check(&daemon, &["--rate", "quickly"]).status.code(), Some(2));
}
