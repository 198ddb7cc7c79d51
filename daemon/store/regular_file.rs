//! Regular files of the data directory: opened without waiting, and never through a symbolic link.
//!
//! A FIFO would block `open` until its other end is opened, and a symbolic link would lead out of the data directory.
//! Any other kind of file fails with [`NotAFile`], which says nothing about the medium: the callers in
//! `obstacles.rs` set it aside.
#![expect(
    clippy::disallowed_methods,
    reason = "the callers pass the options; nothing is created or truncated here"
)]

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// The flags of every open: do not wait for a FIFO, do not follow a symbolic link.
const FLAGS: i32 = OFlag::O_NONBLOCK.bits() | OFlag::O_NOFOLLOW.bits();

/// A directory, FIFO, socket, device or symbolic link in the place of a file.
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

/// Returns the name of a kind of file, with its article.
pub(super) fn name_of(kind: FileType) -> &'static str {
    match () {
        () if kind.is_file() => "a file",
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

/// Returns true if an operation failed because a path leads to another kind of file than expected. Such an error says
/// nothing about the medium.
pub(super) fn is_obstacle_error(error: &io::Error) -> bool {
    // EXDEV: a directory is a link to another disk, or a file system is mounted there.
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

/// Opens a regular file for reading.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    open_regular_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file; refuses any other kind of file at once.
pub(super) fn open_regular_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let opened =
        options.custom_flags(FLAGS).open(path).and_then(|file| Ok((file.metadata()?.file_type(), file)));
    match opened {
        Ok((kind, file)) if kind.is_file() => Ok(file),
        Ok((kind, _)) => Err(NotAFile::error(path, kind)),
        Err(error) if is_obstacle_error(&error) => match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => Err(NotAFile::error(path, metadata.file_type())),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Returns the length and the inode of a regular file; `None` if the path is missing or is another kind of file.
pub(super) fn regular_file(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let metadata = if_exists(fs::symlink_metadata(path))?.filter(fs::Metadata::is_file);
    Ok(metadata.map(|metadata| (metadata.len(), metadata.ino())))
}

/// Turns `NotFound` into `None`; passes every other error on.
pub(super) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn only_regular_files_are_opened_and_no_open_waits() {
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
                assert!(is_obstacle_error(&error) && error.to_string().contains(kind), "{name}: {error}");
            }
        }
        assert_eq!(open_regular(&at("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
