//! Directories, FIFOs, sockets, devices and symbolic links in the place of a file of the data directory.
//!
//! None of them says anything about the medium, so that none makes the store read-only, and none is opened in a way that
//! waits: a FIFO blocks `open` until the other end comes. They are set aside, which means renamed into `set-aside/`, with
//! one warning, and the operation goes on. An empty directory is removed. Where a symbolic link leads is never looked at,
//! except for `index/data.mdb` and for directories, which may lie on another disk.
#![expect(clippy::disallowed_methods, reason = "it makes room for the files of the store")]

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::disk::{Disk, found};
use super::error::StoreError;

/// The folder for things that were in the way.
const SET_ASIDE: &str = "set-aside";
/// The number of things of one name that are kept there.
const MOST: u32 = 1000;
/// The flags with which every file is opened: without waiting, and not through a symbolic link.
const FLAGS: i32 = OFlag::O_NONBLOCK.bits() | OFlag::O_NOFOLLOW.bits();
/// The files beside the index.
const BESIDE_THE_INDEX: [&str; 6] = [
    "index/lock.mdb",
    "index/clean",
    "index/suspect",
    "index/read-only",
    "index/inspected.mdb",
    "index/inspected.mdb-lock",
];
/// The index, which may lie behind a symbolic link.
const DATA: &str = "index/data.mdb";
/// What LMDB keeps beside it.
const LOCK: &str = "index/lock.mdb";

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
#[error("{} is {kind}, not a file", path.display())]
pub(super) struct NotAFile {
    path: PathBuf,
    kind: &'static str,
}

impl NotAFile {
    fn error(path: &Path, kind: FileType) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, NotAFile { path: path.to_owned(), kind: name_of(kind) })
    }
}

fn name_of(kind: FileType) -> &'static str {
    match () {
        () if kind.is_file() => "a file",
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

/// Returns true if an error says that something else is in the place of a file or a directory, or that a path is not
/// what it should be: that says nothing about the medium.
pub(super) fn is_in_the_way(error: &io::Error) -> bool {
    // The last of them where a folder is a link to another disk, or one is mounted there.
    const CODES: [i32; 8] = [
        libc::EISDIR,
        libc::ENOTDIR,
        libc::EEXIST,
        libc::ENOTEMPTY,
        libc::ELOOP,
        libc::ENXIO,
        libc::EBUSY,
        libc::EXDEV,
    ];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
        || error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotAFile>)
}

