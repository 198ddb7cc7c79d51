//! One image of an import: its content, its manifests, its tags.

use std::sync::Arc;

use super::super::image_set::{ImageSet, Item, Origin, SetManifest};
use super::super::set_sender::SetSender;
use super::super::sink::{Sink, SinkError, missing_of};
use super::super::source::{Config, ContentKey, MadeImage, Root};
use super::content::CopyError;
use super::made::{self, Kind};
use super::plan::Target;
use super::report::{Outcome, Row};
use super::resolve::{Content, Node, Scope};
use super::rows::{missing_rows, refused, rows, tags};
use super::run::Import;
use super::{Compress, ImportError};
use crate::oci::{Digest, Hasher};

/// Attempts for an image after the connection broke.
const ATTEMPTS: usize = 2;

impl<S: Sink> Import<'_, S> {
    /// Returns why the signed lists refuse an image.
    fn signed_refusal(&self, target: &Target) -> Option<String> {
        let scope = self.scope(target);
        let is_remade = |digest: &Digest| self.remade(&scope, digest).is_some();
        self.signed.as_ref()?.refusal(&target.root, (&self.nodes, &scope), is_remade)
    }

    /// Imports an image; begins again if the connection broke.
    pub(super) async fn image(&mut self, target: &Target) -> Result<Vec<Row>, ImportError> {
        if let Some(reason) = self.signed_refusal(target) {
            return Ok(refused(target, &reason));
        }
        let mut attempt = 1;
        loop {
            self.copied.sink.enter(&target.repository);
            let tried = match &target.root {
                Root::Manifest { digest, .. } => match self.remade(&self.scope(target), digest) {
                    Some(image) => self.made(target, &image, Kind::Oci).await,
                    None => self.whole(target, digest).await,
                },
                Root::Made(made) => self.made(target, made, Kind::Docker).await,
            };
            match tried {
                Ok(rows) => return Ok(rows),
                Err(CopyError::Refused(reason)) => return Ok(refused(target, &reason)),
                Err(CopyError::Full(reason)) => {
                    self.copied.report.is_full = true;
                    return Ok(refused(target, &reason));
                }
                Err(CopyError::Sink(SinkError::Disconnected(reason))) => {
                    self.copied.sink.reopen().await?;
                    // The registry is there, and fails for this image only.
                    if attempt == ATTEMPTS {
                        return Ok(refused(target, &reason));
                    }
                    attempt += 1;
                    self.send_exports().await?;
                    self.find_missing().await?;
                }
                Err(CopyError::Sink(error)) => return Err(error.into()),
            }
        }
    }

    /// Returns the image whose manifest is made again because its layers are compressed. A manifest that others refer to by
    /// its digest stays as it is.
    fn remade(&self, scope: &Scope, digest: &Digest) -> Option<MadeImage> {
        if self.options.compress != Compress::Gzip {
            return None;
        }
        let plain = self.nodes.get(scope, digest)?.plain.as_ref()?;
        let refers = |node: &Node| {
            node.subject.as_ref() == Some(digest)
                || node.children.iter().any(|child| child.item.digest == *digest)
        };
        if self.nodes.all(scope).any(refers) {
            return None;
        }
        let layers = plain.layers.iter().cloned().map(ContentKey::Digest).collect();
        Some(MadeImage { config: Config::Blob(plain.config.clone()), layers })
    }

    /// Imports an image that has a manifest.
    async fn whole(&mut self, target: &Target, root: &Digest) -> Result<Vec<Row>, CopyError> {
        let (scope, item) = (self.scope(target), Item::of_digest(root.clone()));
        let key = (scope.clone(), root.clone());
        if let Some(missing) = self.incomplete.get(&key) {
            return Ok(missing_rows(target, root, missing));
        }
        let content = self.nodes.content(&scope, &item).map_err(CopyError::Refused)?;
        if self.nodes.is_absent(&scope, root) {
            return Ok(missing_rows(target, root, &[item].into()));
        }
        content.check_platforms(&self.options.platforms).map_err(CopyError::Refused)?;
        let mut holes = self.holes(&content);
        let mut needed: Vec<Item> = content.blobs.clone();
        needed.retain(|item| self.missing.contains(&(scope.clone(), item.digest.clone())));
        if self.is_short {
            missing_of(self.copied.sink, &needed).await.map_err(CopyError::of)?;
        }
        for item in &needed {
            match self.copied.blob(&self.reader, item).await {
                Ok(Some(_)) => drop(self.missing.remove(&(scope.clone(), item.digest.clone()))),
                Ok(None) => match self.copied.refused.get(&item.digest) {
                    Some(reason) => return Err(CopyError::Refused(format!("{}: {reason}", item.digest))),
                    None => holes.push(item.clone()),
                },
                Err(CopyError::Refused(reason)) => {
                    return Err(CopyError::Refused(format!("{}: {reason}", item.digest)));
                }
                Err(CopyError::Full(reason)) => {
                    return Err(CopyError::Full(format!("{}: {reason}", item.digest)));
                }
                Err(error) => return Err(error),
            }
        }
        if !holes.is_empty() {
            let missing: Arc<[Item]> = holes.into();
            self.incomplete.insert(key, Arc::clone(&missing));
            return Ok(missing_rows(target, root, &missing));
        }
        self.send_set(target, root, &content).await
    }

    /// Returns the manifests whose absence makes an image incomplete: those of the platforms that the user wants, and those in
    /// the content list of an export. Other archives name platforms that were never inside.
    fn holes(&self, content: &Content) -> Vec<Item> {
        let wanted = content.missing_platforms();
        let is_hole = |item: &&Item| {
            wanted.contains(item)
                || self.exports.iter().any(|export| export.content_digests.contains(&item.digest))
        };
        content.absent.iter().filter(is_hole).cloned().collect()
    }

    async fn send_set(
        &mut self,
        target: &Target,
        root: &Digest,
        content: &Content,
    ) -> Result<Vec<Row>, CopyError> {
        let sparse = !content.absent.is_empty() || !self.options.platforms.is_empty();
        let set = ImageSet { sparse, ..self.image_set(target, root) };
        let mut sender = SetSender::new(set, content.manifests.len());
        for (digest, media_type) in &content.manifests {
            let read = self.reader.read(digest).await.map_err(CopyError::source)?;
            let data = match read.map(String::from_utf8) {
                Some(Ok(text)) => Some(text),
                Some(Err(_)) => return Err(CopyError::Refused(format!("manifest {digest} is not UTF-8"))),
                None => None,
            };
            let media_type = Some(media_type.clone());
            let manifest = SetManifest { media_type, data, digest: digest.clone() };
            sender.add(manifest, self.copied.sink).await.map_err(CopyError::of)?;
        }
        let answer = sender.finish(self.copied.sink).await.map_err(CopyError::of)?;
        Ok(rows(target, root, &answer))
    }

    /// Returns the set of an image, without its manifests.
    fn image_set(&self, target: &Target, root: &Digest) -> ImageSet {
        ImageSet {
            repository: target.repository.to_string(),
            manifests: Vec::new(),
            tags: tags(target, root),
            origin: Origin { registry: target.origin.clone() },
            policy: self.options.policy,
            sparse: false,
            dry_run: None,
        }
    }

    /// Imports an image without a manifest.
    async fn made(&mut self, target: &Target, image: &MadeImage, kind: Kind) -> Result<Vec<Row>, CopyError> {
        let refused = |reason: &str| CopyError::Refused(reason.to_owned());
        let config = match &image.config {
            Config::Text(text) => text.to_vec(),
            Config::Blob(digest) => {
                let text = match self.reader.read(digest).await.map_err(CopyError::source)? {
                    Some(text) => Some(text),
                    None => self.copied.read_back(digest).await.map_err(CopyError::Sink)?,
                };
                text.ok_or_else(|| refused("its config does not match its name"))?
            }
        };
        let diff_ids = made::diff_ids(&config).map_err(CopyError::Refused)?;
        if diff_ids.len() != image.layers.len() {
            let reason =
                format!("its config has {} layers, and the archive {}", diff_ids.len(), image.layers.len());
            return Err(CopyError::Refused(reason));
        }
        let config_digest = Hasher::digest(crate::oci::Algorithm::Sha256, &config);
        if let Some(rows) = self.known_image(target, &config_digest, image.layers.len()).await? {
            return Ok(rows);
        }
        let gzip = self.options.compress.is_for_made();
        let compresses = self.options.compress == Compress::Gzip;
        let mut layers = Vec::with_capacity(image.layers.len());
        for (key, diff_id) in image.layers.iter().zip(&diff_ids) {
            layers.push(self.copied.layer(&self.reader, key, Some(diff_id), gzip, compresses).await?);
        }
        made::check(&layers, &diff_ids).map_err(CopyError::Refused)?;
        self.copied.text(&config).await?;
        let made = made::manifest(&config, &layers, kind);
        let mut sender = SetSender::new(self.image_set(target, &made.digest), 1);
        let manifest = SetManifest {
            media_type: Some(made.media_type.into()),
            data: Some(made.text),
            digest: made.digest.clone(),
        };
        sender.add(manifest, self.copied.sink).await.map_err(CopyError::of)?;
        let answer = sender.finish(self.copied.sink).await.map_err(CopyError::of)?;
        Ok(rows(target, &made.digest, &answer))
    }

    /// Returns the rows of an image that all its tags name already, so that its layers need not be compressed again.
    async fn known_image(
        &mut self,
        target: &Target,
        config: &Digest,
        layers: usize,
    ) -> Result<Option<Vec<Row>>, CopyError> {
        let mut rows = Vec::new();
        for tag in target.tags.keys() {
            let named = self.copied.sink.tagged(target.repository.as_str(), tag.as_str()).await;
            let named = named.map_err(CopyError::Sink)?;
            let Some((digest, _)) = named.filter(|(_, text)| made::is_same_image(text, config, layers))
            else {
                return Ok(None);
            };
            rows.push(Row {
                name: format!("{}:{tag}", target.repository),
                digest: Some(digest),
                outcome: Outcome::Present,
                reason: None,
                old: None,
                missing: Arc::default(),
            });
        }
        Ok((!rows.is_empty()).then_some(rows))
    }
}
