//! Names survive damage that comes together with a second event: a power cut, a page that is corrupted while the
//! daemon runs, the loss of both the index and `index.json`.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

const PAGE: u64 = 4096;

/// Returns the tags in `index.json`: `REPOSITORY:TAG` and the digest.
pub fn tags_in_layout(data: &Path) -> Vec<(String, String)> {
    let Ok(bytes) = std::fs::read(data.join("index.json")) else { return Vec::new() };
    let layout: Value = serde_json::from_slice(&bytes).unwrap();
    let entries = layout["manifests"].as_array().unwrap().iter();
    let tag = |entry: &Value| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
        Some((name.to_owned(), entry["digest"].as_str()?.to_owned()))
    };
    entries.filter_map(tag).collect()
}

/// Waits until `index.json` has a tag with this digest.
pub fn await_layout(data: &Path, name: &str, digest: &str) {
    let began = Instant::now();
    while !tags_in_layout(data).contains(&(name.to_owned(), digest.to_owned())) {
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: {:?}", tags_in_layout(data));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn index_file(daemon: &Daemon) -> std::fs::File {
    let path = daemon.data.join("index/data.mdb");
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn number_at(file: &std::fs::File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_ne_bytes(bytes)
}

/// Returns the offset of the newest of LMDB's two meta pages. A meta page has a page header of 16 bytes, 24 bytes,
/// two tree descriptions of 48 bytes, the last page number, and the transaction number.
fn newest_meta(file: &std::fs::File) -> u64 {
    let transaction = |page: u64| number_at(file, page * PAGE + 144);
    if transaction(1) > transaction(0) { PAGE } else { 0 }
}

pub fn command(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

#[test]
fn index_json_catches_up_after_a_power_cut() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "first", b"first");
    await_layout(&daemon.data, "a:first", &first);
    let (second, _) = daemon.push_image("a", "second", b"second");
    // Before the rewrite of index.json is due.
    daemon.kill_and_restart();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    await_layout(&daemon.data, "a:second", &second);
    // Even a shutdown right after the start writes it first.
    let (third, _) = daemon.push_image("a", "third", b"third");
    daemon.kill_and_restart();
    daemon.stop();
    assert!(tags_in_layout(&daemon.data).contains(&("a:third".into(), third)));
    daemon.start_again();
}

/// Returns the offsets of a byte in the rows of the tag `a:one`, and its value.
fn rows_of_the_tag(file: &std::fs::File) -> Vec<(u64, u8)> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let key = b"a\0one";
    let keys = (0..bytes.len() - key.len()).filter(|at| bytes[*at..].starts_with(key));
    // A byte of the digest, which is in the row behind the key.
    let rows: Vec<_> = keys.map(|at| at + key.len() + 8).map(|at| (at as u64, bytes[at])).collect();
    assert!(!rows.is_empty());
    rows
}

fn flip_a_bit_of_the_tag(daemon: &Daemon) {
    let file = index_file(daemon);
    for (at, byte) in rows_of_the_tag(&file) {
        file.write_all_at(&[byte ^ 1], at).unwrap();
    }
}

#[test]
fn repair_restores_a_row_that_was_corrupted_offline() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    daemon.stop();
    flip_a_bit_of_the_tag(&daemon);
    let mut check = Command::new(BINARY);
    let check = check.env_clear().args(["check", "--data"]).arg(&daemon.data).output().unwrap();
    let line = String::from_utf8_lossy(&check.stderr).into_owned();
    // A command that opens the store recovers it as a daemon does, and says so.
    // The snapshot before the checkpoint is whole, and takes the rest from the log.
    assert!(
        check.status.success() && line.contains("now using the previous snapshot of the index"),
        "{line}"
    );
    command(&daemon, &["check", "--repair"]);
    command(&daemon, &["check"]);
    daemon.start_again();
    let found = daemon.get("/v2/a/manifests/one").expect(200).required_header("docker-content-digest");
    assert_eq!(found, one);
}

