//! Directories, FIFOs, sockets and symbolic links in the place of files of the data directory: no request waits for
//! them, none makes the store read-only, and other content stays available.
//!
//! Each place is tried with two kinds of obstacle; with all kinds by `HOLDFAST_TEST_PLACES=all cargo test obstacles`.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    EmptyDirectory,
    FullDirectory,
    Fifo,
    Socket,
    Link,
    DanglingLink,
}

const LAYER: &[u8] = b"the layer of a tagged image";
const GARBAGE: &[u8] = b"the layer of a deleted image";
const UPLOAD: &str = "0190aaaa-bbbb-8ccc-8000-0123456789ab";

/// A daemon with one image and the garbage of another.
struct Registry {
    daemon: Daemon,
    manifest: (String, Vec<u8>),
    /// The target of the symbolic links, which must not change.
    target: PathBuf,
    _directory: tempfile::TempDir,
}

fn place_is_in_the_trash(name: &str) -> bool {
    name.starts_with("trash of")
}

impl Registry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::fs::write(&target, "unchanged").unwrap();
        let settings = [("HOLDFAST_GC_INTERVAL", "off"), ("HOLDFAST_GC_GRACE", "0s")];
        let daemon = Daemon::at_with_env(&directory.path().join("data"), &settings);
        let manifest = daemon.push_image("a", "1", LAYER);
        let (garbage, _) = daemon.push_image("a", "gone", GARBAGE);
        daemon.request("DELETE", &format!("/v2/a/manifests/{garbage}")).send().expect(202);
        Registry { daemon, manifest, target, _directory: directory }
    }

    /// Returns the path of a place by its name.
    fn place(&self, name: &str) -> PathBuf {
        let hex = |content: &[u8]| digest(content).trim_start_matches("sha256:").to_owned();
        let name = match name {
            "layer" => format!("blobs/sha256/{}", hex(LAYER)),
            "garbage" => format!("blobs/sha256/{}", hex(GARBAGE)),
            "manifest" => format!("blobs/sha256/{}", self.manifest.0.trim_start_matches("sha256:")),
            "trash of garbage" => format!("trash/sha256-{}", hex(GARBAGE)),
            "trash of layer" => format!("trash/sha256-{}", hex(LAYER)),
            "upload" => format!("uploads/{UPLOAD}"),
            name => name.to_owned(),
        };
        self.daemon.data.join(name)
    }

    fn put(&self, name: &str, obstacle: Obstacle) {
        let path = self.place(name);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
            Ok(_) => std::fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        if place_is_in_the_trash(name) {
            // An earlier release has left it.
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        match obstacle {
            Obstacle::EmptyDirectory | Obstacle::FullDirectory => {
                std::fs::create_dir(&path).unwrap();
                if obstacle == Obstacle::FullDirectory {
                    std::fs::write(path.join("x"), "x").unwrap();
                }
            }
            Obstacle::Fifo => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            Obstacle::Socket => {
                // The path of a socket is limited to 107 bytes.
                let short = tempfile::tempdir_in("/tmp").unwrap();
                let socket = short.path().join("s");
                let _listener = UnixListener::bind(&socket).unwrap();
                std::fs::hard_link(&socket, &path).or_else(|_| std::fs::rename(&socket, &path)).unwrap();
            }
            Obstacle::Link => symlink(&self.target, &path).unwrap(),
            Obstacle::DanglingLink => symlink("/nothing/is/here", &path).unwrap(),
        }
    }

    fn holdfast(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", BINARY]).args(arguments).arg("--data").arg(&self.daemon.data).env_clear();
        command.output().unwrap()
    }

    /// Asserts that a push, a pull after a push that replaces the obstacle, a delete, a collection and a check succeed.
    fn assert_works(&self, case: &str) {
        let daemon = &self.daemon;
        let (other, _) = daemon.push_image("b", "1", case.as_bytes());
        for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", digest(LAYER))] {
            // Only the pull of the obstacle itself may fail.
            let status = daemon.get(&path).status;
            assert!(matches!(status, 200 | 404 | 500), "{case}: {path} {status}");
        }
        assert_eq!(daemon.push_image("a", "1", LAYER).0, self.manifest.0, "{case}");
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, self.manifest.1, "{case}");
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(LAYER))).expect(200).body, LAYER, "{case}");
        daemon.request("DELETE", &format!("/v2/b/manifests/{other}")).send().expect(202);
        let collected = self.holdfast(&["gc", "--grace", "0s"]);
        assert!(collected.status.success(), "{case}: {collected:?}");
        assert!(!self.daemon.data.join("blobs/sha256").join(&other["sha256:".len()..]).exists(), "{case}");
        let checked = self.holdfast(&["check"]);
        assert!(checked.status.success(), "{case}: {checked:?}");
        let status = self.holdfast(&["status"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("running") && !status.contains("read-only"), "{case}: {status}");
        assert_eq!(std::fs::read_to_string(&self.target).unwrap(), "unchanged", "{case}");
    }
}

