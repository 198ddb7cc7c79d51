//! The files of registry:2's data directory.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::super::beneath::open_beneath;
use super::super::registry2::{REPOSITORIES, ROOT, blob_path};
use super::super::source::{SourceError, limits};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

/// The longest link file, in bytes; a digest has 135.
const MAX_LINK: u64 = 1024;
/// The deepest folder below the tree.
const MAX_DEPTH: usize = 256;

/// The tree `docker/registry/v2` of a data directory, opened.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
    device: u64,
}

/// The content of a link file.
pub(super) struct LinkFile {
    /// The text.
    pub(super) text: Vec<u8>,
    /// The time of the last change, in seconds since 1970.
    pub(super) changed: Option<u64>,
}

/// An entry of a folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_folder: bool,
}

impl Tree {
    /// Opens the tree in a data directory, or the tree itself.
    ///
    /// # Errors
    /// Fails if there is no tree, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, SourceError> {
        let place = directory.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top =
            open(directory, flags, Mode::empty()).map_err(|error| SourceError::io(&place, error.into()))?;
        let below = Path::new(ROOT.trim_end_matches('/'));
        let (root, path) = match open_beneath(top.as_fd(), below, flags, Mode::empty()) {
            Ok(root) => (root, directory.join(below)),
            Err(Errno::NOENT) => {
                match open_beneath(top.as_fd(), Path::new(REPOSITORIES), flags, Mode::empty()) {
                    Ok(_) => (top, directory.to_owned()),
                    Err(_) => {
                        return Err(SourceError::invalid(
                            place,
                            "no content of registry:2; name the directory that has docker/registry/v2 below it",
                        ));
                    }
                }
            }
            Err(error) => return Err(failed(&directory.join(below), error)),
        };
        let device = fstat(&root).map_err(|error| failed(&path, error))?.st_dev;
        let path = path.canonicalize().unwrap_or(path);
        Ok(Tree { root, path, device })
    }

    /// Returns the path of the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of the file system's device.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Returns an id of the registry in this directory, for the times of its pushes: it is made of the path.
    pub fn registry_id(&self) -> String {
        let digest = Hasher::digest(Algorithm::Sha256, self.path.as_os_str().as_encoded_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest.bytes()[..16]);
        uuid::Builder::from_custom_bytes(id).into_uuid().to_string()
    }

    /// Returns the entries of a folder, sorted; none if there is no such folder. Names that are not UTF-8 are left out:
    /// registry:2 makes none.
    pub(super) fn entries(&self, folder: &Path) -> Result<Vec<Entry>, SourceError> {
        let fail = |error: Errno| failed(&self.path.join(folder), error);
        let opened = match self.folder(folder) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut entries = Vec::new();
        for entry in Dir::new(opened).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if let Ok(name) = entry.file_name().to_str().map(str::to_owned)
                && !matches!(name.as_str(), "." | "..")
            {
                let is_folder = match entry.file_type() {
                    FileType::Directory => true,
                    FileType::Unknown => self.folder(&folder.join(&name)).is_ok(),
                    _ => false,
                };
                entries.push(Entry { name, is_folder });
            }
        }
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Reads a link file; `None` if it is missing.
    pub(super) fn link(&self, path: &Path) -> Result<Option<LinkFile>, SourceError> {
        let Some((file, _)) = self.file(path)? else { return Ok(None) };
        let fail = |error| SourceError::io(self.path.join(path).display().to_string(), error);
        let changed = file.metadata().and_then(|metadata| metadata.modified()).map_err(fail)?;
        let changed = changed.duration_since(std::time::UNIX_EPOCH).ok().map(|age| age.as_secs());
        let mut text = Vec::new();
        file.take(MAX_LINK).read_to_end(&mut text).map_err(fail)?;
        Ok(Some(LinkFile { text, changed }))
    }

    /// Opens a blob; returns it with its length. `None` if it is missing.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, SourceError> {
        self.file(Path::new(&blob_path(digest)))
    }

    /// Reads a manifest; `None` if it is missing.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        let Some((file, length)) = self.blob(digest)? else { return Ok(None) };
        let place = self.path.join(blob_path(digest)).display().to_string();
        if length > limits::MANIFEST {
            let (what, limit) = (format!("a manifest of {length} bytes"), limits::MANIFEST.to_string());
            return Err(SourceError::TooLarge { place, what, limit });
        }
        let mut text = Vec::new();
        file.take(limits::MANIFEST).read_to_end(&mut text).map_err(|error| SourceError::io(place, error))?;
        Ok(Some(text))
    }

    /// Removes a blob with its folder.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), SourceError> {
        let path = PathBuf::from(blob_path(digest));
        let Some(folder) = path.parent() else { return Ok(()) };
        let fail = |error| failed(&self.path.join(&path), error);
        match self.folder(folder) {
            Ok(opened) => match unlinkat(&opened, "data", AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail(error)),
            },
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(fail(error)),
        }
        self.remove_empty(folder)
    }

    /// Removes the content of a repository, but not the repositories below it.
    pub(super) fn remove_repository(&self, name: &RepositoryName) -> Result<(), SourceError> {
        let folder = repository_path(name);
        // At once: a run that is interrupted must not leave tags whose manifests or links are gone.
        self.hide_tags(&folder.join("_manifests"))?;
        // The manifests come last: a run that was interrupted finds the repository by them.
        for part in ["_layers", "_uploads", "_manifests"] {
            let path = folder.join(part);
            match self.folder(&path) {
                Ok(opened) => {
                    remove_below(opened.as_fd(), 0).map_err(|error| failed(&self.path.join(&path), error))?;
                }
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(&self.path.join(&path), error)),
            }
            self.remove_empty(&path)?;
        }
        // Repositories may stand below this one, and beside it.
        let mut folder = folder.as_path();
        while folder != Path::new(REPOSITORIES) && self.entries(folder)?.is_empty() {
            self.remove_empty(folder)?;
            let Some(above) = folder.parent() else { break };
            folder = above;
        }
        Ok(())
    }

    /// Renames the folder of a repository's tags to a name that no reader knows.
    fn hide_tags(&self, manifests: &Path) -> Result<(), SourceError> {
        let renamed =
            self.folder(manifests).and_then(|opened| renameat(&opened, "tags", &opened, "removed-tags"));
        match renamed {
            // There may be the rest of an earlier run, which had seen no tags then.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(failed(&self.path.join(manifests), error)),
        }
    }

    /// Removes a folder if it is empty.
    fn remove_empty(&self, folder: &Path) -> Result<(), SourceError> {
        let (Some(above), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
        let removed = self.folder(above).and_then(|above| unlinkat(&above, name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(failed(&self.path.join(folder), error)),
        }
    }

    /// Returns the inode numbers of all files and folders of the tree.
    pub(super) fn inodes(&self) -> Result<HashSet<u64>, SourceError> {
        let mut inodes = HashSet::new();
        let fail = |error| failed(&self.path, error);
        let root = self.folder(Path::new("")).map_err(fail)?;
        inodes.insert(fstat(&root).map_err(fail)?.st_ino);
        add_inodes(root.as_fd(), 0, &mut inodes).map_err(fail)?;
        Ok(inodes)
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        open_beneath(
            self.root.as_fd(),
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Opens a regular file; returns it with its length. `None` if it is missing.
    fn file(&self, path: &Path) -> Result<Option<(File, u64)>, SourceError> {
        let place = || self.path.join(path).display().to_string();
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = match open_beneath(self.root.as_fd(), path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(SourceError::io(place(), error.into())),
        };
        let metadata = file.metadata().map_err(|error| SourceError::io(place(), error))?;
        if !metadata.is_file() {
            return Err(SourceError::invalid(place(), "this is not a regular file"));
        }
        Ok(Some((file, metadata.len())))
    }
}

/// Returns the path of a repository in the tree.
pub(super) fn repository_path(name: &RepositoryName) -> PathBuf {
    Path::new(REPOSITORIES).join(name.as_str())
}

fn failed(path: &Path, error: Errno) -> SourceError {
    let error: io::Error = match error {
        Errno::LOOP => {
            io::Error::other("a symbolic link, which is not followed; name the directory it leads to")
        }
        error => error.into(),
    };
    SourceError::io(path.display().to_string(), error)
}

/// Calls `visit` with the folder, and with the name, type and inode number of each entry.
fn visit_entries(
    folder: BorrowedFd<'_>,
    mut visit: impl FnMut(&CString, FileType, u64) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            visit(&name.to_owned(), entry.file_type(), entry.ino())?;
        }
    }
    Ok(())
}

/// Opens a folder in a folder; `None` if the entry is no folder.
fn folder_in(folder: BorrowedFd<'_>, name: &CString, kind: FileType) -> Result<Option<OwnedFd>, Errno> {
    if !matches!(kind, FileType::Directory | FileType::Unknown) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes everything in a folder.
fn remove_below(folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut entries = Vec::new();
    visit_entries(folder, |name, kind, _| {
        entries.push((name.clone(), kind));
        Ok(())
    })?;
    for (name, kind) in entries {
        let flags = match folder_in(folder, &name, kind)? {
            Some(below) => {
                remove_below(below.as_fd(), depth + 1)?;
                AtFlags::REMOVEDIR
            }
            None => AtFlags::empty(),
        };
        match unlinkat(folder, &name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn add_inodes(folder: BorrowedFd<'_>, depth: usize, inodes: &mut HashSet<u64>) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    visit_entries(folder, |name, kind, inode| {
        inodes.insert(inode);
        match folder_in(folder, name, kind)? {
            Some(below) => add_inodes(below.as_fd(), depth + 1, inodes),
            None => Ok(()),
        }
    })
}