#[test]
fn page_corrupted_while_running_loses_no_name() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    // A stop writes the rows of the log to LMDB.
    daemon.stop_and_restart();
    let file = index_file(&daemon);
    for (at, _) in rows_of_the_tag(&file) {
        file.write_all_at(&[0; PAGE as usize], at / PAGE * PAGE).unwrap();
    }
    let (config, layer) = (daemon.push_blob("b", b"{}"), daemon.push_blob("b", b"two"));
    assert_eq!(daemon.put_manifest("b", "two", OCI_MANIFEST, &image(&config, &layer, None)).status, 500);
    daemon.request("POST", "/v2/b/blobs/uploads/").body(b"").send().expect(503);
    daemon.stop_and_restart();
    let found = daemon.get("/v2/a/manifests/one").expect(200).required_header("docker-content-digest");
    assert_eq!(found, one);
    daemon.push_image("b", "two", b"two");
}

const STALE: usize = 25;

/// Replaces the leaf with the tags of `a` by an older version of itself, as after a write that the card has lost: the
/// tree and the checksums of all rows are valid, and the last tag is hidden.
fn hide_the_last_tag(daemon: &Daemon) {
    let file = index_file(daemon);
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let tags = |page: &[u8]| {
        let has = |number: &usize| {
            let key = format!("a\0t{number:02}");
            page.windows(key.len()).any(|part| part == key.as_bytes())
        };
        // The length of the list of offsets behind the header gives the number of rows; the rest of the page is old
        // data.
        let rows = (usize::from(u16::from_ne_bytes([page[12], page[13]])).saturating_sub(16)) / 2;
        (page[10] & 2 == 2).then(|| (0..STALE).filter(has).count()).filter(|count| *count == rows)
    };
    let pages = bytes.chunks(PAGE as usize).enumerate().filter_map(|(at, page)| Some((at, tags(page)?)));
    let find = |count: usize| pages.clone().find(|(_, tags)| *tags == count).map(|(at, _)| at).unwrap();
    let (newest, older) = (find(STALE), find(STALE - 1));
    let mut stale = bytes[older * PAGE as usize..][..PAGE as usize].to_vec();
    // The page number at the beginning of the page.
    stale[..8].copy_from_slice(&(newest as u64).to_ne_bytes());
    file.write_all_at(&stale, newest as u64 * PAGE).unwrap();
}

fn with_a_leaf_of_tags() -> (Daemon, String) {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let mut last = String::new();
    for number in 0..STALE {
        // A stop writes the rows of the log to LMDB: first the leaf without the last tag, then with it.
        if number == STALE - 1 {
            daemon.stop_and_restart();
        }
        last = daemon.push_image("a", &format!("t{number:02}"), format!("layer {number}").as_bytes()).0;
    }
    daemon.stop_and_restart();
    (daemon, last)
}

#[test]
fn row_hidden_by_a_lost_write_is_restored_at_start() {
    let (mut daemon, last) = with_a_leaf_of_tags();
    daemon.stop();
    hide_the_last_tag(&daemon);
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let found = daemon.get(&format!("/v2/a/manifests/t{}", STALE - 1)).expect(200);
    assert_eq!(found.required_header("docker-content-digest"), last);
    command(&daemon, &["gc", "--grace", "0s"]);
    assert!(has_blob(&daemon, format!("layer {}", STALE - 1).as_bytes()));
    command(&daemon, &["check"]);
}

