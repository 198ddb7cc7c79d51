//! A disk of its own for each measured server, and the counters of what is written to it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::super::peers::Server;

/// Length of the file behind a disk; it is sparse.
const SIZE: u64 = 16 << 30;
const SECTOR: u64 = 512;

/// Gives this process mounts of its own, so that none outlives it; needs root.
pub fn own_mounts() -> bool {
    let make_private = || run(Command::new("mount").args(["--make-rprivate", "/"]));
    unshare(CloneFlags::CLONE_NEWNS).is_ok() && make_private().is_ok()
}

/// An ext4 file system on a loop device.
pub struct Disk {
    mount: PathBuf,
    statistics: PathBuf,
}

impl Disk {
    /// Creates a disk, mounted at a directory.
    pub fn mount(mount: &Path) -> io::Result<Self> {
        fs::create_dir_all(mount)?;
        let image = mount.with_extension("img");
        fs::File::create(&image)?.set_len(SIZE)?;
        // All of the file system is written at once: later writes are those of the server.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", options]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&image).arg(mount))?;
        let device = fs::metadata(mount)?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let statistics = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        Ok(Disk { mount: mount.to_owned(), statistics })
    }

    /// Writes back all dirty pages, and returns the bytes written to the device and its flushes.
    pub fn written(&self) -> io::Result<(u64, u64)> {
        run(Command::new("sync").arg("-f").arg(&self.mount))?;
        let text = fs::read_to_string(&self.statistics)?;
        let values: Vec<u64> = text.split_whitespace().filter_map(|value| value.parse().ok()).collect();
        let value = |place: usize| values.get(place).copied().unwrap_or(0);
        // Documentation/block/stat.rst: write sectors, and flush I/Os.
        Ok((value(6) * SECTOR, value(15)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.mount));
        let _ = fs::remove_file(self.mount.with_extension("img"));
    }
}

/// The counters of a server, or the difference of two readings.
#[derive(Clone, Copy)]
pub struct Written {
    /// Bytes given to `write` and the like, also to sockets.
    pub calls: u64,
    /// Bytes of file content that have to reach a disk.
    pub content: u64,
    /// Bytes that reached the server's own disk, with the journal and the metadata of the file system.
    pub device: Option<u64>,
    /// Flushes of the disk's cache, of which a sync causes one.
    pub flushes: Option<u64>,
}

impl Written {
    /// Reads the counters, after all dirty pages are written back.
    pub fn read(server: &Server, disk: Option<&Disk>) -> io::Result<Self> {
        let disk = disk.map(Disk::written).transpose()?;
        Ok(Written {
            calls: server.input_output("wchar"),
            content: server.input_output("write_bytes"),
            device: disk.map(|(bytes, _)| bytes),
            flushes: disk.map(|(_, flushes)| flushes),
        })
    }

    pub fn since(self, earlier: Written) -> Self {
        let difference = |now: Option<u64>, before: Option<u64>| Some(now? - before?);
        Written {
            calls: self.calls - earlier.calls,
            content: self.content - earlier.content,
            device: difference(self.device, earlier.device),
            flushes: difference(self.flushes, earlier.flushes),
        }
    }
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} fails: {status}"))) }
}