/// Opens a regular file to read it.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    open_regular_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file. Anything else is refused, and nothing is waited for.
pub(super) fn open_regular_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let opened =
        options.custom_flags(FLAGS).open(path).and_then(|file| Ok((file.metadata()?.file_type(), file)));
    match opened {
        Ok((kind, file)) if kind.is_file() => Ok(file),
        Ok((kind, _)) => Err(NotAFile::error(path, kind)),
        Err(error) if is_in_the_way(&error) => match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => Err(NotAFile::error(path, metadata.file_type())),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Returns the length and the inode of a regular file; nothing if the path is missing or leads to something else.
pub(super) fn regular_file(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let metadata = found(fs::symlink_metadata(path))?.filter(fs::Metadata::is_file);
    Ok(metadata.map(|metadata| (metadata.len(), metadata.ino())))
}

fn leads_to_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

impl Disk {
    /// Returns true if a file of this name is there.
    pub(super) fn has_file(&self, name: &str) -> bool {
        regular_file(&self.top(name)).is_ok_and(|file| file.is_some())
    }

    /// Sets aside what is at this path, unless it is a regular file; returns true if something was.
    pub(super) fn clear_way(&self, path: &Path) -> io::Result<bool> {
        match found(fs::symlink_metadata(path))? {
            Some(metadata) if !metadata.is_file() => self.set_path_aside(path, metadata.file_type()),
            _ => Ok(false),
        }
    }

    fn set_path_aside(&self, path: &Path, kind: FileType) -> io::Result<bool> {
        let what = name_of(kind);
        if kind.is_dir() && fs::remove_dir(path).is_ok() {
            log::warn!("{} was an empty directory where a file belongs; it is removed", path.display());
            return Ok(true);
        }
        let aside = self.name_aside(path)?;
        fs::rename(path, &aside)?;
        log::warn!(
            "{} was {what}, which does not belong there; it is now {}",
            path.display(),
            aside.display()
        );
        Ok(true)
    }

    /// Returns a free name in `set-aside/`, or at the top of the data directory where there can be no such folder.
    fn name_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let mut folder = self.top(SET_ASIDE);
        if fs::create_dir(&folder).is_err() && !folder.is_dir() {
            folder = self.top("");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in 1..=MOST {
            let aside = folder.join(format!("{name}.in-the-way-{number}"));
            if found(fs::symlink_metadata(&aside))?.is_none() {
                return Ok(aside);
            }
        }
        Err(io::Error::other(format!("{} is full of things that were in the way", folder.display())))
    }

    /// Removes a file, if it exists. Sets aside what cannot be removed as a file.
    pub(super) fn remove(&self, path: &Path) -> io::Result<Option<()>> {
        match found(fs::remove_file(path)) {
            Err(error) if self.clear_way(path)? => {
                log::debug!("{} could not be removed: {error}", path.display());
                Ok(Some(()))
            }
            removed => removed,
        }
    }

    /// Renames a file over another one; what is in its place and is no file is set aside.
    pub(super) fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Err(error) if is_in_the_way(&error) && self.clear_way(to)? => fs::rename(from, to),
            renamed => renamed,
        }
    }

    /// Makes an empty file that no one else has open, in the place of what has its name.
    pub(super) fn create_anew(&self, path: &Path) -> io::Result<File> {
        self.create_anew_with_mode(path, 0o640)
    }

    /// The same with another mode than that of content.
    pub(super) fn create_anew_with_mode(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.remove(path)?;
        OpenOptions::new().create_new(true).write(true).mode(mode).open(path)
    }

    /// Opens a file to lock it; creates it if it is missing.
    pub(super) fn open_or_create(&self, path: &Path) -> io::Result<File> {
        let open = || {
            let mut options = OpenOptions::new();
            open_regular_with(options.create(true).truncate(false).write(true).mode(0o600), path)
        };
        match open() {
            Err(error) if is_in_the_way(&error) && self.clear_way(path)? => open(),
            opened => opened,
        }
    }

    /// Creates a directory if it is missing, in the place of a file if one has its name. A symbolic link that leads to no
    /// directory is left alone: the disk behind it may be missing, and its content must not be taken for lost.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let Err(error) = fs::create_dir_all(path) else { return Ok(()) };
        match found(fs::symlink_metadata(path))? {
            Some(metadata) if metadata.is_symlink() => Err(io::Error::other(format!(
                "{} is a symbolic link that leads to no directory; is the disk behind it mounted?",
                path.display()
            ))),
            Some(metadata) if !metadata.is_dir() => {
                self.set_path_aside(path, metadata.file_type())?;
                fs::create_dir_all(path)
            }
            _ => Err(error),
        }
    }

    /// Returns true if the files of LMDB are files, as far as they are there.
    pub(super) fn index_is_of_files(&self) -> bool {
        let kind = |name: &str| found(fs::symlink_metadata(self.top(name)));
        let is_free = |name: &str| matches!(kind(name), Ok(None));
        let lock_is_fine = is_free(LOCK) || self.has_file(LOCK);
        lock_is_fine && (is_free(DATA) || leads_to_file(&self.top(DATA)))
    }

    /// Sets aside what is in the place of the files of the index; the caller holds [`Disk::lock_index_file`].
    pub(super) fn clear_index(&self) -> Result<(), StoreError> {
        let clear = || -> io::Result<()> {
            for name in BESIDE_THE_INDEX {
                self.clear_way(&self.top(name))?;
            }
            let data = self.top(DATA);
            if !leads_to_file(&data) {
                self.clear_way(&data)?;
            }
            Ok(())
        };
        clear().map_err(|error| StoreError::io("set aside what is in the place of the index", error))
    }

    /// Sets aside what is in `uploads/` and is no file; what cannot be is left where it is.
    pub(super) fn clear_uploads(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("list the uploads", error);
        for entry in fs::read_dir(self.top("uploads")).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Err(error) = self.clear_way(&path) {
                log::warn!("{} does not belong there and cannot be set aside: {error}", path.display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn nothing_but_a_file_is_opened_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "x").unwrap();
        fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        open_regular(&at("file")).unwrap();
        for (name, kind) in [
            ("directory", "a directory"),
            ("fifo", "a FIFO"),
            ("link", "a symbolic link"),
            ("socket", "a socket"),
        ] {
            for writes in [false, true] {
                let error =
                    open_regular_with(OpenOptions::new().read(true).write(writes), &at(name)).unwrap_err();
                assert!(is_in_the_way(&error) && error.to_string().contains(kind), "{name}: {error}");
            }
        }
        assert_eq!(open_regular(&at("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_is_in_the_way_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::at(directory.path(), |_| {});
        let at = |name: &str| directory.path().join(name);
        for number in 1..=2 {
            fs::create_dir(at("index.json")).unwrap();
            fs::write(at("index.json/x"), "x").unwrap();
            fs::write(at("new"), "new").unwrap();
            disk.rename_over(&at("new"), &at("index.json")).unwrap();
            assert_eq!(fs::read_to_string(at("index.json")).unwrap(), "new");
            assert!(at(&format!("set-aside/index.json.in-the-way-{number}/x")).exists());
            fs::remove_file(at("index.json")).unwrap();
        }
        fs::create_dir(at("empty")).unwrap();
        assert_eq!(disk.remove(&at("empty")).unwrap(), Some(()));
        assert!(!at("empty").exists() && disk.remove(&at("empty")).unwrap().is_none());
        // What a symbolic link leads to is not touched.
        fs::write(at("elsewhere"), "kept").unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("note")).unwrap();
        disk.create_anew(&at("note")).unwrap();
        assert_eq!(fs::read_to_string(at("elsewhere")).unwrap(), "kept");
        std::os::unix::fs::symlink(at("missing"), at("uploads")).unwrap();
        assert!(disk.make_directory(&at("uploads")).unwrap_err().to_string().contains("mounted"));
    }
}
