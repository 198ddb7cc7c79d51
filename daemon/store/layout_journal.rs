//! The journal of names: what changed since `index.json` was written.
//!
//! A large `index.json` is not rewritten for each change of a name, which would wear out the card. The changes are appended to
//! `names.journal`, in batches: one line of JSON for each name or link exception, then a line with the head and the
//! CRC-32 of the batch. The records are absolute, so that the last one of a name counts. `docs/reference/format.md`
//! describes it.
//!
//! A journal belongs to the `index.json` whose change number it has as its base. One that has nothing newer is ignored,
//! so that it need not be removed together with the replacement of `index.json`. A batch that a power cut has cut off
//! counts as not written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::index::tables::link_exceptions::LinkException;
use super::index::tables::names::Name;
use super::index::tables::rows::LinkExceptionRow;
use super::layout_checksum::Checksum;
use super::layout_format::{
    BASE, CHANGE, Entry, EntryVisitor, HOLD, Head, ID, NOW, NameEntry, StoredException, head_of, name_of,
    number,
};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName};

/// The most bytes of a journal that are read. The writer ends it before.
pub(super) const MAX_LENGTH: u64 = 8 << 20;
/// The beginning of the line that ends a batch.
const END: &[u8] = b"{\"annotations\":";
/// The text before and after the checksum at the end of that line.
const CHECKSUM: &str = ",\"checksum\":\"";
const CLOSING: &str = "\"}";
const DIGITS: usize = 8;

/// A record: the present state of one name or link exception.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record<N> {
    /// A manifest under a tag, or under its digest.
    Name(N),
    /// A name that does not exist any more.
    Removed { repository: String, reference: String },
    /// A link exception.
    Link(StoredException),
    /// A link exception that does not exist any more.
    Unlinked { repository: String, digest: Digest },
}

/// A batch that is being written.
#[derive(Default)]
pub(super) struct Batch(Vec<u8>);

impl Batch {
    /// Adds a name.
    pub(super) fn set(&mut self, name: &Name) -> Result<(), StoreError> {
        self.add(&Record::Name(NameEntry::of(name)))
    }

    /// Adds the removal of a name.
    pub(super) fn remove(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<(), StoreError> {
        self.add(&Record::<NameEntry>::Removed {
            repository: repository.to_string(),
            reference: reference.to_string(),
        })
    }

    /// Adds the state of a link exception.
    pub(super) fn link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        kind: Option<LinkExceptionRow>,
    ) -> Result<(), StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.add(&match kind {
            Some(kind) => {
                Record::<NameEntry>::Link(StoredException::of(&LinkException { repository, digest, kind }))
            }
            None => Record::Unlinked { repository: repository.to_string(), digest },
        })
    }

    fn add(&mut self, record: &Record<NameEntry<'_>>) -> Result<(), StoreError> {
        serde_json::to_writer(&mut self.0, record).map_err(|error| write_error(error.into()))?;
        self.0.push(b'\n');
        Ok(())
    }

    /// Ends the batch with its head; returns its bytes. `base` is the change number of `index.json`.
    pub(super) fn end(mut self, base: u64, head: Head) -> Result<Vec<u8>, StoreError> {
        let mut annotations = BTreeMap::from([
            (BASE, base.to_string()),
            (CHANGE, head.change.to_string()),
            (NOW, head.now.seconds().to_string()),
        ]);
        if head.hold {
            annotations.insert(HOLD, "true".to_owned());
        }
        if let Some(id) = head.id {
            annotations.insert(ID, id.to_string());
        }
        self.0.extend_from_slice(END);
        serde_json::to_writer(&mut self.0, &annotations).map_err(|error| write_error(error.into()))?;
        let checksum = crc32fast::hash(&self.0);
        writeln!(self.0, "{CHECKSUM}{checksum:08x}{CLOSING}").map_err(write_error)?;
        Ok(self.0)
    }
}

fn write_error(error: io::Error) -> StoreError {
    StoreError::io("write names.journal", error)
}

/// The state of a journal at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every byte belongs to a whole batch.
    Whole,
    /// The last batch was cut off, as by a power cut.
    Cut,
    /// Bytes before the last batch have changed.
    Damaged,
}

/// A journal that was read.
pub(super) struct Journal {
    names: HashMap<(RepositoryName, Reference), Option<Name>>,
    links: HashMap<(RepositoryName, Digest), Option<LinkException>>,
    /// The change number of the `index.json` that the journal belongs to.
    pub(super) base: u64,
    /// The head of the last whole batch.
    pub(super) head: Head,
    pub(super) condition: Condition,
    /// The bytes up to the end of the last whole batch.
    pub(super) length: u64,
}

