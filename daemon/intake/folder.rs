//! The import folder and the archives in it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags, accessat, mkdirat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::oci::{Algorithm, Hasher};
use crate::transfer::source::group_parts;

/// The entries of the folder that are looked at; further ones wait until these have been moved.
const ENTRIES: usize = 10_000;
/// The folder of imports in the data directory, the only one that may be there.
const IN_DATA: &str = "import";
/// The endings of files that are still being written.
const UNFINISHED: [&str; 2] = [".part", ".new"];

/// The import folder.
#[derive(Debug)]
pub struct Folder {
    pub(super) root: File,
    path: PathBuf,
}

/// Reason why the import folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It contains the data directory, or is among its files.
    #[error("{0}")]
    Place(String),
    /// It does not exist.
    #[error("{} does not exist; create it and make the registry's user its owner", .0.display())]
    Missing(PathBuf),
    /// The registry may not write to it.
    #[error(
        "cannot write to {0}: {1}; make the registry's user its owner, and for the packaged service run systemctl edit \
         holdfast, and set ReadWritePaths={0} under [Service]",
        path.display(), error.kind()
    )]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// Another operation failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// Identifies the content of a file, as far as its name does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// The time of the last write, in seconds and nanoseconds.
    written: (i64, i64),
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) name: String,
    pub(super) id: FileId,
    /// The time of the last change of the file or its name, in seconds and nanoseconds.
    changed: (i64, i64),
}

/// An archive in the folder: a file, or the parts of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub(super) files: Vec<FileEntry>,
}

/// Reason why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It has vanished or was replaced; the next run finds its present state.
    #[error("it has changed")]
    Changed,
    /// The registry may not read it.
    #[error("cannot open {name}: {error}; make it readable for the user of the registry")]
    Refused {
        /// The file.
        name: String,
        /// The error.
        error: io::Error,
    },
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Archive {
    /// Returns the name of the archive: that of its first file.
    pub fn name(&self) -> &str {
        self.files.first().map_or("", |file| file.name.as_str())
    }

    /// Returns the length of all files together.
    pub fn size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.id.size))
    }

    /// Identifies the files over restarts of the machine, after which a device may have another number.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for FileEntry { name, id: FileId { device: _, inode, size, written }, .. } in &self.files {
            hasher.update(format!("{name}\0{inode} {size} {written:?}\0").as_bytes());
        }
        hasher.finish().hex()
    }
}

/// Refuses a folder that has the data of the registry in it, or is among them.
///
/// # Errors
/// [`FolderError::Place`].
pub fn check_place(folder: &Path, data: &Path) -> Result<(), FolderError> {
    let canonical = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.canonicalize().unwrap_or(absolute)
    };
    let (folder, data) = (canonical(folder), canonical(data));
    let below = folder.strip_prefix(&data).ok();
    let is_own = below.is_some_and(|rest| !rest.starts_with(IN_DATA));
    if is_own || data.starts_with(&folder) {
        return Err(FolderError::Place(format!(
            "{} cannot be the import folder, because it contains the registry's own files; use {}",
            folder.display(),
            data.join(IN_DATA).display()
        )));
    }
    Ok(())
}

/// Returns the archives in a folder; none if it cannot be read.
pub fn archives_in(folder: &Path) -> Vec<Archive> {
    let opened = open_folder(folder).map(|root| Folder { root, path: folder.to_owned() });
    opened.ok().and_then(|folder| folder.archives().ok()).unwrap_or_default()
}

fn open_folder(path: &Path) -> Result<File, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

