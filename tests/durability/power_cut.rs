//! Power cuts: a real file system is shut down under load without writing its journal, and every acknowledged change
//! has to exist after it is mounted again. Needs root.
//!
//! `HOLDFAST_TEST_CUTS=1000 cargo test power_cut` makes a thousand cuts.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sched::{CloneFlags, unshare};

use crate::support::load::Client;
use crate::support::*;

const CLIENTS: u64 = 4;
/// Collections run all the time, with a short grace period.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("HOLDFAST_GC_INTERVAL", "100ms"),
    ("HOLDFAST_GC_GRACE", "2s"),
    // Segments of the index's log with sixteen records: the log is overwritten, and its rows are written to LMDB, all the time.
    ("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "64MiB"),
];

/// A mounted file system in an image file.
struct Card {
    directory: tempfile::TempDir,
}

impl Card {
    /// Mounts a new file system in a mount namespace of this thread and its children. A container that starts during
    /// the test would otherwise copy the mount, and the file system that was shut down would stay mounted.
    fn new(kind: &str) -> Self {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("the test has to be run by root");
        run(Command::new("mount").args(["--make-rprivate", "/"]));
        let directory = tempfile::tempdir().unwrap();
        let card = Card { directory };
        std::fs::create_dir(card.mount_point()).unwrap();
        std::fs::File::create(card.image()).unwrap().set_len(400 << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(card.image()));
        card.mount();
        card
    }

    fn image(&self) -> std::path::PathBuf {
        self.directory.path().join("image")
    }

    fn mount_point(&self) -> std::path::PathBuf {
        self.directory.path().join("card")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.mount_point()));
    }

    /// Shuts the file system down: no further write reaches the medium, and unsynced ones are lost.
    fn cut(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.mount_point()));
    }

    /// Unmounts the file system. An inspection of the killed daemon may keep it busy for a moment.
    fn unmount(&self) {
        let unmount = || Command::new("umount").arg(self.mount_point()).output().unwrap();
        let mut output = unmount();
        for _ in 0..50 {
            if !String::from_utf8_lossy(&output.stderr).contains("busy") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            output = unmount();
        }
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(self.mount_point()).output();
    }
}

fn cuts() -> u64 {
    let more = std::env::var("HOLDFAST_TEST_CUTS").ok().map(|text| text.parse().expect("a number of cuts"));
    more.unwrap_or(30) / 2
}

/// Lets all clients work until the power cut.
fn work_until_cut(card: &Card, daemon: Daemon, clients: &mut [Client], time: Duration) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in clients.iter_mut() {
            client.move_to(daemon.address);
            let stop = &stop;
            scope.spawn(move || while !stop.load(Ordering::Relaxed) && client.step() {});
        }
        std::thread::sleep(time);
        card.cut();
        stop.store(true, Ordering::Relaxed);
        // Kills the daemon, which also ends connections that were not accepted.
        drop(daemon);
    });
}

/// Cuts the power right after a response, before a sync of another client could bring the change to the medium.
fn cut_after_a_response(card: &Card, daemon: Daemon, client: &mut Client, steps: u64) {
    for _ in 0..steps {
        assert!(client.step());
    }
    card.cut();
    drop(daemon);
}

fn cut_repeatedly(kind: &str) {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("{kind}: seed {seed}");
    let card = Card::new(kind);
    let data = card.mount_point().join("data");
    let mut daemon = Daemon::at_with_env(&data, &ENVIRONMENT);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(daemon.address, number, seed)).collect();
    let mut random = Client::new(daemon.address, 99, seed);
    let (least, mut cuts, mut images) = (cuts(), 0, 0);
    // On a busy machine fewer changes come between two cuts: it cuts more often, so that there are enough.
    while cuts < least || acknowledged(&clients) <= least * 10 {
        assert!(
            cuts < least * 5,
            "{} changes in {cuts} cuts are too few to show anything",
            acknowledged(&clients)
        );
        cuts += 1;
        let time = Duration::from_millis(20 + random.below(600));
        if random.below(2) == 0 {
            work_until_cut(&card, daemon, &mut clients, time);
        } else {
            let steps = 1 + random.below(10);
            cut_after_a_response(&card, daemon, &mut clients[0], steps);
        }
        card.unmount();
        card.mount();
        daemon = Daemon::at_with_env(&data, &ENVIRONMENT);
        for client in &mut clients {
            client.move_to(daemon.address);
            images += client.verify();
        }
        assert_no_index_was_set_aside(&data);
        run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&data));
    }
    println!(
        "{kind}: {cuts} cuts, {} changes acknowledged, {images} images read back",
        acknowledged(&clients)
    );
    drop(daemon);
    card.unmount();
}

/// Returns the number of acknowledged changes of all clients.
fn acknowledged(clients: &[Client]) -> u64 {
    clients.iter().map(|client| client.acknowledged).sum()
}

/// A power cut must not corrupt the index.
fn assert_no_index_was_set_aside(data: &Path) {
    let names = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    let broken: Vec<_> = names.filter(|name| name.to_string_lossy().contains("broken")).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn acknowledged_changes_survive_on_ext4() {
    cut_repeatedly("ext4");
}

#[test]
fn acknowledged_changes_survive_on_xfs() {
    cut_repeatedly("xfs");
}
