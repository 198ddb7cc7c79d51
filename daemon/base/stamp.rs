//! Detects that a file changed, without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Modification time, inode and length of a file. A file that is replaced by a rename has another inode, even if the
/// clock stood still in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

impl FileStamp {
    /// Returns the stamp of the file at `path`, or `None` if it does not exist or cannot be read.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(FileStamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            length: metadata.size(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the program that changes the file")]
mod tests {
    use super::*;

    #[test]
    fn stamp_changes_with_content_and_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        assert_eq!(FileStamp::of(&path), None);
        fs::write(&path, "one").unwrap();
        let first = FileStamp::of(&path);
        assert_eq!(FileStamp::of(&path), first);
        fs::write(&path, "longer").unwrap();
        let second = FileStamp::of(&path);
        assert_ne!(second, first);
        fs::write(&other, "longer").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(FileStamp::of(&path), second);
    }
}
