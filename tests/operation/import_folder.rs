//! The import folder: archives that are placed in it are imported, and moved with a report.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::media::{Image, Media};
use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

/// A daemon with an import folder.
struct Folder {
    directory: tempfile::TempDir,
    daemon: Daemon,
}

impl Folder {
    fn new(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let environment = [&[("HOLDFAST_IMPORT_FOLDER", path.as_str())], environment].concat();
        let daemon = Daemon::with_env(&environment);
        Folder { daemon, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_IMPORT_FOLDER", self.directory.path());
        command.args(arguments).arg("--data").arg(&self.daemon.data);
        command
    }

    /// Imports what is there now.
    fn import(&self) -> Output {
        self.command(&["jobs", "run", "import"]).output().unwrap()
    }

    #[track_caller]
    fn imported(&self) -> String {
        let output = self.import();
        assert!(output.status.success(), "{}", both(&output));
        both(&output)
    }

    fn has(&self, name: &str, tag: &str) -> bool {
        self.daemon.get(&format!("/v2/{name}/manifests/{tag}")).status == 200
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Writes an archive with one image under this name.
fn archive(path: &Path, name: &str, layer: &[u8]) -> Image {
    let image = Image::of(layer);
    let mut media = Media::default();
    media.layout("", &[&image], &[image.descriptor(&[("io.containerd.image.name", name)])]);
    media.write_tar(path);
    image
}

#[test]
fn archives_are_imported_and_moved_with_a_report() {
    let folder = Folder::new(&[]);
    assert!(folder.imported().contains("The folder is empty"));
    let image = archive(&folder.path("good.tar"), "hub.lan/team/app:1", b"layer");
    std::fs::write(folder.path("notes.md"), "no archive").unwrap();
    for name in [".hidden.tar", "begun.tar.part", "begun.tar.new"] {
        std::fs::copy(folder.path("good.tar"), folder.path(name)).unwrap();
    }
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), folder.path("link.tar")).unwrap();
    let output = folder.import();
    let text = both(&output);
    assert!(output.status.code() == Some(1) && text.contains("Imported 1 archive"), "{text}");
    assert!(text.contains("notes.md: "), "{text}");
    assert_eq!(digest(&folder.daemon.get("/v2/team/app/manifests/1").expect(200).body), image.digest);
    assert!(folder.path("done/good.tar").exists() && !folder.path("good.tar").exists());
    let report = folder.read("done/good.tar.txt");
    assert!(report.contains("good.tar: 1 taken") && report.contains(&image.digest), "{report}");
    let report = folder.read("failed/notes.md.txt");
    assert!(report.contains("notes.md: not imported"), "{report}");
    for name in [".hidden.tar", "begun.tar.part", "begun.tar.new", "link.tar"] {
        assert!(folder.path(name).symlink_metadata().is_ok(), "{name}");
    }
    // The same archive again changes nothing, and replaces the one in done/.
    archive(&folder.path("good.tar"), "hub.lan/team/app:1", b"layer");
    folder.imported();
    assert!(folder.read("done/good.tar.txt").contains("good.tar: 1 present"));
    let jobs = run(&mut folder.command(&["jobs"]));
    assert!(jobs.contains("import"), "{jobs}");
    let feed = run(Command::new("curl")
        .args(["-sS", "--max-time", "10", "--unix-socket"])
        .arg(folder.daemon.data.join("control.sock"))
        .arg("http://localhost/_holdfast/v1/events"));
    let push = feed.lines().find(|line| line.contains("\"team/app\"")).unwrap();
    assert!(push.contains("\"import\"") && push.contains("\"system\""), "{push}");
}

#[test]
fn parts_are_one_archive_and_an_incomplete_one_fails() {
    let folder = Folder::new(&[]);
    let whole = tempfile::tempdir().unwrap();
    archive(&whole.path().join("a.tar"), "app:1", &[7; 50_000]);
    let bytes = std::fs::read(whole.path().join("a.tar")).unwrap();
    for (number, part) in bytes.chunks(20_000).enumerate() {
        std::fs::write(folder.path(&format!("a.tar.{:03}", number + 1)), part).unwrap();
    }
    std::fs::write(folder.path("b.tar.002"), "x").unwrap();
    let output = folder.import();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(folder.has("app", "1") && folder.path("done/a.tar.003").exists());
    assert!(folder.path("done/a.tar.001.txt").exists() && folder.path("failed/b.tar.002").exists());
    assert!(folder.read("failed/b.tar.002.txt").contains("b.tar.001 is missing"));
}

#[test]
fn signers_are_enforced() {
    let key = "ops ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO5rDkzRWQNSgHqNO+UNyEAr2FPRr8WQ0rk5BMkWfZ2K\n";
    let signers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(signers.path(), key).unwrap();
    let folder = Folder::new(&[("HOLDFAST_IMPORT_SIGNERS", signers.path().to_str().unwrap())]);
    archive(&folder.path("a.tar"), "app:1", b"layer");
    assert_eq!(folder.import().status.code(), Some(1));
    assert!(!folder.has("app", "1"));
    assert!(folder.read("failed/a.tar.txt").contains("only signed exports are imported"));
}

#[test]
fn a_full_disk_leaves_the_archive_in_its_place_until_there_is_space() {
    let mut folder = Folder::new(&[("HOLDFAST_STORAGE_QUOTA", "5MiB")]);
    archive(&folder.path("first.tar"), "first:1", &[1; 3 << 20]);
    folder.imported();
    archive(&folder.path("a.tar"), "app:1", &[7; 3 << 20]);
    let output = folder.import();
    let text = both(&output);
    assert!(
        output.status.code() == Some(1) && text.contains("tried again once there is more space"),
        "{text}"
    );
    assert!(folder.path("a.tar").exists() && !folder.path("failed/a.tar").exists());
    // The job says so as long as it is so, also in a later daemon.
    folder.daemon.stop_and_restart();
    assert!(both(&folder.import()).contains("tried again once there is more space"));
    let jobs = run(&mut folder.command(&["jobs", "import"]));
    assert!(jobs.contains("a.tar: ") && jobs.contains("more space"), "{jobs}");
    run(&mut folder.command(&["rm", "--yes", "first:1"]));
    run(&mut folder.command(&["gc", "--grace", "0s"]));
    folder.imported();
    assert!(folder.has("app", "1") && folder.path("done/a.tar").exists());
}

#[test]
fn an_archive_larger_than_the_registry_is_given_up() {
    let folder = Folder::new(&[("HOLDFAST_STORAGE_QUOTA", "1MiB")]);
    archive(&folder.path("a.tar"), "app:1", &[7; 3 << 20]);
    let output = folder.import();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(folder.path("failed/a.tar").exists() && !folder.path("a.tar").exists());
    let report = folder.read("failed/a.tar.txt");
    assert!(report.contains("the registry can store 1") && report.contains("storage.quota"), "{report}");
    assert!(both(&folder.import()).contains("The folder is empty"));
}

#[test]
fn an_archive_that_cannot_be_moved_is_named_until_it_can() {
    let folder = Folder::new(&[]);
    archive(&folder.path("a.tar"), "app:1", b"layer");
    std::fs::create_dir_all(folder.path("done/a.tar")).unwrap();
    let output = folder.import();
    let text = both(&output);
    assert!(
        output.status.code() == Some(1) && text.contains("a.tar: imported, but it cannot be moved"),
        "{text}"
    );
    assert!(folder.has("app", "1") && folder.path("a.tar").exists());
    std::fs::remove_dir(folder.path("done/a.tar")).unwrap();
    folder.imported();
    assert!(folder.path("done/a.tar").exists() && folder.path("done/a.tar.txt").exists());
}

#[test]
fn a_read_only_registry_leaves_the_archive_in_its_place() {
    let folder = Folder::new(&[("HOLDFAST_REGISTRY_READ_ONLY", "true")]);
    archive(&folder.path("a.tar"), "app:1", b"layer");
    let output = folder.import();
    assert!(
        output.status.code() == Some(1) && both(&output).contains("registry.read_only"),
        "{}",
        both(&output)
    );
    assert!(folder.path("a.tar").exists() && !folder.path("failed/a.tar").exists());
}

#[test]
fn an_archive_that_ends_the_daemon_again_and_again_is_given_up() {
    let folder = Folder::new(&[]);
    archive(&folder.path("a.tar"), "app:1", b"layer");
    folder.imported();
    std::fs::rename(folder.path("done/a.tar"), folder.path("a.tar")).unwrap();
    // The note of an import that a crash has ended three times.
    use std::os::unix::fs::MetadataExt;
    let status = std::fs::metadata(folder.path("a.tar")).unwrap();
    let id = serde_json::json!({"device": status.dev(), "inode": status.ino(), "size": status.size(),
        "written": [status.mtime(), status.mtime_nsec()]});
    let note = serde_json::json!({"files": [["a.tar", id]], "count": 3});
    std::fs::write(folder.path(".importing"), note.to_string()).unwrap();
    assert_eq!(folder.import().status.code(), Some(1));
    assert!(folder.read("failed/a.tar.txt").contains("ended unexpectedly during 3 imports"));
    // Moved back, it is tried again.
    std::fs::rename(folder.path("failed/a.tar"), folder.path("a.tar")).unwrap();
    folder.imported();
}

#[test]
fn a_daemon_that_is_killed_finishes_at_the_next_run() {
    let mut folder = Folder::new(&[]);
    for round in 0..8_u64 {
        let images: Vec<Image> = (0..6_u8)
            .map(|number| Image::of(&vec![number ^ u8::try_from(round).unwrap(); 200_000]))
            .collect();
        let mut media = Media::default();
        let names: Vec<String> = (0..6).map(|number| format!("round{round}/app{number}:1")).collect();
        let index: Vec<_> = images
            .iter()
            .zip(&names)
            .map(|(image, name)| image.descriptor(&[("io.containerd.image.name", name)]))
            .collect();
        media.layout("", &images.iter().collect::<Vec<_>>(), &index);
        media.write_tar(&folder.path("a.tar"));
        let mut command = folder.command(&["jobs", "run", "import"]);
        let mut import = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * round * 6));
        folder.daemon.kill_and_restart();
        import.wait().unwrap();
        folder.imported();
        for (number, image) in images.iter().enumerate() {
            let answer = folder.daemon.get(&format!("/v2/round{round}/app{number}/manifests/1")).expect(200);
            assert_eq!(digest(&answer.body), image.digest);
        }
        assert!(!folder.path("a.tar").exists() && !folder.path(".moving").exists());
        assert!(folder.path("done/a.tar.txt").exists());
        std::fs::remove_dir_all(folder.path("done")).unwrap();
    }
}

