//! Removes content from the tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::outcome::ImageState;
use super::super::plan::{PlannedImage, Progress};
use super::{Run, blocking};
use crate::oci::{Digest, RepositoryName};
use crate::transfer::sink::Sink;
use crate::transfer::source::{Refusal, SourceError};

impl<S: Sink> Run<'_, S> {
    /// Removes the source of an image that was adopted; keeps that of one which was not.
    pub(super) async fn settle(&mut self, image: &PlannedImage, state: ImageState) {
        if state.is_failure() {
            self.result.failed += 1;
            if image.content().any(|content| self.removed.contains(content)) {
                self.result.partly_moved += 1;
            }
            self.plan.kept.extend(image.content().cloned());
            if let Some(progress) = self.plan.repositories.get_mut(&image.source) {
                progress.has_skipped = true;
            }
            return;
        }
        self.result.adopted += 1;
        if state == ImageState::Present {
            self.result.present += 1;
        }
        if self.settings.moves && !self.settings.dry_run {
            let settled = self.no_longer_needed(image);
            self.remove(settled).await;
            let progress = self.plan.repositories.entry(image.source.clone()).or_default();
            progress.images = progress.images.saturating_sub(1);
            if progress.images == 0 && !progress.has_skipped {
                self.remove_repository(image.source.clone()).await;
            }
        }
    }

    /// Returns the content of a settled image that no other image needs: the others may fail.
    fn no_longer_needed(&mut self, image: &PlannedImage) -> Vec<Digest> {
        let mut digests = Vec::new();
        // A manifest may be the content of an image in two roles.
        let content: BTreeSet<&Digest> = image.content().collect();
        for digest in content {
            let needed = self.needed.entry(digest.clone()).or_default();
            *needed = needed.saturating_sub(1);
            if *needed == 0 {
                digests.push(digest.clone());
            }
        }
        digests
    }

    /// Removes content from the tree, unless it has to stay.
    pub(super) async fn remove(&mut self, digests: Vec<Digest>) {
        let removable: Vec<Digest> =
            digests.into_iter().filter(|digest| !self.plan.kept.contains(digest)).collect();
        let tree = Arc::clone(&self.tree);
        let removed = blocking(move || {
            let (mut bytes, mut digests) = (0, Vec::new());
            for digest in removable {
                let length = tree.blob(&digest)?.map(|(_, length)| length);
                tree.remove_blob(&digest)?;
                bytes += length.unwrap_or_default();
                digests.extend(length.map(|_| digest));
            }
            Ok::<_, SourceError>((bytes, digests))
        });
        match removed.await {
            Ok(Ok((bytes, digests))) => {
                self.result.removed += bytes;
                self.removed.extend(digests);
            }
            Ok(Err(error)) | Err(error) => self.not_removed(&error),
        }
    }

    async fn remove_repository(&mut self, name: RepositoryName) {
        let tree = Arc::clone(&self.tree);
        if let Ok(Err(error)) | Err(error) = blocking(move || tree.remove_repository(&name)).await {
            self.not_removed(&error);
        }
    }

    /// Removes repositories that have no images at all.
    pub(super) async fn remove_empty_repositories(&mut self) {
        let is_empty = |progress: &Progress| progress.images == 0 && !progress.has_skipped;
        let empty: Vec<RepositoryName> = self
            .plan
            .repositories
            .iter()
            .filter(|(_, progress)| is_empty(progress))
            .map(|(name, _)| name.clone())
            .collect();
        for name in empty {
            self.remove_repository(name).await;
        }
    }

    fn not_removed(&mut self, error: &SourceError) {
        let reason = error.to_string();
        if !self.result.skipped.iter().any(|known| known.reason == reason) {
            self.result.skipped.push(Refusal { name: "not removed".to_owned(), reason });
        }
    }
}
