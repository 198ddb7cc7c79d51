//! A corrupt index: each time recovery finds a rung that holds, the corrupt file is kept, and no name in index.json
//! is lost.
//!
//! `HOLDFAST_TEST_CASES=300 cargo test broken_index` corrupts it three hundred times.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::*;

const PAGE: u64 = 4096;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Corrupts a file at random, and returns a description.
fn damage(file: &Path, random: &mut Random) -> String {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let length = file.metadata().unwrap().len();
    let pages = length / PAGE;
    match random.below(4) {
        0 => {
            let length = random.below(length);
            file.set_len(length).unwrap();
            format!("truncated to {length}")
        }
        1 => {
            let page = random.below(pages);
            let count = 1 + random.below(3);
            file.write_all_at(&vec![0; (count * PAGE) as usize], page * PAGE).unwrap();
            format!("{count} pages zeroed from {page}")
        }
        2 => {
            let flips: Vec<u64> = (0..1 + random.below(40)).map(|_| random.below(length)).collect();
            for at in &flips {
                let mut byte = [0];
                file.read_exact_at(&mut byte, *at).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << random.below(8))], *at).unwrap();
            }
            format!("bits flipped at {flips:?}")
        }
        _ => {
            let page = random.below(pages);
            let noise: Vec<u8> = (0..PAGE).map(|_| random.below(256) as u8).collect();
            file.write_all_at(&noise, page * PAGE).unwrap();
            format!("noise in page {page}")
        }
    }
}

/// Returns the names in `index.json` with the digests of their manifests.
fn names(data: &Path) -> BTreeMap<(String, Option<String>), String> {
    let layout: Value = serde_json::from_slice(&std::fs::read(data.join("index.json")).unwrap()).unwrap();
    let entry = |entry: &Value| {
        let repository = entry["annotations"]["io.holdfast.repository"].as_str().unwrap().to_owned();
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        let tag = name.map(|name| name.rsplit_once(':').unwrap().1.to_owned());
        ((repository, tag), entry["digest"].as_str().unwrap().to_owned())
    };
    layout["manifests"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn every_name_survives_random_damage() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    // In a small map few pages are free, and damage rarely has no effect.
    let mut daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")]);
    for number in 0..60u32 {
        let layer = format!("layer {}", number % 40).into_bytes();
        daemon.push_image(&format!("team/app{}", number % 7), &format!("t{number}"), &layer);
    }
    daemon.request("DELETE", "/v2/team/app0/manifests/t0").send().expect(202);
    let cases = std::env::var("HOLDFAST_TEST_CASES").map_or(25, |text| text.parse().unwrap());
    let mut broken = 0;
    for _ in 0..cases {
        daemon.stop_without_marker();
        let expected = names(&daemon.data);
        assert_eq!(expected.len(), 60, "{expected:#?}");
        let aside = daemon.broken_index_count();
        let how = damage(&daemon.data.join("index/data.mdb"), &mut random);
        daemon.start_again();
        for ((repository, tag), digest) in &expected {
            let reference = tag.as_ref().unwrap_or(digest);
            let answer = daemon.get(&format!("/v2/{repository}/manifests/{reference}"));
            assert_eq!(answer.status, 200, "{repository}:{reference} after {how}");
            assert_eq!(&digest_of(&answer), digest, "{repository}:{reference} after {how}");
        }
        let check = Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data).output();
        let check = check.unwrap();
        assert!(check.status.success(), "seed {seed}, {how}: {check:?}");
        daemon.push_image("team/extra", "1", b"pushes work");
        daemon
            .request("DELETE", &format!("/v2/team/extra/manifests/{}", tag_digest(&daemon)))
            .send()
            .expect(202);
        broken += usize::from(daemon.broken_index_count() > aside);
    }
    println!("{cases} times damaged, {broken} times set aside");
    assert!(broken * 3 > cases, "damage is not detected: {broken} of {cases}");
}

fn tag_digest(daemon: &Daemon) -> String {
    daemon.get("/v2/team/extra/manifests/1").expect(200).required_header("docker-content-digest")
}

fn digest_of(answer: &Response) -> String {
    digest(&answer.body)
}

/// Lists a page in use as a free one: the root of the tree of tables.
fn list_page_in_use(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let short =
        |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    // The meta pages: a header, 24 bytes, the trees of free pages and of tables, the last page, the transaction.
    let meta = usize::from(word(&bytes, 4096 + 144) > word(&bytes, 144)) * 4096;
    let (free, main) = (word(&bytes, meta + 80), word(&bytes, meta + 128));
    assert_eq!(short(&bytes, meta + 46), 1, "the tree of free pages has one level");
    let leaf = free as usize * 4096;
    // Its first node: eight bytes, the number of the transaction, the number of pages, and the pages.
    let node = leaf + short(&bytes, leaf + 16);
    assert!(word(&bytes, node + 16) > 0, "the first entry has a page");
    bytes[node + 24..node + 32].copy_from_slice(&main.to_le_bytes());
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_healthy_index_is_not_copied_and_a_wrong_list_of_free_pages_is_healed() {
    let mut daemon = Daemon::start();
    for number in 0..30u32 {
        let name = format!("team/app{}", number % 3);
        daemon.push_image(&name, &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    let file = daemon.data.join("index/data.mdb");
    let inode = || std::fs::metadata(&file).unwrap().ino();
    let check = |daemon: &Daemon| {
        for number in 0..30 {
            daemon.get(&format!("/v2/team/app{}/manifests/t{number}", number % 3)).expect(200);
        }
        assert_eq!(daemon.broken_index_count(), 0);
    };
    daemon.stop_without_marker();
    let before = inode();
    daemon.start_again();
    check(&daemon);
    assert_eq!(inode(), before, "a healthy index was copied");
    daemon.stop_without_marker();
    list_page_in_use(&file);
    daemon.start_again();
    check(&daemon);
    let healed = inode();
    assert_ne!(healed, before, "the wrong list was not found");
    for number in 0..10 {
        daemon.push_image("team/extra", &format!("t{number}"), b"pushes work");
    }
    daemon.stop_without_marker();
    daemon.start_again();
    check(&daemon);
    assert_eq!(inode(), healed, "the copy was copied");
}

#[test]
fn nothing_is_collected_without_index_json_until_the_operator_asks() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop_without_marker();
    std::fs::write(daemon.data.join("index/data.mdb"), b"garbage").unwrap();
    std::fs::write(daemon.data.join("index.json"), b"garbage").unwrap();
    daemon.start_again_with_env(&[("HOLDFAST_GC_INTERVAL", "50ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    daemon.get("/v2/a/manifests/1").expect(404);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let blobs = || std::fs::read_dir(daemon.data.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 3, "unnamed content was collected");
    daemon.push_image("a", "1", b"layer");
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&daemon.data));
    assert_eq!(blobs(), 3);
    daemon.get("/v2/a/manifests/1").expect(200);
}
