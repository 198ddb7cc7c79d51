//! A directory on a medium that other users may be able to write to. Names are resolved beneath it, no symbolic link is followed,
//! and new files are created exclusively.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Advice, AtFlags, CWD, Dir, Mode, OFlags, fadvise, fstatfs, fstatvfs, fsync, mkdirat, openat, renameat,
    syncfs, unlinkat,
};
use rustix::io::Errno;

use super::super::beneath::open_beneath;
use super::error::ExportError;
use super::layout::{NEW, PartSize};

/// The type of FAT file systems in `statfs`.
const FAT: u64 = 0x4d44;

/// A directory on a medium.
#[derive(Debug)]
pub struct Medium {
    root: OwnedFd,
    path: PathBuf,
}

/// The free space of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) free: u64,
    /// The unit in which files take space.
    pub(super) block: u64,
}

impl Space {
    /// Returns the space that a file of this length takes.
    pub(super) fn of_file(self, length: u64) -> u64 {
        length.div_ceil(self.block).saturating_mul(self.block)
    }
}

impl Medium {
    /// Opens a directory, which the operator names: links in its path are followed. Creates it if it does not exist.
    ///
    /// # Errors
    /// [`ExportError::Medium`].
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let failed = |operation, error: Errno| {
            ExportError::medium(operation, path.display().to_string(), error.into())
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(CWD, path, Mode::from_raw_mode(0o755)).map_err(|error| failed("create", error))?;
                openat(CWD, path, flags, Mode::empty())
            }
            opened => opened,
        };
        let root = root.map_err(|error| failed("open", error))?;
        Ok(Medium { root, path: path.to_owned() })
    }

    /// Returns the path of a file, for messages.
    pub fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Returns the path of the directory, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how files on this medium have to be cut; `None` if its file system holds files of any length.
    ///
    /// # Errors
    /// [`ExportError::Medium`].
    pub fn part_size(&self) -> Result<Option<PartSize>, ExportError> {
        let status = fstatfs(&self.root).map_err(|error| self.failed("stat", "", error.into()))?;
        // The field is signed on some machines.
        let is_fat = i128::from(status.f_type) & 0xffff_ffff == i128::from(FAT);
        Ok(is_fat.then_some(PartSize::FAT))
    }

    /// Returns the free space.
    pub(super) fn space(&self) -> Result<Space, ExportError> {
        let status = fstatvfs(&self.root).map_err(|error| self.failed("stat", "", error.into()))?;
        let block = status.f_frsize.max(1);
        Ok(Space { free: status.f_bavail.saturating_mul(block), block })
    }

    /// Returns the names in a folder; none if it does not exist.
    ///
    /// # Errors
    /// [`ExportError::Medium`].
    pub fn list(&self, folder: &str) -> Result<Vec<String>, ExportError> {
        let opened = self.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("read", folder, error)),
        };
        let read = || {
            let mut names = Vec::new();
            for entry in Dir::read_from(&directory)? {
                // Names that are not UTF-8 are not of an export.
                if let Ok(name) = entry?.file_name().to_str().map(ToOwned::to_owned)
                    && name != "."
                    && name != ".."
                {
                    names.push(name);
                }
            }
            Ok::<_, Errno>(names)
        };
        let mut names = read().map_err(|error| self.failed("read", folder, error.into()))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a regular file for reading; `None` if it does not exist.
    ///
    /// # Errors
    /// [`ExportError::Medium`], also for links and other files that are not regular.
    pub fn open_file(&self, name: &str) -> Result<Option<File>, ExportError> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens a file of an earlier run for reading and writing; `None` if it does not exist. A file that is not regular or has
    /// other names is removed.
    pub(super) fn reopen(&self, name: &str) -> Result<Option<File>, ExportError> {
        match self.open_regular(name, OFlags::RDWR) {
            Ok(Some(file)) => {
                let status = file.metadata().map_err(|error| self.failed("stat", name, error))?;
                if status.nlink() == 1 {
                    return Ok(Some(file));
                }
            }
            Ok(None) => return Ok(None),
            Err(ExportError::Medium { error, .. }) if is_other_file(&error) => {}
            Err(error) => return Err(error),
        }
        self.remove(name)?;
        Ok(None)
    }

    fn open_regular(&self, name: &str, access: OFlags) -> Result<Option<File>, ExportError> {
        // NONBLOCK: opening a FIFO would wait for its other end.
        let file = match self.beneath(name, access | OFlags::NONBLOCK, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed("open", name, error)),
        };
        let status = file.metadata().map_err(|error| self.failed("stat", name, error))?;
        if status.is_file() {
            return Ok(Some(file));
        }
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        Err(self.failed("open", name, error))
    }

    /// Creates a new file. A file of that name is removed first.
    pub(super) fn create(&self, name: &str) -> Result<File, ExportError> {
        self.remove(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let created = self.beneath(name, flags, Mode::from_raw_mode(0o644));
        created.map(File::from).map_err(|error| self.failed("create", name, error))
    }

    /// Returns the length of a regular file; `None` if it is missing.
    pub(super) fn length(&self, name: &str) -> Result<Option<u64>, ExportError> {
        match self.open_regular(name, OFlags::RDONLY) {
            Ok(Some(file)) => {
                let status = file.metadata().map_err(|error| self.failed("stat", name, error))?;
                Ok(Some(status.len()))
            }
            Ok(None) => Ok(None),
            Err(ExportError::Medium { error, .. }) if is_other_file(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a folder and those above it.
    ///
    /// # Errors
    /// [`ExportError::Medium`].
    pub fn create_folder(&self, name: &str) -> Result<(), ExportError> {
        let mut folder = String::new();
        for part in name.split('/') {
            folder = if folder.is_empty() { part.to_owned() } else { format!("{folder}/{part}") };
            let made = self.in_parent(&folder, |parent, base| {
                mkdirat(parent, base, Mode::from_raw_mode(0o755)).map_err(io::Error::from)
            });
            match made {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if matches!(errno(&error), Some(Errno::NOTDIR | Errno::LOOP)) => {
                    let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
                    let error = io::Error::other(format!("{above} is not a directory"));
                    return Err(self.failed("create", &folder, error));
                }
                Err(error) => return Err(self.failed("create", &folder, error)),
            }
        }
        Ok(())
    }

    /// Removes a file, if it exists.
    pub(super) fn remove(&self, name: &str) -> Result<(), ExportError> {
        let removed = self.in_parent(name, |parent, base| {
            unlinkat(parent, base, AtFlags::empty()).map_err(io::Error::from)
        });
        match removed {
            Err(error) if !is_absent(&error) => Err(self.failed("remove", name, error)),
            _ => Ok(()),
        }
    }

    /// Renames a file within its folder; replaces one of the new name.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), ExportError> {
        let base = to.rsplit_once('/').map_or(to, |(_, base)| base);
        let renamed =
            self.in_parent(from, |parent, old| renameat(parent, old, parent, base).map_err(io::Error::from));
        renamed.map_err(|error| self.failed("rename", from, error))
    }

    /// Replaces a small file, or creates it; durable on return. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// [`ExportError::Medium`].
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let new = format!("{name}{NEW}");
        let mut file = self.create(&new)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|error| self.failed("write", &new, error))?;
        self.rename(&new, name)?;
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let opened = self.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let synced = opened.and_then(|folder| fsync(&folder).map_err(io::Error::from));
        synced.map_err(|error| self.failed("sync", folder, error))
    }

    /// Writes everything of the file system to the medium.
    pub(super) fn sync(&self) -> Result<(), ExportError> {
        syncfs(&self.root).map_err(|error| self.failed("sync", "", error.into()))
    }

    fn in_parent<T>(
        &self,
        name: &str,
        work: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        match name.rsplit_once('/') {
            Some((folder, base)) => {
                let parent = self.beneath(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                work(parent.as_fd(), base)
            }
            None => work(self.root.as_fd(), name),
        }
    }

    fn beneath(&self, name: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.root.as_fd(), Path::new(name), flags, mode)?)
    }

    /// Returns the error of an operation on a file.
    pub(super) fn failed(&self, operation: &'static str, name: &str, error: io::Error) -> ExportError {
        ExportError::medium(operation, self.path_of(name), error)
    }
}

