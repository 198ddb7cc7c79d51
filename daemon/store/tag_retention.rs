//! Retention of tags: the tags of a repository that its rule keeps.
//!
//! Attached tags neither count nor expire by themselves: the fallback tag and the tags of cosign, by their names, and
//! tags of manifests whose subject is in the repository. They are removed together with the manifest that they are
//! attached to. An attachment tag whose target is not in the repository expires like other tags, but never takes the
//! place of an image.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::blocking;
use super::clock::StoreTime;
use super::error::StoreError;
use super::gc::{CollectedItem, Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
use super::index::Index;
use super::index::changes::sweep::RetireTags;
use super::index::tables::candidates::DatedTag;
use super::index::tables::forecast::Forecast;
use super::retention::RetentionRule;
use crate::oci::{AttachmentTarget, Digest, Reference, RepositoryName};

/// The time at which a tag was set, and its place among those of the same second.
type SetAt = (StoreTime, u64);

/// The relation of a tag to the images of its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagKind {
    /// A tag of an image or artifact of its own.
    Image,
    /// A tag that is attached to a manifest of the repository.
    Attached,
    /// A tag that is attached by its name to a manifest that is not in the repository.
    WithoutTarget,
}

/// Classifies a tag. `has_live_subject` says whether its manifest has a subject in the repository, and `is_live`
/// whether the repository has the target of an attachment tag.
fn classify(
    tag: &DatedTag,
    has_live_subject: bool,
    is_live: impl FnOnce(&AttachmentTarget) -> Result<bool, StoreError>,
) -> Result<TagKind, StoreError> {
    if has_live_subject {
        return Ok(TagKind::Attached);
    }
    // A tag whose name contains the digest of its own manifest is the tag of an image.
    let target = AttachmentTarget::of(&tag.tag).filter(|target| !target.matches(&tag.digest));
    let Some(target) = target else { return Ok(TagKind::Image) };
    Ok(if is_live(&target)? { TagKind::Attached } else { TagKind::WithoutTarget })
}

/// Returns true if a rule removes a tag, provided that it is not attached. `oldest_kept` is the oldest of the newest
/// tags that the rule keeps. Tags of one second without a stored order are all kept.
fn is_expired(tag: &DatedTag, oldest_kept: Option<SetAt>, rule: &RetentionRule, now: StoreTime) -> bool {
    let is_among_newest = oldest_kept.is_some_and(|oldest| (tag.since, tag.order) >= oldest);
    !is_among_newest && !rule.keeps(tag, now)
}

/// The newest tags of a repository, as many as a rule keeps, in memory that the rule bounds.
struct Newest {
    limit: usize,
    images: BinaryHeap<Reverse<SetAt>>,
    /// Tags without target. They count only in a repository without images, which has the signatures of others.
    without_target: BinaryHeap<Reverse<SetAt>>,
}

impl Newest {
    fn new(limit: usize) -> Self {
        Newest { limit, images: BinaryHeap::new(), without_target: BinaryHeap::new() }
    }

    fn add(&mut self, set_at: SetAt, kind: TagKind) {
        let heap = match kind {
            TagKind::Image => &mut self.images,
            TagKind::WithoutTarget => &mut self.without_target,
            TagKind::Attached => return,
        };
        heap.push(Reverse(set_at));
        if heap.len() > self.limit {
            heap.pop();
        }
    }

    /// Returns the time at which the oldest of the newest tags was set.
    fn oldest(&self) -> Option<SetAt> {
        let heap = if self.images.is_empty() { &self.without_target } else { &self.images };
        heap.peek().map(|oldest| oldest.0)
    }
}

/// Classifies the tags of a page by the rows of the index.
struct Classifier<'a> {
    index: &'a Index,
    repository: &'a RepositoryName,
    /// The subjects of the manifests of one page of tags: memory does not grow with the repository.
    subjects: BTreeMap<Digest, Digest>,
}

impl<'a> Classifier<'a> {
    fn new(index: &'a Index, repository: &'a RepositoryName, page: &[DatedTag]) -> Result<Self, StoreError> {
        let digests = page.iter().map(|tag| tag.digest.clone()).collect();
        Ok(Classifier { index, repository, subjects: index.subjects_of(repository, &digests)? })
    }

    fn classify(&self, tag: &DatedTag) -> Result<TagKind, StoreError> {
        let has_live_subject = match self.subjects.get(&tag.digest) {
            Some(subject) => {
                self.index.manifest(self.repository, &Reference::Digest(subject.clone()))?.is_some()
            }
            None => false,
        };
        let is_live = |target: &AttachmentTarget| self.index.has_attached_subject(self.repository, target);
        classify(tag, has_live_subject, is_live)
    }
}

