//! Adoption of the data directory of registry:2, written by Debian's docker-registry or by the tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::media::{Image, Media, registry_blob};
use crate::support::registry2::Registry2;
use crate::support::*;

const ROOT: &str = "docker/registry/v2";

fn command(data: &Path, directory: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("adopt").arg(directory).args(more).arg("--data").arg(data).stdin(Stdio::null());
    command
}

fn adopt(daemon: &Daemon, directory: &Path, more: &[&str]) -> (Option<i32>, String) {
    text(&command(&daemon.data, directory, more).output().unwrap())
}

fn text(output: &Output) -> (Option<i32>, String) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[track_caller]
fn adopted(daemon: &Daemon, directory: &Path, more: &[&str]) -> String {
    let (code, text) = adopt(daemon, directory, more);
    assert_eq!(code, Some(0), "{text}");
    text
}

fn manifest(daemon: &Daemon, repository: &str, reference: &str) -> Response {
    let accept = format!("{OCI_MANIFEST}, {OCI_INDEX}");
    daemon.request("GET", &format!("/v2/{repository}/manifests/{reference}")).header("Accept", &accept).send()
}

#[track_caller]
fn expect_image(daemon: &Daemon, repository: &str, reference: &str, image: &Image) {
    assert_eq!(manifest(daemon, repository, reference).expect(200).body, image.manifest, "{reference}");
    for (digest, content) in image.content.iter().filter(|(_, content)| !content.starts_with(b"{\"")) {
        assert_eq!(&daemon.get(&format!("/v2/{repository}/blobs/{digest}")).expect(200).body, content);
    }
}

/// Returns all files of the tree.
fn files(directory: &Path) -> Vec<String> {
    let found = run(Command::new("find").arg(directory.join(ROOT)).args(["-type", "f"]));
    let mut files: Vec<String> = found.lines().map(str::to_owned).collect();
    files.sort();
    files
}

fn layer(number: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) >> 7) as u8 ^ number).collect()
}

#[test]
fn a_running_registry_is_adopted_and_adopted_again() {
    let (old, daemon) = (Registry2::start(), Daemon::start());
    let (arm, amd) = (Image::of(b"arm"), Image::of(b"amd"));
    let (index, untagged, next) = (Image::index(&[&arm, &amd]), Image::of(b"untagged"), Image::of(b"next"));
    old.push("team/app", "1", &arm);
    old.put("team/app", "latest", &arm);
    old.push("team/multi", &arm.digest, &arm);
    old.push("team/multi", &amd.digest, &amd);
    old.put("team/multi", "2", &index);
    old.push("pinned", &untagged.digest, &untagged);
    let before = files(&old.data());
    let dry = adopted(&daemon, &old.data(), &["--dry-run"]);
    assert!(dry.contains("would adopt 3 of 3 images"), "{dry}");
    manifest(&daemon, "team/app", "1").expect(404);
    let told = adopted(&daemon, &old.data(), &[]);
    assert!(told.contains("adopted 3 of 3 images") && told.contains("auth.htpasswd"), "{told}");
    expect_image(&daemon, "team/app", "1", &arm);
    expect_image(&daemon, "team/app", "latest", &arm);
    expect_image(&daemon, "team/multi", "2", &index);
    expect_image(&daemon, "pinned", &untagged.digest, &untagged);
    assert_eq!(files(&old.data()), before);
    let again = adopted(&daemon, &old.data(), &[]);
    assert!(again.contains("3 present, 0 adopted\n") && !again.contains("auth.htpasswd"), "{again}");
    let dry = adopted(&daemon, &old.data(), &["--dry-run"]);
    assert!(dry.contains("present   team/multi:2 0 B") && dry.contains("3 present"), "{dry}");
    let (code, none) = adopt(&daemon, &old.data(), &["--only", "nosuch"]);
    assert_eq!((code, none.contains("matches --only nosuch")), (Some(1), true), "{none}");
    // The tag moves in the old registry, which is still in use.
    old.push("team/app", "latest", &next);
    let link = old.data().join(ROOT).join("repositories/team/app/_manifests/tags/latest/current/link");
    let later = SystemTime::now() + Duration::from_secs(10);
    fs::File::options().append(true).open(link).unwrap().set_modified(later).unwrap();
    adopted(&daemon, &old.data(), &[]);
    expect_image(&daemon, "team/app", "latest", &next);
    // A tag that was pushed here stays.
    let (here, _) = daemon.push_image("team/app", "1", b"newer");
    let (code, told) = adopt(&daemon, &old.data(), &[]);
    assert_eq!((code, told.contains("kept      team/app:1: the tag 1 keeps")), (Some(1), true), "{told}");
    assert_eq!(manifest(&daemon, "team/app", "1").expect(200).headers("docker-content-digest"), [here]);
    let pull = Request::new(old.address, "GET", "/v2/team/app/manifests/1").header("Accept", OCI_MANIFEST);
    assert_eq!(pull.send().status, 200, "the old registry still works");
}

