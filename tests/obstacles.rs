//! Directories, FIFOs, sockets and symbolic links in the place of files of the data directory: nothing waits for them, none
//! of them makes the store read-only, and what is not in their place goes on.
//!
//! Each place meets two of the kinds; with `HOLDFAST_TEST_PLACES=all cargo test obstacles` it meets all of them.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    EmptyDirectory,
    FullDirectory,
    Fifo,
    Socket,
    Link,
    DanglingLink,
}

const LAYER: &[u8] = b"the layer that is needed";
const GARBAGE: &[u8] = b"a layer that is not needed";
const UPLOAD: &str = "0190aaaa-bbbb-8ccc-8000-0123456789ab";

/// What a test has made, and where.
struct Registry {
    daemon: Daemon,
    manifest: (String, Vec<u8>),
    /// A file that symbolic links lead to, which must not be changed.
    victim: PathBuf,
    _directory: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "the victim").unwrap();
        let settings = [("HOLDFAST_GC_INTERVAL", "off"), ("HOLDFAST_GC_GRACE", "0s")];
        let daemon = Daemon::at_with(&directory.path().join("data"), &settings);
        let manifest = daemon.push_image("a", "1", LAYER);
        let (garbage, _) = daemon.push_image("a", "gone", GARBAGE);
        daemon.request("DELETE", &format!("/v2/a/manifests/{garbage}")).send().expect(202);
        Registry { daemon, manifest, victim, _directory: directory }
    }

    /// The path of a place by its name.
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

    fn put(&self, name: &str, thing: Thing) {
        let path = self.place(name);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
            Ok(_) => std::fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        match thing {
            Thing::EmptyDirectory | Thing::FullDirectory => {
                std::fs::create_dir(&path).unwrap();
                if thing == Thing::FullDirectory {
                    std::fs::write(path.join("x"), "x").unwrap();
                }
            }
            Thing::Fifo => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            Thing::Socket => {
                // Its path may have few characters.
                let short = tempfile::tempdir_in("/tmp").unwrap();
                let socket = short.path().join("s");
                let _listener = UnixListener::bind(&socket).unwrap();
                std::fs::hard_link(&socket, &path).or_else(|_| std::fs::rename(&socket, &path)).unwrap();
            }
            Thing::Link => symlink(&self.victim, &path).unwrap(),
            Thing::DanglingLink => symlink("/nothing/is/here", &path).unwrap(),
        }
    }

    fn holdfast(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", BINARY]).args(arguments).arg("--data").arg(&self.daemon.data).env_clear();
        command.output().unwrap()
    }

    /// Everything works: a push, a pull after a push that heals, a delete, a collection, a check.
    fn works(&self, what: &str) {
        let daemon = &self.daemon;
        let (other, _) = daemon.push_image("b", "1", what.as_bytes());
        for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", digest(LAYER))] {
            // The pull of the thing itself may fail, and nothing else does.
            let status = daemon.get(&path).status;
            assert!(matches!(status, 200 | 404 | 500), "{what}: {path} {status}");
        }
        assert_eq!(daemon.push_image("a", "1", LAYER).0, self.manifest.0, "{what}");
        assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, self.manifest.1, "{what}");
        assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(LAYER))).expect(200).body, LAYER, "{what}");
        daemon.request("DELETE", &format!("/v2/b/manifests/{other}")).send().expect(202);
        let collected = self.holdfast(&["gc", "--grace", "0s"]);
        assert!(collected.status.success(), "{what}: {collected:?}");
        assert!(!self.daemon.data.join("blobs/sha256").join(&other["sha256:".len()..]).exists(), "{what}");
        let checked = self.holdfast(&["check"]);
        assert!(checked.status.success(), "{what}: {checked:?}");
        let status = self.holdfast(&["status"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("running") && !status.contains("read-only"), "{what}: {status}");
        assert_eq!(std::fs::read_to_string(&self.victim).unwrap(), "the victim", "{what}");
    }
}

impl Registry {
    fn works_also_after_a_restart(&mut self, what: &str) {
        self.works(what);
        self.daemon.stop_and_restart();
        self.works(&format!("{what}, started again"));
    }
}

/// Places of files that only a daemon that is started meets.
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

/// Places that a daemon, or a command beside it, meets while it runs.
const WHILE_IT_RUNS: [&str; 14] = [
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

/// The places that a kind is tried in.
fn places(all: &[&'static str], thing: Thing) -> Vec<&'static str> {
    let every = std::env::var("HOLDFAST_TEST_PLACES").is_ok_and(|text| text == "all");
    let numbered = all.iter().enumerate();
    let chosen = numbered.filter(|(number, _)| every || number % 3 == thing as usize % 3);
    chosen.map(|(_, place)| *place).collect()
}

fn cases(thing: Thing) {
    for place in places(&BEFORE_A_START, thing) {
        let what = format!("{thing:?} as {place} before a start");
        println!("{what}");
        let mut registry = Registry::start();
        registry.daemon.stop();
        registry.put(place, thing);
        // Only looks, and waits for nothing.
        assert_ne!(registry.holdfast(&["status"]).status.code(), Some(124), "{what}");
        assert_ne!(registry.holdfast(&["gc", "--dry-run"]).status.code(), Some(124), "{what}");
        registry.daemon.restart_after_end();
        registry.works_also_after_a_restart(&what);
        registry.daemon.stop();
    }
    for place in places(&WHILE_IT_RUNS, thing) {
        let what = format!("{thing:?} as {place} while it runs");
        println!("{what}");
        let mut registry = Registry::start();
        registry.put(place, thing);
        registry.works_also_after_a_restart(&what);
        registry.daemon.stop();
    }
}

#[test]
fn empty_directories_stop_nothing() {
    cases(Thing::EmptyDirectory);
}

#[test]
fn full_directories_stop_nothing() {
    cases(Thing::FullDirectory);
}

#[test]
fn fifos_stop_nothing() {
    cases(Thing::Fifo);
}

#[test]
fn sockets_stop_nothing() {
    cases(Thing::Socket);
}

#[test]
fn symbolic_links_stop_nothing() {
    cases(Thing::Link);
}

#[test]
fn dangling_symbolic_links_stop_nothing() {
    cases(Thing::DanglingLink);
}

/// Files and the like in the place of the folders.
#[test]
fn folders_are_made_in_the_place_of_files() {
    for place in ["uploads", "trash", "damaged", "set-aside", "blobs/sha512"] {
        let what = format!("a file as {place}");
        let mut registry = Registry::start();
        registry.daemon.stop();
        let path = registry.daemon.data.join(place);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::write(&path, "kept").unwrap();
        registry.put("layer", Thing::FullDirectory);
        registry.daemon.restart_after_end();
        registry.works_also_after_a_restart(&what);
    }
    // The disk behind a link may be missing, which is no reason to begin without its content.
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
    registry.daemon.restart_after_end();
    registry.works("blobs behind a link");
}

/// What was in the way is kept, with one line in the log.
#[test]
fn what_was_in_the_way_is_kept_and_told() {
    let mut registry = Registry::start();
    registry.daemon.stop();
    registry.put("index.json", Thing::FullDirectory);
    let log = registry.daemon.restart_with_log(&[("HOLDFAST_GC_INTERVAL", "off")]);
    registry.works("index.json");
    registry.daemon.stop();
    let kept = registry.daemon.data.join("set-aside/index.json.in-the-way-1/x");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "x");
    let told = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(told.matches("which does not belong there").count(), 1, "{told}");
    let layout = std::fs::read_to_string(registry.daemon.data.join("index.json")).unwrap();
    assert!(layout.contains("a:1"), "{layout}");
}
