//! Memory faults: LMDB reads its file through a memory map, and the system ends a process that reads a page which is no
//! longer in the file, or which the medium does not give.
//!
//! That cannot be turned into an error. But the process says why it ends, and leaves `index/suspect`, so that the index is
//! inspected before its next use.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::disk::Disk;
use super::shutdown_marker::SUSPECT;
use super::sys;

/// Lets a memory fault be explained and marked; to be called when the index is open.
pub(super) fn watch(disk: &Disk) {
    let map = map_of_index(disk).unwrap_or_default();
    if let Err(error) = sys::note_memory_faults(&disk.top(SUSPECT), map) {
        log::warn!("memory faults will not be explained: {error}");
    }
}

/// Returns where the index is in the memory of this process.
fn map_of_index(disk: &Disk) -> Option<Range<usize>> {
    let inode = std::fs::metadata(disk.index_directory().join("data.mdb")).ok()?.ino();
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().filter(|line| line.ends_with("data.mdb")).find_map(|line| range_of(line, inode))
}

/// Returns the range of a line of `/proc/self/maps`, if it is of the file with this inode.
fn range_of(line: &str, inode: u64) -> Option<Range<usize>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.nth(3)?.parse() != Ok(inode) {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_found_by_its_inode() {
        let line = "7f00a000-7f00b000 r--s 00000000 fd:01 1234                       /data/index/data.mdb";
        assert_eq!(range_of(line, 1234), Some(0x7f00_a000..0x7f00_b000));
        assert_eq!(range_of(line, 1235), None);
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), |_| {}).unwrap();
        let _env = sys::open_environment(&disk.index_directory(), 1 << 20, false).unwrap();
        assert!(map_of_index(&disk).unwrap().len() >= 1 << 20);
    }
}
