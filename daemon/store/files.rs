//! The layer of file operations below [`super::disk::Disk`]: every change of a file or a directory of the data
//! directory, and every sync, goes through [`Files`].
//!
//! In the daemon the layer calls the operating system and costs nothing. In unit tests an observer of the data directory
//! sees each operation before it is carried out and may refuse it, so that tests fail or stop the store at each
//! operation in turn (`files/crash.rs`), or interleave requests between two operations (`interleaving.rs`). Reads go to
//! the operating system directly, and so does LMDB, whose commit is atomic by itself.
#![expect(clippy::disallowed_methods, reason = "the one place that changes files of the data directory")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod durable;
#[cfg(test)]
pub(super) mod observer;

/// An operation on the files of the data directory.
#[derive(Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "read by the observers of unit tests"))]
pub(super) enum FileOperation<'a> {
    /// Opens a file that exists.
    Open(&'a Path),
    /// Creates a file that does not exist, or opens it.
    Create(&'a Path),
    /// Writes at an offset, or where the last write ended.
    Write,
    SetLength,
    /// Syncs the content of a file.
    Sync(&'a File),
    /// Syncs the entries of a directory.
    SyncDirectory(&'a Path),
    Rename(&'a Path, &'a Path),
    Link(&'a Path, &'a Path),
    RemoveFile(&'a Path),
    RemoveDirectory(&'a Path),
    CreateDirectory(&'a Path),
}

/// The file operations of one data directory.
pub(super) struct Files {
    #[cfg(test)]
    observer: Option<std::sync::Arc<dyn observer::Observer>>,
}

impl Files {
    /// Returns the operations of the data directory at this path.
    #[cfg_attr(not(test), expect(unused_variables, reason = "tells unit tests the observer"))]
    pub(super) fn of(root: &Path) -> Self {
        Files {
            #[cfg(test)]
            observer: observer::of(root),
        }
    }

    #[cfg_attr(not(test), expect(unused_variables, clippy::unused_self, reason = "for unit tests"))]
    fn run<T>(&self, operation: FileOperation<'_>, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        if let Some(observer) = &self.observer {
            observer.before(operation)?;
            let result = run();
            observer.after(operation, result.as_ref().err());
            return result;
        }
        run()
    }

    /// Opens a file that exists, by a function that opens it with more checks.
    pub(super) fn open(&self, path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<File> {
        self.run(FileOperation::Open(path), || open(path))
    }

    /// Opens a file with options that create it.
    pub(super) fn create(&self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        self.run(FileOperation::Create(path), || options.open(path))
    }

    /// Opens a file by a function that creates it if it is missing.
    pub(super) fn create_with(
        &self,
        path: &Path,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> io::Result<File> {
        self.run(FileOperation::Create(path), || open(path))
    }

    /// Creates a file with options that refuse an existing one.
    pub(super) fn create_new(&self, path: &Path, options: &OpenOptions) -> io::Result<NewFile<'_>> {
        Ok(NewFile { file: self.create(path, options)?, files: self })
    }

    /// Writes all bytes at an offset.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.run(FileOperation::Write, || file.write_all_at(bytes, offset))
    }

    /// Cuts or extends a file to this length in bytes.
    pub(super) fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.run(FileOperation::SetLength, || file.set_len(length))
    }

    /// Syncs the content of a file, and the metadata that is needed to read it (`fdatasync`).
    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.run(FileOperation::Sync(file), || file.sync_data())
    }

    /// Syncs the content and the metadata of a file (`fsync`).
    pub(super) fn sync_all(&self, file: &File) -> io::Result<()> {
        self.run(FileOperation::Sync(file), || file.sync_all())
    }

    /// Syncs the entries of a directory, which is open as `directory`.
    pub(super) fn sync_directory(&self, path: &Path, directory: &File) -> io::Result<()> {
        self.run(FileOperation::SyncDirectory(path), || directory.sync_all())
    }

    /// Renames a file or a directory, over a file of the new name if there is one.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(FileOperation::Rename(from, to), || fs::rename(from, to))
    }

    /// Gives a file a second name.
    pub(super) fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.run(FileOperation::Link(file, name), || fs::hard_link(file, name))
    }

    /// Removes a name of a file.
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(FileOperation::RemoveFile(path), || fs::remove_file(path))
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.run(FileOperation::RemoveDirectory(path), || fs::remove_dir(path))
    }

    /// Creates a directory.
    pub(super) fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.run(FileOperation::CreateDirectory(path), || fs::create_dir(path))
    }

    /// Creates a directory and those above it, unless they exist.
    pub(super) fn create_directories(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.run(FileOperation::CreateDirectory(path), || fs::create_dir_all(path))
    }
}

/// A file that is written from its beginning to its end.
pub(super) struct NewFile<'a> {
    file: File,
    files: &'a Files,
}

impl NewFile<'_> {
    /// Syncs the content like [`Files::sync_data`].
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.files.sync_data(&self.file)
    }

    /// Syncs the content and the metadata like [`Files::sync_all`].
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.files.sync_all(&self.file)
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.files.run(FileOperation::Write, || (&self.file).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
