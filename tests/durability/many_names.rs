//! A registry with very many names: it is rebuilt and started in constant memory, and the number of names is limited.
//!
//! `HOLDFAST_TEST_NAMES=1000000 cargo test many_names` uses a million.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;

fn names() -> usize {
    std::env::var("HOLDFAST_TEST_NAMES").map_or(50_000, |text| text.parse().unwrap())
}

const MAP: (&str, &str) = ("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "2GiB");

/// Measures the peak of anonymous memory, in KiB, of a process and its children.
struct Peak {
    ended: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Peak {
    /// Samples the processes of this binary that have the data directory in their arguments or environment.
    fn of(data: &std::path::Path) -> Self {
        let (ended, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, peak, data) = (Arc::clone(&ended), Arc::clone(&most), data.to_str().unwrap().to_owned());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_memory(&data), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Peak { ended, most, thread: Some(thread) }
    }

    fn kibibytes(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

/// Returns the anonymous memory of the daemon and its inspection together, in KiB.
fn anonymous_memory(data: &str) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of = |entry: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read(entry.path().join(name)).ok();
        let about = [read("cmdline")?, read("environ")?].concat();
        let is_ours = read("comm")?.starts_with(b"holdfast")
            && about.windows(data.len()).any(|part| part == data.as_bytes());
        let status = String::from_utf8(read("status").filter(|_| is_ours)?).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    processes.filter_map(of).sum()
}

/// Writes an `index.json` that names one manifest by `names` tags, spread over ten repositories.
fn write_layout(daemon: &Daemon, manifest: &str, size: usize, names: usize) {
    let file = std::fs::File::create(daemon.data.join("index.json")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    file.write_all(br#"{"schemaVersion":2,"manifests":["#).unwrap();
    for number in 0..names {
        let separator = if number == 0 { "" } else { "," };
        let repository = number % 10;
        write!(
            file,
            r#"{separator}
{{"mediaType":"{OCI_MANIFEST}","digest":"{manifest}","size":{size},"annotations":{{"io.holdfast.repository":"r{repository}","org.opencontainers.image.ref.name":"r{repository}:t{number}","io.holdfast.since":"{number}","io.holdfast.pushed":"7"}}}}"#
        )
        .unwrap();
    }
    file.write_all(b"\n],\"annotations\":{\"io.holdfast.change\":\"5\",\"io.holdfast.now\":\"9\"}}\n")
        .unwrap();
}

#[test]
fn rebuild_and_start_use_constant_memory() {
    let count = names();
    let mut daemon = Daemon::with_env(&[MAP]);
    let (manifest, bytes) = daemon.push_image("r0", "t0", b"layer");
    daemon.stop_without_marker();
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    write_layout(&daemon, &manifest, bytes.len(), count);
    let mut measured = String::new();
    let mut start = |daemon: &mut Daemon, how: &str, most: u64| {
        let (peak, began) = (Peak::of(&daemon.data), Instant::now());
        daemon.start_again();
        let (time, memory) = (began.elapsed(), peak.kibibytes());
        measured += &format!("{how}: {time:?}, {memory} KiB; ");
        let last = count - 1;
        let path = format!("/v2/r{}/manifests/t{last}", last % 10);
        assert_eq!(daemon.get(&path).expect(200).required_header("docker-content-digest"), manifest);
        assert!(memory < most << 10, "{measured}");
    };
    start(&mut daemon, "rebuild", 64);
    let tags = daemon.get("/v2/r0/tags/list?n=1000").expect(200).json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), count.div_ceil(10).min(1000));
    daemon.stop();
    // The index keeps all names, and memory stays the same.
    start(&mut daemon, "after a clean shutdown", 64);
    daemon.kill();
    start(&mut daemon, "after a kill", 64);
    daemon.stop();
    start(&mut daemon, "after another clean shutdown", 64);
    println!("{count} names: {measured}");
}

#[test]
fn names_are_limited() {
    let daemon =
        Daemon::with_env(&[("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "3"), ("HOLDFAST_LIMITS_NAMES", "7")]);
    for tag in ["1", "2", "3"] {
        daemon.push_image("a", tag, b"layer");
    }
    let (config, layer) = (daemon.push_blob("a", b"{}"), daemon.push_blob("a", b"other"));
    let other = image(&config, &layer, None);
    let refused = daemon.put_manifest("a", "4", OCI_MANIFEST, &other).expect(403);
    assert_eq!(refused.error_code(), "DENIED");
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limits.tags_per_repository") && message.contains('a'), "{message}");
    assert_eq!(
        daemon.get(&format!("/v2/a/manifests/{}", digest(&other))).status,
        404,
        "the refused manifest was stored"
    );
    // Moving an existing tag adds no name.
    daemon.put_manifest("a", "3", OCI_MANIFEST, &other).expect(201);
    daemon.request("DELETE", "/v2/a/manifests/1").send().expect(202);
    daemon.put_manifest("a", "4", OCI_MANIFEST, &other).expect(201);
    // Three tags and two manifests, and then a manifest and a tag.
    daemon.push_image("b", "1", b"layer");
    let (config, layer) = (daemon.push_blob("b", b"{}"), daemon.push_blob("b", b"other"));
    let refused = daemon.put_manifest("b", "1", OCI_MANIFEST, &image(&config, &layer, None)).expect(403);
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limits.names"), "{message}");
    // Several tags in one request count as well.
    let path = format!("/v2/b/manifests/{}?tag=x&tag=y", digest(&image(&config, &layer, None)));
    let put = daemon.request("PUT", &path).header("Content-Type", OCI_MANIFEST);
    put.body(&image(&config, &layer, None)).send().expect(403);
    let uploads = std::fs::read_dir(daemon.data.join("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "uploads were left behind");
}

#[test]
fn limits_hold_after_restart() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "1")]);
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
    daemon.start_again();
    let manifest = daemon.get("/v2/a/manifests/1").expect(200).body;
    daemon.put_manifest("a", "2", OCI_MANIFEST, &manifest).expect(403);
    daemon.put_manifest("a", "1", OCI_MANIFEST, &manifest).expect(201);
}
