//! Adoptions and imports that are killed at points of their whole run. strace kills the process at one of its system calls.

use std::process::Child;
use std::time::{Duration, Instant};

use super::*;
use crate::support::fault_injection::FaultInjection;
use crate::support::kill_points::{is_killed_at, points};

/// Points at which a command is killed.
const POINTS: usize = 20;
/// Points at which the daemon is killed: the numbers of its calls of one name, in one thread.
const DAEMON_POINTS: [usize; 10] = [1, 2, 3, 4, 6, 9, 13, 18, 25, 35];
/// The calls by which the daemon changes its data.
const CHANGES: &str =
    "write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";

/// Writes images into a data directory of registry:2: two that share a layer, and one in two repositories.
fn tree(directory: &Path) -> Vec<(&'static str, Image)> {
    let shared = noise(1, 200_000);
    let (one, two) = (Image::of_layers(&[&shared, b"one"]), Image::of_layers(&[&shared, b"two"]));
    let (arm, amd) = (Image::of(b"arm"), Image::of(b"amd"));
    let index = Image::index(&[&arm, &amd]);
    let mut media = Media::default();
    let images = [("team/one", one), ("team/two", two), ("multi", index.clone()), ("copy/multi", index)];
    for (repository, image) in &images {
        media.registry_tree(repository, Some("1"), image);
    }
    for repository in ["multi", "copy/multi"] {
        media.registry_tree(repository, None, &arm).registry_tree(repository, None, &amd);
    }
    media.write_to(directory);
    images.into()
}

fn adopt(daemon: &Daemon, directory: &Path, moves: bool) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("adopt").arg(directory).args(moves.then_some("--move"));
    command.arg("--data").arg(&daemon.data).stdin(Stdio::null());
    command
}

/// Asserts that everything is adopted, and that a move has left no content.
#[track_caller]
fn assert_adopted(daemon: &Daemon, directory: &Path, moves: bool, images: &[(&str, Image)]) {
    let contents = Contents::of(daemon);
    let tags = images.iter().map(|(name, image)| (format!("{name}:1"), image.digest.clone()));
    assert_eq!(contents.tags, tags.collect());
    let files = run(Command::new("find").arg(directory).args(["-name", "data"]));
    assert_eq!(files.is_empty(), moves, "{files}");
}

#[test]
fn adoptions_that_are_killed_at_any_point_continue() {
    for moves in [false, true] {
        let (directory, daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
        tree(directory.path());
        let mut killed = 0;
        for point in points(&adopt(&daemon, directory.path(), moves), None, POINTS) {
            let (directory, daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
            let images = tree(directory.path());
            killed += usize::from(is_killed_at(&adopt(&daemon, directory.path(), moves), None, &point));
            // What has a name is whole.
            Contents::of(&daemon);
            let output = adopt(&daemon, directory.path(), moves).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            assert_adopted(&daemon, directory.path(), moves, &images);
        }
        assert!(killed > POINTS / 2, "{killed} of {POINTS} were killed");
    }
}

#[test]
fn imports_of_a_stream_that_are_killed_at_any_point_continue() {
    let (media, images) = layout(3, 300_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    let (stream, mut killed) = (Path::new("-"), 0);
    for point in points(&import(&Daemon::start(), stream), Some(&file), POINTS) {
        let daemon = Daemon::start();
        killed += usize::from(is_killed_at(&import(&daemon, stream), Some(&file), &point));
        Contents::of(&daemon);
        let output = import_stream(&daemon, &file);
        assert!(output.status.success(), "{}", text(&output));
        assert_has(&daemon, &images);
    }
    assert!(killed > POINTS / 2, "{killed} of {POINTS} were killed");
}

/// Waits for the end of a command; starts the daemon again if it ends before.
fn await_end(mut command: Child, daemon: &mut Daemon) -> bool {
    let (began, mut was_killed) = (Instant::now(), false);
    while command.try_wait().unwrap().is_none() {
        if !was_killed && daemon.has_exited() {
            was_killed = true;
            daemon.start_again();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the command has no end");
        std::thread::sleep(Duration::from_millis(5));
    }
    if !was_killed && daemon.has_exited() {
        was_killed = true;
        daemon.start_again();
    }
    was_killed
}

#[test]
fn a_daemon_that_is_killed_at_any_change_loses_no_image_of_an_import_or_an_adoption() {
    let (media, images) = layout(3, 300_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    let mut killed = 0;
    for point in DAEMON_POINTS {
        for what in ["import", "stream", "move"] {
            let (old, mut daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
            let tree = tree(old.path());
            let start = |daemon: &Daemon| match what {
                "import" => import(daemon, &file),
                "stream" => {
                    let mut command = import(daemon, Path::new("-"));
                    command.stdin(std::fs::File::open(&file).unwrap());
                    command
                }
                _ => adopt(daemon, old.path(), true),
            };
            let injection = FaultInjection::kill(daemon.pid(), CHANGES, point);
            let command = start(&daemon).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            killed += usize::from(await_end(command, &mut daemon));
            drop(injection);
            if daemon.has_exited() {
                daemon.start_again();
            }
            Contents::of(&daemon);
            let output = start(&daemon).output().unwrap();
            assert!(output.status.success(), "{what} {point}: {}", text(&output));
            match what {
                "move" => assert_adopted(&daemon, old.path(), true, &tree),
                _ => assert_has(&daemon, &images),
            }
        }
    }
    assert!(killed > DAEMON_POINTS.len(), "the daemon was killed {killed} times");
}
