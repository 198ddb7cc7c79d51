//! Members in memory, for tests of formats.

use std::collections::BTreeMap;

use super::{ContentKey, Format, MemberId, MemberName, Members, Role, SourceError};
use crate::oci::{Algorithm, Digest, Hasher};

/// The members of a medium in memory.
#[derive(Default)]
pub struct TestMembers {
    files: BTreeMap<String, (Role, Vec<u8>)>,
}

impl TestMembers {
    /// Adds a file with the role that a format gives it.
    pub fn add(&mut self, format: &dyn Format, name: &str, text: &[u8]) {
        let parsed = MemberName::parse(name.as_bytes()).unwrap();
        if let Some(role) = format.role(&parsed) {
            self.files.insert(parsed.as_str().to_owned(), (role, text.to_vec()));
        }
    }

    /// Adds a blob of a layout; returns its digest.
    pub fn blob(&mut self, text: &[u8]) -> Digest {
        let digest = Hasher::digest(Algorithm::Sha256, text);
        let name = format!("blobs/sha256/{}", digest.hex());
        self.files.insert(name, (Role::Blob(digest.clone()), text.to_vec()));
        digest
    }
}

impl Members for TestMembers {
    fn document(&self, name: &str) -> Option<bytes::Bytes> {
        self.files.get(name).filter(|(role, _)| *role == Role::Document).map(|(_, text)| text.clone().into())
    }

    fn documents(&self) -> Vec<String> {
        self.files
            .iter()
            .filter(|(_, (role, _))| *role == Role::Document)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn content(&self, name: &str) -> Option<ContentKey> {
        let member = self.files.keys().position(|known| known == name)?;
        match &self.files[name].0 {
            Role::Blob(digest) => Some(ContentKey::Digest(digest.clone())),
            Role::Layer => Some(ContentKey::Layer(MemberId { medium: 0, member })),
            Role::Document | Role::Ignored => None,
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        self.files.values().any(|(role, _)| *role == Role::Blob(digest.clone()))
    }

    fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        let found = self.files.values().find(|(role, _)| *role == Role::Blob(digest.clone()));
        Ok(found.map(|(_, text)| text.clone()))
    }

    fn place(&self) -> Option<&str> {
        Some("test")
    }
}
