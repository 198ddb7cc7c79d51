//! What is called what outlives damage that comes together with something else: a power cut, a row that rots while the
//! daemon runs, an index and an `index.json` that are both gone.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

const PAGE: u64 = 4096;

/// What `index.json` says of tags: `REPOSITORY:TAG` and the digest.
fn tags_in_layout(data: &Path) -> Vec<(String, String)> {
    let Ok(bytes) = std::fs::read(data.join("index.json")) else { return Vec::new() };
    let layout: Value = serde_json::from_slice(&bytes).unwrap();
    let entries = layout["manifests"].as_array().unwrap().iter();
    let tag = |entry: &Value| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
        Some((name.to_owned(), entry["digest"].as_str()?.to_owned()))
    };
    entries.filter_map(tag).collect()
}

/// Waits until `index.json` has so many tags, the last of them with this digest.
fn await_layout(data: &Path, name: &str, digest: &str) {
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

/// Where the newest of LMDB's two meta pages begins: a page header of 16 bytes, 24 bytes, two descriptions of trees of
/// 48 bytes each, the last page, and the number of the transaction.
fn newest_meta(file: &std::fs::File) -> u64 {
    let transaction = |page: u64| number_at(file, page * PAGE + 144);
    if transaction(1) > transaction(0) { PAGE } else { 0 }
}

fn command(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

#[test]
fn index_json_catches_up_after_a_power_cut() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "first", b"first");
    await_layout(&daemon.data, "a:first", &first);
    let (second, _) = daemon.push_image("a", "second", b"second");
    // Before it is written.
    daemon.kill_and_restart();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    await_layout(&daemon.data, "a:second", &second);
    // Also without any time to do so: no end in good order leaves it behind.
    let (third, _) = daemon.push_image("a", "third", b"third");
    daemon.kill_and_restart();
    daemon.stop();
    assert!(tags_in_layout(&daemon.data).contains(&("a:third".into(), third)));
    daemon.restart_after_end();
}

/// Where the key of the tag `a:one` stands in the index.
fn rows_of_the_tag(file: &std::fs::File) -> Vec<(u64, u8)> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let key = b"a\0one";
    let keys = (0..bytes.len() - key.len()).filter(|at| bytes[*at..].starts_with(key));
    // A byte of the digest, in the row behind the key.
    let rows: Vec<_> = keys.map(|at| at + key.len() + 8).map(|at| (at as u64, bytes[at])).collect();
    assert!(!rows.is_empty());
    rows
}

fn turn_a_bit_of_the_tag(daemon: &Daemon) {
    let file = index_file(daemon);
    for (at, byte) in rows_of_the_tag(&file) {
        file.write_all_at(&[byte ^ 1], at).unwrap();
    }
}

#[test]
fn a_row_that_rotted_while_nothing_ran_is_healed_by_a_repair() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    daemon.stop();
    turn_a_bit_of_the_tag(&daemon);
    let mut check = Command::new(BINARY);
    let check = check.env_clear().args(["check", "--data"]).arg(&daemon.data).output().unwrap();
    let line = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.code() == Some(1) && line.contains("check --repair"), "{line}");
    command(&daemon, &["check", "--repair"]);
    command(&daemon, &["check"]);
    daemon.restart_after_end();
    let found = daemon.get("/v2/a/manifests/one").expect(200).named("docker-content-digest");
    assert_eq!(found, one);
}

#[test]
fn a_page_that_rots_while_it_runs_costs_no_name() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    await_layout(&daemon.data, "a:one", &one);
    let file = index_file(&daemon);
    for (at, _) in rows_of_the_tag(&file) {
        file.write_all_at(&[0; PAGE as usize], at / PAGE * PAGE).unwrap();
    }
    let (config, layer) = (daemon.push_blob("b", b"{}"), daemon.push_blob("b", b"two"));
    assert_eq!(daemon.put_manifest("b", "two", OCI_MANIFEST, &image(&config, &layer, None)).status, 500);
    daemon.request("POST", "/v2/b/blobs/uploads/").body(b"").send().expect(503);
    daemon.stop_and_restart();
    let found = daemon.get("/v2/a/manifests/one").expect(200).named("docker-content-digest");
    assert_eq!(found, one);
    daemon.push_image("b", "two", b"two");
}

