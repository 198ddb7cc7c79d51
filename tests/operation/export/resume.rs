//! Interrupted exports continue, and end with the same bytes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::support::unit::signal;

/// Waits until files of an export have this many bytes.
fn await_bytes(directory: &Path, wanted: u64) {
    fn length(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(status) if status.is_dir() => length(&entry.path()),
                Ok(status) => status.len(),
                Err(_) => 0,
            })
            .sum()
    }
    let began = Instant::now();
    while length(directory) < wanted {
        assert!(began.elapsed() < Duration::from_secs(60), "the export does not write");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(daemon: &Daemon, arguments: &[&str], output: &Path) -> Child {
    export(daemon, arguments, output).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn interrupted_and_killed_exports_continue_to_the_same_bytes() {
    let daemon = Daemon::start();
    for number in 0..4 {
        push(&daemon, "team/app", &number.to_string(), &noise(number + 1, 2_000_000));
    }
    let directory = tempfile::tempdir().unwrap();
    let undisturbed = directory.path().join("undisturbed");
    std::fs::create_dir(&undisturbed).unwrap();
    for (kind, output) in [("directory", "layout"), ("tar", "a.tar"), ("parts", "b.tar")] {
        let split: &[&str] = if kind == "parts" { &["--split", "1MiB"] } else { &[] };
        let arguments = [&["--all"], split].concat();
        run(&mut export(&daemon, &arguments, &undisturbed.join(output)));
        let place = directory.path().join(kind);
        std::fs::create_dir(&place).unwrap();
        for (number, how) in ["INT", "KILL", "TERM", "KILL"].into_iter().enumerate() {
            let slow = [&arguments[..], &["--rate", "4MB"]].concat();
            let mut child = start(&daemon, &slow, &place.join(output));
            await_bytes(&place, 900_000 * (number as u64 + 1));
            signal(&child, &format!("-{how}"));
            let status = child.wait().unwrap();
            let expected = if how == "KILL" { None } else { Some(130) };
            assert_eq!(status.code(), expected, "{kind} {how}");
            assert!(!place.join("layout/index.json").exists() && !place.join("a.tar").exists());
        }
        let text = run(&mut export(&daemon, &arguments, &place.join(output)));
        assert!(text.contains("already there"), "{kind}: {text}");
        let expected: BTreeMap<_, _> =
            files(&undisturbed).into_iter().filter(|(name, _)| name.starts_with(output)).collect();
        assert!(files(&place) == expected, "{kind} has other bytes");
    }
}

#[test]
fn files_of_another_export_do_not_remain() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", &noise(1, 300_000));
    push(&daemon, "b", "1", &noise(2, 300_000));
    let directory = tempfile::tempdir().unwrap();
    let (file, other) = (directory.path().join("x.tar"), directory.path().join("other"));
    std::fs::create_dir(&other).unwrap();
    run(&mut export(&daemon, &["--all", "--split", "100kB"], &file));
    assert!(directory.path().join("x.tar.007").exists());
    run(&mut export(&daemon, &["b", "--split", "100kB"], &file));
    run(&mut export(&daemon, &["b", "--split", "100kB"], &other.join("x.tar")));
    let mut found = files(directory.path());
    found.retain(|name, _| !name.starts_with("other/"));
    assert!(found == files(&other), "{:?}", found.keys().collect::<Vec<_>>());
}

#[test]
fn export_keeps_the_state_of_its_selection() {
    let daemon = Daemon::start();
    let image = push(&daemon, "a", "1", &noise(1, 3_000_000));
    push(&daemon, "b", "1", &noise(2, 1_000_000));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    run(&mut export(&daemon, &["--all"], &directory.path().join("undisturbed.tar")));
    let mut child = start(&daemon, &["--all", "--rate", "1MB"], &file);
    await_bytes(directory.path(), 4_300_000);
    push(&daemon, "a", "1", b"moved");
    run(Command::new(BINARY).env_clear().args(["rm", "--yes", "b", "--data"]).arg(&daemon.data));
    let manifest = format!("/v2/a/manifests/{}", image.digest);
    daemon.request("DELETE", &manifest).send().expect(202);
    run(Command::new(BINARY).env_clear().args(["gc", "--data"]).arg(&daemon.data));
    let status = child.wait().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    assert!(status.success(), "{text}");
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    assert!(read("x.tar") == read("undisturbed.tar"), "the export follows changes");
}
