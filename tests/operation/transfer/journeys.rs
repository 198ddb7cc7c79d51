//! Media that come late or again, and daemons that sleep or restart meanwhile.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::support::unit::{Process, Unit};

/// The owner of the data of a registry that root shares.
const OWNER: &str = "65534";

#[test]
fn an_older_stick_changes_nothing_after_a_newer_one() {
    let (home, site) = (Daemon::start(), Daemon::start());
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    home.push_image("app", "1", b"older");
    let (fixed, _) = home.push_image("app", "fixed", b"the same on both");
    run(&mut export(&home, &["--all"], &old));
    // Pushes have a time in seconds: one in the same second counts as no newer.
    std::thread::sleep(Duration::from_millis(1100));
    let (newer, _) = home.push_image("app", "1", b"newer");
    run(&mut export(&home, &["--all"], &new));
    let expected = Contents::of(&home);
    for round in 0..2 {
        run(&mut import(&site, &new));
        let told = run(&mut import(&site, &old));
        let row =
            |name: &str| told.lines().find(|line| line.starts_with(name) && !line.contains("->")).unwrap();
        assert!(row("app:1").contains("kept") && row("app:fixed").contains("present"), "{round}: {told}");
        let contents = Contents::of(&site);
        assert_eq!((&contents.tags["app:1"], &contents.tags["app:fixed"]), (&newer, &fixed));
        assert_eq!(contents.tags, expected.tags, "{round}: {told}");
    }
    run(import(&site, &old).arg("--force"));
    assert_ne!(Contents::of(&site).tags["app:1"], newer);
}

/// Returns two places in a stream: behind its first layer of this size, and before the names.
fn places(bytes: &[u8], layer: u64) -> (usize, usize) {
    let (mut behind, mut names) = (None, None);
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let entry = entry.unwrap();
        if entry.size() == layer {
            behind = behind.or(Some(entry.raw_file_position() + layer.next_multiple_of(512)));
        }
        if *entry.path_bytes() == b"index.json"[..] {
            names = Some(entry.raw_header_position());
        }
    }
    (behind.unwrap() as usize, names.unwrap() as usize)
}

/// Starts the daemon on the next connection to the control socket, as systemd does.
fn start_when_asked(unit: &Unit) -> Process {
    let mut waiting = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(20_000_u16)).unwrap(), 1);
    Process(unit.start(&[]))
}

#[test]
fn a_daemon_stays_for_slow_content_and_a_stream_that_stops_goes_on_with_another_one() {
    let unit = Unit::new("");
    let control = unit.path("control");
    unit.configure(&format!("[service]\nidle = \"100ms\"\ncontrol = {control:?}\n"));
    let (media, images) = layout(2, 300_000);
    let file = unit.path("x.tar");
    media.write_tar(&file);
    let bytes = std::fs::read(&file).unwrap();
    let (behind, names) = places(&bytes, 300_000);
    let mut command = unit.command();
    command.args(["import", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut at) = (child.stdin.take().unwrap(), 0);
    let mut write_to = |end: usize| {
        stdin.write_all(&bytes[at..end]).unwrap();
        at = end;
    };
    let mut daemon = start_when_asked(&unit);
    for end in [behind - 200_000, behind - 100_000] {
        write_to(end);
        // Several times the idle time.
        std::thread::sleep(Duration::from_millis(500));
        assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ends while content comes");
    }
    write_to(behind);
    daemon.expect_exit();
    write_to(behind + 1024);
    let mut daemon = start_when_asked(&unit);
    write_to(names);
    daemon.expect_exit();
    write_to(bytes.len());
    drop(stdin);
    let daemon = start_when_asked(&unit);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    drop(daemon);
    assert_has(&Daemon::at(&unit.path("data")), &images);
}

#[test]
fn root_imports_from_and_exports_to_a_directory_of_its_own_into_data_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (home, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let data = home.path().join("data");
    let mut daemon = Daemon::at(&data);
    daemon.stop();
    run(Command::new("chown").args(["-R", &format!("{OWNER}:{OWNER}")]).arg(&data));
    // Only root reads and writes the medium, with a daemon of the owner or without one.
    let (media, images) = layout(2, 50_000);
    let stick = directory.path().join("stick");
    media.write_to(&stick);
    std::fs::set_permissions(&stick, PermissionsExt::from_mode(0o700)).unwrap();
    let check = |name: &str| {
        run(&mut import(&daemon, &stick));
        run(&mut export(&daemon, &["--all"], &directory.path().join(name)));
        let others = run(Command::new("find").arg(&data).args(["!", "-uid", OWNER]));
        assert_eq!(others, "", "the daemon could not read these");
    };
    check("first");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data"];
    let ids = [format!("--reuid={OWNER}"), format!("--regid={OWNER}"), "--clear-groups".into()];
    let mut owner = Command::new("setpriv");
    owner
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .args(ids)
        .arg(BINARY)
        .args(serve)
        .arg(&data);
    let child = Process(owner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while !data.join("control.sock").exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "the daemon does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    check("second");
    drop(child);
    for image in &images {
        let blob = format!("second/blobs/{}", image.digest.replace(':', "/"));
        assert_eq!(std::fs::read(directory.path().join(blob)).unwrap(), image.manifest);
    }
}