#[test]
fn a_row_that_rots_while_it_runs_costs_no_name() {
    let mut daemon = Daemon::start();
    let (one, _) = daemon.push_image("a", "one", b"one");
    await_layout(&daemon.data, "a:one", &one);
    turn_a_bit_of_the_tag(&daemon);
    daemon.get("/v2/a/manifests/one").expect(500);
    let (two, _) = daemon.push_image("b", "two", b"two");
    let (three, _) = daemon.push_image("a", "three", b"three");
    await_layout(&daemon.data, "b:two", &two);
    await_layout(&daemon.data, "a:three", &three);
    assert!(tags_in_layout(&daemon.data).contains(&("a:one".into(), one.clone())), "what it said is kept");
    // More would be more to lose.
    let began = Instant::now();
    while daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().status != 503 {
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on writing to a damaged index");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.stop_and_restart();
    for (path, digest) in [("a/manifests/one", one), ("b/manifests/two", two), ("a/manifests/three", three)] {
        let found = daemon.get(&format!("/v2/{path}")).expect(200).named("docker-content-digest");
        assert_eq!(found, digest, "{path}");
    }
    daemon.push_image("a", "four", b"four");
}

#[test]
fn the_older_snapshot_does_not_bring_back_where_a_tag_was() {
    let mut daemon = Daemon::start();
    let (before, _) = daemon.push_image("a", "latest", b"before");
    daemon.push_image("a", "gone", b"gone");
    await_layout(&daemon.data, "a:latest", &before);
    daemon.request("DELETE", "/v2/a/manifests/gone").send().expect(202);
    let (after, _) = daemon.push_image("a", "latest", b"after");
    await_layout(&daemon.data, "a:latest", &after);
    daemon.kill_and_restart();
    daemon.end_badly();
    // The root of the newest snapshot.
    let file = index_file(&daemon);
    let root = number_at(&file, newest_meta(&file) + 128);
    file.write_all_at(&[0; PAGE as usize], root * PAGE).unwrap();
    daemon.restart_after_end();
    let found = daemon.get("/v2/a/manifests/latest").expect(200).named("docker-content-digest");
    assert_eq!(found, after);
    daemon.get("/v2/a/manifests/gone").expect(404);
    assert!(daemon.broken_indexes() > 0);
}

#[test]
fn a_wrong_list_of_free_pages_is_left_behind() {
    let mut daemon = Daemon::start();
    for number in 0..20 {
        daemon.push_image("a", &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    daemon.end_badly();
    let file = index_file(&daemon);
    let root = number_at(&file, newest_meta(&file) + 80);
    let mut page = vec![0; PAGE as usize];
    file.read_exact_at(&mut page, root * PAGE).unwrap();
    // A leaf: where its first record lies stands behind the header; the record has a head of 8 bytes and a key of 8.
    assert_eq!(page[10] & 2, 2, "the tree of free pages has grown more than one level");
    let record = u64::from(u16::from_ne_bytes([page[16], page[17]]));
    let at = root * PAGE + record + 16;
    let count = number_at(&file, at);
    assert!((1..500).contains(&count), "{count} is no number of pages");
    file.write_all_at(&(count ^ 1).to_ne_bytes(), at).unwrap();
    daemon.restart_after_end();
    assert_eq!(daemon.broken_indexes(), 0, "every row can be read: nothing is lost");
    for number in 0..20 {
        daemon.get(&format!("/v2/a/manifests/t{number}")).expect(200);
        daemon.push_image("b", &format!("t{number}"), format!("other {number}").as_bytes());
    }
    command(&daemon, &["check"]);
}

#[test]
fn blobs_that_nothing_names_any_more_are_kept_until_a_person_says_so() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    std::fs::remove_file(daemon.data.join("index.json")).unwrap();
    daemon.restart_with(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
    let blobs = || std::fs::read_dir(daemon.data.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 3);
    command(&daemon, &["gc", "--grace", "0s"]);
    assert_eq!(blobs(), 0);
}

#[test]
fn an_index_is_not_made_again_from_less_than_it_has() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"first");
    await_layout(&daemon.data, "a:1", &first);
    let (second, bytes) = daemon.push_image("a", "2", b"second");
    daemon.kill();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    // It cannot be written.
    let in_the_way = daemon.data.join(".index.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let rebuild = |daemon: &Daemon| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data).output().unwrap()
    };
    let refused = rebuild(&daemon);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("index.json lacks what was pushed last"), "{text}");
    std::fs::remove_dir(&in_the_way).unwrap();
    let made = rebuild(&daemon);
    assert!(made.status.success(), "{made:?}");
    daemon.restart_after_end();
    assert_eq!(daemon.get(&format!("/v2/a/manifests/{second}")).expect(200).body, bytes);
    daemon.get("/v2/a/manifests/2").expect(200);
}

