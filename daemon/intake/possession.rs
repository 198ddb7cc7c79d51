//! Imports of users who may not use all content: push rights, and proof of possession.
//!
//! An archive could name a digest of which it does not have the bytes, and so give access to content of other repositories. A user
//! without full rights can therefore name only content whose bytes were in the archive, or that a repository has from which the
//! user may pull. Other content counts as missing, whether the store has it or not: the answers do not tell the difference.
//! Foreign layers never do: the registry gives no access to one that the transfer did not bring.

use std::collections::HashSet;

use bytes::Bytes;

use super::rights::Rights;
use crate::access::{Action, CurrentAccess, Permit};
use crate::oci::{Digest, Manifest, MediaType, ReferenceKind, RepositoryName};
use crate::store::{OwnTransfer, Purpose, Store, TransferError};
use crate::transfer::{
    Chunks, ImageSet, ImagesAnswer, Item, ManifestAnswer, ManifestOutcome, Put, SetManifest, Sink, SinkError,
    Stored, TagAnswer, TagOutcome,
};

/// Missing content that an answer names.
const MISSING: usize = 100;
/// The repositories of a digest of which the rights are checked.
const REPOSITORIES: usize = 1000;

/// The user of an import.
pub struct ImportUser {
    rights: Rights,
    /// `None` for full rights.
    limits: Option<Limits>,
}

/// The limits of a user without full rights.
struct Limits {
    store: Store,
    /// A transfer of its own, which leases content that the engine does not send.
    transfer: OwnTransfer,
    /// The maximum number of descriptors of a manifest.
    descriptors: usize,
    /// The content whose bytes were in the archive.
    delivered: HashSet<Digest>,
}

/// The sink of a user; without one it is the sink behind it. For a limited user the sink behind it has to read all content that
/// it gets, also if it has it.
pub struct UserSink<S> {
    inner: S,
    user: Option<ImportUser>,
}

/// A limited user, and the permit of now.
#[derive(Clone, Copy)]
struct LimitedUser<'a> {
    permit: &'a Permit,
    limits: &'a Limits,
}

impl ImportUser {
    /// Makes a user who may use all content of the registry.
    pub fn with_full_rights(permit: Permit, access: CurrentAccess) -> Self {
        ImportUser { rights: Rights::new(access, permit, true), limits: None }
    }

    /// Makes a limited user. `descriptors` is the maximum number of descriptors of a manifest.
    ///
    /// # Errors
    /// [`SinkError::Denied`] if too many transfers are open.
    pub fn limited(
        permit: Permit,
        access: CurrentAccess,
        store: Store,
        descriptors: usize,
    ) -> Result<Self, SinkError> {
        let transfer = store.own_transfer(Purpose::Import);
        let transfer = transfer.map_err(|error| SinkError::Denied(error.to_string()))?;
        let limits = Limits { store, transfer, descriptors, delivered: HashSet::new() };
        Ok(ImportUser { rights: Rights::new(access, permit, false), limits: Some(limits) })
    }

    /// Returns true if the user has to prove the possession of content.
    pub fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    fn as_limited(&self) -> Option<LimitedUser<'_>> {
        self.limits.as_ref().map(|limits| LimitedUser { permit: &self.rights.permit, limits })
    }
}

impl LimitedUser<'_> {
    /// Returns true if the user may use content: its bytes were in the archive, or a repository has it from which the user may
    /// pull.
    async fn may_use(&self, digest: &Digest) -> Result<bool, SinkError> {
        if self.limits.delivered.contains(digest) {
            return Ok(true);
        }
        let repositories = self.limits.store.blob_repositories(digest, REPOSITORIES).await;
        let repositories = repositories.map_err(|error| SinkError::Denied(error.to_string()))?;
        Ok(repositories.iter().any(|name| self.permit.may(Action::Pull, name)))
    }

    /// Refuses content that exceeds the capacity, whether the store has it or not.
    async fn check_capacity(&self, bytes: u64) -> Result<(), SinkError> {
        self.limits.transfer.check_room(bytes).await.map_err(|error| match error {
            TransferError::Full { .. } => SinkError::Full(error.to_string()),
            TransferError::Unknown
            | TransferError::TooMany
            | TransferError::TooManyDigests
            | TransferError::Store(_) => SinkError::Denied(error.to_string()),
        })
    }

    /// Returns the length of content that the user may use, if the store has it.
    async fn present(&self, digest: &Digest) -> Result<Option<u64>, SinkError> {
        if !self.may_use(digest).await? {
            return Ok(None);
        }
        self.limits.transfer.present(digest).await.map_err(|error| SinkError::Denied(error.to_string()))
    }

    /// Returns the content of a manifest that the user may not use.
    async fn missing_of(
        &self,
        repository: &RepositoryName,
        manifest: &SetManifest,
        bytes: &[u8],
    ) -> Result<Vec<Item>, SinkError> {
        let refused =
            |error: &dyn std::fmt::Display| SinkError::Refused(format!("{}: {error}", manifest.digest));
        let media_type = manifest.media_type.as_deref().map(str::parse::<MediaType>);
        let media_type = media_type.transpose().map_err(|error| refused(&error))?;
        let parsed = Manifest::check_size(bytes, self.limits.descriptors)
            .and_then(|()| Manifest::parse_pushed(bytes, media_type.as_ref()))
            .map_err(|error| refused(&error))?;
        let mut missing = Vec::new();
        for link in parsed.references() {
            let is_usable = match link.kind {
                // One of this repository, or of the same set; and content that clients fetch from elsewhere.
                ReferenceKind::Manifest | ReferenceKind::Foreign => true,
                ReferenceKind::Blob => {
                    self.limits.store.blob(repository, &link.digest).is_ok()
                        || self.may_use(&link.digest).await?
                }
            };
            if !is_usable {
                missing.push(Item { digest: link.digest.clone(), size: link.size });
            }
        }
        Ok(missing)
    }
}

