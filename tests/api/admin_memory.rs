//! The memory of the admin page stays bounded, whatever was pushed.

use crate::support::browser::{Browser, text};
use crate::support::images::CONFIG;
use crate::support::*;

/// The bound of a page with its style sheet and script, in bytes.
const LARGEST: usize = 60 << 10;

/// The API reads the index under the fallback tag of the referrers, too.
#[test]
fn large_index_of_referrers_takes_no_more_memory_than_its_text() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let list = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"{subject}\",\"size\":1,\"platform\":["
    );
    let list = filled(&list, "0,", "0]}]}", 4_000_000);
    let before = peak(&daemon);
    daemon.put_manifest("a", &subject.replace(':', "-"), OCI_INDEX, &list).expect(201);
    assert_eq!(
        daemon.get(&format!("/v2/a/referrers/{subject}")).expect(200).json()["manifests"][0]["digest"],
        subject
    );
    let page = Browser::new(&daemon).page("/image/a:1");
    assert!(page.len() < LARGEST, "{page}");
    let more = peak(&daemon) - before;
    assert!(more < 40 << 10, "{more} KiB more than {before}");
}

/// Returns the peak memory of a daemon, in KiB.
fn peak(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Loads the pages of an image in six browsers at once.
fn load_pages(daemon: &Daemon, name: &str) {
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut browser = Browser::new(daemon);
                for path in [format!("/repository/{name}"), format!("/image/{name}:1")] {
                    assert!(text(&browser.get(&path).expect(200)).len() < LARGEST);
                }
            });
        }
    });
}

/// Returns a document of `size` bytes that repeats one item.
fn filled(start: &str, item: &str, end: &str, size: usize) -> Vec<u8> {
    let count = (size - start.len() - end.len()) / item.len();
    format!("{start}{}{end}", item.repeat(count)).into_bytes()
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn pushed_content_does_not_decide_memory() {
    // The bound holds even if the operator allows very long lists.
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "1000000")]);
    let config = daemon.push_blob("m", b"{}");
    let descriptor = format!("\"mediaType\":\"{CONFIG}\",\"digest\":\"{config}\",\"size\":2");
    let head = "{\"schemaVersion\":2,";
    // The largest that the registry accepts, and the largest that is shown.
    let manifests = [4_000_000, 1_000_000].map(|size| {
        [
            filled(&format!("{head}\"config\":{{{descriptor},\"platform\":["), "0,", "0]}}", size),
            format!("{head}\"config\":{{{descriptor},\"platform\":{}}}}}", nested(size / 2 - 200))
                .into_bytes(),
            filled(
                &format!("{head}\"layers\":["),
                &format!("{{\"digest\":\"{config}\"}},"),
                &format!("{{\"digest\":\"{config}\"}}]}}"),
                size,
            ),
            filled(&format!("{head}\"annotations\":{{"), "\"a\":\"\",", "\"b\":\"\"}}", size),
        ]
    });
    let configs = [
        filled("{\"os\":[", "0,", "0]}", 1_000_000),
        filled("{\"history\":[", "{},", "{}]}", 1_000_000),
        filled("{\"config\":{\"Env\":[", "\"\",", "\"\"]}}", 1_000_000),
        format!("{{\"os\":{}}}", nested(499_000)).into_bytes(),
    ];
    let named: Vec<(String, Vec<u8>)> =
        manifests.into_iter().flatten().enumerate().map(|(at, bytes)| (format!("m{at}"), bytes)).collect();
    for (name, bytes) in &named {
        daemon.push_blob(name, b"{}");
        daemon.put_manifest(name, "1", OCI_MANIFEST, bytes).expect(201);
    }
    for (at, bytes) in configs.iter().enumerate() {
        let config = daemon.push_blob(&format!("c{at}"), bytes);
        let bytes = format!(
            "{head}\"config\":{{\"mediaType\":\"{CONFIG}\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]}}"
        );
        daemon.put_manifest(&format!("c{at}"), "1", OCI_MANIFEST, bytes.as_bytes()).expect(201);
    }
    let before = peak(&daemon);
    let names =
        named.iter().map(|(name, _)| name.clone()).chain((0..configs.len()).map(|at| format!("c{at}")));
    for name in names {
        load_pages(&daemon, &name);
        let more = peak(&daemon) - before;
        println!("{name}: {more} KiB more than {before}");
        assert!(more < 40 << 10, "{name}: {more} KiB more than {before}");
    }
}