#[test]
fn row_hidden_by_a_lost_write_while_running_loses_nothing() {
    let (mut daemon, last) = with_a_leaf_of_tags();
    hide_the_last_tag(&daemon);
    daemon.get(&format!("/v2/a/manifests/t{}", STALE - 1)).expect(404);
    let run_command = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        let output = command.env_clear().args(arguments).arg("--data").arg(&daemon.data).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Missing rows must not make content look unreferenced.
    daemon.request("DELETE", "/v2/a/manifests/t00").send().expect(202);
    assert!(!run_command(&["gc", "--grace", "0s"]).0);
    let (is_healthy, output) = run_command(&["check"]);
    assert!(!is_healthy && output.contains("rows are missing or contradict each other"), "{output}");
    assert!((0..STALE).all(|number| has_blob(&daemon, format!("layer {number}").as_bytes())));
    // The old entries of index.json are kept, and the next start restores them.
    let began = Instant::now();
    while daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().status != 503 {
        assert!(began.elapsed() < Duration::from_secs(20), "the daemon still writes to a corrupt index");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(tags_in_layout(&daemon.data).contains(&(format!("a:t{}", STALE - 1), last.clone())));
    daemon.stop_and_restart();
    let found = daemon.get(&format!("/v2/a/manifests/t{}", STALE - 1)).expect(200);
    assert_eq!(found.required_header("docker-content-digest"), last);
}

#[test]
fn row_corrupted_while_running_loses_no_name() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    daemon.stop_and_restart();
    flip_a_bit_of_the_tag(&daemon);
    daemon.get("/v2/a/manifests/one").expect(500);
    let (two, _) = daemon.push_image("b", "two", b"two");
    let (three, _) = daemon.push_image("a", "three", b"three");
    await_layout(&daemon.data, "b:two", &two);
    await_layout(&daemon.data, "a:three", &three);
    assert!(tags_in_layout(&daemon.data).contains(&("a:one".into(), one.clone())), "the old entry is lost");
    // The store becomes read-only, so that no more can be lost.
    let began = Instant::now();
    while daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().status != 503 {
        assert!(began.elapsed() < Duration::from_secs(20), "the daemon still writes to a corrupt index");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.stop_and_restart();
    for (path, digest) in [("a/manifests/one", one), ("b/manifests/two", two), ("a/manifests/three", three)] {
        let found = daemon.get(&format!("/v2/{path}")).expect(200).required_header("docker-content-digest");
        assert_eq!(found, digest, "{path}");
    }
    daemon.push_image("a", "four", b"four");
}

#[test]
fn previous_snapshot_does_not_revert_tags() {
    let mut daemon = Daemon::start();
    let (before, _) = daemon.push_image("a", "latest", b"before");
    daemon.push_image("a", "gone", b"gone");
    await_layout(&daemon.data, "a:latest", &before);
    daemon.request("DELETE", "/v2/a/manifests/gone").send().expect(202);
    let (after, _) = daemon.push_image("a", "latest", b"after");
    await_layout(&daemon.data, "a:latest", &after);
    daemon.kill_and_restart();
    daemon.stop_without_marker();
    // The root page of the newest snapshot.
    let file = index_file(&daemon);
    let root = number_at(&file, newest_meta(&file) + 128);
    file.write_all_at(&[0; PAGE as usize], root * PAGE).unwrap();
    daemon.start_again();
    let found = daemon.get("/v2/a/manifests/latest").expect(200).required_header("docker-content-digest");
    assert_eq!(found, after);
    daemon.get("/v2/a/manifests/gone").expect(404);
    assert!(daemon.broken_index_count() > 0);
}

#[test]
fn wrong_free_page_list_is_dropped() {
    let mut daemon = Daemon::start();
    for number in 0..20 {
        daemon.push_image("a", &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    daemon.stop_without_marker();
    let file = index_file(&daemon);
    let root = number_at(&file, newest_meta(&file) + 80);
    let mut page = vec![0; PAGE as usize];
    file.read_exact_at(&mut page, root * PAGE).unwrap();
    // A leaf: the offset of its first node is behind the header; a node has a header of 8 bytes and a key of 8.
    assert_eq!(page[10] & 2, 2, "the tree of free pages has grown more than one level");
    let record = u64::from(u16::from_ne_bytes([page[16], page[17]]));
    let at = root * PAGE + record + 16;
    let count = number_at(&file, at);
    assert!((1..500).contains(&count), "{count} is not a number of pages");
    file.write_all_at(&(count ^ 1).to_ne_bytes(), at).unwrap();
    daemon.start_again();
    assert_eq!(daemon.broken_index_count(), 0, "the index was moved aside although every row is readable");
    for number in 0..20 {
        daemon.get(&format!("/v2/a/manifests/t{number}")).expect(200);
        daemon.push_image("b", &format!("t{number}"), format!("other {number}").as_bytes());
    }
    command(&daemon, &["check"]);
}

#[test]
fn rebuild_from_a_stale_index_json_is_refused() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"first");
    await_layout(&daemon.data, "a:1", &first);
    let (second, bytes) = daemon.push_image("a", "2", b"second");
    daemon.kill();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    // A mount point in the place of the temporary file cannot be moved aside, so that index.json cannot be written.
    let in_the_way = daemon.data.join(".index.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&in_the_way));
    let rebuild = |daemon: &Daemon| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data).output().unwrap()
    };
    let refused = rebuild(&daemon);
    run(Command::new("umount").arg(&in_the_way));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("index.json lacks the latest pushes"), "{text}");
    let made = rebuild(&daemon);
    assert!(made.status.success(), "{made:?}");
    daemon.start_again();
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{second}")).expect(200).body, bytes);
    daemon.get("/v2/a/manifests/2").expect(200);
}