#[test]
fn a_move_needs_a_stopped_registry_and_leaves_nothing() {
    let (mut old, daemon) = (Registry2::start(), Daemon::start());
    let image = Image::of(b"a layer");
    for repository in ["team/app", "team/app/sub", "other"] {
        old.push(repository, "1", &image);
    }
    let blob = old.data().join(ROOT).join(registry_blob(&image.digest));
    let mut reading = Command::new("sleep").arg("60").stdin(fs::File::open(&blob).unwrap()).spawn().unwrap();
    let (code, told) = adopt(&daemon, &old.data(), &["--move"]);
    reading.kill().unwrap();
    reading.wait().unwrap();
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains(&format!("process {} has ", reading.id())) && told.contains("stop registry:2"),
        "{told}"
    );
    old.child.kill().unwrap();
    old.child.wait().unwrap();
    adopted(&daemon, &old.data(), &["--move", "--only", "team/*", "--prefix", "old/"]);
    expect_image(&daemon, "old/team/app/sub", "1", &image);
    assert!(blob.exists(), "the other repository needs it");
    assert!(!old.data().join(ROOT).join("repositories/team").exists());
    adopted(&daemon, &old.data(), &["--move"]);
    expect_image(&daemon, "other", "1", &image);
    assert_eq!(files(&old.data()), Vec::<String>::new());
}

