//! What the overview says when something needs a person: each warning on the real thing, and none where all is well.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::browser::Browser;
use crate::support::failing::Failing;
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

/// The machine that runs the tests may be nearly full itself.
fn but_the_disk(mut warnings: Vec<String>) -> Vec<String> {
    warnings.retain(|warning| !warning.starts_with("The disk is nearly full"));
    warnings
}

#[test]
fn where_all_is_well_nothing_is_said() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    assert_eq!(but_the_disk(warnings_of(&daemon)), Vec::<String>::new());
}

#[test]
fn a_disk_that_failed_is_named() {
    let daemon = Daemon::start();
    let failing = Failing::begin(daemon.process(), "fdatasync", None);
    let content = b"layer";
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
    assert!(daemon.request("POST", &path).body(content).send().status >= 500);
    drop(failing);
    let said = warnings_of(&daemon);
    expect(&said, "The registry takes no more pushes: ");
    assert!(!said[0].contains(daemon.data.to_str().unwrap()), "{said:?}");
}

#[test]
fn a_disk_without_room_is_named() {
    expect(&warnings_of(&Daemon::with(&[("HOLDFAST_STORAGE_RESERVE", "1000TiB")])), "The disk is full");
    let directory = tempfile::tempdir().unwrap();
    let free = run(Command::new("df").args(["--output=avail", "-B1"]).arg(directory.path()));
    let free: u64 = free.lines().last().unwrap().trim().parse().unwrap();
    // What is left is more than the tests beside this one can take meanwhile, and less than a tenth of any disk here.
    let reserve = (free - free.min(2 << 30)).to_string();
    expect(&warnings_of(&Daemon::with(&[("HOLDFAST_STORAGE_RESERVE", &reserve)])), "The disk is nearly full");
}

#[test]
fn a_quota_that_is_nearly_used_up_is_named() {
    let daemon = Daemon::with(&[("HOLDFAST_STORAGE_QUOTA", "1MiB")]);
    daemon.push_blob("a", &vec![7; 1000 << 10]);
    expect(&warnings_of(&daemon), "The quota is nearly used up: ");
}

#[test]
fn an_index_that_is_nearly_full_is_named() {
    let daemon = Daemon::with(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
    let (_, manifest) = daemon.push_image("a", "first", b"layer");
    let put = |number: &usize| {
        let tag = format!("{number}-{}", "x".repeat(100));
        daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest).status
    };
    assert!((0..20_000).any(|number| put(&number) == 507), "it takes all");
    expect(&warnings_of(&daemon), "The index is nearly full: set storage.index_map_size higher.");
}

/// The overview of a registry with TLS.
fn overview_by_tls(daemon: &Daemon, ca: &Path) -> String {
    let url = format!("https://localhost:{}/", daemon.address.port());
    run(Command::new("curl").args(["-sSf", "-H", "accept: text/html", "--cacert"]).arg(ca).arg(url))
}

#[test]
fn a_clock_that_went_back_is_named() {
    let mut daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", "auto")]);
    daemon.stop();
    // It has been twenty days later already.
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_hours(20 * 24);
    std::fs::write(daemon.data.join("tls/clock"), format!("{}\n", later.as_secs())).unwrap();
    daemon.restart_with(&[("HOLDFAST_TLS_MODE", "auto")]);
    let ca = daemon.data.join("tls/ca.crt");
    expect(&warnings(&overview_by_tls(&daemon, &ca)), "The clock of the registry is wrong: it says ");
}

#[test]
fn a_certificate_of_ones_own_that_ends_soon_is_named() {
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
        let daemon = Daemon::with(&[("HOLDFAST_TLS_CERTIFICATE", files[0]), ("HOLDFAST_TLS_KEY", files[1])]);
        warnings(&overview_by_tls(&daemon, &certificate))
    };
    expect(&with("5"), "The certificate of the registry expires in ");
    assert_eq!(but_the_disk(with("90")), Vec::<String>::new());
}
