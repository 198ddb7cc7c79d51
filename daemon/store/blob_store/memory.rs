//! Blobs and uploads in memory, for tests, with failures on demand.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{BlobFile, BlobStore};
use crate::base::Lock;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::store::error::StoreError;
use crate::store::upload_files::HashedFile;

/// An operation of the store, which a test lets fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Step {
    Admit,
    Sync,
    GiveBack,
    Remove,
    SetAside,
}

/// Blobs in memory.
#[derive(Default)]
pub(in crate::store) struct MemoryBlobs(Lock<State>);

#[derive(Default)]
struct State {
    blobs: BTreeMap<Digest, (u64, Bytes)>,
    uploads: BTreeMap<String, (u64, Bytes)>,
    damaged: BTreeMap<Digest, Bytes>,
    inodes: u64,
    failing: Option<(Step, fn() -> StoreError)>,
    is_read_only: bool,
    steps: Vec<Step>,
}

impl State {
    fn step(&mut self, step: Step) -> Result<(), StoreError> {
        if self.is_read_only {
            return Err(StoreError::ReadOnly);
        }
        self.steps.push(step);
        match self.failing {
            Some((failing, error)) if failing == step => Err(error()),
            _ => Ok(()),
        }
    }
}

impl MemoryBlobs {
    /// Adds a complete upload; returns its file and digest.
    pub(in crate::store) fn upload(&self, name: &str, content: &[u8]) -> (HashedFile, Digest) {
        let mut state = self.0.lock();
        state.inodes += 1;
        let inode = state.inodes;
        state.uploads.insert(name.to_owned(), (inode, Bytes::copy_from_slice(content)));
        let file = HashedFile { name: name.to_owned(), inode, length: content.len() as u64 };
        (file, Hasher::digest(Algorithm::Sha256, content))
    }

    /// Adds a blob without the index, as a power cut leaves it.
    pub(in crate::store) fn put(&self, content: &[u8]) -> Digest {
        let mut state = self.0.lock();
        state.inodes += 1;
        let (inode, digest) = (state.inodes, Hasher::digest(Algorithm::Sha256, content));
        state.blobs.insert(digest.clone(), (inode, Bytes::copy_from_slice(content)));
        digest
    }

    pub(in crate::store) fn has_upload(&self, name: &str) -> bool {
        self.0.lock().uploads.contains_key(name)
    }

    pub(in crate::store) fn has_damaged(&self, digest: &Digest) -> bool {
        self.0.lock().damaged.contains_key(digest)
    }

    pub(in crate::store) fn digests(&self) -> Vec<Digest> {
        self.0.lock().blobs.keys().cloned().collect()
    }

    /// Lets every later step of this kind fail; `None` ends that.
    pub(in crate::store) fn fail(&self, failing: Option<(Step, fn() -> StoreError)>) {
        self.0.lock().failing = failing;
    }

    pub(in crate::store) fn is_read_only(&self) -> bool {
        self.0.lock().is_read_only
    }

    /// Returns the steps since the last call.
    pub(in crate::store) fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().steps)
    }
}

impl BlobStore for MemoryBlobs {
    fn begin_changes(&self) -> Result<impl Sized + use<'_>, StoreError> {
        if self.is_read_only() { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    fn latch_on(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Io { .. } | StoreError::Index(_)) {
            self.0.lock().is_read_only = true;
        }
        error
    }

    fn admit(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        state.step(Step::Admit)?;
        match state.uploads.get(&upload.name).cloned() {
            Some((inode, content)) if inode == upload.inode => {
                state.uploads.remove(&upload.name);
                state.blobs.insert(digest.clone(), (inode, content));
                Ok(())
            }
            Some(_) => Err(StoreError::UploadUnknown),
            None => match state.blobs.get(digest) {
                Some((_, content)) if content.len() as u64 == upload.length => Ok(()),
                _ => Err(StoreError::UploadUnknown),
            },
        }
    }

    fn give_back(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        state.step(Step::GiveBack)?;
        if let Some(file) = state.blobs.get(digest).filter(|(inode, _)| *inode == upload.inode).cloned() {
            state.blobs.remove(digest);
            state.uploads.insert(upload.name.clone(), file);
        }
        Ok(())
    }

    fn sync(&self, _: Algorithm) -> Result<(), StoreError> {
        let synced = self.0.lock().step(Step::Sync);
        synced.map_err(|error| self.latch_on(error))
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        state.step(Step::Remove)?;
        state.blobs.remove(digest);
        Ok(())
    }

    fn set_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        state.step(Step::SetAside)?;
        if let Some((_, content)) = state.blobs.remove(digest) {
            state.damaged.insert(digest.clone(), content);
        }
        Ok(())
    }

    fn file(&self, digest: &Digest) -> Result<Option<BlobFile>, StoreError> {
        let state = self.0.lock();
        let file = state.blobs.get(digest);
        Ok(file.map(|(inode, content)| BlobFile { length: content.len() as u64, inode: *inode }))
    }

    fn list(
        &self,
        algorithm: Algorithm,
    ) -> Result<impl Iterator<Item = Result<Digest, StoreError>> + use<>, StoreError> {
        let digests = self.digests().into_iter();
        Ok(digests.filter(move |digest| digest.algorithm() == algorithm).map(Ok))
    }

    fn read(&self, digest: &Digest, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let state = self.0.lock();
        let content = state.blobs.get(digest).map(|(_, content)| content.clone()).unwrap_or_default();
        let range = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
        content.get(range).map(Bytes::copy_from_slice).ok_or_else(|| StoreError::Damaged(digest.clone()))
    }
}
