//! Obstacles: directories, FIFOs, sockets, devices and symbolic links in the place of a file of the data directory.
//!
//! An obstacle says nothing about the medium, so that it never makes the store read-only. It is renamed into
//! `set-aside/` with one warning, and the operation continues; an empty directory is removed. No symbolic link is
//! followed, except for `index/data.mdb` and for directories, which may lie on another disk.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::error::StoreError;
use super::files::NewFile;
use super::regular_file::{if_exists, is_obstacle_error, name_of, open_regular_with, regular_file};

/// The directory that obstacles are moved to.
const SET_ASIDE: &str = "set-aside";
/// The maximum number of obstacles of one name that are kept there.
const MAX_KEPT: u32 = 1000;
/// The files in `index/` other than the index itself.
const BESIDE_THE_INDEX: [&str; 8] = [
    "index/wal.0",
    "index/wal.1",
    "index/lock.mdb",
    "index/clean",
    "index/suspect",
    "index/read-only",
    "index/inspected.mdb",
    "index/inspected.mdb-lock",
];
/// The index. It may be a symbolic link.
const DATA: &str = "index/data.mdb";

fn leads_to_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

impl Disk {
    /// Returns true if a regular file has this path in the data directory.
    pub(super) fn has_file(&self, name: &str) -> bool {
        regular_file(&self.path(name)).is_ok_and(|file| file.is_some())
    }

    /// Sets an obstacle at this path aside; returns true if there was one.
    pub(super) fn set_obstacle_aside(&self, path: &Path) -> io::Result<bool> {
        match if_exists(fs::symlink_metadata(path))? {
            Some(metadata) if !metadata.is_file() => self.set_path_aside(path, metadata.file_type()),
            _ => Ok(false),
        }
    }

    fn set_path_aside(&self, path: &Path, kind: FileType) -> io::Result<bool> {
        if kind.is_dir() && self.files.remove_directory(path).is_ok() {
            log::warn!("removed the empty directory {}, which was in the place of a file", path.display());
            return Ok(true);
        }
        let aside = self.name_aside(path)?;
        self.files.rename(path, &aside)?;
        log::warn!(
            "moved {} to {}: it is {}, which does not belong there",
            path.display(),
            aside.display(),
            name_of(kind)
        );
        Ok(true)
    }

    /// Returns a free path in `set-aside/`, or at the top of the data directory if that directory cannot be created.
    fn name_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let mut directory = self.path(SET_ASIDE);
        if self.files.create_directory(&directory).is_err() && !directory.is_dir() {
            directory = self.path("");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in 1..=MAX_KEPT {
            let aside = directory.join(format!("{name}.in-the-way-{number}"));
            if if_exists(fs::symlink_metadata(&aside))?.is_none() {
                return Ok(aside);
            }
        }
        let name = directory.display();
        Err(io::Error::other(format!("{name} already has {MAX_KEPT} files of this name; delete them")))
    }

    /// Removes a file, if it exists; sets an obstacle aside instead. Returns `None` if the path was free.
    pub(super) fn remove(&self, path: &Path) -> io::Result<Option<()>> {
        match if_exists(self.files.remove_file(path)) {
            Err(error) if self.set_obstacle_aside(path)? => {
                log::debug!("cannot remove {} as a file: {error}", path.display());
                Ok(Some(()))
            }
            removed => removed,
        }
    }

    /// Renames a file over another one; sets an obstacle at the new path aside.
    pub(super) fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.files.rename(from, to) {
            Err(error) if is_obstacle_error(&error) && self.set_obstacle_aside(to)? => {
                self.files.rename(from, to)
            }
            renamed => renamed,
        }
    }

    /// Creates an empty file that no other process has open; removes an older file or obstacle at its path.
    pub(super) fn create_anew(&self, path: &Path) -> io::Result<NewFile<'_>> {
        self.create_anew_with_mode(path, 0o640)
    }

    /// Creates a file like [`Disk::create_anew`], with another mode than that of content.
    pub(super) fn create_anew_with_mode(&self, path: &Path, mode: u32) -> io::Result<NewFile<'_>> {
        self.remove(path)?;
        self.files.create_new(path, OpenOptions::new().create_new(true).write(true).mode(mode))
    }

    /// Opens a lock file; creates it if it is missing.
    pub(super) fn open_or_create(&self, path: &Path) -> io::Result<File> {
        let with = |path: &Path| {
            let mut options = OpenOptions::new();
            open_regular_with(options.create(true).truncate(false).write(true).mode(0o600), path)
        };
        let open = || self.files.create_with(path, with);
        match open() {
            Err(error) if is_obstacle_error(&error) && self.set_obstacle_aside(path)? => open(),
            opened => opened,
        }
    }

    /// Creates a directory if it is missing; sets a file of its name aside. Fails for a dangling symbolic link: the
    /// disk behind it may not be mounted, and the store must not start without its content.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let Err(error) = self.files.create_directories(path) else { return Ok(()) };
        match if_exists(fs::symlink_metadata(path))? {
            Some(metadata) if metadata.is_symlink() => Err(io::Error::other(format!(
                "{} is a symbolic link to a missing directory; is the disk behind it mounted?",
                path.display()
            ))),
            Some(metadata) if !metadata.is_dir() => {
                self.set_path_aside(path, metadata.file_type())?;
                self.files.create_directories(path)
            }
            _ => Err(error),
        }
    }

    /// Sets obstacles in the place of the files of the index aside.
    pub(super) fn set_obstacles_in_index_aside(&self) -> Result<(), StoreError> {
        let clear = || -> io::Result<()> {
            for name in BESIDE_THE_INDEX {
                self.set_obstacle_aside(&self.path(name))?;
            }
            let data = self.path(DATA);
            if !leads_to_file(&data) {
                self.set_obstacle_aside(&data)?;
            }
            Ok(())
        };
        clear().map_err(|error| StoreError::io("set obstacles in index/ aside", error))
    }

    /// Sets obstacles in `uploads/` aside; leaves those that cannot be moved.
    pub(super) fn set_obstacles_in_uploads_aside(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("list the uploads", error);
        for entry in fs::read_dir(self.path("uploads")).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Err(error) = self.set_obstacle_aside(&path) {
                log::warn!("cannot set aside {}, which is not an upload: {error}", path.display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests put obstacles in the way")]
mod tests {
    use super::*;

    #[test]
    fn obstacles_are_kept_in_set_aside() {
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
        // The target of a symbolic link is not touched.
        fs::write(at("elsewhere"), "kept").unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("note")).unwrap();
        disk.create_anew(&at("note")).unwrap();
        assert_eq!(fs::read_to_string(at("elsewhere")).unwrap(), "kept");
        std::os::unix::fs::symlink(at("missing"), at("uploads")).unwrap();
        assert!(disk.make_directory(&at("uploads")).unwrap_err().to_string().contains("mounted"));
    }
}