impl Registry {
    fn assert_works_after_restart(&mut self, case: &str) {
        self.assert_works(case);
        self.daemon.stop_and_restart();
        self.assert_works(&format!("{case}, started again"));
    }
}

/// The places that are tried before a start of the daemon.
const BEFORE_A_START: [&str; 19] = [
    "layer",
    "garbage",
    "manifest",
    "trash of garbage",
    "trash of layer",
    "upload",
    "uploads/other",
    "index.json",
    ".index.json.new",
    "oci-layout",
    ".oci-layout.new",
    "index/data.mdb",
    "index/lock.mdb",
    "index/clean",
    "index/suspect",
    "index/read-only",
    "index/inspected.mdb",
    "index/daemon.lock",
    "index/index.lock",
];

/// The places that are tried while the daemon runs.
const WHILE_RUNNING: [&str; 14] = [
    "layer",
    "garbage",
    "manifest",
    "trash of garbage",
    "trash of layer",
    "upload",
    "uploads/other",
    "index.json",
    ".index.json.new",
    "oci-layout",
    "index/clean",
    "index/read-only",
    "index/layout.lock",
    "index/collection.lock",
];

/// Returns the places that an obstacle is tried in: a third of them, or all.
fn places(all: &[&'static str], obstacle: Obstacle) -> Vec<&'static str> {
    let every = std::env::var("HOLDFAST_TEST_PLACES").is_ok_and(|text| text == "all");
    let numbered = all.iter().enumerate();
    let chosen = numbered.filter(|(number, _)| every || number % 3 == obstacle as usize % 3);
    chosen.map(|(_, place)| *place).collect()
}

fn cases(obstacle: Obstacle) {
    for place in places(&BEFORE_A_START, obstacle) {
        let case = format!("{obstacle:?} as {place} before a start");
        println!("{case}");
        let mut registry = Registry::start();
        registry.daemon.stop();
        registry.put(place, obstacle);
        // Commands that only read must not hang.
        assert_ne!(registry.holdfast(&["status"]).status.code(), Some(124), "{case}");
        assert_ne!(registry.holdfast(&["gc", "--dry-run"]).status.code(), Some(124), "{case}");
        registry.daemon.start_again();
        registry.assert_works_after_restart(&case);
        registry.daemon.stop();
    }
    for place in places(&WHILE_RUNNING, obstacle) {
        let case = format!("{obstacle:?} as {place} while running");
        println!("{case}");
        let mut registry = Registry::start();
        registry.put(place, obstacle);
        registry.assert_works_after_restart(&case);
        registry.daemon.stop();
    }
}

#[test]
fn empty_directories_break_no_other_content() {
    cases(Obstacle::EmptyDirectory);
}

#[test]
fn full_directories_break_no_other_content() {
    cases(Obstacle::FullDirectory);
}

#[test]
fn fifos_break_no_other_content() {
    cases(Obstacle::Fifo);
}

#[test]
fn sockets_break_no_other_content() {
    cases(Obstacle::Socket);
}

#[test]
fn symbolic_links_break_no_other_content() {
    cases(Obstacle::Link);
}

#[test]
fn dangling_symbolic_links_break_no_other_content() {
    cases(Obstacle::DanglingLink);
}

#[test]
fn directories_are_created_in_the_place_of_files() {
    for place in ["uploads", "trash", "damaged", "set-aside", "blobs/sha512"] {
        let case = format!("a file as {place}");
        let mut registry = Registry::start();
        registry.daemon.stop();
        let path = registry.daemon.data.join(place);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::write(&path, "kept").unwrap();
        registry.put("layer", Obstacle::FullDirectory);
        registry.daemon.start_again();
        registry.assert_works_after_restart(&case);
    }
    // The disk behind a link may not be mounted: the daemon must not start without its content.
    let mut registry = Registry::start();
    registry.daemon.stop();
    let (blobs, elsewhere) = (registry.daemon.data.join("blobs"), registry.daemon.data.join("elsewhere"));
    std::fs::rename(&blobs, &elsewhere).unwrap();
    symlink(Path::new("nowhere"), &blobs).unwrap();
    let refused = registry.daemon.start_another();
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("is the disk behind it mounted?"),
        "{refused:?}"
    );
    std::fs::remove_file(&blobs).unwrap();
    symlink(&elsewhere, &blobs).unwrap();
    registry.daemon.start_again();
    registry.assert_works("blobs behind a link");
}

#[test]
fn obstacles_are_kept_and_logged_once() {
    let mut registry = Registry::start();
    registry.daemon.stop();
    registry.put("index.json", Obstacle::FullDirectory);
    let log = registry.daemon.start_again_with_log(&[("HOLDFAST_GC_INTERVAL", "off")]);
    registry.assert_works("index.json");
    registry.daemon.stop();
    let kept = registry.daemon.data.join("set-aside/index.json.in-the-way-1/x");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "x");
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.matches("which does not belong there").count(), 1, "{log}");
    let layout = std::fs::read_to_string(registry.daemon.data.join("index.json")).unwrap();
    assert!(layout.contains("a:1"), "{layout}");
}