/// A registry whose index is gone, and which would collect at once.
fn start_without_index(daemon: &mut Daemon) {
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    daemon.restart_with(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
}

fn has_blob(daemon: &Daemon, content: &[u8]) -> bool {
    daemon.data.join("blobs/sha256").join(digest(content).trim_start_matches("sha256:")).exists()
}

#[test]
fn what_an_old_index_json_does_not_name_is_kept_until_a_person_says_so() {
    let mut daemon = Daemon::start();
    let (first, _) = daemon.push_image("a", "1", b"first");
    await_layout(&daemon.data, "a:1", &first);
    daemon.push_image("a", "2", b"second");
    daemon.kill();
    assert_eq!(tags_in_layout(&daemon.data).len(), 1, "the test was too slow to show anything");
    start_without_index(&mut daemon);
    daemon.get("/v2/a/manifests/1").expect(200);
    assert!(has_blob(&daemon, b"second"));
    // An index that is made once more, also by hand, still knows.
    daemon.stop();
    command(&daemon, &["check", "--rebuild"]);
    daemon.restart_after_end();
    std::thread::sleep(Duration::from_secs(1));
    assert!(has_blob(&daemon, b"second"));
    daemon.stop();
    start_without_index(&mut daemon);
    assert!(has_blob(&daemon, b"second"));
    command(&daemon, &["gc", "--grace", "0s"]);
    assert!(has_blob(&daemon, b"first") && !has_blob(&daemon, b"second"));
    // Without a grace time a collection may come between a blob and its manifest.
    daemon.stop();
    daemon.restart_with(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let (third, _) = daemon.push_image("a", "3", b"third");
    daemon.stop();
    daemon.restart_with(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    delete_and_forget(&mut daemon, &third);
    assert!(!has_blob(&daemon, b"third"), "it was said so once for all");
}

/// Deletes an image, ends well, and makes the index again.
fn delete_and_forget(daemon: &mut Daemon, image: &str) {
    daemon.request("DELETE", &format!("/v2/a/manifests/{image}")).send().expect(202);
    daemon.stop();
    command(daemon, &["check", "--rebuild"]);
    daemon.restart_after_end();
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn a_name_whose_manifest_cannot_be_read_is_kept_beside() {
    let mut daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("a", "1", b"first");
    daemon.push_image("a", "2", b"second");
    daemon.stop();
    let file = daemon.data.join("blobs/sha256").join(digest(&manifest).trim_start_matches("sha256:"));
    std::fs::remove_file(file).unwrap();
    start_without_index(&mut daemon);
    daemon.get("/v2/a/manifests/1").expect(404);
    daemon.get("/v2/a/manifests/2").expect(200);
    assert!(has_blob(&daemon, b"first"));
    let kept = std::fs::read_dir(&daemon.data).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?.to_str()?.starts_with("index.json.kept-").then_some(path)
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read_to_string(&kept[0]).unwrap().contains("a:1"));
    let began = Instant::now();
    while tags_in_layout(&daemon.data).len() != 1 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is never written again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn retention_knows_the_newest_also_when_the_index_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    std::fs::write(&file, "[[retention]]\nrepositories = [\"*\"]\nkeep_newest = 1\n").unwrap();
    let mut daemon = Daemon::start();
    // By name the newest comes first.
    for tag in ["c", "b", "a"] {
        daemon.push_image("app", tag, tag.as_bytes());
        std::thread::sleep(Duration::from_millis(1100));
    }
    let taken = |daemon: &Daemon| {
        let arguments = ["gc", "--dry-run", "--json", "--config", file.to_str().unwrap()];
        let report: Value = serde_json::from_str(&command(daemon, &arguments)).unwrap();
        let taken = report["taken"].as_array().unwrap().iter();
        let mut tags: Vec<_> = taken.filter_map(|one| Some(one["tag"].as_str()?.to_owned())).collect();
        tags.sort();
        tags
    };
    assert_eq!(taken(&daemon), ["b", "c"]);
    daemon.stop();
    command(&daemon, &["check", "--rebuild"]);
    daemon.restart_after_end();
    assert_eq!(taken(&daemon), ["b", "c"]);
}

#[test]
fn a_signature_stays_while_what_it_signs_does() {
    let mut daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"signature"));
    let signature = image(&config, &layer, Some(&subject));
    daemon.put_manifest("a", "signature", OCI_MANIFEST, &signature).expect(201);
    daemon.request("DELETE", "/v2/a/manifests/signature").send().expect(202);
    // Its bytes rot, and no longer say what it is about.
    let file = daemon.data.join("blobs/sha256").join(digest(&signature).trim_start_matches("sha256:"));
    std::fs::write(&file, vec![b' '; signature.len()]).unwrap();
    command(&daemon, &["gc", "--grace", "0s"]);
    let referrers = daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], digest(&signature));
    assert!(file.exists());
    // It can be deleted, and is not listed any more then.
    daemon.request("DELETE", &format!("/v2/a/manifests/{}", digest(&signature))).send().expect(202);
    let referrers = daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 0);
    daemon.stop_and_restart();
}

