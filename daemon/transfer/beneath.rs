//! Opens files beneath a directory to which other users may be able to write: no symbolic link is followed, and no path
//! leads out of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opens a file beneath a directory; the empty path is the directory itself.
///
/// # Errors
/// [`Errno::LOOP`] or [`Errno::NOTDIR`] if a part of the path is a symbolic link, [`Errno::XDEV`] if it leads out of the
/// directory, or the error of the system.
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, flags, mode, resolve) {
        // Linux before 5.6 does not know the call, and the filters of older container engines refuse it.
        Err(Errno::NOSYS | Errno::PERM) => open_by_component(root, path, flags, mode),
        opened => opened,
    }
}

/// Does the same as [`open_beneath`], one component after the other.
fn open_by_component(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let between = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => OsStr::new("."),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Errno::XDEV),
        };
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        if components.peek().is_none() {
            return openat(at, name, flags, mode);
        }
        folder = Some(openat(at, name, between, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as another user of the directory")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_and_no_path_leads_out() {
        let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("file"), "x").unwrap();
        std::fs::create_dir(inside.path().join("folder")).unwrap();
        std::fs::write(inside.path().join("folder/file"), "x").unwrap();
        symlink(outside.path(), inside.path().join("link")).unwrap();
        symlink("folder/file", inside.path().join("near")).unwrap();
        let root = std::fs::File::open(inside.path()).unwrap();
        for open in [open_beneath, open_by_component] {
            let open = |path: &str| open(root.as_fd(), Path::new(path), OFlags::NOFOLLOW, Mode::empty());
            assert!(open("folder/file").is_ok() && open("folder").is_ok() && open(".").is_ok());
            for path in ["link/file", "link", "near", "../x", "folder/../../x", "/etc/passwd"] {
                assert!(open(path).is_err(), "{path}");
            }
            assert_eq!(open("folder/absent").unwrap_err(), Errno::NOENT);
        }
    }
}
