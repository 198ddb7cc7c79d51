//! Archives in parts: `NAME.001` and its successors, and `NAME.part000` of zarf.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, statat};

use super::directory;

use super::error::SourceError;

/// Maximum length of the description of zarf's parts, in bytes.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// The parts of an archive as one file.
pub struct Parts {
    /// The files with the positions at which they begin.
    files: Vec<(u64, File)>,
    size: u64,
    position: u64,
}

/// The name of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartName {
    stem: String,
    number: u32,
    digits: usize,
}

impl PartName {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (stem, end) = name.rsplit_once('.')?;
        let (label, digits) = match end.strip_prefix("part") {
            Some(digits) => (".part", digits),
            None => (".", end),
        };
        let is_number = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(PartName {
            stem: format!("{stem}{label}"),
            number: digits.parse().ok()?,
            digits: digits.len(),
        })
    }

    /// Returns true for `NAME.part000` and its successors.
    fn is_of_zarf(&self) -> bool {
        self.stem.rsplit('.').next() == Some("part")
    }

    fn file_name(&self, number: u32) -> String {
        format!("{}{number:0digits$}", self.stem, digits = self.digits)
    }

    fn path(&self, beside: &Path, number: u32) -> PathBuf {
        beside.with_file_name(self.file_name(number))
    }
}

/// Groups the paths of a command line: parts of one archive belong together, whatever their order.
pub fn group(paths: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    let mut groups: Vec<Vec<PathBuf>> = Vec::new();
    let mut of_parts = HashMap::new();
    for path in paths {
        let part = PartName::of(path).map(|part| of_parts.entry((path.parent(), part.stem)));
        match part {
            Some(Entry::Occupied(known)) => {
                let group: usize = *known.get();
                groups[group].push(path.clone());
                continue;
            }
            Some(Entry::Vacant(unknown)) => drop(unknown.insert(groups.len())),
            None => {}
        }
        groups.push(vec![path.clone()]);
    }
    for group in &mut groups {
        group.sort();
        group.dedup();
    }
    groups
}

impl Parts {
    /// Opens an archive, with its successors if it is the first part of one.
    ///
    /// # Errors
    /// Fails if a part is missing, or has a size that does not fit.
    pub fn open(first: File, group: &[PathBuf]) -> Result<Self, SourceError> {
        let path = &group[0];
        let place = path.display().to_string();
        let Some(name) = PartName::of(path) else { return Self::of_files(vec![first], &place) };
        if name.number > 1 {
            let wanted = name.path(path, u32::from(!name.is_of_zarf()));
            return Err(SourceError::invalid(place, format!("part {} is missing", wanted.display())));
        }
        let is_zarf = name.number == 0;
        let folder = open_folder(path).map_err(|error| SourceError::io(place.clone(), error))?;
        let mut files = vec![first];
        for number in name.number + 1..1000 {
            match open_part(&folder, &name.file_name(number)) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => {
                    return Err(SourceError::io(name.path(path, number).display().to_string(), error));
                }
            }
        }
        let last = name.number + u32::try_from(files.len()).unwrap_or(u32::MAX) - 1;
        if let Some(gap) = (last + 2..1000).find(|number| is_entry(&folder, &name.file_name(*number))) {
            let missing = name.path(path, last + 1);
            let reason = format!(
                "part {} is missing, but {} exists",
                missing.display(),
                name.path(path, gap).display()
            );
            return Err(SourceError::invalid(place, reason));
        }
        if is_zarf {
            return Self::of_zarf(files, &place, path, &name);
        }
        Self::check_even(&files, &place, path, &name)?;
        Self::of_files(files, &place)
    }

    /// Refuses parts of which one is not as long as the first, except for a shorter last one.
    fn check_even(files: &[File], place: &str, path: &Path, name: &PartName) -> Result<(), SourceError> {
        let mut sizes = Vec::with_capacity(files.len());
        for file in files {
            sizes.push(file.metadata().map_err(|error| SourceError::io(place, error))?.len());
        }
        for (at, size) in sizes.iter().enumerate().skip(1) {
            let is_last = at + 1 == sizes.len();
            if *size > sizes[0] || (!is_last && *size != sizes[0]) || *size == 0 {
                let part = name.path(path, name.number + u32::try_from(at).unwrap_or(u32::MAX));
                let reason = format!(
                    "part {} has {size} bytes and the first part {}; one of them is not complete, or of another archive",
                    part.display(),
                    sizes[0]
                );
                return Err(SourceError::invalid(place, reason));
            }
        }
        Ok(())
    }

    /// Opens the parts that zarf describes in the first of them.
    fn of_zarf(mut files: Vec<File>, place: &str, path: &Path, name: &PartName) -> Result<Self, SourceError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Description {
            bytes: u64,
            count: u32,
        }
        let mut text = Vec::new();
        let head = files.remove(0);
        head.take(MAX_DESCRIPTION).read_to_end(&mut text).map_err(|error| SourceError::io(place, error))?;
        let Ok(description) = serde_json::from_slice::<Description>(&text) else {
            return Err(SourceError::invalid(place, "not the description of an archive in parts"));
        };
        let found = u32::try_from(files.len()).unwrap_or(u32::MAX);
        if found < description.count {
            let missing = name.path(path, found + 1);
            return Err(SourceError::invalid(place, format!("part {} is missing", missing.display())));
        }
        files.truncate(usize::try_from(description.count).unwrap_or(usize::MAX));
        let parts = Self::of_files(files, place)?;
        if parts.size != description.bytes {
            let reason = format!(
                "the parts have {} bytes together, and not {}; one of them is not complete, or of another archive",
                parts.size, description.bytes
            );
            return Err(SourceError::invalid(place, reason));
        }
        Ok(parts)
    }

    fn of_files(all: Vec<File>, place: &str) -> Result<Self, SourceError> {
        let (mut files, mut size) = (Vec::with_capacity(all.len()), 0u64);
        for file in all {
            files.push((size, file));
            let length = files.last().map(|(_, file)| file.metadata().map(|data| data.len()));
            let length = length.transpose().map_err(|error| SourceError::io(place, error))?.unwrap_or(0);
            size = size.saturating_add(length);
        }
        Ok(Parts { files, size, position: 0 })
    }

    /// Returns the length of all parts together.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// Opens the directory of the first part.
fn open_folder(first: &Path) -> io::Result<OwnedFd> {
    let folder = first.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a part beside the first. The user has not named it, so that a link could lead off the medium.
fn open_part(folder: &OwnedFd, name: &str) -> io::Result<File> {
    directory::open_entry(folder, name).map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            io::Error::other("it is a symbolic link, which is not followed")
        }
        _ => error,
    })
}

fn is_entry(folder: &OwnedFd, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let at = self.files.partition_point(|(start, _)| *start <= self.position);
        let Some((start, file)) = at.checked_sub(1).and_then(|at| self.files.get(at)) else { return Ok(0) };
        let end = self.files.get(at).map_or(self.size, |(start, _)| *start);
        let rest = usize::try_from(end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = rest.min(buffer.len());
        let count = file.read_at(&mut buffer[..wanted], self.position - start)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Parts {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