/// Returns true for the errors of paths that do not exist. A file that stands where the path has a folder is no part of an export,
/// such as a program with the name `holdfast`.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns true for the errors of files that are not regular.
fn is_other_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(errno(error), Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO))
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

/// Drops the pages of a file that was synced, so that the next read comes from the medium.
pub(super) fn drop_cache(file: &File) {
    // A file system without such a cache needs no advice.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as another user of the medium")]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn links_out_of_the_medium_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("file"), "kept").unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("blobs")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("file"), inside.path().join("link")).unwrap();
        std::fs::hard_link(outside.path().join("file"), inside.path().join("hard")).unwrap();
        let medium = Medium::open(inside.path()).unwrap();
        assert!(medium.create("blobs/file").is_err());
        // The link counts as a medium without such a file.
        let _ = medium.remove("blobs/file");
        assert!(medium.open_file("blobs/file").is_err() && medium.open_file("link").is_err());
        assert!(medium.open_file("../x").is_err());
        assert_eq!(medium.length("link").unwrap(), None);
        for name in ["link", "hard"] {
            assert!(medium.reopen(name).unwrap().is_none());
            medium.create(name).unwrap().write_all(b"new").unwrap();
        }
        assert_eq!(std::fs::read_to_string(outside.path().join("file")).unwrap(), "kept");
        let open = |name: &str| medium.beneath(name, OFlags::RDONLY, Mode::empty());
        assert!(open("blobs/file").is_err() && open("hard").is_ok());
    }

    #[test]
    fn file_in_the_place_of_a_folder_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("holdfast"), "a program").unwrap();
        let medium = Medium::open(directory.path()).unwrap();
        assert!(medium.list("holdfast").unwrap().is_empty());
        assert!(medium.list("holdfast/have").unwrap().is_empty());
        assert!(medium.open_file("holdfast/export.json").unwrap().is_none());
        medium.remove("holdfast/export.json").unwrap();
        let error = medium.create("holdfast/export.json").unwrap_err().to_string();
        assert!(error.contains("create") && error.contains("Not a directory"), "{error}");
        assert_eq!(medium.length("holdfast").unwrap(), Some(9));
    }

    #[test]
    fn files_are_created_renamed_and_listed() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::open(&directory.path().join("new")).unwrap();
        medium.create_folder("a/b").unwrap();
        medium.create_folder("a/b").unwrap();
        medium.create("a/b/c.new").unwrap().write_all(b"x").unwrap();
        medium.rename("a/b/c.new", "a/b/c").unwrap();
        assert_eq!(medium.list("a/b").unwrap(), ["c"]);
        assert!(medium.list("missing").unwrap().is_empty());
        assert_eq!(medium.length("a/b/c").unwrap(), Some(1));
        let mut text = String::new();
        medium.open_file("a/b/c").unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        medium.remove("a/b/c").unwrap();
        medium.remove("a/b/c").unwrap();
        medium.sync().unwrap();
        assert!(medium.space().unwrap().free > 0 && medium.part_size().unwrap().is_none());
    }
}
