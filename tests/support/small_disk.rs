//! Small file systems in memory, which root mounts.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::run;

/// A file system in memory, unmounted on drop.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount(mebibytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={mebibytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()));
        SmallDisk(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Refuses writes from now on.
    pub fn make_read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()));
    }

    /// Writes the file `ballast`, so that this many bytes are free.
    pub fn leave_free(&self, bytes: u64) {
        let statistics = nix::sys::statvfs::statvfs(self.path()).unwrap();
        let free = statistics.blocks_available() * statistics.fragment_size();
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        let mut rest = free.checked_sub(bytes).expect("the disk is too small for this test");
        let block = vec![7; 64 << 10];
        while rest > 0 {
            let length = rest.min(block.len() as u64);
            file.write_all(&block[..length as usize]).unwrap();
            rest -= length;
        }
    }

    /// Removes the ballast.
    pub fn drop_ballast(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
