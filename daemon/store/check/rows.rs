//! Comparison of the rows of a repository with each other and with the files; all functions are blocking.

use super::report::Fault;
use crate::oci::{Digest, Manifest, Reference, ReferenceKind, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::ManifestEntry;
use crate::store::index::tables::candidates::DatedTag;
use crate::store::index::tables::rows::LinkExceptionRow;
use crate::store::{Store, blob};

impl Store {
    /// Returns the faults of a manifest. A corrupt manifest has none here: the check of the blobs reports it.
    pub(super) fn faults_of_manifest(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<Vec<Fault>, StoreError> {
        let has = |digest: &Digest| self.has_manifest(repository, digest);
        if let Some(fault) = self.fault_of_file(&entry.digest, entry.size)? {
            // A delete may have removed the manifest since its page was read.
            return Ok(Vec::from_iter(has(&entry.digest)?.then_some(fault)));
        }
        let bytes = match blob::read_whole(&*self.0.disk, &entry.digest, entry.size) {
            Ok(bytes) => bytes,
            Err(error @ StoreError::OutOfResources { .. }) => return Err(error),
            Err(_) => return Ok(Vec::new()),
        };
        let digest = entry.digest.clone();
        let Ok(manifest) = Manifest::parse(&bytes, Some(&entry.media_type)) else {
            return Ok(vec![Fault::MalformedManifest { repository: repository.clone(), digest }]);
        };
        let missing = missing_content(&manifest, |wanted| self.has_content(repository, wanted))?;
        if missing.is_empty() || !has(&digest)? {
            return Ok(Vec::new());
        }
        let fault =
            |missing| Fault::Incomplete { repository: repository.clone(), digest: digest.clone(), missing };
        Ok(missing.into_iter().map(fault).collect())
    }

    /// Returns the tags of a page that point to a manifest which their repository does not have.
    pub(super) fn dangling_tags(
        &self,
        repository: &RepositoryName,
        page: &[DatedTag],
    ) -> Result<Vec<DatedTag>, StoreError> {
        let mut dangling = Vec::new();
        for one in page {
            // The tag is looked up again: it may have been moved or deleted since its page was read.
            let by_tag = Reference::Tag(one.tag.clone());
            if !self.has_manifest(repository, &one.digest)?
                && self.0.index.manifest(repository, &by_tag)?.is_some_and(|entry| entry.digest == one.digest)
            {
                dangling.push(one.clone());
            }
        }
        Ok(dangling)
    }

    /// Returns the faults of a page of the blobs of a repository, after the digest `after`, and the last digest of the
    /// page.
    pub(super) fn faults_of_repository_blobs(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<(Option<Digest>, Vec<Fault>), StoreError> {
        let index = &self.0.index;
        let page = index.repository_blobs_after(repository, after, limit)?;
        let mut faults = Vec::new();
        for (digest, size) in &page {
            if let Some(fault) = self.fault_of_file(digest, *size)?
                // A delete or a collection may have removed the blob since its page was read.
                && index.blob(repository, digest)?.is_some_and(|row| row.size == *size)
            {
                faults.push(fault);
            }
        }
        Ok((page.into_iter().next_back().map(|(digest, _)| digest), faults))
    }

    /// Returns the fault of content of a repository that is missing in the table of blobs or has another length there.
    /// The check of the blobs finds the other faults of files.
    fn fault_of_file(&self, digest: &Digest, size: u64) -> Result<Option<Fault>, StoreError> {
        if self.0.index.blob_size(digest)? == Some(size) {
            return Ok(None);
        }
        let digest = digest.clone();
        Ok(Some(match self.0.disk.blob_length(&digest)? {
            None => Fault::Missing { digest },
            Some(actual) => Fault::Length { digest, indexed: size, actual },
        }))
    }

    fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.0.index.manifest(repository, &Reference::Digest(digest.clone()))?.is_some())
    }

    /// Returns true if the repository has the content, or lacks it because a client deleted it from
    /// there or a sparse manifest was pushed without it.
    fn has_content(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let index = &self.0.index;
        Ok(index.blob(repository, digest)?.is_some()
            || self.has_manifest(repository, digest)?
            || index.link_exception(repository, digest)?.is_some_and(LinkExceptionRow::is_absence))
    }
}

/// Returns the content that a manifest requires and that `has_content` does not find. Manifests of an index and foreign
/// layers may be missing.
pub(super) fn missing_content(
    manifest: &Manifest,
    has_content: impl Fn(&Digest) -> Result<bool, StoreError>,
) -> Result<Vec<Digest>, StoreError> {
    let mut missing = Vec::new();
    for link in manifest.references().iter().filter(|link| link.kind == ReferenceKind::Blob) {
        if !has_content(&link.digest)? {
            missing.push(link.digest.clone());
        }
    }
    Ok(missing)
}
