//! One medium with the index of its members.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use super::catalog::{ContentKey, MemberId};
use super::error::SourceError;
use super::limits::Bounds;
use super::media::{FileInput, MediumKind};
use super::member::{MemberName, Role};
use super::tar::{TarKind, TarMember, Walk};
use super::{FORMATS, directory, limits};

/// Names of members in the error of an unknown format.
const NAMED: usize = 5;
/// Documents that list images.
const INDEXES: [&str; 3] = ["index.json", "manifest.json", "export.json"];
/// Parts of a blob that was too large for the file system of the medium.
const PARTS: usize = 100;

/// Returns the role of a member in the first format that knows it.
pub fn role_of(name: &MemberName) -> Option<Role> {
    FORMATS.iter().find_map(|format| format.role(name))
}

/// A member that a format wants.
pub(super) struct Indexed {
    pub(super) role: Role,
    pub(super) link: Option<String>,
    pub(super) size: u64,
    pub(super) position: u64,
    /// The paths in a directory: one, or those of the parts of a blob.
    pub(super) paths: Vec<MemberName>,
}

/// A medium with its index.
pub(super) struct IndexedMedium {
    pub(super) place: String,
    pub(super) folder: Option<String>,
    /// The rest to be read; `None` for a stream that has ended.
    pub(super) content: Option<MediumKind>,
    pub(super) members: Vec<Indexed>,
    pub(super) names: BTreeMap<String, usize>,
    pub(super) documents: BTreeMap<String, Bytes>,
    documents_length: u64,
    bounds: Bounds,
    pub(super) first: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Receives the content of a stream.
pub trait StreamVisitor {
    /// Takes a blob or a layer. Content that is not wanted need not be read.
    ///
    /// # Errors
    /// Fails if the import has ended, or if the stream is truncated.
    fn content(&mut self, key: ContentKey, size: u64, content: &mut dyn Read) -> Result<(), SourceError>;
}

impl IndexedMedium {
    /// Makes the index of a medium that has not been read.
    pub(super) fn new(place: String, folder: Option<String>, bounds: Bounds) -> Self {
        IndexedMedium {
            place,
            folder,
            content: None,
            members: Vec::new(),
            names: BTreeMap::new(),
            documents: BTreeMap::new(),
            documents_length: 0,
            bounds,
            first: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn list_directory(&mut self, root: std::os::fd::OwnedFd) -> Result<MediumKind, SourceError> {
        let first = std::cell::RefCell::new(Vec::new());
        let wants = |name: &MemberName| {
            let mut first = first.borrow_mut();
            if first.len() < NAMED {
                first.push(name.to_string());
            }
            role_of(name).is_some_and(|role| role != Role::Ignored) || name.layout_part().is_some()
        };
        let listed = directory::list(&root, &wants, &mut self.notes)
            .map_err(|error| SourceError::io(self.place.clone(), error))?;
        self.first = first.into_inner();
        let mut parts: BTreeMap<MemberName, (Vec<MemberName>, u64)> = BTreeMap::new();
        for member in listed {
            if let Some((blob, number)) = member.name.layout_part() {
                // They are sorted by their names. A part behind a gap is of no use.
                let (paths, size) = parts.entry(blob).or_default();
                if number == paths.len() + 1 && number <= PARTS {
                    paths.push(member.name);
                    *size = size.saturating_add(member.size);
                }
                continue;
            }
            let Some(role) = role_of(&member.name) else { continue };
            if role == Role::Document {
                let file = directory::open_file(&root, &member.name)
                    .map_err(|error| SourceError::io(format!("{}/{}", self.place, member.name), error))?;
                self.keep(&member.name, member.size, &mut &file)?;
            }
            let paths = vec![member.name.clone()];
            self.push(&member.name, Indexed { role, link: None, size: member.size, position: 0, paths })?;
        }
        for (name, (paths, size)) in parts {
            let Some(role) = role_of(&name).filter(|_| !paths.is_empty()) else { continue };
            self.push(&name, Indexed { role, link: None, size, position: 0, paths })?;
        }
        Ok(MediumKind::Directory(root))
    }

    pub(super) fn list_archive(&mut self, parts: &mut super::parts::Parts) -> Result<(), SourceError> {
        let place = self.place.clone();
        let end = parts.size();
        let mut walk = Walk::new(FileInput(parts));
        while let Some(member) = walk.next().map_err(|error| SourceError::archive(place.clone(), error))? {
            if member.position.saturating_add(member.size) > end {
                return Err(SourceError::io(place, super::tar::truncated()));
            }
            let Some(indexed) = self.classify(&member) else { continue };
            if indexed.role == Role::Document && indexed.link.is_none() {
                self.keep(&member.name, member.size, &mut walk.content())?;
            }
            self.push(&member.name, indexed)?;
        }
        Ok(())
    }

    pub(super) fn read_stream(
        &mut self,
        number: usize,
        stream: &mut (dyn Read + Send),
        visitor: &mut dyn StreamVisitor,
    ) -> Result<(), SourceError> {
        let place = self.place.clone();
        let named = |error| match error {
            SourceError::Io { error, .. } => SourceError::io(place.clone(), error),
            error => error,
        };
        let mut walk = Walk::new(super::media::StreamInput(stream));
        while let Some(member) = walk.next().map_err(|error| SourceError::archive(place.clone(), error))? {
            let Some(indexed) = self.classify(&member) else { continue };
            if indexed.link.is_none() {
                let id = MemberId { medium: number, member: self.members.len() };
                match &indexed.role {
                    Role::Document => self.keep(&member.name, member.size, &mut walk.content())?,
                    Role::Blob(digest) => {
                        let key = ContentKey::Digest(digest.clone());
                        visitor.content(key, member.size, &mut walk.content()).map_err(named)?;
                    }
                    Role::Layer => {
                        let key = ContentKey::Layer(id);
                        visitor.content(key, member.size, &mut walk.content()).map_err(named)?;
                    }
                    Role::Ignored => {}
                }
            }
            self.push(&member.name, indexed)?;
        }
        // The rest is read, so that the writer of a pipe does not fail, and a checksum at its end is checked.
        io::copy(stream, &mut io::sink()).map_err(|error| SourceError::io(place, error))?;
        Ok(())
    }

    /// Returns the entry of a member that a format wants.
    fn classify(&mut self, member: &TarMember) -> Option<Indexed> {
        if self.first.len() < NAMED {
            self.first.push(member.name.to_string());
        }
        let role = role_of(&member.name).filter(|role| *role != Role::Ignored)?;
        let link = match &member.kind {
            TarKind::File => None,
            TarKind::Link(target) => Some(target.as_str().to_owned()),
            TarKind::Skipped(note) => {
                if self.notes.len() < limits::NOTES {
                    self.notes.extend(note.clone());
                }
                return None;
            }
        };
        // The content of a link is that of another member.
        let role = if link.is_some() { Role::Layer } else { role };
        Some(Indexed { role, link, size: member.size, position: member.position, paths: Vec::new() })
    }

    fn keep(&mut self, name: &MemberName, size: u64, content: &mut dyn Read) -> Result<(), SourceError> {
        let length = self.documents_length.saturating_add(size);
        let place = || format!("{}: {name}", self.place);
        // Any JSON file may be the config of an image. Those that are no configs must not hide the images beside them.
        let is_index = INDEXES.iter().any(|index| name.as_str().ends_with(index));
        if !is_index && (size > limits::MANIFEST || length > self.bounds.document) {
            if self.notes.len() < limits::NOTES {
                self.notes.push(format!("skipped {name}: a document of {size} bytes"));
            }
            return Ok(());
        }
        let (document, documents) = (self.bounds.document, self.bounds.documents());
        if size > document || length > documents {
            return Err(SourceError::TooLarge {
                place: place(),
                what: format!("a document of {size} bytes"),
                limit: self.bounds.limit_of_documents(),
            });
        }
        self.documents_length = length;
        let mut text = Vec::new();
        let read =
            content.take(size).read_to_end(&mut text).map_err(|error| SourceError::io(place(), error))?;
        if (read as u64) < size {
            return Err(SourceError::io(place(), super::tar::truncated()));
        }
        self.documents.insert(name.as_str().to_owned(), text.into());
        Ok(())
    }

    fn push(&mut self, name: &MemberName, member: Indexed) -> Result<(), SourceError> {
        if self.members.len() >= limits::MEMBERS {
            return Err(SourceError::TooLarge {
                place: self.place.clone(),
                what: "the number of members".into(),
                limit: limits::MEMBERS.to_string(),
            });
        }
        self.names.insert(name.as_str().to_owned(), self.members.len());
        self.members.push(member);
        Ok(())
    }
}