#[test]
fn damaged_content_is_refused_and_stays() {
    let (directory, daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
    let (good, wrong, lost) = (Image::of(b"good"), Image::of(b"wrong"), Image::of(b"lost"));
    let mut media = Media::default();
    media.registry_tree("a", Some("good"), &good).registry_tree("a", Some("wrong"), &wrong);
    media.registry_tree("b", Some("lost"), &lost);
    media.add(&format!("{ROOT}/repositories/a/_manifests/tags/empty/current/link"), b"");
    let of = |content: &[u8]| format!("{ROOT}/{}", registry_blob(&digest(content)));
    media.add(&of(b"wrong"), b"WRONG");
    media.remove(&of(b"lost"));
    media.write_to(directory.path());
    let (code, told) = adopt(&daemon, directory.path(), &["--move"]);
    assert_eq!(code, Some(1), "{told}");
    for words in
        ["adopted   a:good", "refused   a:wrong", "incomplete b:lost", "a:empty: the link file is empty"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(told.contains("2 images not adopted, 1 name skipped"), "{told}");
    expect_image(&daemon, "a", "good", &good);
    manifest(&daemon, "a", "wrong").expect(404);
    assert_eq!(fs::read(directory.path().join(of(b"wrong"))).unwrap(), b"WRONG");
    assert!(!directory.path().join(of(b"good")).exists());
    let output = command(&daemon.data, directory.path(), &["--json"]).output().unwrap();
    let events = String::from_utf8(output.stdout).unwrap();
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let report = event(events.lines().last().unwrap());
    let items = events.lines().map(event).filter(|one| one["event"] == "item");
    assert_eq!((&report["event"], items.count()), (&"done".into(), 3), "{events}");
    assert_eq!((report["failed"].as_u64(), report["stopped"].is_null()), (Some(2), true), "{report:#}");
}

/// Writes several images; returns them.
fn several(directory: &Path) -> Vec<Image> {
    let images: Vec<Image> = (0..6).map(|number| Image::of(&layer(number, 300_000))).collect();
    let mut media = Media::default();
    for (number, image) in images.iter().enumerate() {
        media.registry_tree(&format!("app{number}"), Some("1"), image);
    }
    media.write_to(directory);
    images
}

/// Starts a move and waits for the lines of some images.
fn start_move(daemon: &Daemon, directory: &Path, lines: usize) -> Child {
    let mut child = command(&daemon.data, directory, &["--move"]).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let read = BufReader::new(stdout).lines().take(lines).count();
    assert_eq!(read, lines);
    child
}

#[test]
fn a_killed_move_is_continued() {
    for lines in 0..6 {
        let (directory, daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
        let images = several(directory.path());
        let mut child = start_move(&daemon, directory.path(), lines);
        child.kill().unwrap();
        child.wait().unwrap();
        adopted(&daemon, directory.path(), &["--move"]);
        for (number, image) in images.iter().enumerate() {
            expect_image(&daemon, &format!("app{number}"), "1", image);
        }
        assert_eq!(files(directory.path()), Vec::<String>::new(), "{lines}");
    }
}

#[test]
fn a_daemon_that_is_killed_during_a_move_loses_nothing() {
    let (directory, mut daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
    let images = several(directory.path());
    let mut child = start_move(&daemon, directory.path(), 2);
    daemon.kill_and_restart();
    // The command may find the daemon again, or not.
    child.wait().unwrap();
    adopted(&daemon, directory.path(), &["--move"]);
    for (number, image) in images.iter().enumerate() {
        expect_image(&daemon, &format!("app{number}"), "1", image);
    }
    assert_eq!(files(directory.path()), Vec::<String>::new());
}

#[test]
fn a_registry_is_adopted_without_a_daemon() {
    let (directory, mut daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
    let images = several(directory.path());
    daemon.stop();
    adopted(&daemon, directory.path(), &["--move"]);
    daemon.start_again();
    expect_image(&daemon, "app5", "1", &images[5]);
    assert_eq!(files(directory.path()), Vec::<String>::new());
}

/// A file system in memory with a limit, unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()));
        SmallDisk(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_card_without_room_for_two_copies_is_moved() {
    const MIB: usize = 1 << 20;
    // Two layers of 12 and 8 MiB: together they do not fit beside their source, each alone does.
    let (small, large) =
        (Image::of(&layer(1, MIB)), Image::of_layers(&[&layer(2, 12 * MIB), &layer(3, 8 * MIB)]));
    for (size, fits) in [(21 + 16 + 18, true), (21 + 16 + 9, false)] {
        let disk = SmallDisk::mount(size);
        // A move may use the reserve down to 16 MiB.
        let daemon =
            Daemon::at_with_env(&disk.0.path().join("data"), &[("HOLDFAST_STORAGE_RESERVE", "32MiB")]);
        let directory = disk.0.path().join("registry");
        let mut media = Media::default();
        media.registry_tree("large", Some("1"), &large).registry_tree("small", Some("1"), &small);
        media.write_to(&directory);
        let (code, told) = adopt(&daemon, &directory, &["--move"]);
        expect_image(&daemon, "small", "1", &small);
        if fits {
            assert_eq!(code, Some(0), "{told}");
            expect_image(&daemon, "large", "1", &large);
            assert_eq!(files(&directory), Vec::<String>::new());
        } else {
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains("large:1 does not fit") && told.contains("needs 12582912 bytes"), "{told}");
            manifest(&daemon, "large", "1").expect(404);
            // Its config is that of the other image, too.
            for (digest, _) in large.content.iter().filter(|(_, content)| content.len() > MIB) {
                assert!(directory.join(ROOT).join(registry_blob(digest)).exists(), "{digest}");
            }
        }
    }
}

#[test]
fn a_move_without_room_leaves_images_that_may_get_no_names() {
    const MIB: usize = 1 << 20;
    let image = Image::of_layers(&[&layer(2, 12 * MIB), &layer(3, 8 * MIB)]);
    let immutable = "[[immutable]]\nrepositories = [\"large\"]\ntags = [\"*\"]\n";
    for (case, config, words) in [
        ("read-only", "[registry]\nread_only = true\n", "read-only"),
        ("signers", "[import]\nsigners = \"/nonexistent/signers\"\n", "while import.signers is set"),
        ("kept", "", "kept      large:1: the tag 1 names"),
        ("immutable", immutable, "kept      large:1: the tag 1 names"),
    ] {
        let disk = SmallDisk::mount(20 + 16 + 18);
        let config = format!("{config}[storage]\nreserve = \"32MiB\"\n");
        let daemon = Daemon::with_config_at(&disk.0.path().join("data"), &config);
        if words.starts_with("kept") {
            daemon.push_image("large", "1", b"here");
        }
        let directory = disk.0.path().join("registry");
        let mut media = Media::default();
        media.registry_tree("large", Some("1"), &image);
        media.write_to(&directory);
        let before = files(&directory);
        let (code, told) = adopt(&daemon, &directory, &["--move"]);
        assert_eq!((code, told.contains(words)), (Some(1), true), "{case}: {told}");
        assert_eq!(files(&directory), before, "{case}: {told}");
    }
}

#[test]
fn wrong_directories_and_patterns_are_refused() {
    let (directory, daemon) = (tempfile::tempdir().unwrap(), Daemon::start());
    let (code, told) = adopt(&daemon, directory.path(), &[]);
    assert_eq!((code, told.contains("no content of registry:2")), (Some(1), true), "{told}");
    let (code, told) = adopt(&daemon, directory.path(), &["--only", "app:1"]);
    assert_eq!((code, told.contains("give a repository")), (Some(2), true), "{told}");
}
