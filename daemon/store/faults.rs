//! Memory faults: LMDB reads its file through a memory map, and the kernel kills a process (SIGBUS) that reads a page
//! which was cut from the file or which the medium cannot read.
//!
//! Such a fault cannot become an error of a request. A signal handler (`sys.rs`) writes the reason to stderr and
//! creates `index/suspect`, so that the index is inspected before its next use.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::disk::Disk;
use super::shutdown_marker::SUSPECT;
use super::sys;

/// Installs the signal handler, or tells an installed one where the index is mapped; called once the index is open.
pub(super) fn watch(disk: &Disk) {
    let map = map_of_index(disk).unwrap_or_default();
    if let Err(error) = sys::note_memory_faults(&disk.path(SUSPECT), map) {
        log::warn!("cannot install the handler for memory faults: {error}");
    }
}

/// Returns the addresses at which this process has mapped the index.
fn map_of_index(disk: &Disk) -> Option<Range<usize>> {
    let inode = std::fs::metadata(disk.index_directory().join("data.mdb")).ok()?.ino();
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().filter(|line| line.ends_with("data.mdb")).find_map(|line| range_of(line, inode))
}

/// Returns the range of a line of `/proc/self/maps` if the line maps the file with this inode.
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
    fn index_mapping_is_found_by_its_inode() {
        let line = "7f00a000-7f00b000 r--s 00000000 fd:01 1234                       /data/index/data.mdb";
        assert_eq!(range_of(line, 1234), Some(0x7f00_a000..0x7f00_b000));
        assert_eq!(range_of(line, 1235), None);
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), |_| {}).unwrap();
        let _env = crate::store::index::open_environment(&disk.index_directory(), 1 << 20, false).unwrap();
        assert!(map_of_index(&disk).unwrap().len() >= 1 << 20);
    }
}