#[test]
fn without_a_daemon_the_command_imports_by_itself() {
    let mut folder = Folder::new(&[]);
    folder.daemon.stop();
    archive(&folder.path("a.tar"), "app:1", b"layer");
    folder.imported();
    folder.daemon.start_again();
    assert!(folder.has("app", "1"));
}

#[test]
fn config_check_names_a_folder_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(data.join("blobs")).unwrap();
    let check = |folder: &Path| {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_IMPORT_FOLDER", folder).args(["config", "check", "--data"]);
        let output = command.arg(&data).output().unwrap();
        (output.status.code(), both(&output))
    };
    let (code, text) = check(&directory.path().join("absent"));
    assert!(code == Some(2) && text.contains("does not exist; create it"), "{text}");
    for folder in [data.join("blobs"), data.clone(), directory.path().to_owned()] {
        let (code, text) = check(&folder);
        assert!(code == Some(2) && text.contains("cannot be the import folder"), "{text}");
    }
    let (code, text) = check(&data.join("import"));
    assert!(code == Some(0), "{text}");
    let read_only = directory.path().join("read-only");
    std::fs::create_dir(&read_only).unwrap();
    std::fs::set_permissions(&read_only, std::fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = run(Command::new("id").arg("-u")).trim() == "0";
    let (code, text) = check(&read_only);
    assert!(is_root || (code == Some(2) && text.contains("ReadWritePaths=")), "{text}");
}