impl Folder {
    /// Opens the folder, and creates it if its place is in the data directory.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path, data: &Path) -> Result<Self, FolderError> {
        check_place(path, data)?;
        let failed = |error: Errno| FolderError::Io { path: path.to_owned(), error: error.into() };
        let root = match open_folder(path) {
            Err(Errno::NOENT) if path.parent() == Some(data) => {
                mkdirat(CWD, path, Mode::from_raw_mode(0o770)).map_err(failed)?;
                open_folder(path).map_err(failed)?
            }
            Err(Errno::NOENT) => return Err(FolderError::Missing(path.to_owned())),
            opened => opened.map_err(failed)?,
        };
        Ok(Folder { root, path: path.to_owned() })
    }

    /// Returns the path of a file in the folder.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Checks that archives can be moved out of the folder.
    ///
    /// # Errors
    /// [`FolderError::ReadOnly`].
    pub fn check_writable(&self) -> Result<(), FolderError> {
        let access = accessat(&self.root, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        access.map_err(|error| self.read_only(error))
    }

    /// Returns the error of a write.
    pub(super) fn read_only(&self, error: Errno) -> FolderError {
        FolderError::ReadOnly { path: self.path.clone(), error: error.into() }
    }

    pub(super) fn failed(&self, name: &str, error: Errno) -> FolderError {
        self.io(name, error.into())
    }

    pub(super) fn io(&self, name: &str, error: io::Error) -> FolderError {
        FolderError::Io { path: self.path_of(name), error }
    }

    /// Returns the archives, by name. Links, folders, hidden files and files that are still written are not archives.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn archives(&self) -> Result<Vec<Archive>, FolderError> {
        let failed = |error| self.failed("", error);
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.root).map_err(failed)?.take(ENTRIES) {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_archive_name(name) {
                // It may have vanished since.
                files.extend(self.entry(name));
            }
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let paths: Vec<PathBuf> = files.iter().map(|file| PathBuf::from(&file.name)).collect();
        let find = |path: &PathBuf| {
            let name = path.to_str()?;
            files.binary_search_by(|file| file.name.as_str().cmp(name)).ok().map(|at| files[at].clone())
        };
        let groups = group_parts(&paths);
        let archive = |group: &Vec<PathBuf>| Archive { files: group.iter().filter_map(find).collect() };
        let mut archives: Vec<Archive> = groups.iter().map(archive).collect();
        archives.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(archives)
    }

    /// Returns the state of a file; `None` if there is no regular file of this name.
    pub(super) fn entry(&self, name: &str) -> Option<FileEntry> {
        entry_in(&self.root, name)
    }

    /// Opens the first file of an archive. Returns it with the paths of all files.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_archive(&self, archive: &Archive) -> Result<(File, Vec<PathBuf>), OpenError> {
        let Some(first) = archive.files.first() else { return Err(OpenError::Changed) };
        // A pipe that took the place of the file must not hang here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.root, first.name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Err(OpenError::Changed),
            Err(error) => return Err(OpenError::Refused { name: first.name.clone(), error: error.into() }),
        };
        let metadata = file.metadata().map_err(|_| OpenError::Changed)?;
        if !metadata.is_file() || FileId::of(&metadata) != first.id {
            return Err(OpenError::Changed);
        }
        Ok((file, archive.files.iter().map(|file| self.path_of(&file.name)).collect()))
    }

    /// Returns true if the files of an archive are those that were found.
    pub fn is_unchanged(&self, archive: &Archive) -> bool {
        archive.files.iter().all(|file| self.entry(&file.name).is_some_and(|now| now.id == file.id))
    }
}

/// Returns the state of a file in a directory; `None` if there is no regular file of this name.
pub(super) fn entry_in(directory: &File, name: &str) -> Option<FileEntry> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some(FileEntry { name: name.to_owned(), id: FileId::of(&metadata), changed })
}

/// Returns true for the name of a file that is imported.
pub(super) fn is_archive_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !UNFINISHED.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as the user of the folder")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path) -> Folder {
        Folder::open(folder, Path::new("/data")).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        open(folder).archives().unwrap().iter().map(|archive| archive.name().to_owned()).collect()
    }

    #[test]
    fn only_finished_regular_files_are_archives_and_parts_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            archives_in(folder.path()).is_empty() && archives_in(&folder.path().join("absent")).is_empty()
        );
        for name in ["b.tar", "a.tar.002", "a.tar.001", ".hidden", "c.tar.part", "d.tar.new"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::create_dir(folder.path().join("done")).unwrap();
        symlink("b.tar", folder.path().join("link")).unwrap();
        assert_eq!(names(folder.path()), ["a.tar.001", "b.tar"]);
        let archives = open(folder.path()).archives().unwrap();
        assert_eq!((archives[0].files.len(), archives[0].size()), (2, 18));
        assert_eq!(archives_in(folder.path()), archives);
    }

    #[test]
    fn a_file_that_was_exchanged_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, "first").unwrap();
        let opened = open(folder.path());
        let archive = opened.archives().unwrap().remove(0);
        assert!(opened.open_archive(&archive).is_ok() && opened.is_unchanged(&archive));
        let fingerprint = || opened.archives().unwrap()[0].fingerprint();
        assert_eq!(fingerprint(), archive.fingerprint());
        std::fs::write(&path, "other content").unwrap();
        assert_ne!(fingerprint(), archive.fingerprint());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(opened.open_archive(&archive), Err(OpenError::Changed)));
        symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(opened.open_archive(&archive), Err(OpenError::Changed)));
        assert!(!opened.is_unchanged(&archive));
    }

    #[test]
    fn the_files_of_the_registry_are_no_import_folder() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("blobs")).unwrap();
        let check = |path: &Path| check_place(path, data.path()).is_ok();
        assert!(check(&data.path().join("import")) && check(&data.path().join("import/site")));
        for path in [data.path(), &data.path().join("blobs"), data.path().parent().unwrap(), Path::new("/")] {
            assert!(!check(path), "{}", path.display());
        }
        assert!(Folder::open(&data.path().join("import"), data.path()).is_ok());
        let absent = Folder::open(&data.path().join("import/absent"), data.path()).unwrap_err();
        assert!(absent.to_string().contains("does not exist"), "{absent}");
    }
}