impl Collection<'_> {
    /// Removes the tags that a rule does not keep: one pass over the tags finds the newest ones, a second one removes
    /// the others.
    pub(super) async fn tags(
        &mut self,
        repository: &RepositoryName,
        rule: &RetentionRule,
    ) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
        let limit = rule.newest.unwrap_or(0);
        let oldest_kept = self.stoppable(blocking(move || oldest_kept(&index, &name, limit))).await?;
        let usage = self.store.usage(Some(rule))?;
        let mut after = None;
        loop {
            self.safe_point().await?;
            let (index, name, rule) = (Arc::clone(&self.store.0.index), repository.clone(), rule.clone());
            let usage = usage.clone();
            let page = move || {
                let mut page = index.tags_after(&name, after.as_ref(), ROWS_PER_READ)?;
                let last = page.last().map(|last| last.tag.clone());
                let now = index.clock.now();
                page.retain(|tag| is_expired(tag, oldest_kept, &rule, now));
                if let Some(usage) = &usage {
                    usage.drop_used_tags((&index, &name), &mut page, now)?;
                }
                Ok((without_attached(&index, &name, page)?, last))
            };
            let (page, last) = blocking(page).await?;
            after = last;
            if after.is_none() {
                return Ok(());
            }
            self.retire(repository, &page).await?;
        }
    }

    async fn retire(&mut self, repository: &RepositoryName, tags: &[DatedTag]) -> Result<(), StoreError> {
        for part in tags.chunks(ITEMS_PER_TRANSACTION) {
            self.safe_point().await?;
            let (name, part) = (repository.clone(), part.to_vec());
            let taken = if self.dry_run {
                let retire = move |index: &Index, forecast: &mut Forecast| {
                    index.forecast_retired_tags(forecast, &name, &part).map(|()| part)
                };
                self.read_with_forecast(retire).await?
            } else {
                let retire =
                    move |tags: &[DatedTag]| RetireTags { repository: name.clone(), tags: tags.to_vec() };
                self.store.change(part, retire).await?.concat()
            };
            for DatedTag { tag, digest, .. } in taken {
                self.report.freed_tags += 1;
                (self.observe)(CollectedItem::Tag { repository: repository.clone(), tag, digest });
            }
        }
        Ok(())
    }
}

/// Returns the time at which the oldest of the newest `limit` tags was set.
fn oldest_kept(
    index: &Index,
    repository: &RepositoryName,
    limit: usize,
) -> Result<Option<SetAt>, StoreError> {
    if limit == 0 {
        return Ok(None);
    }
    let (mut newest, mut after) = (Newest::new(limit), None);
    loop {
        let page = index.tags_after(repository, after.as_ref(), ROWS_PER_READ)?;
        let classifier = Classifier::new(index, repository, &page)?;
        for tag in &page {
            newest.add((tag.since, tag.order), classifier.classify(tag)?);
        }
        after = page.into_iter().next_back().map(|last| last.tag);
        if after.is_none() {
            return Ok(newest.oldest());
        }
    }
}

