//! All members of all media of an import, and their content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

use super::catalog::{Catalog, ContentKey, MemberId};
use super::error::SourceError;
use super::formats::is_of_registry_tree;
use super::indexed_medium::{IndexedMedium, StreamVisitor};
use super::limits::Bounds;
use super::media::{Medium, MediumKind};
use super::member::{MemberName, Role};
use super::{FORMATS, Members, directory, limits};
use crate::oci::{Digest, Hasher};

/// Links that are followed from one member to another.
const LINKS: usize = 8;

/// The media of an import.
pub struct Library {
    bounds: Bounds,
    media: Vec<IndexedMedium>,
    blobs: BTreeMap<Digest, Vec<MemberId>>,
    /// Manifests that are documents and not blobs.
    manifests: BTreeMap<Digest, Vec<u8>>,
}

/// Reads small content that no medium can give, such as that of a stream that has ended.
pub type Fallback<'a> = dyn FnMut(&Digest) -> Result<Option<Vec<u8>>, SourceError> + 'a;

impl Default for Library {
    fn default() -> Self {
        Library::within(Bounds::COMMAND)
    }
}

impl Library {
    /// Makes an empty library with limits.
    pub fn within(bounds: Bounds) -> Self {
        Library { bounds, media: Vec::new(), blobs: BTreeMap::new(), manifests: BTreeMap::new() }
    }

    /// Adds a medium: lists a directory or an archive, or reads a stream to its end.
    ///
    /// # Errors
    /// Fails if the medium cannot be read.
    pub fn add(&mut self, medium: Medium, visitor: &mut dyn StreamVisitor) -> Result<(), SourceError> {
        let number = self.media.len();
        let mut indexed = IndexedMedium::new(medium.place, medium.folder, self.bounds);
        match medium.kind {
            MediumKind::Directory(root) => indexed.content = Some(indexed.list_directory(root)?),
            MediumKind::Archive(mut parts) => {
                indexed.list_archive(&mut parts)?;
                indexed.content = Some(MediumKind::Archive(parts));
            }
            MediumKind::Stream(mut stream, _) => indexed.read_stream(number, &mut *stream, visitor)?,
        }
        for (at, member) in indexed.members.iter().enumerate() {
            if let Role::Blob(digest) = &member.role {
                let id = MemberId { medium: number, member: at };
                self.blobs.entry(digest.clone()).or_default().push(id);
            }
        }
        self.media.push(indexed);
        Ok(())
    }

    /// Returns the images of all media.
    ///
    /// # Errors
    /// Fails if a medium has a format that is not known, or cannot be read.
    pub fn catalogs(&mut self, fallback: &mut Fallback<'_>) -> Result<Vec<Catalog>, SourceError> {
        let mut catalogs = Vec::new();
        for medium in 0..self.media.len() {
            let indexed = &self.media[medium];
            let place = indexed.place.clone();
            let separator = match indexed.content {
                Some(MediumKind::Directory(_)) => "/",
                Some(MediumKind::Archive(_) | MediumKind::Stream(..)) | None => ": ",
            };
            let mut view = View { library: self, medium, fallback };
            let mut found = None;
            for format in FORMATS {
                found = format.catalog(&mut view).map_err(|error| error.within(&place, separator))?;
                if found.is_some() {
                    break;
                }
            }
            // A medium without names completes the others, such as the later archives of oc-mirror.
            let found = found.or_else(|| self.is_content_of_tree(medium).then(Catalog::default));
            let indexed = &mut self.media[medium];
            let Some(mut catalog) = found else {
                if indexed.first.is_empty() {
                    return Err(SourceError::Empty { place });
                }
                return Err(SourceError::Unknown { place, members: indexed.first.join(", ") });
            };
            catalog.notes.splice(..0, std::mem::take(&mut indexed.notes));
            self.manifests.append(&mut catalog.manifests);
            catalogs.push(catalog);
        }
        Ok(catalogs)
    }

