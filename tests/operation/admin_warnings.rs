//! The warnings of the overview: each one with its real cause, and none in a healthy registry.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::browser::Browser;
use crate::support::fault_injection::FaultInjection;
use crate::support::*;

/// The warnings of an overview page, without their markup.
fn warnings(page: &str) -> Vec<String> {
    let marked = page.split("<p class=\"").skip(1);
    let marked = marked.filter(|rest| {
        (rest.starts_with("warning\"") || rest.starts_with("error\""))
            && !rest.contains("id=\"clock-warning\"")
    });
    marked.map(|rest| rest.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()).collect()
}

fn warnings_of(daemon: &Daemon) -> Vec<String> {
    warnings(&Browser::new(daemon).page("/"))
}

#[track_caller]
fn expect(warnings: &[String], text: &str) {
    assert!(warnings.iter().any(|warning| warning.contains(text)), "{warnings:?}");
}

/// Removes the warning about free space: the disk of the test machine may be nearly full.
fn without_free_space(mut warnings: Vec<String>) -> Vec<String> {
    warnings.retain(|warning| !warning.starts_with("The disk is nearly full"));
    warnings
}

#[test]
fn healthy_registry_has_no_warnings() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    assert_eq!(without_free_space(warnings_of(&daemon)), Vec::<String>::new());
}

#[test]
fn failed_disk_is_a_warning_without_paths() {
    let daemon = Daemon::start();
    let failing = FaultInjection::fail(daemon.pid(), "fdatasync", None);
    let content = b"layer";
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
    assert!(daemon.request("POST", &path).body(content).send().status >= 500);
    drop(failing);
    let warnings = warnings_of(&daemon);
    expect(&warnings, "The registry accepts no more pushes: ");
    assert!(!warnings[0].contains(daemon.data.to_str().unwrap()), "{warnings:?}");
}

#[test]
fn full_disk_is_a_warning() {
    expect(&warnings_of(&Daemon::with_env(&[("HOLDFAST_STORAGE_RESERVE", "1000TiB")])), "The disk is full");
    let directory = tempfile::tempdir().unwrap();
    let free = run(Command::new("df").args(["--output=avail", "-B1"]).arg(directory.path()));
    let free: u64 = free.lines().last().unwrap().trim().parse().unwrap();
    // 2 GiB are more than parallel tests use up, and less than a tenth of any test machine's disk.
    let reserve = (free - free.min(2 << 30)).to_string();
    expect(
        &warnings_of(&Daemon::with_env(&[("HOLDFAST_STORAGE_RESERVE", &reserve)])),
        "The disk is nearly full",
    );
}

#[test]
fn nearly_used_up_quota_is_a_warning() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", "1MiB")]);
    daemon.push_blob("a", &vec![7; 1000 << 10]);
    expect(&warnings_of(&daemon), "The quota is nearly used up: ");
}

#[test]
fn nearly_full_index_is_a_warning() {
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
    let (_, manifest) = daemon.push_image("a", "first", b"layer");
    let put = |number: &usize| {
        let tag = format!("{number}-{}", "x".repeat(100));
        daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest).status
    };
    assert!((0..20_000).any(|number| put(&number) == 507), "the index is never full");
    expect(&warnings_of(&daemon), "The index is nearly full: increase storage.index_map_size.");
}

/// Loads the overview over TLS.
fn overview_by_tls(daemon: &Daemon, ca: &Path) -> String {
    let url = format!("https://localhost:{}/", daemon.address.port());
    run(Command::new("curl").args(["-sSf", "-H", "accept: text/html", "--cacert"]).arg(ca).arg(url))
}

#[test]
fn clock_that_went_back_is_a_warning() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    daemon.stop();
    // The daemon has seen a time twenty days ahead.
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(20 * 24);
    std::fs::write(daemon.data.join("tls/clock"), format!("{}\n", later.as_secs())).unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    let ca = daemon.data.join("tls/ca.crt");
    expect(&warnings(&overview_by_tls(&daemon, &ca)), "The clock of the registry is wrong: it says ");
}

#[test]
fn certificate_from_files_that_expires_soon_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("crt"), directory.path().join("key"));
    let with = |days: &str| {
        let new = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", days];
        run(Command::new("openssl")
            .args(new)
            .args(names)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        let daemon =
            Daemon::with_env(&[("HOLDFAST_TLS_CERTIFICATE", files[0]), ("HOLDFAST_TLS_KEY", files[1])]);
        warnings(&overview_by_tls(&daemon, &certificate))
    };
    expect(&with("5"), "The certificate of the registry expires in ");
    assert_eq!(without_free_space(with("90")), Vec::<String>::new());
}