pub fn has_blob(daemon: &Daemon, content: &[u8]) -> bool {
    daemon.data.join("blobs/sha256").join(digest(content).trim_start_matches("sha256:")).exists()
}

#[test]
fn retention_order_survives_a_rebuild() {
    let rules = "[gc]\ninterval = \"off\"\n[[retention]]\nrepositories = [\"*\"]\nkeep_newest = 1\n";
    let mut daemon = Daemon::with_config(rules);
    // Sorted by name, the oldest tag would be the newest.
    for tag in ["c", "b", "a"] {
        daemon.push_image("app", tag, tag.as_bytes());
        std::thread::sleep(Duration::from_millis(1100));
    }
    let taken = |daemon: &Daemon| {
        let report: Value = serde_json::from_str(&command(daemon, &["gc", "--dry-run", "--json"])).unwrap();
        let taken = report["taken"].as_array().unwrap().iter();
        let mut tags: Vec<_> = taken.filter_map(|one| Some(one["tag"].as_str()?.to_owned())).collect();
        tags.sort();
        tags
    };
    assert_eq!(taken(&daemon), ["b", "c"]);
    daemon.stop();
    command(&daemon, &["check", "--rebuild"]);
    daemon.start_again();
    assert_eq!(taken(&daemon), ["b", "c"]);
}

#[test]
fn corrupt_signature_is_kept_with_its_subject() {
    let mut daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"signature"));
    let signature = image(&config, &layer, Some(&subject));
    daemon.put_manifest("a", "signature", OCI_MANIFEST, &signature).expect(201);
    daemon.request("DELETE", "/v2/a/manifests/signature").send().expect(202);
    // A corrupt signature does not name its subject any more.
    let file = daemon.data.join("blobs/sha256").join(digest(&signature).trim_start_matches("sha256:"));
    std::fs::write(&file, vec![b' '; signature.len()]).unwrap();
    command(&daemon, &["gc", "--grace", "0s"]);
    let referrers = daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], digest(&signature));
    assert!(file.exists());
    // It can be deleted, and is not listed any more.
    daemon.request("DELETE", &format!("/v2/a/manifests/{}", digest(&signature))).send().expect(202);
    let referrers = daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 0);
    daemon.stop_and_restart();
}

#[test]
fn index_of_a_newer_release_is_not_changed() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop_without_marker();
    let index = daemon.data.join("index/data.mdb");
    // The version row, a number of one byte, and its checksum over the table's name, the length of the key, the key
    // and the row.
    let mut hasher = crc32fast::Hasher::new();
    let row = [9u8];
    for part in [&b"meta"[..], &7u64.to_le_bytes(), b"version", &row] {
        hasher.update(part);
    }
    let mut bytes = std::fs::read(&index).unwrap();
    let new = [&row[..], &hasher.finalize().to_le_bytes()].concat();
    let rows: Vec<usize> =
        (0..bytes.len() - 16).filter(|at| bytes[*at..].starts_with(b"version\x07")).collect();
    assert!(!rows.is_empty());
    for at in rows {
        bytes[at + 7..at + 7 + new.len()].copy_from_slice(&new);
    }
    std::fs::write(&index, &bytes).unwrap();
    let output = daemon.start_another();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("install a newer release"), "{text}");
    assert!(std::fs::read(&index).unwrap() == bytes, "the index was changed");
    assert_eq!(daemon.broken_index_count(), 0);
}