    /// Returns true if a medium has a blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) || self.manifests.contains_key(digest)
    }

    /// Returns true if a medium, but not the only one, has blobs in the tree of registry:2 and no names.
    fn is_content_of_tree(&self, medium: usize) -> bool {
        let is_of_tree = |name: &String| is_of_registry_tree(name);
        self.media.len() > 1 && self.media[medium].names.keys().any(is_of_tree)
    }

    /// Returns the members with the content of a key. Several members may claim one digest.
    pub fn members(&self, key: &ContentKey) -> Vec<MemberId> {
        match key {
            ContentKey::Digest(digest) => self.blobs.get(digest).cloned().unwrap_or_default(),
            ContentKey::Layer(id) => vec![id.clone()],
        }
    }

    /// Returns the size of a member.
    pub fn size(&self, id: &MemberId) -> Option<u64> {
        Some(self.media.get(id.medium)?.members.get(id.member)?.size)
    }

    /// Returns true if the content of a member can still be read.
    pub fn is_readable(&self, id: &MemberId) -> bool {
        self.media.get(id.medium).is_some_and(|indexed| indexed.content.is_some())
    }

    /// Opens the content of a member; `None` if it was part of a stream.
    ///
    /// # Errors
    /// Fails if the medium cannot be read.
    pub fn open(&mut self, id: &MemberId) -> Result<Option<io::Take<Box<dyn Read + '_>>>, SourceError> {
        let Some(indexed) = self.media.get_mut(id.medium) else { return Ok(None) };
        let Some(member) = indexed.members.get(id.member) else { return Ok(None) };
        let failed = |error| SourceError::io(indexed.place.clone(), error);
        let reader: Box<dyn Read> = match &mut indexed.content {
            Some(MediumKind::Archive(parts)) => {
                parts.seek(SeekFrom::Start(member.position)).map_err(failed)?;
                Box::new(parts)
            }
            Some(MediumKind::Directory(root)) => {
                let mut content: Box<dyn Read> = Box::new(io::empty());
                for path in &member.paths {
                    let file: File = directory::open_file(root, path)
                        .map_err(|error| SourceError::io(format!("{}/{path}", indexed.place), error))?;
                    content = Box::new(content.chain(file));
                }
                content
            }
            Some(MediumKind::Stream(..)) | None => return Ok(None),
        };
        Ok(Some(reader.take(member.size)))
    }

    /// Reads small content, and checks that it matches its digest.
    ///
    /// # Errors
    /// Fails if the medium cannot be read, or the content is larger than [`limits::MANIFEST`].
    pub fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        if let Some(text) = self.manifests.get(digest) {
            return Ok(Some(text.clone()));
        }
        let (mut failure, mut is_of_stream) = (None, false);
        for id in self.members(&ContentKey::Digest(digest.clone())) {
            match self.read_member(digest, &id) {
                Ok(Some(text)) => return Ok(Some(text)),
                Ok(None) => is_of_stream = true,
                Err(error) => failure = Some(error),
            }
        }
        // The sink may have the content of a stream.
        failure.filter(|_| !is_of_stream).map_or(Ok(None), Err)
    }

    /// Reads a member with small content; `None` if it was part of a stream.
    fn read_member(&mut self, digest: &Digest, id: &MemberId) -> Result<Option<Vec<u8>>, SourceError> {
        let place = self.media[id.medium].place.clone();
        let size = self.size(id).unwrap_or(0);
        if size > limits::MANIFEST {
            return Err(SourceError::TooLarge {
                place,
                what: format!("manifest {digest} of {size} bytes"),
                limit: "4 MiB".into(),
            });
        }
        let Some(mut content) = self.open(id)? else { return Ok(None) };
        let mut text = Vec::new();
        content.read_to_end(&mut text).map_err(|error| SourceError::io(digest.to_string(), error))?;
        if Hasher::digest(digest.algorithm(), &text) != *digest {
            return Err(SourceError::invalid(
                place,
                format!("{digest}: its content does not match its name"),
            ));
        }
        Ok(Some(text))
    }
}

/// The members of one medium.
struct View<'a, 'b> {
    library: &'a mut Library,
    medium: usize,
    fallback: &'a mut Fallback<'b>,
}

impl View<'_, '_> {
    fn indexed(&self) -> &IndexedMedium {
        &self.library.media[self.medium]
    }
}

impl Members for View<'_, '_> {
    fn document(&self, name: &str) -> Option<Bytes> {
        self.indexed().documents.get(name).cloned()
    }

    fn documents(&self) -> Vec<String> {
        self.indexed().documents.keys().cloned().collect()
    }

