//! Sends the content of an image, and names it.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use super::super::outcome::{ImageState, Outcome, outcome};
use super::super::plan::{PlannedImage, image_names};
use super::super::tree::Tree;
use super::{Run, blocking};
use crate::oci::{Digest, Hasher};
use crate::transfer::chunks::{ChunkSender, chunks};
use crate::transfer::image_set::{
    ImageSet, ImagesAnswer, Item, OtherNames, Policy, SetManifest, SetTag, TagOutcome,
};
use crate::transfer::progress::watched;
use crate::transfer::set_sender::SetSender;
use crate::transfer::sink::{Put, Sink, SinkError};
use crate::transfer::source::limits;

/// The way of the content of an image to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// Everything fits beside the tree.
    Whole,
    /// Each blob is removed from the tree before the next one is sent.
    BlobByBlob,
}

impl<S: Sink> Run<'_, S> {
    /// Finds out whether the missing content of an image fits.
    pub(super) async fn send_mode(
        &mut self,
        image: &PlannedImage,
        missing: &[Item],
    ) -> Result<SendMode, SinkError> {
        let Some(largest) = missing.iter().max_by_key(|item| item.size) else { return Ok(SendMode::Whole) };
        let full = match self.sink.need(missing).await {
            Ok(_) => return Ok(SendMode::Whole),
            Err(error @ SinkError::Full(_)) => error,
            Err(error) => return Err(error),
        };
        if !self.settings.moves || !self.settings.is_same_disk {
            return Err(too_large(image, largest, full));
        }
        Ok(SendMode::BlobByBlob)
    }

    /// Returns the first blob whose bytes do not match its digest, with the reason: before blobs of an image are removed one by
    /// one, all of them are known to be good.
    pub(super) async fn first_wrong(&self, items: &[Item]) -> Option<(Digest, String)> {
        for Item { digest, .. } in items {
            let (tree, digest) = (Arc::clone(&self.tree), digest.clone());
            let checked =
                blocking(move || verify_blob(&tree, &digest).map_err(|reason| (digest, reason))).await;
            if let Ok(Err(wrong)) = checked {
                return Some(wrong);
            }
        }
        None
    }

    /// Sends a blob. One that cannot be read is refused.
    pub(super) async fn send(&mut self, item: &Item) -> Result<Put, SinkError> {
        let (sender, chunks) = chunks();
        let (tree, digest) = (Arc::clone(&self.tree), item.digest.clone());
        let length = item.size.unwrap_or_default();
        let reading = tokio::task::spawn_blocking(move || read_blob(&tree, &digest, length, &sender));
        let (taken, done, total) = (chunks.taken(), self.result.bytes, self.total);
        let progress = |bytes| self.observer.progress(done + bytes, Some(total));
        let put = watched(self.sink.put(item, chunks), &taken, progress).await;
        let read = reading.await.unwrap_or_else(|_| Err("the reading thread has ended".to_owned()));
        match (put, read) {
            (Ok(Put::Refused(_)) | Err(SinkError::Refused(_) | SinkError::Disconnected(_)), Err(reason)) => {
                Ok(Put::Refused(reason))
            }
            (Err(SinkError::Refused(reason)), Ok(())) => Ok(Put::Refused(reason)),
            (put, _) => put,
        }
    }

    /// Names an image: its manifests, then its tags. A dry run finds the outcome only, behind other names.
    pub(super) async fn name(
        &mut self,
        image: &PlannedImage,
        dry_run: Option<OtherNames>,
    ) -> Result<Outcome, SinkError> {
        let tags: Vec<SetTag> = image
            .tags
            .iter()
            .map(|(tag, pushed)| SetTag {
                tag: tag.to_string(),
                digest: image.digest.clone(),
                pushed: *pushed,
                source: None,
            })
            .collect();
        match self.send_names(image, tags, dry_run).await {
            Ok(answer) => Ok(outcome(answer)),
            Err(SinkError::Refused(reason)) => Ok(Outcome::failed(ImageState::Refused, reason)),
            Err(error) => Err(error),
        }
    }

    /// Sends the manifests of an image and these tags. An index of registry:2 may list manifests that its repository does not
    /// have.
    pub(super) async fn send_names(
        &mut self,
        image: &PlannedImage,
        tags: Vec<SetTag>,
        dry_run: Option<OtherNames>,
    ) -> Result<ImagesAnswer, SinkError> {
        let set = ImageSet {
            repository: image.target.to_string(),
            manifests: Vec::new(),
            tags,
            origin: self.origin.clone(),
            policy: Policy::default(),
            sparse: true,
            dry_run,
        };
        let mut sender = SetSender::new(set, image.manifests.len());
        for (digest, media_type) in &image.manifests {
            let (media_type, data) = (Some(media_type.to_string()), self.text(digest).await);
            sender.add(SetManifest { media_type, data, digest: digest.clone() }, self.sink).await?;
        }
        sender.finish(self.sink).await
    }

    /// Returns the text of a manifest; `None` if the tree does not have it any more, so that the sink has it.
    async fn text(&self, digest: &Digest) -> Option<String> {
        let (tree, digest) = (Arc::clone(&self.tree), digest.clone());
        let text = blocking(move || tree.manifest(&digest).ok().flatten()).await.ok().flatten()?;
        String::from_utf8(text).ok()
    }
}

