//! The file of an export, or the parts into which a file is cut, as one sequence of bytes that can be continued.
//!
//! Bytes go to names with `.new` at the end. `finish` gives them their final names, once the content was synced. Parts of an
//! earlier export are taken over under their `.new` names, so that stale ones never stand beside new ones.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::error::ExportError;
use super::layout::{Layout, NEW, part_number};
use super::medium::{Medium, drop_cache};

/// Bytes after which a file is synced, so that progress is that of the medium and not of the page cache.
const SYNC_EVERY: u64 = 32 << 20;

/// A sequence of bytes that is read back and appended to.
pub(super) trait Output {
    /// Returns the number of bytes that an earlier run left.
    fn existing(&self) -> u64;

    /// Reads bytes that exist.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ExportError>;

    /// Cuts everything from a position on.
    fn cut(&mut self, offset: u64) -> Result<(), ExportError>;

    /// Appends bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<(), ExportError>;

    /// Returns the error of wrong bytes at a position.
    fn differs(&self, offset: u64) -> ExportError;
}

/// The parts of a file on a medium.
pub(super) struct PartFiles<'a> {
    medium: &'a Medium,
    layout: Layout,
    /// The number of bytes that exist.
    end: u64,
    open: Option<(u64, File)>,
    unsynced: u64,
    /// Empty for files that have their final names and are only read.
    suffix: &'static str,
}

impl<'a> PartFiles<'a> {
    /// Opens the file under its final name for reading, if it is not cut and has the right length.
    pub(super) fn finished(medium: &'a Medium, layout: &Layout) -> Result<Option<Self>, ExportError> {
        for part in 0..layout.count() {
            if medium.length(&layout.name(part))? != Some(layout.length(part)) {
                return Ok(None);
            }
        }
        let (layout, end) = (layout.clone(), layout.total);
        Ok(Some(PartFiles { medium, layout, end, open: None, unsynced: 0, suffix: "" }))
    }

    /// Opens what an earlier run left, and removes parts that do not continue it.
    pub(super) fn resume(medium: &'a Medium, layout: Layout) -> Result<Self, ExportError> {
        let mut files = PartFiles { medium, layout, end: 0, open: None, unsynced: 0, suffix: NEW };
        files.remove_others()?;
        let mut part = 0;
        while part < files.layout.count() {
            let (name, length) = (files.part_name(part), files.layout.length(part));
            if files.layout.part.is_some() && medium.length(&name)?.is_none() {
                let old = files.layout.name(part);
                if medium.length(&old)?.is_some() {
                    medium.rename(&old, &name)?;
                }
            }
            let Some(file) = medium.reopen(&name)? else { break };
            let found = file.metadata().map_err(|error| medium.failed("stat", &name, error))?.len();
            if found > length {
                file.set_len(length).map_err(|error| medium.failed("cut", &name, error))?;
            }
            // What was read before may be in memory only.
            file.sync_data().map_err(|error| medium.failed("sync", &name, error))?;
            drop_cache(&file);
            files.end += found.min(length);
            part += 1;
            if found < length {
                break;
            }
        }
        for stale in part..files.layout.count() {
            medium.remove(&files.part_name(stale))?;
            if files.layout.part.is_some() {
                medium.remove(&files.layout.name(stale))?;
            }
        }
        Ok(files)
    }

    /// Removes parts of another division of the same file.
    pub(super) fn remove_others(&self) -> Result<(), ExportError> {
        let (folder, base) = self.layout.name.rsplit_once('/').unwrap_or(("", &self.layout.name));
        if self.layout.part.is_some() {
            self.medium.remove(&format!("{}{NEW}", self.layout.name))?;
        }
        // Blobs are not listed one by one: their folder is large, and is cleaned up at the end.
        if !folder.is_empty() {
            return Ok(());
        }
        for found in self.medium.list(folder)? {
            if part_number(base, &found).is_some_and(|number| number > self.last_number()) {
                self.medium.remove(&found)?;
            }
        }
        Ok(())
    }

    /// Returns the number in the name of the last part; zero without parts.
    fn last_number(&self) -> u64 {
        if self.layout.part.is_some() { self.layout.count() } else { 0 }
    }

    fn part_name(&self, part: u64) -> String {
        format!("{}{}", self.layout.name(part), self.suffix)
    }

