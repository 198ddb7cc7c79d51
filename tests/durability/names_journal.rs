//! The journal of names with the real binary: what it has survives the loss of the index, whatever happens to the
//! journal is found, and the bytes written for a push do not grow with the registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bulk::Bulk;
use crate::support::*;

use super::lost_names::{await_layout, command, tags_in_layout};

const NAMES: usize = 300;

fn journal(daemon: &Daemon) -> PathBuf {
    daemon.data.join("names.journal")
}

/// A daemon with so many tags that `index.json` is not rewritten for each change.
fn with_many_names() -> Daemon {
    with_names(NAMES)
}

fn with_names(count: usize) -> Daemon {
    let mut daemon = Daemon::start();
    daemon.stop();
    fs::remove_dir_all(&daemon.data).unwrap();
    let mut bulk = Bulk::new(&daemon.data);
    for number in 0..count {
        let image = bulk.image(number, None);
        bulk.name("bulk", Some(&format!("t{number}")), &image);
    }
    bulk.write();
    daemon.start_again();
    // The first write after a start is that of a whole file.
    daemon.push_image("a", "first", b"first");
    await_names(&daemon, "a:first");
    daemon
}

/// Waits until a line of the journal has this text.
fn await_journal(daemon: &Daemon, text: &str) {
    let began = Instant::now();
    while !fs::read_to_string(journal(daemon)).is_ok_and(|journal| journal.contains(text)) {
        assert!(began.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Loses the power and the index, and starts again.
fn lose_the_index(daemon: &mut Daemon) {
    daemon.kill();
    fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.start_again();
}

fn digest_of(daemon: &Daemon, tag: &str) -> Option<String> {
    let head = daemon.request("HEAD", &format!("/v2/{}", tag.replace(':', "/manifests/"))).send();
    (head.status == 200).then(|| head.header("docker-content-digest").unwrap().to_owned())
}

#[test]
fn names_in_the_journal_survive_the_loss_of_the_index() {
    let mut daemon = with_many_names();
    let (new, _) = daemon.push_image("a", "new", b"new");
    let (_, moved) = daemon.push_image("a", "other", b"moved");
    for part in [&b"moved"[..], br#"{"architecture":"arm64","os":"linux"}"#] {
        daemon.push_blob("bulk", part);
    }
    daemon.put_manifest("bulk", "t1", OCI_MANIFEST, &moved).expect(201);
    daemon.request("DELETE", "/v2/bulk/manifests/t2").send().expect(202);
    let (untagged, bytes) = daemon.push_image("a", "gone", b"untagged");
    daemon.request("DELETE", "/v2/a/manifests/gone").send().expect(202);
    await_journal(&daemon, "\"reference\":\"gone\"");
    let before: Vec<_> = ["a:new", "bulk:t0", "bulk:t1", "bulk:t2", "bulk:t299", "a:gone"]
        .iter()
        .map(|tag| digest_of(&daemon, tag))
        .collect();
    assert_eq!(before[0].as_ref(), Some(&new));
    assert_eq!((&before[2], &before[3], &before[5]), (&Some(digest(&moved)), &None, &None));
    assert_eq!(tags_in_layout(&daemon.data).len(), NAMES + 1, "only the journal has the changes");
    for _ in 0..2 {
        lose_the_index(&mut daemon);
        let after: Vec<_> = ["a:new", "bulk:t0", "bulk:t1", "bulk:t2", "bulk:t299", "a:gone"]
            .iter()
            .map(|tag| digest_of(&daemon, tag))
            .collect();
        assert_eq!(after, before);
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{untagged}")).expect(200).body, bytes);
    }
    daemon.stop();
    assert!(!journal(&daemon).exists(), "a stop merges it");
    // With `first`, `new` and `other`, without `t2`.
    assert_eq!(tags_in_layout(&daemon.data).len(), NAMES + 2);
    command(&daemon, &["check"]);
}

/// Each way in which the index is lost after a kill.
const LOSSES: [fn(&Path); 3] = [
    |index| fs::remove_file(index.join("data.mdb")).unwrap(),
    |index| fs::write(index.join("data.mdb"), b"garbage").unwrap(),
    |index| {
        let mut bytes = fs::read(index.join("data.mdb")).unwrap();
        bytes[..8192].fill(0xff);
        fs::write(index.join("data.mdb"), bytes).unwrap();
    },
];

#[test]
fn the_last_acknowledged_name_survives_the_loss_of_the_index() {
    for lose in LOSSES {
        let mut daemon = Daemon::start();
        let (first, _) = daemon.push_image("a", "first", b"first");
        await_layout(&daemon.data, "a:first", &first);
        daemon.push_image("a", "gone", b"gone");
        daemon.request("DELETE", "/v2/a/manifests/gone").send().expect(202);
        let (last, _) = daemon.push_image("a", "last", b"last");
        daemon.kill();
        assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
        lose(&daemon.data.join("index"));
        daemon.start_again();
        let found = ["a:first", "a:gone", "a:last"].map(|tag| digest_of(&daemon, tag));
        assert_eq!(found, [Some(first), None, Some(last)]);
    }
}

#[test]
fn names_survive_the_loss_of_the_index_at_any_length_of_its_log() {
    // Segments of sixteen transactions.
    let mut daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
    let (_, manifest) = daemon.push_image("a", "first", b"first");
    let mut acknowledged = vec!["a:first".to_owned()];
    for (round, lose) in LOSSES.into_iter().enumerate() {
        for number in 0..70 {
            let tag = format!("t{round}-{number}");
            daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest).expect(201);
            acknowledged.push(format!("a:{tag}"));
        }
        let deleted = acknowledged.swap_remove(20);
        daemon.request("DELETE", &format!("/v2/{}", deleted.replace(':', "/manifests/"))).send().expect(202);
        daemon.kill();
        lose(&daemon.data.join("index"));
        daemon.start_again_with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
        for tag in &acknowledged {
            assert_eq!(digest_of(&daemon, tag), Some(digest(&manifest)), "{tag} in round {round}");
        }
        assert_eq!(digest_of(&daemon, &deleted), None);
    }
}

#[test]
fn a_check_compares_the_journal_with_the_index() {
    let daemon = with_many_names();
    daemon.push_image("a", "new", b"new");
    await_journal(&daemon, "a:new");
    command(&daemon, &["check"]);
    let text = fs::read_to_string(journal(&daemon)).unwrap();
    fs::write(journal(&daemon), text.replace("a:new", "a:old")).unwrap();
    for arguments in [&["check"][..], &["check", "--repair"]] {
        let mut check = Command::new(BINARY);
        let checked = check.env_clear().args(arguments).arg("--data").arg(&daemon.data).output().unwrap();
        assert!(!checked.status.success(), "{checked:?}");
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(said.contains("index.json   the end of names.journal is damaged"), "{said}");
    }
    assert!(!journal(&daemon).exists(), "the repair writes the whole file");
    assert!(tags_in_layout(&daemon.data).iter().any(|(tag, _)| tag == "a:new"));
    command(&daemon, &["check"]);
}

#[test]
fn a_damaged_journal_holds_the_collection_and_is_kept() {
    let mut daemon = with_many_names();
    for tag in ["one", "two"] {
        daemon.push_image("a", tag, tag.as_bytes());
        await_journal(&daemon, &format!("a:{tag}"));
    }
    daemon.kill();
    let text = fs::read_to_string(journal(&daemon)).unwrap();
    fs::write(journal(&daemon), text.replace("a:one", "a:eno")).unwrap();
    fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.start_again();
    assert!(digest_of(&daemon, "a:two").is_some(), "the other batch is used");
    assert!(digest_of(&daemon, "a:one").is_none() && digest_of(&daemon, "a:eno").is_none());
    let names: Vec<_> = fs::read_dir(&daemon.data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_kept = |prefix: &str| names.iter().any(|name| name.to_str().unwrap().starts_with(prefix));
    assert!(is_kept("index.json.kept-") && is_kept("names.journal.kept-"), "{names:?}");
    daemon.stop();
    let layout = fs::read_to_string(daemon.data.join("index.json")).unwrap();
    assert!(layout.contains("io.holdfast.hold"), "nothing is collected on its own");
}

/// The bytes that the daemon writes for a push with many tags, against few.
#[test]
fn bytes_written_for_a_push_do_not_grow_with_the_registry() {
    let written = |names: usize| {
        let daemon = with_names(names);
        let before = bytes_written(&daemon);
        for number in 0..4 {
            let tag = format!("n{number}");
            daemon.push_image("a", &tag, tag.as_bytes());
            await_names(&daemon, &format!("a:{tag}"));
        }
        bytes_written(&daemon) - before
    };
    let (few, many) = (written(40), written(4000));
    println!("{few} bytes with 40 tags, {many} with 4,000");
    assert!(many < few * 2, "{few} bytes with 40 tags, {many} with 4,000");
}

fn await_names(daemon: &Daemon, name: &str) {
    let began = Instant::now();
    let has = |file: &str| fs::read_to_string(daemon.data.join(file)).is_ok_and(|text| text.contains(name));
    while !has("index.json") && !has("names.journal") {
        assert!(began.elapsed() < Duration::from_secs(20), "{name}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the bytes that the daemon gave to `write` and the like: the same on every file system.
fn bytes_written(daemon: &Daemon) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}