fn without_attached(
    index: &Index,
    repository: &RepositoryName,
    tags: Vec<DatedTag>,
) -> Result<Vec<DatedTag>, StoreError> {
    if tags.is_empty() {
        return Ok(tags);
    }
    let (classifier, mut others) = (Classifier::new(index, repository, &tags)?, Vec::new());
    for tag in tags {
        if classifier.classify(&tag)? != TagKind::Attached {
            others.push(tag);
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher, Pattern};

    fn at(second: u64, order: u64) -> SetAt {
        (StoreTime::from_seconds(second), order)
    }

    fn digest(content: &str) -> Digest {
        Hasher::digest(Algorithm::Sha256, content.as_bytes())
    }

    fn tag(name: &str, content: &str, (since, order): SetAt) -> DatedTag {
        DatedTag { tag: name.parse().unwrap(), digest: digest(content), since, order }
    }

    #[test]
    fn tags_of_one_second_are_ordered_by_their_sequence_number() {
        let mut newest = Newest::new(3);
        for order in [4, 8, 1, 6, 2, 7, 3, 5] {
            newest.add(at(1, order), TagKind::Image);
        }
        assert_eq!(newest.oldest(), Some(at(1, 6)));
    }

    #[test]
    fn attached_tags_do_not_count_as_newest_tags() {
        let mut newest = Newest::new(2);
        newest.add(at(1, 0), TagKind::Image);
        newest.add(at(2, 0), TagKind::Attached);
        newest.add(at(3, 0), TagKind::WithoutTarget);
        assert_eq!(newest.oldest(), Some(at(1, 0)));
        newest.add(at(4, 0), TagKind::Image);
        newest.add(at(5, 0), TagKind::Image);
        assert_eq!(newest.oldest(), Some(at(4, 0)));
    }

    #[test]
    fn attachment_tags_count_in_a_repository_without_images() {
        let mut newest = Newest::new(1);
        newest.add(at(1, 0), TagKind::WithoutTarget);
        newest.add(at(2, 0), TagKind::WithoutTarget);
        assert_eq!(newest.oldest(), Some(at(2, 0)));
        assert_eq!(Newest::new(1).oldest(), None);
    }

    #[test]
    fn a_tag_is_classified_by_its_subject_and_its_name() {
        let signature = format!("sha256-{}.sig", digest("image").hex());
        let by_name = tag(&signature, "signature", at(1, 0));
        let live = |_: &AttachmentTarget| Ok(true);
        let absent = |_: &AttachmentTarget| Ok(false);
        let unasked = |_: &AttachmentTarget| -> Result<bool, StoreError> { unreachable!("not looked up") };
        assert_eq!(classify(&by_name, false, live).unwrap(), TagKind::Attached);
        assert_eq!(classify(&by_name, false, absent).unwrap(), TagKind::WithoutTarget);
        assert_eq!(classify(&by_name, true, unasked).unwrap(), TagKind::Attached);
        let ordinary = tag("1.0", "image", at(1, 0));
        assert_eq!(classify(&ordinary, false, unasked).unwrap(), TagKind::Image);
        assert_eq!(classify(&ordinary, true, unasked).unwrap(), TagKind::Attached);
        let own = tag(&digest("image").fallback_tag(), "image", at(1, 0));
        assert_eq!(classify(&own, false, unasked).unwrap(), TagKind::Image);
        let failing = classify(&by_name, false, |_| Err(StoreError::Closing));
        assert!(matches!(failing, Err(StoreError::Closing)));
    }

    #[test]
    fn a_tag_expires_unless_it_is_new_young_or_named() {
        let rule = RetentionRule {
            newest: Some(1),
            younger: Some(Duration::from_mins(1)),
            tags: vec![Pattern::from("v*".to_owned())],
            ..RetentionRule::default()
        };
        let (now, oldest) = (StoreTime::from_seconds(100), Some(at(30, 7)));
        assert!(is_expired(&tag("b", "", at(30, 6)), oldest, &rule, now));
        assert!(!is_expired(&tag("b", "", at(30, 7)), oldest, &rule, now));
        assert!(!is_expired(&tag("b", "", at(41, 0)), None, &rule, now), "it is young");
        assert!(is_expired(&tag("b", "", at(40, 9)), None, &rule, now));
        assert!(!is_expired(&tag("v1", "", at(0, 0)), oldest, &rule, now));
    }

    #[test]
    fn tags_without_a_stored_order_share_their_second_and_are_all_kept() {
        let rule = RetentionRule { newest: Some(1), ..RetentionRule::default() };
        let mut newest = Newest::new(1);
        newest.add(at(5, 0), TagKind::Image);
        newest.add(at(5, 0), TagKind::Image);
        for name in ["a", "b"] {
            assert!(!is_expired(
                &tag(name, "", at(5, 0)),
                newest.oldest(),
                &rule,
                StoreTime::from_seconds(9)
            ));
        }
    }

    proptest! {
        /// Compares the bounded heap with a sorted list of all tags.
        #[test]
        fn the_newest_tags_are_kept(
            times in prop::collection::vec((0_u64..5, 0_u64..50), 0..40), limit in 1_usize..10
        ) {
            let mut newest = Newest::new(limit);
            for (second, order) in &times {
                newest.add(at(*second, *order), TagKind::Image);
                prop_assert!(newest.images.len() <= limit);
            }
            let mut sorted: Vec<SetAt> = times.iter().map(|(second, order)| at(*second, *order)).collect();
            sorted.sort_by_key(|set_at| Reverse(*set_at));
            let expected = sorted.get(limit.min(sorted.len()).wrapping_sub(1)).copied();
            prop_assert_eq!(newest.oldest(), expected);
            let rule = RetentionRule { newest: Some(limit), ..RetentionRule::default() };
            let kept = times
                .iter()
                .filter(|(second, order)| {
                    !is_expired(&tag("b", "", at(*second, *order)), newest.oldest(), &rule, StoreTime::from_seconds(9))
                })
                .count();
            prop_assert!(kept >= limit.min(times.len()));
        }
    }
}
