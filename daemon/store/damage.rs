//! The images with content that is known to be missing or corrupt, for the marks on the lists of the admin page.
//!
//! Pulls, checks and pages report such content in memory, see `reported`. A list asks the index for the manifests that need it,
//! within a budget of lookups, so that no page reads manifests for its marks.

use std::collections::BTreeMap;

use super::Store;
use super::error::StoreError;
use super::index::tables::rows::LinkExceptionRow;
use super::inner::Inner;
use super::work::{Cancel, Kind};
use crate::oci::{Digest, RepositoryName, Tag};

/// The maximum number of manifests that are found for the marks of one list.
const LOOKUPS: usize = 4000;
/// Indexes of indexes are followed up to this depth.
const DEPTH: usize = 3;
/// The maximum number of repositories and manifests whose tags are read for one list of damaged images. Each look reads all tags of the
/// repository.
const TAG_LOOKS: usize = 40;
/// The maximum number of tags of a damaged image that are named.
const TAGS: usize = 1;

/// The manifests that need content which is known to be missing or corrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownDamage {
    /// The manifests by repository; true for one that a damaged index of the repository references.
    images: BTreeMap<RepositoryName, BTreeMap<Digest, bool>>,
}

/// An image with missing or corrupt content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedImage {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// The first of its tags.
    pub tags: Vec<Tag>,
    /// The number of its other tags.
    pub more_tags: usize,
}

impl KnownDamage {
    /// Returns true if an image of the repository is damaged.
    pub fn is_in(&self, repository: &RepositoryName) -> bool {
        self.images.contains_key(repository)
    }

    /// Returns true if the manifest is damaged, or one that it references.
    pub fn is_of(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.images.get(repository).is_some_and(|images| images.contains_key(digest))
    }
}

impl Store {
    /// Returns the manifests that need content which is known to be missing or corrupt.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn known_damage(&self) -> Result<KnownDamage, StoreError> {
        if self.0.disk.known_damaged().is_empty() {
            return Ok(KnownDamage::default());
        }
        self.list(Kind::Page, Inner::known_damage).await
    }

    /// Returns the damaged images of the repositories for which `wanted` returns true: at most `limit` of them, and true if there may
    /// be more. Images have their tags; a part of a damaged index is left out.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn damaged_images(
        &self,
        limit: usize,
        wanted: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<(Vec<DamagedImage>, bool), StoreError> {
        if self.0.disk.known_damaged().is_empty() {
            return Ok((Vec::new(), false));
        }
        self.list(Kind::Page, move |inner, cancel| {
            let damage = inner.known_damage(cancel)?;
            let of_user = damage.images.into_iter().filter(|(repository, _)| wanted(repository));
            let all = of_user.flat_map(|(repository, images)| {
                images.into_iter().map(move |(digest, is_part)| (repository.clone(), digest, is_part))
            });
            let mut found = Vec::new();
            for (number, (repository, digest, is_part)) in all.enumerate() {
                if found.len() == limit || number == TAG_LOOKS {
                    return Ok((found, true));
                }
                let (tags, count) = inner.index.tags_of(&repository, &digest, TAGS, cancel)?;
                if !tags.is_empty() || !is_part {
                    let more_tags = count.saturating_sub(tags.len());
                    found.push(DamagedImage { repository, digest, tags, more_tags });
                }
            }
            Ok((found, false))
        })
        .await
    }
}

impl Inner {
    /// Returns true if a check has set the content of a repository aside, or found it missing: a manifest of the repository needs it.
    pub(super) fn is_set_aside(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        if !self.disk.is_reported(digest) || self.index.contains_blob(digest)? {
            return Ok(false);
        }
        let exception = self.index.link_exception(repository, digest)?;
        Ok(!exception.is_some_and(LinkExceptionRow::is_absence))
    }

