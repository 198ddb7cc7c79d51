//! Retention of tags: which tags of a repository a rule keeps.
//!
//! Tags that attach content to an image do not count and are not taken by themselves: the referrers tag and the tags of
//! cosign by their name, and tags of manifests whose subject is in the repository. They go when the collection takes the
//! manifest that they are attached to. Those whose image is not here are judged by the rule like others, but never take
//! the place of an image.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::blocking;
use super::clock::Moment;
use super::error::StoreError;
use super::gc::{AT_ONCE, Collection, PAGE, Taken};
use super::index::Index;
use super::index::candidates::TagAge;
use super::index::forecast::Forecast;
use super::retention::Retention;
use crate::oci::{AttachedTo, Digest, Reference, RepositoryName};

/// When a tag was set, and its place among those of the same second.
type SetAt = (Moment, u64);

/// How a tag stands to the images of its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It names an image.
    Image,
    /// It is attached to a manifest that is in the repository.
    Attached,
    /// Its name attaches it to a manifest that is not in the repository.
    WithoutImage,
}

/// The newest tags of a repository, as many as a rule keeps.
struct Newest {
    limit: usize,
    images: BinaryHeap<Reverse<SetAt>>,
    /// Tags whose image is not in the repository; they count only where there is no image, as in a repository that has
    /// the signatures of others.
    without_image: BinaryHeap<Reverse<SetAt>>,
}

impl Newest {
    fn new(limit: usize) -> Self {
        Newest { limit, images: BinaryHeap::new(), without_image: BinaryHeap::new() }
    }

    fn note(&mut self, set_at: SetAt, standing: Standing) {
        let heap = match standing {
            Standing::Image => &mut self.images,
            Standing::WithoutImage => &mut self.without_image,
            Standing::Attached => return,
        };
        heap.push(Reverse(set_at));
        if heap.len() > self.limit {
            heap.pop();
        }
    }

    /// Returns when the oldest of the newest tags was set.
    fn oldest(&self) -> Option<SetAt> {
        let heap = if self.images.is_empty() { &self.without_image } else { &self.images };
        heap.peek().map(|oldest| oldest.0)
    }
}

/// Tells tags of images from those that are attached to one.
struct Standings<'a> {
    index: &'a Index,
    repository: &'a RepositoryName,
    /// The subjects of those manifests of a page of tags that have one: memory does not grow with the repository.
    subjects: BTreeMap<Digest, Digest>,
}

impl<'a> Standings<'a> {
    fn new(index: &'a Index, repository: &'a RepositoryName, page: &[TagAge]) -> Result<Self, StoreError> {
        let named = page.iter().map(|tag| tag.digest.clone()).collect();
        Ok(Standings { index, repository, subjects: index.subjects_of(repository, &named)? })
    }

    fn of(&self, tag: &TagAge) -> Result<Standing, StoreError> {
        if let Some(subject) = self.subjects.get(&tag.digest)
            && self.index.manifest(self.repository, &Reference::Digest(subject.clone()))?.is_some()
        {
            return Ok(Standing::Attached);
        }
        // A tag that is named after the very manifest that it names is one of an image.
        let attached = AttachedTo::of(&tag.tag).filter(|attached| !attached.names(&tag.digest));
        let Some(attached) = attached else { return Ok(Standing::Image) };
        let has_image = self.index.has_attached_subject(self.repository, &attached)?;
        Ok(if has_image { Standing::Attached } else { Standing::WithoutImage })
    }
}

impl Collection<'_> {
    /// Removes the tags that a rule does not keep.
    pub(super) async fn tags(
        &mut self,
        repository: &RepositoryName,
        rule: &Retention,
    ) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
        let limit = rule.newest.unwrap_or(0);
        let oldest_kept = blocking(move || oldest_kept(&index, &name, limit)).await?;
        let mut after = None;
        loop {
            let (index, name, rule) = (Arc::clone(&self.store.0.index), repository.clone(), rule.clone());
            let page = move || {
                let mut page = index.tags_after(&name, after.as_ref(), PAGE)?;
                let last = page.last().map(|last| last.tag.clone());
                let now = index.clock.now();
                page.retain(|tag| {
                    // Where the order of tags of the same second is not known, all of them stay.
                    let is_new = oldest_kept.is_some_and(|oldest| (tag.since, tag.order) >= oldest);
                    !is_new && !rule.keeps(tag, now)
                });
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

    async fn retire(&mut self, repository: &RepositoryName, tags: &[TagAge]) -> Result<(), StoreError> {
        for part in tags.chunks(AT_ONCE) {
            let (name, part) = (repository.clone(), part.to_vec());
            let taken = if self.dry_run {
                let retire = move |index: &Index, forecast: &mut Forecast| {
                    forecast.retire_tags(index, &name, &part).map(|()| part)
                };
                self.foresee(retire).await?
            } else {
                self.store.change(part, move |batch, part| batch.retire_tags(&name, part)).await?
            };
            for TagAge { tag, digest, .. } in taken {
                self.report.freed_tags += 1;
                (self.observe)(Taken::Tag { repository: repository.clone(), tag, digest });
            }
        }
        Ok(())
    }
}

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
        let page = index.tags_after(repository, after.as_ref(), PAGE)?;
        let standings = Standings::new(index, repository, &page)?;
        for tag in &page {
            newest.note((tag.since, tag.order), standings.of(tag)?);
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
    tags: Vec<TagAge>,
) -> Result<Vec<TagAge>, StoreError> {
    if tags.is_empty() {
        return Ok(tags);
    }
    let (standings, mut own) = (Standings::new(index, repository, &tags)?, Vec::new());
    for tag in tags {
        if standings.of(&tag)? != Standing::Attached {
            own.push(tag);
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64, order: u64) -> SetAt {
        (Moment::of(second), order)
    }

    #[test]
    fn the_newest_of_one_second_are_told_apart_by_their_order() {
        let mut newest = Newest::new(3);
        for order in [4, 8, 1, 6, 2, 7, 3, 5] {
            newest.note(at(1, order), Standing::Image);
        }
        assert_eq!(newest.oldest(), Some(at(1, 6)));
    }

    #[test]
    fn attached_tags_take_no_place() {
        let mut newest = Newest::new(2);
        newest.note(at(1, 0), Standing::Image);
        newest.note(at(2, 0), Standing::Attached);
        newest.note(at(3, 0), Standing::WithoutImage);
        assert_eq!(newest.oldest(), Some(at(1, 0)));
        newest.note(at(4, 0), Standing::Image);
        newest.note(at(5, 0), Standing::Image);
        assert_eq!(newest.oldest(), Some(at(4, 0)));
    }

    #[test]
    fn signatures_alone_are_counted() {
        let mut newest = Newest::new(1);
        newest.note(at(1, 0), Standing::WithoutImage);
        newest.note(at(2, 0), Standing::WithoutImage);
        assert_eq!(newest.oldest(), Some(at(2, 0)));
        assert_eq!(Newest::new(1).oldest(), None);
    }
}
