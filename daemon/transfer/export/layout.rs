//! The division of a file into parts, and their names.

use super::error::ExportError;

/// The longest part on FAT.
const FAT_PART: u64 = (4 << 30) - (64 << 10);
/// The first length of a file that FAT does not hold.
const FAT_LIMIT: u64 = 4 << 30;
/// Maximum number of parts: their names have three digits, by which readers find them.
const MAX_PARTS: u64 = 999;

/// The end of the names of files that are not complete.
pub(super) const NEW: &str = ".new";

/// The division of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSize {
    /// The length of each part but the last.
    pub part: u64,
    /// The length from which on a file is cut.
    pub from: u64,
}

impl PartSize {
    /// The size for FAT, whose files have less than 4 GiB.
    pub(super) const FAT: PartSize = PartSize { part: FAT_PART, from: FAT_LIMIT };

    /// Returns the size of parts of this length.
    pub fn of(part: u64) -> Self {
        PartSize { part, from: part + 1 }
    }

    /// Returns the length of the parts of a file; `None` if it is not cut.
    pub(super) fn for_length(self, length: u64) -> Option<u64> {
        (length >= self.from).then_some(self.part)
    }
}

/// The names and lengths of the parts of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) name: String,
    pub(super) total: u64,
    pub(super) part: Option<u64>,
}

impl Layout {
    pub(super) fn count(&self) -> u64 {
        self.part.map_or(1, |part| self.total.div_ceil(part).max(1))
    }

    /// Returns the final name of a part.
    pub(super) fn name(&self, part: u64) -> String {
        if self.part.is_some() { format!("{}.{:03}", self.name, part + 1) } else { self.name.clone() }
    }

    pub(super) fn length(&self, part: u64) -> u64 {
        self.part.map_or(self.total, |length| length.min(self.total - part * length))
    }

    /// Returns the part of a position, and the position in it.
    pub(super) fn locate(&self, offset: u64) -> (u64, u64) {
        match self.part {
            Some(length) => (offset / length, offset % length),
            None => (0, offset),
        }
    }

    /// Refuses more parts than their names can number.
    pub(super) fn check(&self) -> Result<(), ExportError> {
        if self.count() <= MAX_PARTS {
            return Ok(());
        }
        let name = &self.name;
        Err(ExportError::Refused(format!(
            "{name} would have more than {MAX_PARTS} parts; use a larger --split"
        )))
    }

    /// Returns the final names of all parts.
    pub(super) fn names(&self) -> Vec<String> {
        (0..self.count()).map(|part| self.name(part)).collect()
    }

    /// Returns the final names of the first parts.
    pub(super) fn names_up_to(&self, limit: u64) -> impl Iterator<Item = String> {
        (0..self.count().min(limit)).map(|part| self.name(part))
    }
}

/// Returns the number of a part of `base` by the name of its file, also of one that is not complete.
pub(super) fn part_number(base: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(base)?.strip_prefix('.')?;
    let digits = digits.strip_suffix(NEW).unwrap_or(digits);
    // Other names, such as a date, are files of the user.
    let is_number = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_numbers_from_one() {
        let layout = Layout { name: "a.tar".into(), total: 25, part: Some(10) };
        assert_eq!(layout.names(), ["a.tar.001", "a.tar.002", "a.tar.003"]);
        assert_eq!((layout.length(1), layout.length(2), layout.locate(20)), (10, 5, (2, 0)));
        assert!(layout.check().is_ok() && Layout { total: 9991, ..layout.clone() }.check().is_err());
        let whole = Layout { part: None, ..layout };
        assert_eq!((whole.names(), whole.length(0)), (vec!["a.tar".to_owned()], 25));
        assert_eq!(part_number("a.tar", "a.tar.012.new"), Some(12));
        assert_eq!(
            (part_number("a.tar", "a.tar.1000"), part_number("a.tar", "a.tar.20251126")),
            (None, None)
        );
        assert_eq!((part_number("a.tar", "a.tar.01"), part_number("a.tar", "a.tar.new")), (None, None));
    }

    #[test]
    fn files_are_cut_from_their_limit_on() {
        let fat = PartSize { part: FAT_PART, from: FAT_LIMIT };
        assert_eq!((fat.for_length(FAT_LIMIT - 1), fat.for_length(FAT_LIMIT)), (None, Some(FAT_PART)));
        assert_eq!((PartSize::of(5).for_length(5), PartSize::of(5).for_length(6)), (None, Some(5)));
    }
}
