//! Damage to `index.json` is found and repaired while the index still has the names.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

const IMAGES: usize = 30;

/// Runs a check; returns its exit code and its report.
fn check(daemon: &Daemon, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["check", "--json", "--data"]).arg(&daemon.data).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text);
    (output.status.code().unwrap(), report.unwrap_or_else(|error| panic!("{error}: {text} {output:?}")))
}

fn kinds(report: &Value) -> Vec<&str> {
    report["list"].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect()
}

fn with_images() -> Daemon {
    let daemon = Daemon::start();
    for number in 0..IMAGES {
        daemon.push_image("a/b", &format!("t{number:02}"), format!("layer {number}").as_bytes());
    }
    // A link exception.
    let layer = digest(b"layer 3");
    daemon.request("DELETE", &format!("/v2/a/b/blobs/{layer}")).send().expect(202);
    daemon
}

fn read(data: &Path) -> Vec<u8> {
    std::fs::read(data.join("index.json")).unwrap_or_default()
}

/// Returns the entries and the annotations of the file, without the time at which it was written.
fn listed(data: &Path) -> Option<(Value, Value)> {
    let layout: Value = serde_json::from_slice(&read(data)).ok()?;
    Some((layout["manifests"].clone(), layout["io.holdfast.links"].clone()))
}

