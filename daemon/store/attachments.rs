//! The attachments of a manifest, for badges in lists: signatures, SBOMs and provenance. They are found by the referrers
//! of the manifest, by attachment tags, and by the attestations within an index.

use std::collections::BTreeSet;

use super::Store;
use super::error::StoreError;
use super::index::ManifestEntry;
use super::summaries::Summary;
use super::work::{Cancel, Kind};
use crate::oci::{
    Attachment, AttachmentTarget, DescriptorView, Digest, ManifestView, Reference, RepositoryName, Tag,
};

/// The maximum number of referrers of a manifest that are read for its badges.
const REFERRERS: usize = 16;
/// The maximum length of an attached manifest that is read for a badge, in bytes.
const LARGEST: u64 = 64 << 10;
/// The annotations that have the type of the predicate of an in-toto statement.
const PREDICATES: [&str; 3] =
    ["in-toto.io/predicate-type", "dev.sigstore.bundle.predicateType", "predicateType"];

impl Store {
    /// Returns the attachment tags of a manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn attachment_tags(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Tag>, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.list(Kind::Page, move |inner, _| {
            let mut found = Vec::new();
            for tag in AttachmentTarget::tags_of(&digest) {
                if inner.index.manifest(&repository, &Reference::Tag(tag.clone()))?.is_some() {
                    found.push(tag);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Returns the kinds of the attachments of a manifest, as the lists of tags have them.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn attachments_of(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<BTreeSet<Attachment>, StoreError> {
        let (store, repository, entry) = (self.clone(), repository.clone(), entry.clone());
        self.list(Kind::Page, move |_, cancel| {
            let summary = store.summary(&repository, &entry);
            store.attachments(&repository, &entry, &summary, cancel)
        })
        .await
    }

    /// Returns the kinds of the attachments of a manifest; blocking.
    pub(super) fn attachments(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
        summary: &Summary,
        cancel: &Cancel,
    ) -> Result<BTreeSet<Attachment>, StoreError> {
        let mut found: BTreeSet<Attachment> = summary.attached.iter().copied().collect();
        let referrers = self.0.index.first_referrers(repository, &entry.digest, REFERRERS, cancel)?;
        found.extend(referrers.iter().filter_map(kind));
        for tag in AttachmentTarget::tags_of(&entry.digest) {
            let Some(attached) = self.0.index.manifest(repository, &Reference::Tag(tag.clone()))? else {
                continue;
            };
            let of_tag = Attachment::of_tag(tag.as_str());
            if !matches!(of_tag, None | Some(Attachment::Attestation)) {
                found.extend(of_tag);
                continue;
            }
            let contents = self.small_manifest(&attached);
            let kinds: Vec<Attachment> =
                contents.manifests.items.iter().chain(&contents.layers.items).filter_map(kind).collect();
            found.extend(of_tag.filter(|_| kinds.is_empty()).into_iter().chain(kinds));
        }
        Ok(found)
    }

    /// Returns the kinds of the statements in an attestation manifest, which `BuildKit` adds to an index.
    pub(super) fn statements(&self, entry: &ManifestEntry) -> Vec<Attachment> {
        self.small_manifest(entry).layers.items.iter().filter_map(kind).collect()
    }

    /// Reads a manifest that is not long. One that cannot be read is empty.
    fn small_manifest(&self, entry: &ManifestEntry) -> ManifestView {
        let entry = Some(entry).filter(|entry| entry.size <= LARGEST);
        let bytes = entry.and_then(|entry| self.read_for_page(entry).ok().flatten());
        ManifestView::parse(&bytes.unwrap_or_default())
    }
}

/// Returns the kind of an attached artifact, or of a layer of one.
fn kind(part: &DescriptorView) -> Option<Attachment> {
    if let Some(predicate) = PREDICATES.iter().find_map(|name| part.annotations.get(name)) {
        return Some(Attachment::of_predicate(predicate));
    }
    let of_type = |text: &Option<String>| text.as_deref().and_then(Attachment::of_type);
    of_type(&part.artifact_type).or_else(|| of_type(&part.media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicate_decides_before_the_type() {
        let part = |more: &str| {
            let digest = format!("sha256:{}", "a".repeat(64));
            let text = format!(r#"{{"digest":"{digest}","mediaType":"application/vnd.in-toto+json"{more}}}"#);
            serde_json::from_str::<DescriptorView>(&text).unwrap()
        };
        assert_eq!(kind(&part("")), Some(Attachment::Attestation));
        let spdx = r#","annotations":{"in-toto.io/predicate-type":"https://spdx.dev/Document"}"#;
        assert_eq!(kind(&part(spdx)), Some(Attachment::Sbom));
        assert_eq!(kind(&part(r#","artifactType":"application/spdx+json""#)), Some(Attachment::Sbom));
    }
}
