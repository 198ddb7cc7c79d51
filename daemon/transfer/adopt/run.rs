//! The work of an adoption: images are sent, named and, with `--move`, removed from the tree.

mod certain;
mod removal;
mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::send::{SendMode, is_new, too_large};
use super::super::image_set::{Item, Origin, OtherNames};
use super::super::sink::{Put, Sink, SinkError, missing_of};
use super::super::source::SourceError;
use super::outcome::{Adopted, AdoptedImage, AdoptedTag, AdoptionObserver, ImageState, Outcome, Settings};
use super::plan::{AdoptionPlan, PlannedImage, Source, image_names};
use super::queue::Queue;
use super::tree::Tree;
use crate::oci::{Digest, Hasher};

/// Adopts the images of a tree.
///
/// # Errors
/// Fails if the tree cannot be read. A failure of the sink ends the work and is in the result.
pub async fn adopt<S: Sink>(
    tree: Arc<Tree>,
    sink: &mut S,
    settings: &Settings,
    observer: &mut dyn AdoptionObserver,
) -> Result<Adopted, SourceError> {
    let plan = read_plan(&tree, settings, BTreeMap::new()).await?;
    let mut run = Run {
        origin: Origin { registry: Some(tree.registry_id()) },
        tree,
        sink,
        settings,
        observer,
        total: 0,
        plan,
        queue: Queue::default(),
        refused: BTreeMap::new(),
        needed: BTreeMap::new(),
        removed: BTreeSet::new(),
        uncertain: None,
        result: Adopted::default(),
    };
    if let Err(error) = run.prepare().await? {
        run.result.stopped = Some(error);
    } else if let Err(error) = run.images().await {
        run.result.stopped = Some(error);
    } else if settings.moves && !settings.dry_run {
        run.remove_empty_repositories().await;
    }
    let mut result = run.result;
    result.skipped.splice(0..0, run.plan.skipped);
    result.notes.splice(0..0, run.plan.notes);
    Ok(result)
}

/// Reads the plan on a blocking thread.
async fn read_plan(
    tree: &Arc<Tree>,
    settings: &Settings,
    texts: BTreeMap<Digest, Vec<u8>>,
) -> Result<AdoptionPlan, SourceError> {
    let (tree, selection, moves) = (Arc::clone(tree), settings.selection.clone(), settings.moves);
    blocking(move || AdoptionPlan::read(&tree, &selection, moves, &texts)).await?
}

/// Runs blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SourceError::Stopped)
}

/// An adoption at work. Its children send content, and remove it.
struct Run<'a, S> {
    tree: Arc<Tree>,
    sink: &'a mut S,
    settings: &'a Settings,
    observer: &'a mut dyn AdoptionObserver,
    /// Bytes that the sink lacked at the beginning.
    total: u64,
    origin: Origin,
    plan: AdoptionPlan,
    queue: Queue,
    /// Blobs that cannot be read, or that the sink has refused.
    refused: BTreeMap<Digest, String>,
    /// The number of images that need each content and are not settled.
    needed: BTreeMap<Digest, usize>,
    /// Content that was removed from the tree.
    removed: BTreeSet<Digest>,
    /// Content of waiting images that may not get their names; looked up when the space is short for the first time.
    uncertain: Option<BTreeSet<Digest>>,
    result: Adopted,
}

