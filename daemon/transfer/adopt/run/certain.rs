//! Asks the registry what it will do with an image, without naming it.
//!
//! Blobs of an image are removed one by one before it has its names, so that its names have to be certain first.

use std::collections::{BTreeMap, BTreeSet};

use super::super::outcome::{ImageState, Outcome};
use super::super::plan::PlannedImage;
use super::Run;
use crate::oci::{Digest, Hasher};
use crate::transfer::image_set::{Item, ManifestOutcome, OtherNames};
use crate::transfer::sink::{Sink, SinkError};

impl<S: Sink> Run<'_, S> {
    /// Returns the outcome that an image would have. `amount` is its missing content in bytes.
    pub(super) async fn foresee(&mut self, image: &PlannedImage, amount: u64) -> Result<Outcome, SinkError> {
        if let Some(outcome) = self.unobtainable(image) {
            return Ok(outcome);
        }
        let has_blobs = !image.blobs.iter().any(|blob| self.queue.is_missing(blob));
        image.blobs.iter().for_each(|blob| self.queue.arrived(blob));
        self.result.bytes += amount;
        let (mut has_names, mut reason) = (true, None);
        for name in names(image) {
            let found = self.named(image, &name).await?;
            has_names &= found.as_ref() == Some(&image.digest);
            if let Some(other) = found.filter(|found| *found != image.digest) {
                let text =
                    format!("the tag {name} names {other} here; it moves only if an adoption has set it");
                reason.get_or_insert(text);
            }
        }
        let state = if has_blobs && has_names { ImageState::Present } else { ImageState::Planned };
        Ok(Outcome { state, reason, tags: Vec::new() })
    }

    /// Returns the outcome of an image that may not get its names; `None` if it is certain that it gets them once its blobs are
    /// here, and the names of others before.
    pub(super) async fn doubt(
        &mut self,
        image: &PlannedImage,
        others: OtherNames,
    ) -> Result<Option<Outcome>, SinkError> {
        if let Some((name, other)) = self.other_tag(image).await? {
            let reason = format!(
                "the tag {name} names {other} here, and there is no room for a second copy of the image; delete the tag or make room"
            );
            return Ok(Some(Outcome::failed(ImageState::Kept, reason)));
        }
        let outcome = self.name(image, Some(others)).await?;
        // No tag was set.
        Ok(outcome.state.is_failure().then_some(Outcome { tags: Vec::new(), ..outcome }))
    }

    /// Returns the first tag of an image that names another manifest here.
    async fn other_tag(&mut self, image: &PlannedImage) -> Result<Option<(String, Digest)>, SinkError> {
        for (tag, _) in &image.tags {
            let found = self.named(image, tag.as_str()).await?;
            if let Some(other) = found.filter(|found| *found != image.digest) {
                return Ok(Some((tag.to_string(), other)));
            }
        }
        Ok(None)
    }

    /// Returns the digest of the manifest that a tag or a digest names here.
    async fn named(&mut self, image: &PlannedImage, name: &str) -> Result<Option<Digest>, SinkError> {
        let found = self.sink.tagged(image.target.as_str(), name).await?;
        // The digest of a tag has the algorithm of the image, if it is the same one.
        Ok(found.map(|(_, bytes)| Hasher::digest(image.digest.algorithm(), &bytes)))
    }

    /// Removes content that the registry has already: it need not stay in the tree while the space is short. That of waiting
    /// images only if the largest missing blob does not fit otherwise.
    pub(super) async fn release(
        &mut self,
        image: &PlannedImage,
        largest: Option<&Item>,
    ) -> Result<(), SinkError> {
        self.look_up_uncertain(image).await?;
        let present = self.present(image);
        self.remove_certain(present).await;
        let Some(largest) = largest else { return Ok(()) };
        match self.sink.need(std::slice::from_ref(largest)).await {
            Ok(_) => return Ok(()),
            Err(SinkError::Full(_)) => {}
            Err(error) => return Err(error),
        }
        let waiting: Vec<usize> = self.queue.waiting().collect();
        for number in waiting {
            let present = self.present(&self.plan.images[number]);
            self.remove_certain(present).await;
        }
        Ok(())
    }

    /// Returns the blobs of an image that the registry has.
    fn present(&self, image: &PlannedImage) -> Vec<Digest> {
        image.blobs.iter().filter(|blob| !self.queue.is_missing(blob)).cloned().collect()
    }

    /// Finds the content of waiting images that may not get their names, also because those of others reach a limit before.
    async fn look_up_uncertain(&mut self, current: &PlannedImage) -> Result<(), SinkError> {
        if self.uncertain.is_some() {
            return Ok(());
        }
        let waiting: Vec<usize> = self.queue.waiting().collect();
        // The names of the others may all come before those of an image.
        let (mut names, mut tags) = (0, BTreeMap::new());
        for image in waiting.iter().map(|number| &self.plan.images[*number]).chain([current]) {
            names += name_count(image);
            *tags.entry(image.target.clone()).or_insert(0) += image.tags.len() as u64;
        }
        let mut uncertain = BTreeSet::new();
        for number in waiting {
            let image = self.plan.images[number].clone();
            let others = OtherNames {
                names: names - name_count(&image),
                tags: tags[&image.target] - image.tags.len() as u64,
            };
            if self.unobtainable(&image).is_some() || self.doubt(&image, others).await?.is_some() {
                uncertain.extend(image.content().cloned());
            }
        }
        self.uncertain = Some(uncertain);
        Ok(())
    }

    /// Removes content from the tree before its image has its names, unless an uncertain image needs it.
    pub(super) async fn remove_certain(&mut self, digests: Vec<Digest>) {
        let is_uncertain = |digest: &Digest| self.uncertain.as_ref().is_some_and(|set| set.contains(digest));
        let certain = digests.into_iter().filter(|digest| !is_uncertain(digest)).collect();
        self.remove(certain).await;
    }

    /// Names the manifest of an image whose tags were refused against expectation, for example because of a push meanwhile:
    /// its content is no longer in the tree, and a collection would take it here.
    pub(super) async fn keep_by_digest(
        &mut self,
        image: &PlannedImage,
        outcome: Outcome,
    ) -> Result<Outcome, SinkError> {
        let is_stored = match self.send_names(image, Vec::new(), None).await {
            Ok(answer) => answer.manifests.iter().all(|manifest| manifest.outcome == ManifestOutcome::Stored),
            Err(SinkError::Refused(_)) => false,
            Err(error) => return Err(error),
        };
        let reason = outcome.reason.unwrap_or_default();
        let place = if is_stored {
            format!("its content was moved, and is here as {}@{}", image.target, image.digest)
        } else {
            "its content was moved, and a collection takes it after gc.grace; run the command again before"
                .into()
        };
        Ok(Outcome { reason: Some(format!("{reason}; {place}")), ..outcome })
    }
}

/// Returns the number of manifests and tags of an image; some of them may be here already.
fn name_count(image: &PlannedImage) -> u64 {
    (image.manifests.len() + image.tags.len()) as u64
}

/// Returns the names of an image in its repository: its tags, or its digest.
fn names(image: &PlannedImage) -> Vec<String> {
    if image.tags.is_empty() {
        return vec![image.digest.to_string()];
    }
    image.tags.iter().map(|(tag, _)| tag.to_string()).collect()
}