    /// Opens a part; creates it if it does not exist.
    fn file(&mut self, part: u64) -> Result<&File, ExportError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != part) {
            self.close()?;
            let name = self.part_name(part);
            let file = match self.suffix {
                "" => self.medium.open_file(&name)?,
                _ => self.medium.reopen(&name)?,
            };
            let file = match file {
                Some(file) => file,
                None => self.medium.create(&name)?,
            };
            self.open = Some((part, file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => unreachable!("a part was just opened"),
        }
    }

    /// Syncs and closes the open part.
    fn close(&mut self) -> Result<(), ExportError> {
        if let Some((part, file)) = self.open.take()
            && self.unsynced > 0
        {
            let failed = |error| self.medium.failed("write", &self.part_name(part), error);
            file.sync_all().map_err(failed)?;
            drop_cache(&file);
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Ends writing: the content is on the medium, and no longer in memory. `sync` is false where the caller syncs all files
    /// together.
    pub(super) fn end_writing(&mut self, sync: bool) -> Result<(), ExportError> {
        if self.layout.total == 0 {
            self.file(0)?;
        }
        if !sync && self.unsynced < SYNC_EVERY {
            (self.open, self.unsynced) = (None, 0);
        }
        self.close()
    }

    /// Drops the content from memory, so that it is read from the medium.
    pub(super) fn drop_caches(&mut self) -> Result<(), ExportError> {
        for part in 0..self.layout.count() {
            drop_cache(self.file(part)?);
        }
        Ok(())
    }

    /// Gives the parts their final names.
    pub(super) fn finish(&mut self) -> Result<(), ExportError> {
        self.close()?;
        self.open = None;
        for part in 0..self.layout.count() {
            self.medium.rename(&self.part_name(part), &self.layout.name(part))?;
        }
        Ok(())
    }
}

impl Output for PartFiles<'_> {
    fn existing(&self) -> u64 {
        self.end
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ExportError> {
        let mut done = 0;
        while done < buffer.len() {
            let (part, within) = self.layout.locate(offset + done as u64);
            let left = self.layout.length(part) - within;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - done);
            let name = self.part_name(part);
            let read = self.file(part)?.read_exact_at(&mut buffer[done..done + count], within);
            read.map_err(|error| self.medium.failed("read", &name, error))?;
            done += count;
        }
        Ok(())
    }

    fn cut(&mut self, offset: u64) -> Result<(), ExportError> {
        if offset >= self.end {
            return Ok(());
        }
        let (first, within) = self.layout.locate(offset);
        let (last, _) = self.layout.locate(self.end - 1);
        for part in first + 1..=last {
            self.medium.remove(&self.part_name(part))?;
        }
        if self.open.as_ref().is_some_and(|(open, _)| *open > first) {
            (self.open, self.unsynced) = (None, 0);
        }
        let name = self.part_name(first);
        let cut = self.file(first)?.set_len(within);
        cut.map_err(|error| self.medium.failed("cut", &name, error))?;
        self.end = offset;
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), ExportError> {
        while !bytes.is_empty() {
            let (part, within) = self.layout.locate(self.end);
            let left = self.layout.length(part) - within;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let name = self.part_name(part);
            let written = self.file(part)?.write_all_at(&bytes[..count], within);
            written.map_err(|error| self.medium.failed("write", &name, error))?;
            (self.end, self.unsynced) = (self.end + count as u64, self.unsynced + count as u64);
            bytes = &bytes[count..];
            if self.unsynced >= SYNC_EVERY {
                let synced = self.file(part)?.sync_data();
                synced.map_err(|error| self.medium.failed("write", &name, error))?;
                drop_cache(self.file(part)?);
                // The rest is synced when the part is closed.
                self.unsynced = 1;
            }
        }
        Ok(())
    }

    fn differs(&self, offset: u64) -> ExportError {
        let (part, within) = self.layout.locate(offset);
        ExportError::Differs { path: self.medium.path_of(&self.part_name(part)), offset: within }
    }
}

/// Returns true if a file in a folder of blobs is an incomplete one of this or an earlier export.
pub(super) fn is_unfinished(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(NEW) else { return false };
    let hex = stem.split('.').next().unwrap_or_default();
    matches!(hex.len(), 64 | 128) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A pipe, which cannot be read back.
pub(super) struct Pipe<'a>(pub(super) &'a mut dyn Write);

impl Output for Pipe<'_> {
    fn existing(&self) -> u64 {
        0
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<(), ExportError> {
        Err(ExportError::Refused("standard output cannot be read back".into()))
    }

    fn cut(&mut self, _: u64) -> Result<(), ExportError> {
        Err(ExportError::Refused("standard output cannot be rewritten".into()))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let written = self.0.write_all(bytes);
        written.map_err(|error| ExportError::medium("write to", "standard output", error))
    }

    fn differs(&self, offset: u64) -> ExportError {
        ExportError::Differs { path: "standard output".into(), offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_another_division_are_removed_and_bytes_continue_over_parts() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::open(directory.path()).unwrap();
        for name in ["a.tar.001", "a.tar.002.new", "a.tar.007", "a.tar.new", "a.tar.txt", "b.tar.009"] {
            medium.create(name).unwrap().write_all(b"0123456789xx").unwrap();
        }
        let layout = Layout { name: "a.tar".into(), total: 25, part: Some(10) };
        let mut files = PartFiles::resume(&medium, layout.clone()).unwrap();
        assert_eq!(files.existing(), 20);
        let mut read = [0; 4];
        files.read_at(8, &mut read).unwrap();
        assert_eq!(&read, b"8901");
        files.cut(5).unwrap();
        files.append(b"abcdefghijklmnopqrst").unwrap();
        files.end_writing(true).unwrap();
        files.finish().unwrap();
        let names = medium.list("").unwrap();
        assert_eq!(names, ["a.tar.001", "a.tar.002", "a.tar.003", "a.tar.txt", "b.tar.009"]);
        let mut finished = PartFiles::finished(&medium, &layout).unwrap().unwrap();
        let mut whole = [0; 25];
        finished.read_at(0, &mut whole).unwrap();
        assert_eq!(&whole, b"01234abcdefghijklmnopqrst");
    }

    #[test]
    fn unfinished_blobs_are_told_from_other_files() {
        let hex = "a".repeat(64);
        assert!(is_unfinished(&format!("{hex}.new")) && is_unfinished(&format!("{hex}.001.new")));
        assert!(!is_unfinished(&hex) && !is_unfinished("notes.new"));
    }
}