fn await_layout(daemon: &Daemon) {
    let began = Instant::now();
    let is_whole = || {
        let (manifests, links) = listed(&daemon.data)?;
        Some(manifests.as_array()?.len() == IMAGES && links.as_array()?.len() == 1)
    };
    while is_whole() != Some(true) {
        assert!(began.elapsed() < Duration::from_secs(20), "index.json is not written");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Drops the line of an image.
fn without_a_line(file: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    text.split_inclusive('\n').filter(|line| !line.contains("a/b:t17")).collect::<String>().into_bytes()
}

/// Corrects the checksum of a file, as a faulty writer would.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let key = b",\"io.holdfast.checksum\":\"";
    let at = file.windows(key.len()).rposition(|part| part == key).unwrap();
    let checksum = format!("{:08x}", crc32fast::hash(&file[..at]));
    file[at + key.len()..][..8].copy_from_slice(checksum.as_bytes());
    file
}

fn replaced(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

type Damage = fn(&[u8]) -> Vec<u8>;

const DAMAGES: [(&str, Damage); 9] = [
    ("a page of zeros", |file| {
        let mut file = file.to_vec();
        file[4096..8192].fill(0);
        file
    }),
    ("a line is lost", without_a_line),
    ("a bit of a digest", |file| {
        let at =
            file.len() / 2 + file[file.len() / 2..].windows(7).position(|part| part == b"sha256:").unwrap();
        let mut file = file.to_vec();
        // Replaces the digit by a different one.
        file[at + 9] = if file[at + 9] == b'0' { b'1' } else { b'0' };
        file
    }),
    ("a bit of a tag", |file| replaced(file, "a/b:t11", "a/b:t51")),
    ("the kind of a link", |file| replaced(file, "\"kind\":\"deleted\"", "\"kind\":\"linked\"")),
    ("the number of the change", |file| {
        replaced(file, "io.holdfast.change\":\"", "io.holdfast.change\":\"9")
    }),
    ("cut off", |file| file[..file.len() / 2].to_vec()),
    ("a line is lost, with a right checksum", |file| with_checksum(without_a_line(file))),
    ("a tag, with a right checksum", |file| with_checksum(replaced(file, "a/b:t11", "a/b:t51"))),
];

#[test]
fn damage_is_found_and_repaired_beside_the_daemon() {
    let daemon = with_images();
    await_layout(&daemon);
    assert_eq!(check(&daemon, &[]).0, 0);
    let (whole, file) = (listed(&daemon.data), read(&daemon.data));
    for (how, damage) in DAMAGES {
        let damaged = damage(&file);
        assert_ne!(damaged, file, "{how}");
        std::fs::write(daemon.data.join("index.json"), &damaged).unwrap();
        let (code, report) = check(&daemon, &[]);
        assert_eq!((code, kinds(&report), &report["repaired"]), (1, vec!["layout"], &0.into()), "{how}");
        assert_eq!(report["index_faults"], 0, "{how}");
        assert!(read(&daemon.data) == damaged, "{how}: the check changed the file");
        let (code, report) = check(&daemon, &["--repair"]);
        assert_eq!((code, kinds(&report), &report["repaired"]), (1, vec!["layout"], &1.into()), "{how}");
        assert_eq!(listed(&daemon.data), whole, "{how}");
        assert_eq!(check(&daemon, &[]).0, 0, "{how}");
    }
}

#[test]
fn damage_is_found_and_repaired_without_a_daemon() {
    let mut daemon = with_images();
    daemon.stop();
    let (whole, file) = (listed(&daemon.data), read(&daemon.data));
    for (how, damage) in DAMAGES {
        std::fs::write(daemon.data.join("index.json"), damage(&file)).unwrap();
        let (code, report) = check(&daemon, &[]);
        assert_eq!((code, kinds(&report)), (1, vec!["layout"]), "{how}");
        check(&daemon, &["--repair"]);
        assert_eq!(listed(&daemon.data), whole, "{how}");
        assert_eq!(check(&daemon, &[]).0, 0, "{how}");
    }
    let output =
        Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    daemon.start_again();
}

/// A running daemon moves it aside at the next change of names; see `obstacles`.
#[test]
fn directory_in_place_of_index_json_is_moved_aside() {
    let mut daemon = with_images();
    daemon.stop();
    let (whole, path) = (listed(&daemon.data), daemon.data.join("index.json"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("x"), "kept").unwrap();
    // A command that opens the store moves it aside, as a daemon does, before the check.
    let (code, report) = check(&daemon, &[]);
    assert_eq!((code, kinds(&report)), (0, vec![]), "{report}");
    assert_eq!(listed(&daemon.data), whole);
    let aside = daemon.data.join("set-aside/index.json.in-the-way-1/x");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "kept");
    assert_eq!(check(&daemon, &[]).0, 0);
    daemon.start_again();
}

#[test]
fn check_tells_the_operator_how_to_repair_index_json() {
    let daemon = with_images();
    await_layout(&daemon);
    let damaged = without_a_line(&read(&daemon.data));
    std::fs::write(daemon.data.join("index.json"), damaged).unwrap();
    let run_check = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["check", "--data"]).arg(&daemon.data).args(arguments);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let output = run_check(&[]);
    assert!(output.contains("index.json   its checksum does not match"), "{output}");
    assert!(output.contains("`holdfast check --repair` rewrites index.json"), "{output}");
    let output = run_check(&["--repair"]);
    assert!(output.contains("(repaired)") && output.contains("index.json was rewritten"), "{output}");
}

#[test]
fn collection_of_the_daemon_repairs_index_json() {
    let mut daemon = with_images();
    daemon.stop();
    let whole = listed(&daemon.data);
    let damaged = without_a_line(&read(&daemon.data));
    std::fs::write(daemon.data.join("index.json"), damaged).unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms")]);
    let began = Instant::now();
    while listed(&daemon.data) != whole {
        assert!(began.elapsed() < Duration::from_secs(20), "index.json is not repaired");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(check(&daemon, &[]).0, 0);
}

#[test]
fn damaged_index_json_is_not_overwritten_from_a_corrupt_index() {
    let mut daemon = with_images();
    daemon.stop();
    let damaged = without_a_line(&read(&daemon.data));
    std::fs::write(daemon.data.join("index.json"), &damaged).unwrap();
    daemon.start_again();
    // Empties the leaf with the tags.
    let path = daemon.data.join("index/data.mdb");
    let mut index = std::fs::read(&path).unwrap();
    for page in index.chunks_exact_mut(4096).filter(|page| page[10] & 2 == 2) {
        if page.windows(7).any(|part| part == b"a/b\0t17") {
            page[12..14].copy_from_slice(&16u16.to_ne_bytes());
            page[14..16].copy_from_slice(&4096u16.to_ne_bytes());
        }
    }
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &index, 0).unwrap();
    let (code, report) = check(&daemon, &["--repair"]);
    assert!(code == 1 && kinds(&report).starts_with(&["index", "layout"]), "{report}");
    let now = read(&daemon.data);
    assert!(now == damaged, "the file was overwritten: {report} {}", String::from_utf8_lossy(&now));
}

#[test]
fn pushes_and_deletes_during_a_check_are_no_fault() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (daemon, ended) = (&daemon, &ended);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                    let (name, tag) = (format!("r{thread}"), format!("t{}", number % 20));
                    let layer = format!("{thread} {number}");
                    let (image, _) = daemon.push_image(&name, &tag, layer.as_bytes());
                    let path = match number % 4 {
                        0 => format!("/v2/{name}/manifests/{image}"),
                        1 => format!("/v2/{name}/manifests/{tag}"),
                        2 => format!("/v2/{name}/blobs/{}", digest(layer.as_bytes())),
                        _ => continue,
                    };
                    daemon.request("DELETE", &path).send().expect(202);
                }
            });
        }
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&daemon, &[])));
        ended.store(true, Ordering::Relaxed);
        let (code, report) = found.unwrap();
        assert_eq!(code, 0, "{report}");
    });
    let (code, report) = check(&daemon, &[]);
    assert_eq!(code, 0, "{report}");
}

#[test]
fn rebuild_from_index_json_with_a_wrong_checksum_sets_the_collection_hold() {
    let mut daemon = with_images();
    daemon.stop();
    let damaged = without_a_line(&read(&daemon.data));
    std::fs::write(daemon.data.join("index.json"), damaged).unwrap();
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    let settings = [("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")];
    let log = daemon.start_again_with_log(&settings);
    daemon.get("/v2/a/b/manifests/t16").expect(200);
    daemon.get("/v2/a/b/manifests/t17").expect(404);
    let output = std::fs::read_to_string(log.path()).unwrap();
    assert!(output.contains("index.json is damaged") && output.contains("names may be lost"), "{output}");
    std::thread::sleep(Duration::from_millis(500));
    let layer = daemon.data.join("blobs/sha256").join(digest(b"layer 17").trim_start_matches("sha256:"));
    assert!(layer.exists());
    let kept = std::fs::read_dir(&daemon.data).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(kept.into_iter().any(|name| name.to_string_lossy().starts_with("index.json.kept-")));
}
