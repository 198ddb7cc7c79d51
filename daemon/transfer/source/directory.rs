//! Members of a directory. No link is followed, and no file outside the directory is opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::super::beneath::open_beneath;
use super::limits;
use super::member::MemberName;

/// Maximum depth of a directory in the medium. Deeper ones are not looked at.
const DEPTH: usize = 24;
/// Maximum number of entries of all directories together.
const ENTRIES: usize = 1_000_000;

/// A file of a directory.
pub struct DirectoryMember {
    /// Its path below the directory.
    pub name: MemberName,
    /// Its length.
    pub size: u64,
}

/// Lists the regular files that `wants` accepts; remarks go to `notes`.
///
/// # Errors
/// Fails if a directory cannot be read, or has too many entries.
pub fn list(
    root: &OwnedFd,
    wants: &dyn Fn(&MemberName) -> bool,
    notes: &mut Vec<String>,
) -> io::Result<Vec<DirectoryMember>> {
    let (mut found, mut entries) = (Vec::new(), 0);
    let mut open = vec![None];
    while let Some(directory) = open.pop() {
        let depth = directory.as_ref().map_or(0, |name: &MemberName| name.as_str().split('/').count());
        let opened = match &directory {
            Some(name) => match open_below(root, name.as_str(), OFlags::DIRECTORY) {
                // lost+found of a file system, for example.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    note(notes, || format!("skipped the folder {name}: no permission to read it"));
                    continue;
                }
                opened => opened?,
            },
            None => root.try_clone()?,
        };
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            entries += 1;
            if entries > ENTRIES {
                return Err(io::Error::other(format!(
                    "more than {ENTRIES} files; name a directory below it"
                )));
            }
            let path = match &directory {
                Some(directory) => [directory.as_str().as_bytes(), b"/", name].concat(),
                None => name.to_vec(),
            };
            let Some(path) = MemberName::parse(&path) else { continue };
            let status =
                rustix::fs::statat(&opened, entry.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory if depth < DEPTH => open.push(Some(path)),
                FileType::RegularFile if wants(&path) => {
                    let size = u64::try_from(status.st_size).unwrap_or(0);
                    found.push(DirectoryMember { name: path, size });
                    if found.len() > limits::MEMBERS {
                        return Err(io::Error::other(format!("more than {} members", limits::MEMBERS)));
                    }
                }
                FileType::Symlink if wants(&path) => {
                    note(notes, || format!("skipped {path}: a link"));
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Opens a file below a directory for reading.
///
/// # Errors
/// Fails if it is not a regular file, or if a part of its path is a link.
pub fn open_file(root: &OwnedFd, name: &MemberName) -> io::Result<File> {
    open_entry(root, name.as_str())
}

/// Opens a file below a directory for reading, by a path without `..`.
///
/// # Errors
/// Fails if it is not a regular file, or if a part of its path is a link.
pub fn open_entry(root: &OwnedFd, path: &str) -> io::Result<File> {
    let file = File::from(open_below(root, path, OFlags::NONBLOCK)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Adds a remark, up to [`limits::NOTES`].
fn note(notes: &mut Vec<String>, text: impl FnOnce() -> String) {
    if notes.len() < limits::NOTES {
        notes.push(text());
    }
}

fn open_below(root: &OwnedFd, name: &str, more: OFlags) -> io::Result<OwnedFd> {
    Ok(open_beneath(root.as_fd(), Path::new(name), OFlags::RDONLY | more, Mode::empty())?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write media")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::unistd::{Uid, setfsuid};

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn folders_without_permission_are_skipped_with_a_note() {
        let medium = tempfile::tempdir().unwrap();
        std::fs::set_permissions(medium.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let denied = medium.path().join("lost+found");
        std::fs::create_dir(&denied).unwrap();
        std::fs::write(medium.path().join("index.json"), "{}").unwrap();
        std::fs::set_permissions(&denied, PermissionsExt::from_mode(0o000)).unwrap();
        let root = open(medium.path());
        let mut notes = Vec::new();
        // Only this thread gives up the privileges of root on files.
        let own = setfsuid(Uid::from_raw(65534));
        let found = list(&root, &|_| true, &mut notes);
        setfsuid(own);
        std::fs::set_permissions(&denied, PermissionsExt::from_mode(0o700)).unwrap();
        let found: Vec<_> = found.unwrap().into_iter().map(|member| member.name.to_string()).collect();
        assert_eq!(found, ["index.json"]);
        assert_eq!(notes, ["skipped the folder lost+found: no permission to read it"]);
    }

    #[test]
    fn notes_about_links_are_limited() {
        let medium = tempfile::tempdir().unwrap();
        for number in 0..limits::NOTES + 20 {
            symlink("/", medium.path().join(number.to_string())).unwrap();
        }
        let mut notes = Vec::new();
        assert!(list(&open(medium.path()), &|_| true, &mut notes).unwrap().is_empty());
        assert_eq!(notes.len(), limits::NOTES);
    }
}