impl<S: Sink> UserSink<S> {
    /// Makes the sink of a user.
    pub fn new(inner: S, user: Option<ImportUser>) -> Self {
        UserSink { inner, user }
    }

    /// Returns the sink behind it.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn limited(&self) -> Option<LimitedUser<'_>> {
        self.user.as_ref()?.as_limited()
    }

    /// Notes content whose bytes were in the archive.
    fn note_delivered(&mut self, digest: &Digest) {
        if let Some(limits) = self.user.as_mut().and_then(|user| user.limits.as_mut()) {
            limits.delivered.insert(digest.clone());
        }
    }

    /// Checks the rights of the user again. Returns the content of a set that a limited user may not use.
    async fn missing(&mut self, set: &ImageSet) -> Result<Vec<Item>, SinkError> {
        let Some(user) = &mut self.user else { return Ok(Vec::new()) };
        let repository: RepositoryName = set
            .repository
            .parse()
            .map_err(|error| SinkError::Refused(format!("{}: {error}", set.repository)))?;
        user.rights.check_push(&repository).await?;
        let Some(user) = user.as_limited() else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for manifest in &set.manifests {
            let bytes = match &manifest.data {
                Some(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
                None if user.may_use(&manifest.digest).await? => self.inner.read(&manifest.digest).await?,
                None => None,
            };
            match bytes {
                Some(bytes) => missing.extend(user.missing_of(&repository, manifest, &bytes).await?),
                None => missing.push(Item { digest: manifest.digest.clone(), size: None }),
            }
        }
        Ok(missing)
    }
}

/// Returns the answer to a set with missing content.
fn incomplete(set: &ImageSet, missing: &[Item]) -> ImagesAnswer {
    let missing: Vec<Item> = missing.iter().take(MISSING).cloned().collect();
    let manifest = |manifest: &SetManifest| ManifestAnswer {
        digest: manifest.digest.clone(),
        outcome: ManifestOutcome::Incomplete,
        missing: missing.clone(),
    };
    let tag = |tag: &crate::transfer::SetTag| TagAnswer {
        tag: tag.tag.clone(),
        outcome: TagOutcome::Incomplete,
        old: None,
        reason: None,
        missing: missing.clone(),
    };
    ImagesAnswer {
        tags: set.tags.iter().map(tag).collect(),
        manifests: set.manifests.iter().map(manifest).collect(),
    }
}

impl<S: Sink> Sink for UserSink<S> {
    async fn need(&mut self, items: &[Item]) -> Result<Vec<Item>, SinkError> {
        let Some(user) = self.limited() else { return self.inner.need(items).await };
        let (mut usable, mut others) = (Vec::new(), Vec::new());
        for item in items {
            if user.may_use(&item.digest).await? {
                usable.push(item.clone());
            } else {
                others.push(item.clone());
            }
        }
        let bytes = others.iter().fold(0_u64, |sum, item| sum.saturating_add(item.size.unwrap_or(0)));
        user.check_capacity(bytes).await?;
        // A request without items keeps the transfer behind open.
        if !usable.is_empty() || items.is_empty() {
            others.extend(self.inner.need(&usable).await?);
        }
        Ok(others)
    }

    async fn put(&mut self, item: &Item, content: Chunks) -> Result<Put, SinkError> {
        // The engine asks for the length of content with an empty body, which the sink behind would take for the content.
        let Some(user) = self.limited() else { return self.inner.put(item, content).await };
        if let Some(size) = user.present(&item.digest).await? {
            return Ok(Put::Present(Some(size)));
        }
        match self.inner.put(item, content).await? {
            // The answer does not tell whether another repository had it.
            Put::Stored | Put::Present(_) => {
                self.note_delivered(&item.digest);
                Ok(Put::Stored)
            }
            Put::Refused(reason) => Ok(Put::Refused(reason)),
        }
    }

    async fn post(&mut self, content: Chunks) -> Result<Stored, SinkError> {
        let mut stored = self.inner.post(content).await?;
        if let Some(user) = self.limited() {
            // As with content whose digest is known.
            stored.present = stored.present && user.may_use(&stored.digest).await?;
            self.note_delivered(&stored.digest);
        }
        Ok(stored)
    }

    async fn read(&mut self, digest: &Digest) -> Result<Option<Bytes>, SinkError> {
        match self.limited() {
            Some(user) if !user.may_use(digest).await? => Ok(None),
            Some(_) | None => self.inner.read(digest).await,
        }
    }

    async fn export(&mut self, content: &str, signature: Option<&str>) -> Result<Option<String>, SinkError> {
        self.inner.export(content, signature).await
    }

    async fn tagged(&mut self, repository: &str, tag: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        if let Some(user) = self.limited() {
            let name: Result<RepositoryName, _> = repository.parse();
            if !name.is_ok_and(|name| user.permit.may(Action::Pull, &name)) {
                return Ok(None);
            }
        }
        self.inner.tagged(repository, tag).await
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        self.inner.reopen().await
    }

    async fn images(&mut self, set: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        let missing = self.missing(set).await?;
        if !missing.is_empty() {
            return Ok(incomplete(set, &missing));
        }
        let mut answer = self.inner.images(set).await?;
        if let Some(user) = self.limited() {
            let name: Result<RepositoryName, _> = set.repository.parse();
            if !name.is_ok_and(|name| user.permit.may(Action::Pull, &name)) {
                // The image that a tag named before is for users who may pull.
                answer.tags.iter_mut().for_each(|tag| tag.old = None);
            }
        }
        Ok(answer)
    }
}
