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
use super::regular_file::{if_exists, open_regular_with};

/// The journal of names, beside `index.json`.
pub(super) const JOURNAL: &str = "names.journal";

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

    /// Writes a batch of the journal of names at this offset, the end of its last whole batch, and syncs it. A failure closes the
    /// latch.
    pub(super) fn append_to_journal(&self, batch: &[u8], offset: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("write names.journal", error));
        let path = self.path(JOURNAL);
        if offset == 0 {
            let mut file = self.create_anew(&path).map_err(failed)?;
            file.write_all(batch).and_then(|()| file.sync_data()).map_err(failed)?;
            return self.sync_directory(Directory::Root).map_err(failed);
        }
        let open = |path: &Path| open_regular_with(OpenOptions::new().write(true), path);
        let file = self.files.open(&path, open).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > offset {
            // The rest of a batch that a power cut has cut off.
            self.files.set_length(&file, offset).map_err(failed)?;
        }
        self.files.write_at(&file, batch, offset).map_err(failed)?;
        self.files.sync_data(&file).map_err(failed)
    }

    /// Removes the journal of names, which has nothing that `index.json` lacks. One that stays is ignored.
    pub(super) fn remove_journal(&self) {
        if let Err(error) = self.remove(&self.path(JOURNAL)) {
            log::debug!("names.journal stays: {error}");
        }
    }

    /// Renames a corrupt `index.json`, and its journal, to free names beside it.
    pub(super) fn set_layout_aside(&self, suffix: &str) -> Result<(), StoreError> {
        for name in ["index.json", JOURNAL] {
            let aside = self.free_name(&format!("{name}.broken-{suffix}"));
            if_exists(self.files.rename(&self.path(name), &aside))
                .map_err(|error| StoreError::io("set the corrupt index.json aside", error))?;
        }
        Ok(())
    }

    /// Links `index.json`, and its journal, to second names, under which they survive their replacement; returns the
    /// path of the first. Links of an earlier attempt are used again.
    pub(super) fn keep_layout_beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        if self.path(JOURNAL).exists() {
            self.keep_beside(JOURNAL, suffix)?;
        }
        self.keep_beside("index.json", suffix)
    }

    fn keep_beside(&self, name: &str, suffix: &str) -> Result<PathBuf, StoreError> {
        let failed = |error| StoreError::io(format!("keep {name}"), error);
        let layout = self.path(name);
        if let Some(kept) = self.other_name_of(&layout, &format!("{name}.kept-")).map_err(failed)? {
            return Ok(kept);
        }
        let aside = self.free_name(&format!("{name}.kept-{suffix}"));
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
