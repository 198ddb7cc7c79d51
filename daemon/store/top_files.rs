//! Small files at the top of the data directory, such as `index.json`: atomic replacement, and copies kept beside.
//!
//! A replacement writes `.NAME.new`, syncs it, renames it over `NAME` and syncs the directory: after a power cut the
//! file has either its old or its new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::files::NewFile;

impl Disk {
    /// Replaces a file at the top of the data directory atomically. A failure closes the latch.
    pub(super) fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut io::BufWriter<NewFile<'_>>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.replace_with_mode(name, 0o640, write)
    }

    /// Replaces a file like [`Disk::replace`], with another mode than that of content.
    pub(super) fn replace_with_mode(
        &self,
        name: &str,
        mode: u32,
        write: impl FnOnce(&mut io::BufWriter<NewFile<'_>>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check_writable()?;
        let temporary = self.path(&format!(".{name}.new"));
        let failed = |error| self.latch_on(StoreError::io(format!("write {name}"), error));
        let file = self.create_anew_with_mode(&temporary, mode).map_err(failed)?;
        let mut writer = io::BufWriter::with_capacity(64 << 10, file);
        write(&mut writer)?;
        writer.flush().map_err(failed)?;
        writer.get_ref().sync_data().map_err(failed)?;
        self.rename_over(&temporary, &self.path(name)).map_err(failed)?;
        self.sync_directory(Directory::Root).map_err(failed)
    }

    /// Renames a corrupt `index.json` to a free name beside it.
    pub(super) fn set_layout_aside(&self, suffix: &str) -> Result<(), StoreError> {
        let aside = self.free_name(&format!("index.json.broken-{suffix}"));
        self.files
            .rename(&self.path("index.json"), &aside)
            .map_err(|error| StoreError::io("set the corrupt index.json aside", error))
    }

    /// Links `index.json` to a second name, under which it survives its replacement; returns that path. A link of an
    /// earlier attempt is used again.
    pub(super) fn keep_layout_beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let failed = |error| StoreError::io("keep index.json", error);
        let layout = self.path("index.json");
        if let Some(kept) = self.other_name_of(&layout, "index.json.kept-").map_err(failed)? {
            return Ok(kept);
        }
        let aside = self.free_name(&format!("index.json.kept-{suffix}"));
        // Some file systems have no hard links: copy there.
        if self.files.link(&layout, &aside).is_err() {
            let options = OpenOptions::new().write(true).create_new(true).mode(0o640).to_owned();
            let mut copy = self.files.create_new(&aside, &options).map_err(failed)?;
            io::copy(&mut File::open(&layout).map_err(failed)?, &mut copy).map_err(failed)?;
            copy.sync_all().map_err(failed)?;
        }
        self.sync_directory(Directory::Root).map_err(failed)?;
        Ok(aside)
    }

    /// Returns another hard link to a file, at the top of the data directory and with this prefix.
    fn other_name_of(&self, path: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
        let file = fs::metadata(path)?;
        for entry in fs::read_dir(self.path(""))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(prefix)
                && entry.metadata()?.ino() == file.ino()
            {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// Returns a free path at the top of the data directory: this name, or the name with a number. Files that were kept
    /// within the same second, or under a clock that stands still, are not overwritten.
    pub(super) fn free_name(&self, name: &str) -> PathBuf {
        let names =
            std::iter::once(name.to_owned()).chain((1..1000).map(|number| format!("{name}-{number}")));
        let mut free = names.map(|name| self.path(&name)).filter(|path| !path.exists());
        free.next().unwrap_or_else(|| self.path(name))
    }
}
