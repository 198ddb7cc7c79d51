//! An index that is damaged while the machine is off, with its shutdown marker in place.
//!
//! `HOLDFAST_TEST_CASES=60 cargo test damaged_off` runs sixty cases.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::*;

const PAGE: u64 = 4096;

fn below(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % limit
}

/// Swaps two pages of the index or truncates it; returns a description.
fn damage_index(daemon: &Daemon, random: &mut u64) -> String {
    let path = daemon.data.join("index/data.mdb");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let pages = length / PAGE;
    if below(random, 4) == 0 {
        let length = below(random, length);
        file.set_len(length).unwrap();
        return format!("truncated to {length} bytes");
    }
    let (one, other) = (2 + below(random, pages - 2), 2 + below(random, pages - 2));
    let (mut first, mut second) = (vec![0; PAGE as usize], vec![0; PAGE as usize]);
    file.read_exact_at(&mut first, one * PAGE).unwrap();
    file.read_exact_at(&mut second, other * PAGE).unwrap();
    file.write_all_at(&second, one * PAGE).unwrap();
    file.write_all_at(&first, other * PAGE).unwrap();
    format!("pages {one} and {other} swapped")
}

fn check(daemon: &Daemon) -> (bool, String) {
    let output =
        Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

/// Collects beside the daemon without a grace period. The collection may refuse to run.
fn collect(daemon: &Daemon) {
    Command::new(BINARY)
        .env_clear()
        .args(["gc", "--grace", "0s", "--data"])
        .arg(&daemon.data)
        .output()
        .unwrap();
}

#[test]
fn a_damaged_index_loses_no_referenced_blob_and_is_logged() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = seed;
    let cases: u32 = std::env::var("HOLDFAST_TEST_CASES").map_or(12, |text| text.parse().unwrap());
    for case in 0..cases {
        let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
        let images: Vec<_> = (0..30)
            .map(|number| {
                let tag = format!("t{number}");
                let (digest, manifest) = daemon.push_image(
                    &format!("r{}", number % 3),
                    &tag,
                    format!("layer {number}").as_bytes(),
                );
                (format!("r{}", number % 3), tag, digest, manifest)
            })
            .collect();
        daemon.stop();
        assert!(daemon.data.join("index/clean").exists());
        let damage = damage_index(&daemon, &mut random);
        let log =
            daemon.start_again_with_log(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
        let logged = std::fs::read_to_string(log.path()).unwrap();
        let (context, is_logged) = (format!("seed {seed}, case {case}, {damage}"), !logged.is_empty());
        collect(&daemon);
        for (repository, tag, digest, manifest) in &images {
            let answer = daemon.get(&format!("/v2/{repository}/manifests/{tag}")).expect(200);
            assert_eq!(&answer.body, manifest, "{context}");
            daemon.get(&format!("/v2/{repository}/manifests/{digest}")).expect(200);
        }
        for number in 0..30 {
            let blob = digest(format!("layer {number}").as_bytes());
            let answer = daemon.get(&format!("/v2/r{}/blobs/{blob}", number % 3));
            assert_eq!(answer.status, 200, "{context}");
        }
        let (clean, text) = check(&daemon);
        assert!(clean, "{context}: {text}");
        assert!(is_logged || !damage.starts_with("truncated"), "{context}: the log is empty");
    }
}

/// The daemon has opened the index before it is damaged, so that the shutdown marker cannot reveal the damage.
#[test]
fn a_collection_verifies_the_index_before_it_frees_content() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_GC_GRACE", "0s"), ("HOLDFAST_GC_INTERVAL", "off")]);
    for number in 0..60 {
        daemon.push_image("a", &format!("t{number}"), format!("layer {number}").as_bytes());
    }
    daemon.stop_and_restart();
    // Pages with rows that reference a layer: without one of these rows the layer may look unreferenced.
    let path = daemon.data.join("index/data.mdb");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let layer: Vec<u8> = hex_of(&digest(b"layer 7"));
    let mut pages: Vec<u64> = (0..bytes.len() - layer.len())
        .filter(|at| bytes[*at..].starts_with(&layer))
        .map(|at| at as u64 / PAGE)
        .collect();
    pages.dedup();
    assert!(pages.len() > 2, "{pages:?}");
    let blobs = || std::fs::read_dir(daemon.data.join("blobs/sha256")).unwrap().count();
    let before = blobs();
    // Each of these pages in turn becomes a leaf without rows.
    for page in pages {
        let mut leaf = bytes[(page * PAGE) as usize..][..PAGE as usize].to_vec();
        if leaf[10] & 2 != 2 {
            continue;
        }
        // The free space of an empty leaf begins after its header and ends with the page.
        leaf[12..14].copy_from_slice(&16u16.to_ne_bytes());
        leaf[14..16].copy_from_slice(&(PAGE as u16).to_ne_bytes());
        file.write_all_at(&leaf, page * PAGE).unwrap();
        collect(&daemon);
        assert_eq!(blobs(), before, "page {page}");
        file.write_all_at(&bytes[(page * PAGE) as usize..][..PAGE as usize], page * PAGE).unwrap();
    }
}

fn hex_of(digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