fn start(unit: &Unit) -> Process {
    let daemon = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    daemon
}

#[test]
fn an_archive_keeps_the_daemon_awake_and_wakes_it() {
    let folder = tempfile::tempdir().unwrap();
    let unit = Unit::new("");
    let idle = format!(
        "gc.interval = \"off\"\nimport.folder = {:?}\n[service]\nidle = \"100ms\"\ncontrol = {:?}\n",
        folder.path(),
        unit.path("control")
    );
    unit.configure(&idle);
    let mut daemon = start(&unit);
    daemon.expect_exit();
    let wake = || {
        let mut child = unit.command().arg("wake").stderr(Stdio::piped()).spawn().unwrap();
        let called = is_called(&unit, if folder.path().join("a.tar").exists() { 20_000 } else { 0 });
        if !called {
            assert!(child.wait().unwrap().success());
        }
        (called, child)
    };
    assert!(!wake().0, "an empty folder starts no daemon");
    archive(&folder.path().join("a.tar"), "app:1", b"layer");
    let (called, mut child) = wake();
    assert!(called, "the archive starts no daemon");
    let mut daemon = start(&unit);
    assert!(child.wait().unwrap().success());
    // Many times the idle time.
    std::thread::sleep(Duration::from_millis(800));
    assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon exits before the archive is imported");
    run(unit.command().args(["jobs", "run", "import"]));
    assert!(folder.path().join("done/a.tar").exists());
    let began = Instant::now();
    daemon.expect_exit();
    assert!(began.elapsed() < Duration::from_secs(60));
    // A daemon that stays for another reason can be stopped.
    let mut daemon = start(&unit);
    signal(&daemon.0, "-TERM");
    assert!(daemon.0.wait().unwrap().success());
}

