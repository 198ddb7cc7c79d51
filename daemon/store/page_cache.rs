//! Reads that the kernel answers from memory, and that never wait for the disk.
//!
//! They run on the thread of the request, which saves the way through the pool of reads. A path that is not in the
//! kernel's cache of names is not opened (`openat2` with `RESOLVE_CACHED`, Linux 5.12), and bytes that are not in the
//! page cache are not read (`preadv2` with `RWF_NOWAIT`). Every other case, errors included, is `None`: the caller
//! reads in the pool then, which tells why. The file systems that ask a server or another process at each open are left to
//! the pool.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{ReadWriteFlags, preadv2};

/// The types of file systems that ask a server or another process when a file is opened, by their number in `statfs`: NFS,
/// SMB (three), FUSE, 9P, Ceph, AFS and Coda.
const REMOTE: [u32; 9] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
];

/// Returns true if opening a file in this directory asks nothing but the kernel; blocking.
pub(super) fn is_local(directory: &Path) -> bool {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "types have 32 bits in C")]
    let is_remote = |found: rustix::fs::StatFs| REMOTE.contains(&(found.f_type as u32));
    rustix::fs::statfs(directory).is_ok_and(|found| !is_remote(found))
}

/// Opens a file for reading, and not a symbolic link. Nothing can be read here from anything but a regular file.
pub(super) fn open(path: &Path) -> Option<File> {
    // As `regular_file` opens: no wait for a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok().map(File::from)
}

/// Reads from `position` on, at most the length of `memory`. Returns the number of bytes read, at least one.
pub(super) fn read(file: &File, position: u64, memory: &mut [u8]) -> Option<usize> {
    let count = preadv2(file, &mut [IoSliceMut::new(memory)], position, ReadWriteFlags::NOWAIT);
    count.ok().filter(|count| *count > 0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test makes a file to read")]
mod tests {
    use std::fs;

    use super::*;
    use nix::sys::stat::Mode as FileMode;

    #[test]
    fn only_regular_files_are_read_and_only_bytes_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "content").unwrap();
        nix::unistd::mkfifo(&at("fifo"), FileMode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        let mut memory = [0; 4];
        for name in ["missing", "fifo", "link", "."] {
            assert_eq!(open(&at(name)).and_then(|file| read(&file, 0, &mut memory)), None, "{name}");
        }
        assert!(open(&at("link")).is_none());
        // The write has left the name and the bytes in the caches, unless the kernel is older than 5.12.
        let Some(file) = open(&at("file")) else { return };
        if let Some(count) = read(&file, 3, &mut memory) {
            assert_eq!(memory[..count], b"tent"[..count]);
        }
        assert_eq!(read(&file, 7, &mut memory), None, "the end");
    }
}