/// Returns true if the names of an image have changed.
pub(super) fn is_new(outcome: &Outcome) -> bool {
    outcome.tags.iter().any(|tag| *tag != Some(TagOutcome::Unchanged))
}

/// Names the blob that does not fit.
pub(super) fn too_large(image: &PlannedImage, item: &Item, error: SinkError) -> SinkError {
    match error {
        SinkError::Full(message) => {
            let names = image_names(&image.target, &image.digest, &image.tags);
            let size = item.size.unwrap_or_default();
            SinkError::Full(format!(
                "{names} does not fit; {} alone needs {size} bytes: {message}",
                item.digest
            ))
        }
        other => other,
    }
}

/// Reads a blob to the sink, on a blocking thread.
fn read_blob(tree: &Tree, digest: &Digest, length: u64, sender: &ChunkSender) -> Result<(), String> {
    let fail = |reason: String| {
        // The receiver may be gone; the result has the reason.
        let _ = sender.send(Err(std::io::Error::other(reason.clone())));
        Err(reason)
    };
    let (mut file, found) = match tree.blob(digest) {
        Ok(Some(opened)) => opened,
        Ok(None) => return fail(format!("{digest} has disappeared from the directory")),
        Err(error) => return fail(error.to_string()),
    };
    if found != length {
        return fail(format!("{digest} has changed in the directory"));
    }
    let mut rest = length;
    while rest > 0 {
        let wanted = rest.min(limits::CHUNK as u64);
        let mut chunk = Vec::new();
        match file.by_ref().take(wanted).read_to_end(&mut chunk) {
            Ok(0) => return fail(format!("{digest} has become shorter")),
            Ok(read) => rest -= read as u64,
            Err(error) => return fail(format!("cannot read {digest}: {error}")),
        }
        if sender.send(Ok(Bytes::from(chunk))).is_err() {
            break;
        }
    }
    Ok(())
}

/// Compares the bytes of a blob with its digest.
fn verify_blob(tree: &Tree, digest: &Digest) -> Result<(), String> {
    let opened = tree.blob(digest).map_err(|error| error.to_string())?;
    let (mut file, _) = opened.ok_or_else(|| format!("{digest} has disappeared from the directory"))?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut chunk = vec![0; limits::CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot read {digest}: {error}")),
        }
    }
    if hasher.finish() == *digest {
        Ok(())
    } else {
        Err(format!("the content of {digest} does not match the digest"))
    }
}