#[test]
fn an_archive_that_cannot_be_moved_keeps_no_daemon_awake() {
    let folder = tempfile::tempdir().unwrap();
    let unit = Unit::new("");
    unit.configure(&format!(
        "gc.interval = \"off\"\nimport.folder = {:?}\n[service]\nidle = \"100ms\"\ncontrol = {:?}\n",
        folder.path(),
        unit.path("control")
    ));
    archive(&folder.path().join("a.tar"), "app:1", b"layer");
    std::fs::create_dir_all(folder.path().join("done/a.tar")).unwrap();
    let mut daemon = start(&unit);
    assert!(!unit.command().args(["jobs", "run", "import"]).output().unwrap().status.success());
    daemon.expect_exit();
    // It starts no daemon, and a later one knows it.
    run(unit.command().arg("wake"));
    assert!(!is_called(&unit, 0), "the archive starts a daemon");
    let mut daemon = start(&unit);
    daemon.expect_exit();
    assert!(folder.path().join("a.tar").exists());
    // Another archive of this name is imported.
    archive(&folder.path().join("a.tar"), "app:1", b"another layer");
    let mut daemon = start(&unit);
    std::thread::sleep(Duration::from_millis(800));
    assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon exits before the archive is imported");
    std::fs::remove_dir(folder.path().join("done/a.tar")).unwrap();
    run(unit.command().args(["jobs", "run", "import"]));
    daemon.expect_exit();
    assert!(folder.path().join("done/a.tar").exists());
}

/// Returns true if a connection waits in the control socket, within a time.
fn is_called(unit: &Unit, milliseconds: u16) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut connection = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    poll(&mut connection, PollTimeout::from(milliseconds)).unwrap() == 1
}