impl Journal {
    /// Parses a journal.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut journal = Journal {
            names: HashMap::new(),
            links: HashMap::new(),
            base: 0,
            head: Head::default(),
            condition: Condition::Whole,
            length: 0,
        };
        let (mut first, mut at) = (0, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let begin = at;
            at += line.len();
            if !line.starts_with(END) || !line.ends_with(b"\n") {
                continue;
            }
            let batch = journal.take_batch(&bytes[first..begin], line);
            journal.condition = match (batch, journal.condition) {
                (Some(()), Condition::Whole) => Condition::Whole,
                // It follows one that cannot be read, which was not cut off then.
                (Some(()), Condition::Cut | Condition::Damaged) | (None, Condition::Damaged) => {
                    Condition::Damaged
                }
                (None, Condition::Whole | Condition::Cut) => Condition::Cut,
            };
            if batch.is_some() {
                journal.length = at as u64;
            }
            first = at;
        }
        if first < bytes.len() && journal.condition == Condition::Whole {
            journal.condition = Condition::Cut;
        }
        journal
    }

    /// Returns true if it has no whole batch.
    pub(super) fn is_empty(&self) -> bool {
        self.head.change == 0
    }

    /// Applies one batch, if its checksum matches.
    fn take_batch(&mut self, records: &[u8], end: &[u8]) -> Option<()> {
        let end = std::str::from_utf8(end).ok()?.trim_end_matches('\n');
        let rest = end.strip_suffix(CLOSING)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        let annotations = rest.strip_suffix(CHECKSUM)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(records);
        hasher.update(annotations.as_bytes());
        if format!("{:08x}", hasher.finalize()) != digits {
            return None;
        }
        let annotations = annotations.as_bytes().strip_prefix(END)?;
        let annotations: BTreeMap<String, String> = serde_json::from_slice(annotations).ok()?;
        self.base = number(&annotations, BASE)?;
        self.head = head_of(&annotations);
        for line in records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // A record of a newer release is skipped, as in index.json.
            if let Ok(record) = serde_json::from_slice(line) {
                self.apply(record);
            }
        }
        Some(())
    }

    fn apply(&mut self, record: Record<Descriptor>) {
        match record {
            Record::Name(descriptor) => {
                if let Some(name) = name_of(descriptor) {
                    self.names.insert((name.repository.clone(), name.reference.clone()), Some(name));
                }
            }
            Record::Removed { repository, reference } => {
                if let (Ok(repository), Ok(reference)) = (repository.parse(), reference.parse()) {
                    self.names.insert((repository, reference), None);
                }
            }
            Record::Link(stored) => {
                if let Some(link) = stored.read() {
                    self.links.insert((link.repository.clone(), link.digest.clone()), Some(link));
                }
            }
            Record::Unlinked { repository, digest } => {
                if let Ok(repository) = repository.parse() {
                    self.links.insert((repository, digest), None);
                }
            }
        }
    }

    /// Returns the result of the checksum of an `index.json` with this head, together with the journal.
    pub(super) fn verdict(&self, head: &Head, checksum: Checksum) -> Checksum {
        let fits = self.base == head.change && self.condition != Condition::Damaged;
        if fits { checksum } else { Checksum::Wrong }
    }

    /// Returns true if the journal has changes that an `index.json` with this head lacks.
    pub(super) fn is_newer_than(&self, head: &Head) -> bool {
        let same_registry = self.head.id.is_none() || head.id.is_none() || self.head.id == head.id;
        same_registry && self.head.change > head.change
    }

    /// Calls `visit` with the entries of `index.json`, which `read` passes on, as the journal changes them. Link
    /// exceptions come before the names.
    pub(super) fn replay<T>(
        &self,
        read: impl FnOnce(&mut EntryVisitor) -> Result<T, StoreError>,
        visit: &mut EntryVisitor,
    ) -> Result<T, StoreError> {
        for exception in self.links.values().flatten() {
            visit(Entry::Exception(exception.clone()))?;
        }
        let mut tagged = HashSet::new();
        // Whatever changes a tag or the holes of a manifest adds a record of the manifest, which is the newest.
        let mut visit_tag = |mut name: Name, visit: &mut EntryVisitor| {
            let manifest = (name.repository.clone(), Reference::Digest(name.digest.clone()));
            if let Some(Some(current)) = self.names.get(&manifest) {
                name.is_sparse = current.is_sparse;
                tagged.insert(manifest);
            }
            visit(Entry::Name(name))
        };
        let result = read(&mut |entry| match entry {
            Entry::Exception(old) => {
                let key = (old.repository.clone(), old.digest.clone());
                if self.links.contains_key(&key) { Ok(()) } else { visit(Entry::Exception(old)) }
            }
            Entry::Name(old) if self.names.contains_key(&(old.repository.clone(), old.reference.clone())) => {
                Ok(())
            }
            Entry::Name(old) => match old.reference {
                Reference::Tag(_) => visit_tag(old, visit),
                Reference::Digest(_) => visit(Entry::Name(old)),
            },
        })?;
        let names = || self.names.values().flatten();
        for name in names().filter(|name| matches!(name.reference, Reference::Tag(_))) {
            visit_tag(name.clone(), visit)?;
        }
        // A manifest is a name by itself only without a tag.
        for name in names().filter(|name| matches!(name.reference, Reference::Digest(_))) {
            if !tagged.contains(&(name.repository.clone(), name.reference.clone())) {
                visit(Entry::Name(name.clone()))?;
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