#[test]
fn an_index_of_a_newer_release_is_left_alone() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.end_badly();
    let index = daemon.data.join("index/data.mdb");
    // The row of the version, a number of one byte, and its checksum: the table's name, the length of the key, the
    // key, the row.
    let mut hasher = crc32fast::Hasher::new();
    let row = [9u8];
    for part in [&b"meta"[..], &7u64.to_le_bytes(), b"version", &row] {
        hasher.update(part);
    }
    let mut bytes = std::fs::read(&index).unwrap();
    let new = [&row[..], &hasher.finalize().to_le_bytes()].concat();
    let rows: Vec<usize> =
        (0..bytes.len() - 16).filter(|at| bytes[*at..].starts_with(b"version\x04")).collect();
    assert!(!rows.is_empty());
    for at in rows {
        bytes[at + 7..at + 7 + new.len()].copy_from_slice(&new);
    }
    std::fs::write(&index, &bytes).unwrap();
    let output = daemon.start_another();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("install a newer release"), "{text}");
    assert!(std::fs::read(&index).unwrap() == bytes, "it is changed");
    assert_eq!(daemon.broken_indexes(), 0);
}

/// Overwrites bytes in the middle of `index.json`; its end, where its head stands, stays.
fn damage_the_middle(daemon: &Daemon) {
    let path = daemon.data.join("index.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle - 20..middle + 20].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_rebuild_from_a_damaged_index_json_takes_the_names_of_a_healthy_index() {
    let mut daemon = Daemon::start();
    let images: Vec<_> = (0..5)
        .map(|number| daemon.push_image("a", &format!("t{number}"), format!("{number}").as_bytes()))
        .collect();
    daemon.stop();
    damage_the_middle(&daemon);
    command(&daemon, &["check", "--rebuild"]);
    daemon.restart_after_end();
    for (number, (_, manifest)) in images.iter().enumerate() {
        assert_eq!(&daemon.get(&format!("/v2/a/manifests/t{number}")).expect(200).body, manifest);
    }
}

#[test]
fn nothing_is_collected_where_the_names_of_a_damaged_index_json_are_lost() {
    let mut daemon = Daemon::start();
    for number in 0..5 {
        daemon.push_image("a", &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    daemon.stop();
    damage_the_middle(&daemon);
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.restart_with(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    std::thread::sleep(Duration::from_secs(1));
    assert!((0..5).all(|number| has_blob(&daemon, format!("layer {number}").as_bytes())));
}

#[test]
fn a_collection_by_hand_that_finds_names_lost_takes_nothing() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    std::fs::write(daemon.data.join("index.json"), b"garbage").unwrap();
    let gc = || {
        Command::new(BINARY)
            .env_clear()
            .args(["gc", "--grace", "0s", "--data"])
            .arg(&daemon.data)
            .output()
            .unwrap()
    };
    let refused = gc();
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && line.contains("run `holdfast gc` again"), "{line}");
    assert!(has_blob(&daemon, b"layer"));
    assert!(gc().status.success());
    assert!(!has_blob(&daemon, b"layer"));
    daemon.restart_after_end();
}