    fn content(&self, name: &str) -> Option<ContentKey> {
        let indexed = self.indexed();
        let mut name = MemberName::parse(name.as_bytes())?.as_str().to_owned();
        for _ in 0..LINKS {
            let number = *indexed.names.get(&name)?;
            let member = indexed.members.get(number)?;
            match (&member.link, &member.role) {
                (Some(target), _) => name.clone_from(target),
                (None, Role::Blob(digest)) => return Some(ContentKey::Digest(digest.clone())),
                (None, Role::Layer) => {
                    return Some(ContentKey::Layer(MemberId { medium: self.medium, member: number }));
                }
                (None, Role::Document | Role::Ignored) => return None,
            }
        }
        None
    }

    fn has(&self, digest: &Digest) -> bool {
        self.library.has(digest)
    }

    fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        match self.library.read(digest)? {
            Some(text) => Ok(Some(text)),
            None => (self.fallback)(digest),
        }
    }

    fn place(&self) -> Option<&str> {
        self.indexed().folder.as_deref()
    }

    fn bounds(&self) -> Bounds {
        self.library.bounds
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write media")]
mod tests {
    use super::*;

    struct NoStream;

    impl StreamVisitor for NoStream {
        fn content(&mut self, _: ContentKey, _: u64, _: &mut dyn Read) -> Result<(), SourceError> {
            Err(SourceError::Stopped)
        }
    }

    fn medium(blobs: &[(&Digest, &[u8])]) -> (tempfile::TempDir, Medium) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("blobs/sha256");
        std::fs::create_dir_all(&folder).unwrap();
        for (digest, content) in blobs {
            std::fs::write(folder.join(digest.hex()), content).unwrap();
        }
        let root = File::open(directory.path()).unwrap().into();
        let kind = MediumKind::Directory(root);
        (directory, Medium { place: "stick".into(), folder: None, kind })
    }

    #[test]
    fn wrong_content_is_an_error_unless_another_medium_is_right() {
        let digest = Hasher::digest(crate::oci::Algorithm::Sha256, b"right");
        let absent = Hasher::digest(crate::oci::Algorithm::Sha256, b"absent");
        let mut library = Library::default();
        let (_wrong, first) = medium(&[(&digest, b"wrong")]);
        library.add(first, &mut NoStream).unwrap();
        let error = library.read(&digest).unwrap_err().to_string();
        assert!(error.contains("its content does not match its name"), "{error}");
        assert_eq!(library.read(&absent).unwrap(), None);
        let (_right, second) = medium(&[(&digest, b"right")]);
        library.add(second, &mut NoStream).unwrap();
        assert_eq!(library.read(&digest).unwrap().unwrap(), b"right");
    }

    #[test]
    fn archives_of_the_daemon_have_narrower_limits() {
        let catalogs = |index: &str, bounds: Bounds| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("oci-layout"), "{}").unwrap();
            std::fs::write(directory.path().join("index.json"), index).unwrap();
            let mut library = Library::within(bounds);
            for medium in super::super::open_media(&[directory.path().to_owned()]).unwrap() {
                library.add(medium, &mut NoStream)?;
            }
            library.catalogs(&mut |_| Ok(None))
        };
        let descriptor = |at: usize| format!(r#"{{"digest":"sha256:{at:064x}","size":1}}"#);
        let all: Vec<String> = (0..Bounds::DAEMON.images + 10).map(descriptor).collect();
        let index = format!(r#"{{"manifests":[{}]}}"#, all.join(","));
        let bounded = catalogs(&index, Bounds::DAEMON).unwrap().remove(0);
        assert_eq!((bounded.images.len(), bounded.refused.len()), (Bounds::DAEMON.images, 1));
        let whole = catalogs(&index, Bounds::COMMAND).unwrap().remove(0);
        assert_eq!((whole.images.len(), whole.refused.len()), (all.len(), 0));
        let long = format!(r#"{{"manifests":[],"x":"{}"}}"#, "x".repeat(9 << 20));
        let error = catalogs(&long, Bounds::DAEMON).unwrap_err().to_string();
        assert!(error.contains("8.0 MiB") && error.contains("holdfast import"), "{error}");
        assert!(catalogs(&long, Bounds::COMMAND).is_ok());
    }
}
