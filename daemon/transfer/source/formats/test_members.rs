//! A medium in memory, for the tests of formats.

use std::collections::BTreeMap;

use super::super::catalog::{ContentKey, MemberId};
use super::super::{Catalog, Format, MemberName, Members, Role, SourceError};
use crate::oci::{Algorithm, Digest, Hasher};

/// Members by their names, with the roles that one format gives them.
#[derive(Default)]
pub(super) struct TestMembers {
    documents: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    names: BTreeMap<String, ContentKey>,
    place: Option<String>,
}

impl TestMembers {
    pub(super) fn at(place: &str) -> Self {
        TestMembers { place: Some(place.to_owned()), ..TestMembers::default() }
    }

    /// Adds a member; returns its role.
    pub(super) fn add(&mut self, format: &dyn Format, name: &str, content: &[u8]) -> Option<Role> {
        let name = MemberName::parse(name.as_bytes())?;
        let role = format.role(&name)?;
        match &role {
            Role::Document => drop(self.documents.insert(name.to_string(), content.to_vec())),
            Role::Blob(digest) => {
                self.names.insert(name.to_string(), ContentKey::Digest(digest.clone()));
                self.blobs.insert(digest.clone(), content.to_vec());
            }
            Role::Layer => {
                let member = self.names.len();
                self.names.insert(name.to_string(), ContentKey::Layer(MemberId { medium: 0, member }));
            }
            Role::Ignored => {}
        }
        Some(role)
    }

    /// Returns the images of the medium.
    pub(super) fn catalog(&mut self, format: &dyn Format) -> Catalog {
        format.catalog(self).unwrap().unwrap()
    }
}

impl Members for TestMembers {
    fn document(&self, name: &str) -> Option<bytes::Bytes> {
        self.documents.get(name).cloned().map(Into::into)
    }

    fn documents(&self) -> Vec<String> {
        self.documents.keys().cloned().collect()
    }

    fn content(&self, name: &str) -> Option<ContentKey> {
        self.names.get(name).cloned()
    }

    fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.blobs.get(digest).cloned())
    }

    fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

/// Returns the digest of content.
pub(super) fn digest(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

/// Returns the names and digests of the images, one line each.
pub(super) fn lines(catalog: &Catalog) -> Vec<String> {
    let line = |image: &super::super::ImageEntry| {
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    catalog.images.iter().map(line).collect()
}

/// Returns the refusals, one line each.
pub(super) fn refusals(catalog: &Catalog) -> Vec<String> {
    catalog.refused.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect()
}
