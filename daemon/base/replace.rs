//! Atomic replacement of a small file: a reader finds either the old content or the new, never a partial file. After a
//! power cut that holds for [`Durability::Synced`] only.
#![expect(clippy::disallowed_methods, reason = "the one place outside the store that replaces files")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Whether a replacement survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The content survives a power cut once the call has returned.
    Synced,
    /// Nothing is synced, which saves writes to the medium: running readers never see a partial file, but a power cut
    /// may lose the content.
    Cached,
}

/// Writes the file `path` with permissions `mode`, whatever the umask, replacing an existing one.
///
/// The new content is written to `path` with `.new` appended. A file, or symbolic link, of that name is removed first
/// and not followed: other users may be able to write to the directory. If `write` or a later step up to the rename
/// fails, `path` is unchanged. If the final sync of the directory fails, the new content is in place but may not survive
/// a power cut. All writers of one path share the temporary file, so that callers must serialise them.
///
/// A symbolic link to a file is replaced and not followed. A device, a pipe or a socket, also behind a link, is not replaced.
///
/// # Errors
/// The error of `write`, or of the operation of the file system that failed.
pub fn replace_file(
    path: &Path,
    mode: u32,
    durability: Durability,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let temporary = temporary_path(path);
    let written = write_new(&temporary, mode, durability, write).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the next replacement removes a leftover file.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match durability {
        // Without this sync a power cut may undo the rename, and with it an acknowledged change.
        Durability::Synced => File::open(directory_of(path))?.sync_all(),
        Durability::Cached => Ok(()),
    }
}

/// Writes a file that the user names, readable by all users. An existing file is replaced as by [`replace_file`], behind a link the
/// file to which it points. Anything else, such as a device or a pipe, is written into.
///
/// # Errors
/// The error of the operation of the file system that failed.
pub fn write_output(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path)?,
        Ok(_) => return OpenOptions::new().write(true).open(path)?.write_all(content),
        // A link to a file that does not exist yet.
        Err(_) if path.is_symlink() => directory_of(path).join(fs::read_link(path)?),
        Err(_) => path.to_owned(),
    };
    replace_file(&target, 0o644, Durability::Synced, |file| file.write_all(content))
}

fn write_new(
    path: &Path,
    mode: u32,
    durability: Durability,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(mode).custom_flags(OFlag::O_NOFOLLOW.bits());
    let mut writer = BufWriter::new(options.open(path)?);
    writer.get_ref().set_permissions(Permissions::from_mode(mode))?;
    write(&mut writer)?;
    writer.flush()?;
    match durability {
        // Before the rename: otherwise a file system may store the new name before the content.
        Durability::Synced => writer.get_ref().sync_all(),
        Durability::Cached => Ok(()),
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    temporary.into()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(path: &Path, text: &str) -> io::Result<()> {
        replace_file(path, 0o640, Durability::Synced, |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn replaces_content_and_mode_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        replace_file(&path, 0o666, Durability::Cached, |file| file.write_all(b"three")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn failed_write_leaves_the_old_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, "one").unwrap();
        let failed = replace_file(&path, 0o640, Durability::Synced, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(replace(&directory.path().join("missing/file"), "x").is_err());
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, link) = (directory.path().join("pipe"), directory.path().join("link"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        for path in [&pipe, &link] {
            assert_eq!(replace(path, "x").unwrap_err().to_string(), "it is not a regular file");
        }
        assert!(replace(directory.path(), "x").is_err());
        assert!(link.is_symlink() && !pipe.is_file());
    }

    #[test]
    fn output_goes_into_devices_and_pipes_and_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let full = write_output(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = at("pipe");
        let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
        write_output(&at("pipe"), b"piped").unwrap();
        assert_eq!(reader.join().unwrap(), "piped");
        for (link, target) in [("to-old", "old"), ("to-new", "new")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        fs::write(at("old"), "old").unwrap();
        for (name, target) in [("to-old", "old"), ("to-new", "new"), ("plain", "plain")] {
            write_output(&at(name), name.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at(target)).unwrap(), name);
        }
        assert!(at("to-old").is_symlink() && at("to-new").is_symlink());
    }

    #[test]
    fn planted_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("file"), directory.path().join("target"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join("file.new")).unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}
