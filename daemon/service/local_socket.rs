//! Unix sockets by path: a daemon's own control socket, and paths that are too long for the address of a socket.
//!
//! The address of a Unix socket has room for 107 bytes. A longer path is used through a descriptor of its directory, as
//! `/proc/self/fd/N/NAME`.
#![expect(
    clippy::disallowed_methods,
    reason = "a socket holds no data: its file is replaced and removed here"
)]

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path in the address of a Unix socket, in bytes.
const MAX_PATH: usize = 107;
/// Permissions of a control socket: the user and the group of the daemon, who have full rights.
const MODE: u32 = 0o660;

/// A path that fits into the address of a socket, for as long as it exists.
pub struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl ShortPath {
    /// Returns a short form of a path.
    ///
    /// # Errors
    /// The error of opening the directory of a long path.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= MAX_PATH {
            return Ok(ShortPath { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let directory = File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(ShortPath { path, _directory: Some(directory) })
    }

    /// Returns the short form.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The file of a socket that this process has bound, removed on drop.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced it; that one removes its own.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a control socket, for the user and the group of this process. Replaces the socket of a process that was killed.
///
/// # Errors
/// [`ErrorKind::AddrInUse`] if a process serves it, [`ErrorKind::AlreadyExists`] if a file of another type is in its place, or
/// an error of the file system.
pub fn bind_control_socket(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket is in its place"));
    }
    if UnixStream::connect(ShortPath::of(path)?.path()).is_ok() {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another process serves it"));
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(ShortPath::of(&temporary)?.path())?;
    // Under the final name only with its permissions, whatever the umask.
    let placed = fs::set_permissions(&temporary, Permissions::from_mode(MODE))
        .and_then(|()| Ok(fs::symlink_metadata(&temporary)?.ino()))
        .and_then(|inode| fs::rename(&temporary, path).map(|()| inode));
    let inode = placed.inspect_err(|_| {
        // Best effort: the next start removes it.
        let _ = fs::remove_file(&temporary);
    })?;
    listener.set_nonblocking(true)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(path: &Path) -> io::Result<UnixStream> {
        UnixStream::connect(ShortPath::of(path)?.path())
    }

    #[test]
    fn socket_is_bound_replaced_when_stale_and_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["control.sock".to_owned(), format!("{}/control.sock", "x".repeat(120))] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let (listener, file) = bind_control_socket(&path).unwrap();
            connect(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
            assert_eq!(bind_control_socket(&path).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
            // As after a kill: the file stays, and no process listens.
            drop(listener);
            assert_eq!(connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let (_listener, new) = bind_control_socket(&path).unwrap();
            drop(file);
            connect(&path).unwrap();
            drop(new);
            assert!(!path.exists());
        }
    }

    #[test]
    fn other_file_in_its_place_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        fs::write(&path, "kept").unwrap();
        assert_eq!(bind_control_socket(&path).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }
}
