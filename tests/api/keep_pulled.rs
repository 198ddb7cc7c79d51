//! Retention by pulls (`keep_pulled`): what was pulled lately is kept, and a pull writes nothing to the disk.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::index_rows::{rows, with_index};
use crate::support::*;

const RULES: &str = "[gc]\ninterval = \"off\"\n[[retention]]\nrepositories = [\"*\"]\nkeep_pulled = \"30d\"\nremove_untagged = \"1d\"\n";

fn days(count: u32) -> Duration {
    Duration::from_hours(24) * count
}

/// Runs `holdfast gc` with these rules, after a dry run that has to report the same; returns the removed tags.
fn collect(daemon: &Daemon, rules: &str) -> Vec<String> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let taken = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["gc", "--json", "--data"]).arg(&daemon.data);
        let text = run(command.arg("--config").arg(file.path()).args(arguments));
        let report: Value = serde_json::from_str(&text).unwrap();
        let taken = report["taken"].as_array().unwrap().iter();
        let mut tags: Vec<String> = taken.filter_map(|one| Some(one["tag"].as_str()?.to_owned())).collect();
        tags.sort();
        tags
    };
    let expected = taken(&["--dry-run"]);
    let removed = taken(&[]);
    assert_eq!(removed, expected);
    removed
}

fn uses(daemon: &Daemon) -> usize {
    with_index(&daemon.data, |index, txn| rows(index, txn, "uses").len())
}

#[test]
fn what_was_pulled_lately_is_kept() {
    let mut daemon = Daemon::with_config(RULES);
    for tag in ["pulled", "asked", "forgotten"] {
        daemon.push_image("app", tag, tag.as_bytes());
    }
    daemon.advance_clock(days(20));
    assert!(collect(&daemon, RULES).is_empty());
    daemon.get("/v2/app/manifests/pulled").expect(200);
    daemon.request("HEAD", "/v2/app/manifests/asked").send().expect(200);
    daemon.advance_clock(days(20));
    assert_eq!(collect(&daemon, RULES), ["asked", "forgotten"]);
    daemon.get("/v2/app/manifests/forgotten").expect(404);
    daemon.stop();
    assert_eq!(uses(&daemon), 1);
    daemon.start_again();
    daemon.advance_clock(days(15));
    assert_eq!(collect(&daemon, RULES), ["pulled"]);
}

#[test]
fn a_pull_by_digest_keeps_the_tag_and_an_untagged_manifest() {
    let mut daemon = Daemon::with_config(RULES);
    let (tagged, _) = daemon.push_image("app", "tagged", b"tagged");
    let (untagged, _) = daemon.push_image("app", "moved", b"untagged");
    let (other, _) = daemon.push_image("app", "moved", b"other");
    daemon.push_image("app", "moved", b"last");
    daemon.advance_clock(days(29));
    for digest in [&tagged, &untagged] {
        daemon.get(&format!("/v2/app/manifests/{digest}")).expect(200);
    }
    daemon.advance_clock(days(29));
    assert_eq!(collect(&daemon, RULES), ["moved"]);
    daemon.get("/v2/app/manifests/tagged").expect(200);
    daemon.get(&format!("/v2/app/manifests/{untagged}")).expect(200);
    daemon.get(&format!("/v2/app/manifests/{other}")).expect(404);
    // The uses go with the manifests.
    daemon.advance_clock(days(100));
    collect(&daemon, RULES);
    daemon.advance_clock(days(2));
    collect(&daemon, RULES);
    daemon.stop();
    assert_eq!(uses(&daemon), 0);
}

#[test]
fn everything_counts_as_pulled_when_the_rule_comes_and_when_the_index_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    let configure = |file: &Path, text: &str| std::fs::write(file, text).unwrap();
    configure(&file, "gc.interval = \"off\"\n");
    let mut daemon = Daemon::with_config_file(&file);
    daemon.push_image("app", "1", b"layer");
    daemon.get("/v2/app/manifests/1").expect(200);
    daemon.advance_clock(days(100));
    // A command with the rule is refused beside a daemon that has none and notes no pulls.
    let rules = directory.path().join("rules.toml");
    configure(&rules, RULES);
    let mut command = Command::new(BINARY);
    command.env_clear().args(["gc", "--data"]).arg(&daemon.data).arg("--config").arg(&rules);
    assert!(!command.output().unwrap().status.success());
    daemon.get("/v2/app/manifests/1").expect(200);
    configure(&file, RULES);
    daemon.stop_and_restart();
    assert!(collect(&daemon, RULES).is_empty());
    daemon.advance_clock(days(29));
    assert!(collect(&daemon, RULES).is_empty());
    daemon.stop();
    run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
    assert_eq!(uses(&daemon), 0);
    daemon.start_again();
    daemon.advance_clock(days(29));
    assert!(collect(&daemon, RULES).is_empty());
    daemon.advance_clock(days(2));
    assert_eq!(collect(&daemon, RULES), ["1"]);
}

#[test]
fn a_pull_writes_nothing_to_the_disk() {
    let mut daemon = Daemon::with_config(RULES);
    let (digest, _) = daemon.push_image("app", "1", b"layer");
    // A start has written all that the push left to write.
    daemon.stop_and_restart();
    let pull = || {
        daemon.get("/v2/app/manifests/1").expect(200);
        daemon.get(&format!("/v2/app/manifests/{digest}")).expect(200);
        daemon.get(&format!("/v2/app/blobs/{}", crate::support::digest(b"layer"))).expect(200);
    };
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    pull();
    let before = written();
    (0..100).for_each(|_| pull());
    assert_eq!(written(), before);
    daemon.stop();
    assert_eq!(uses(&daemon), 1, "the end of the daemon records the pull");
}

#[test]
fn a_rule_that_keeps_nothing_is_refused() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let check = |keys: &str| {
        std::fs::write(file.path(), format!("[[retention]]\nrepositories = [\"*\"]\n{keys}\n")).unwrap();
        let mut command = Command::new(BINARY);
        command.env_clear().args(["config", "check", "--config"]).arg(file.path()).output().unwrap()
    };
    let refused = check("keep_pulled = \"0s\"");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("would keep no tag at all"));
    assert!(check("keep_pulled = \"30d\"").status.success());
    assert!(check("keep_newest = 0\nkeep_pulled = \"30d\"").status.success());
}