impl<S: Sink> Run<'_, S> {
    /// Asks the sink which content it has.
    async fn prepare(&mut self) -> Result<Result<(), SinkError>, SourceError> {
        // An earlier run may have removed a manifest of an image whose names it did not remove.
        if !self.plan.absent.is_empty() {
            let absent: Vec<Digest> = self.plan.absent.iter().cloned().collect();
            let texts = match self.texts(absent).await {
                Ok(texts) => texts,
                Err(error) => return Ok(Err(error)),
            };
            if !texts.is_empty() {
                self.plan = read_plan(&self.tree, self.settings, texts).await?;
            }
        }
        let blobs: Vec<Digest> = self.plan.blobs.keys().cloned().collect();
        let manifests = self
            .plan
            .images
            .iter()
            .flat_map(|image| image.manifests.iter().map(|(digest, _)| digest.clone()));
        // The lease has to hold the manifests too, because the sink may be asked to name those that it has.
        let manifests: Vec<Digest> = manifests.collect();
        if let Err(error) = self.missing(&manifests).await {
            return Ok(Err(error));
        }
        let missing = match self.missing(&blobs).await {
            Ok(missing) => missing,
            Err(error) => return Ok(Err(error)),
        };
        let size = |digest: &Digest| match self.plan.blobs.get(digest) {
            Some(Source::Tree(length)) => *length,
            Some(Source::Absent | Source::Unreadable(_)) | None => 0,
        };
        let missing: Vec<_> = missing.into_iter().map(|digest| (digest.clone(), size(&digest))).collect();
        self.total = missing.iter().map(|(_, size)| size).sum();
        self.queue = Queue::new(self.plan.images.iter().map(|image| &image.blobs[..]), missing.into_iter());
        let content = |image: &PlannedImage| image.content().cloned().collect::<BTreeSet<_>>();
        for content in self.plan.images.iter().flat_map(content) {
            *self.needed.entry(content).or_default() += 1;
        }
        self.result.images = self.plan.images.len();
        Ok(Ok(()))
    }

    /// Returns the digests that the sink does not have. The sizes are left out, because the sum may exceed the space.
    async fn missing(&mut self, digests: &[Digest]) -> Result<BTreeSet<Digest>, SinkError> {
        let items: Vec<Item> = digests.iter().cloned().map(Item::of_digest).collect();
        missing_of(self.sink, &items).await
    }

    /// Reads manifests that the sink has.
    async fn texts(&mut self, digests: Vec<Digest>) -> Result<BTreeMap<Digest, Vec<u8>>, SinkError> {
        let missing = self.missing(&digests).await?;
        let mut texts = BTreeMap::new();
        for digest in digests.into_iter().filter(|digest| !missing.contains(digest)) {
            match self.sink.read(&digest).await {
                Ok(Some(text)) if Hasher::digest(digest.algorithm(), &text) == digest => {
                    texts.insert(digest, text.to_vec());
                }
                Ok(_) | Err(SinkError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(texts)
    }

    /// Adopts all images.
    async fn images(&mut self) -> Result<(), SinkError> {
        while let Some((number, amount)) = self.queue.pop() {
            let image = self.plan.images[number].clone();
            let before = self.result.bytes;
            let mut outcome = if self.settings.dry_run {
                self.foresee(&image, amount).await?
            } else {
                self.image_or_again(&image).await?
            };
            let bytes = if self.settings.dry_run { amount } else { self.result.bytes - before };
            outcome.tags.resize(image.tags.len(), None);
            let tags = image.tags.iter().zip(outcome.tags);
            let report = AdoptedImage {
                names: image_names(&image.target, &image.digest, &image.tags),
                repository: image.target.to_string(),
                digest: image.digest.clone(),
                tags: tags.map(|((tag, _), outcome)| AdoptedTag { tag: tag.to_string(), outcome }).collect(),
                outcome: outcome.state,
                reason: outcome.reason,
                bytes,
            };
            self.observer.image(report);
            self.settle(&image, outcome.state).await;
        }
        Ok(())
    }

    /// Adopts an image; once more if the daemon has restarted meanwhile.
    async fn image_or_again(&mut self, image: &PlannedImage) -> Result<Outcome, SinkError> {
        match self.image(image).await {
            Err(SinkError::Disconnected(_)) => {
                self.sink.reopen().await?;
                // The new lease holds the content of all images that wait.
                let waiting = self.queue.waiting().map(|number| &self.plan.images[number]).chain([image]);
                let content: BTreeSet<Digest> = waiting.flat_map(PlannedImage::content).cloned().collect();
                self.missing(&content.into_iter().collect::<Vec<_>>()).await?;
                self.image(image).await
            }
            other => other,
        }
    }

    /// Returns the outcome of an image whose content cannot be had.
    pub(super) fn unobtainable(&self, image: &PlannedImage) -> Option<Outcome> {
        let mut absent = Vec::new();
        for blob in image.blobs.iter().filter(|blob| self.queue.is_missing(blob)) {
            let refused = |reason: &String| Outcome::failed(ImageState::Refused, reason.clone());
            match (self.refused.get(blob), self.plan.blobs.get(blob)) {
                (Some(reason), _) | (None, Some(Source::Unreadable(reason))) => return Some(refused(reason)),
                (None, Some(Source::Tree(_))) => {}
                (None, Some(Source::Absent) | None) => absent.push(blob.to_string()),
            }
        }
        (!absent.is_empty()).then(|| {
            let reason = format!("neither the directory nor this registry has {}", absent.join(", "));
            Outcome::failed(ImageState::Incomplete, reason)
        })
    }

    /// Sends an image and names it.
    async fn image(&mut self, image: &PlannedImage) -> Result<Outcome, SinkError> {
        if let Some(outcome) = self.unobtainable(image) {
            return Ok(outcome);
        }
        let mut missing: Vec<Item> = image
            .blobs
            .iter()
            .filter(|blob| self.queue.is_missing(blob))
            .map(|blob| Item { digest: blob.clone(), size: self.length(blob) })
            .collect();
        let mode = self.send_mode(image, &missing).await?;
        missing.sort_by_key(|item| std::cmp::Reverse(item.size));
        if mode == SendMode::BlobByBlob {
            if let Some((digest, reason)) = self.first_wrong(&missing).await {
                self.refused.insert(digest, reason.clone());
                return Ok(Outcome::failed(ImageState::Refused, reason));
            }
            if let Some(outcome) = self.doubt(image, OtherNames::default()).await? {
                return Ok(outcome);
            }
            self.release(image, missing.first()).await?;
        }
        for item in &missing {
            if mode == SendMode::BlobByBlob {
                self.sink
                    .need(std::slice::from_ref(item))
                    .await
                    .map_err(|error| too_large(image, item, error))?;
            }
            match self.send(item).await? {
                Put::Stored => {
                    self.result.bytes += item.size.unwrap_or_default();
                    self.observer.progress(self.result.bytes, Some(self.total));
                }
                Put::Present(_) => {}
                Put::Refused(reason) => {
                    self.refused.insert(item.digest.clone(), reason.clone());
                    return Ok(Outcome::failed(ImageState::Refused, reason));
                }
            }
            self.queue.arrived(&item.digest);
            if mode == SendMode::BlobByBlob {
                self.remove_certain(vec![item.digest.clone()]).await;
            }
        }
        let outcome = self.name(image, None).await?;
        let state = match outcome.state {
            ImageState::Adopted if missing.is_empty() && !is_new(&outcome) => ImageState::Present,
            state => state,
        };
        let outcome = Outcome { state, ..outcome };
        if mode == SendMode::BlobByBlob && state.is_failure() {
            return self.keep_by_digest(image, outcome).await;
        }
        Ok(outcome)
    }

    fn length(&self, digest: &Digest) -> Option<u64> {
        match self.plan.blobs.get(digest) {
            Some(Source::Tree(length)) => Some(*length),
            Some(Source::Absent | Source::Unreadable(_)) | None => None,
        }
    }
}