    fn known_damage(&self, cancel: &Cancel) -> Result<KnownDamage, StoreError> {
        let (mut damage, mut budget) = (KnownDamage::default(), LOOKUPS);
        for digest in self.disk.known_damaged() {
            for repository in self.index.manifest_repositories(&digest)? {
                self.mark(&mut damage, (&repository, &digest), DEPTH, (&mut budget, cancel))?;
            }
            for (repository, manifest) in self.index.referencing_manifests(&digest, budget)? {
                budget = budget.saturating_sub(1);
                if self.index.blob(&repository, &digest)?.is_some()
                    || self.is_set_aside(&repository, &digest)?
                {
                    self.mark(&mut damage, (&repository, &manifest), DEPTH, (&mut budget, cancel))?;
                }
            }
        }
        Ok(damage)
    }

    /// Marks a manifest, and the indexes of its repository that reference it.
    fn mark(
        &self,
        damage: &mut KnownDamage,
        (repository, manifest): (&RepositoryName, &Digest),
        depth: usize,
        (budget, cancel): (&mut usize, &Cancel),
    ) -> Result<(), StoreError> {
        cancel.check()?;
        let images = damage.images.entry(repository.clone()).or_default();
        if images.contains_key(manifest) {
            return Ok(());
        }
        images.insert(manifest.clone(), false);
        if depth == 0 {
            return Ok(());
        }
        for (name, parent) in self.index.referencing_manifests(manifest, *budget)? {
            *budget = budget.saturating_sub(1);
            if name == *repository {
                self.mark(damage, (repository, &parent), depth - 1, (budget, cancel))?;
                if let Some(is_part) =
                    damage.images.get_mut(repository).and_then(|images| images.get_mut(manifest))
                {
                    *is_part = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage a file")]
mod tests {
    use super::super::test_store::{TestStore, name};
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn images_and_indexes_of_damaged_content_are_marked_until_it_is_pushed_again() {
        let test = TestStore::open().await;
        let image = test.push_image("a", &["1", "2"], b"layer", None).await;
        let other = test.push_image("a", &["3"], b"other", None).await;
        let part = test.push_image("b", &[], b"layer", None).await;
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": part, "size": 1}],
        });
        let index = test.put_manifest("b", &["all"], &index).await;
        assert_eq!(test.store.known_damage().await.unwrap(), KnownDamage::default());
        let layer = test.push_blob("a", b"layer").await;
        std::fs::write(test.file(&layer), b"lAyer").unwrap();
        test.check(false).await;
        assert!(!test.store.has_file(&layer, 5).await.unwrap(), "so that a client sends it again");
        let damage = test.store.known_damage().await.unwrap();
        assert!(damage.is_of(&name("a"), &image) && !damage.is_of(&name("a"), &other));
        assert!(damage.is_of(&name("b"), &index) && damage.is_in(&name("b")) && !damage.is_in(&name("c")));
        let shown = |(images, more): (Vec<DamagedImage>, bool)| {
            assert!(!more);
            let tags = images
                .into_iter()
                .map(|one| one.tags.iter().map(Tag::to_string).collect::<Vec<_>>().join(","));
            tags.collect::<Vec<_>>()
        };
        assert_eq!(shown(test.store.damaged_images(5, |_| true).await.unwrap()), ["1", "all"]);
        assert_eq!(shown(test.store.damaged_images(5, |one| *one == name("b")).await.unwrap()), ["all"]);
        assert!(test.store.damaged_images(1, |_| true).await.unwrap().1);
        // The operator restored the file by hand, and it was lost again.
        std::fs::write(test.file(&layer), b"layer").unwrap();
        test.check(false).await;
        assert_eq!(test.store.known_damage().await.unwrap(), KnownDamage::default());
        std::fs::write(test.file(&layer), b"lAyer").unwrap();
        // Set aside by a repair, the content is missing in all repositories.
        test.check(true).await;
        assert_eq!(shown(test.store.damaged_images(5, |_| true).await.unwrap()), ["1", "all"]);
        test.push_blob("a", b"layer").await;
        assert_eq!(test.store.known_damage().await.unwrap(), KnownDamage::default());
    }
}
