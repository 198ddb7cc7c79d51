//! A registry in memory, for tests of imports and adoptions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::chunks::Chunks;
use super::image_set::{
    ImageSet, ImagesAnswer, Item, ManifestAnswer, ManifestOutcome, Stored, TagAnswer, TagOutcome,
};
use super::sink::{Put, Sink, SinkError};
use super::source::parse_manifest;
use crate::oci::{Algorithm, Digest, Hasher, ReferenceKind};

/// A registry in memory.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(super) manifests: BTreeSet<(String, Digest)>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// The space of the disk that it shares with a directory; without a limit if `None`.
    pub(super) disk: Option<(PathBuf, u64)>,
    /// The number of requests before the connection breaks, and whether the last one still takes effect.
    pub(super) breaks: Option<(usize, bool)>,
    /// True if the registry comes back after the connection broke.
    pub(super) restarts: bool,
    pub(super) sent: Vec<Digest>,
    /// True if all names are refused.
    pub(super) refuses_names: bool,
    /// A tag that a client pushes before the next tags are set.
    pub(super) pushed_meanwhile: Option<(String, Digest)>,
    /// The number of tags that a repository may have.
    pub(super) max_tags: Option<u64>,
    /// The number of requests for missing content.
    pub(super) questions: usize,
}

pub(super) fn digest(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

impl Registry {
    fn step(&mut self) -> Result<bool, SinkError> {
        match &mut self.breaks {
            None => Ok(true),
            Some((0, _)) => Err(SinkError::Disconnected("gone".into())),
            Some((left, takes_effect)) => {
                *left -= 1;
                Ok(*left > 0 || *takes_effect)
            }
        }
    }

    fn lost(&self) -> Result<(), SinkError> {
        match &self.breaks {
            Some((0, _)) => Err(SinkError::Disconnected("gone".into())),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses tags beyond the limit.
    fn check_tags(&self, set: &ImageSet) -> Result<(), SinkError> {
        let of = |tag: &str| format!("{}:{tag}", set.repository);
        let new = set.tags.iter().filter(|tag| !self.tags.contains_key(&of(&tag.tag))).count() as u64;
        let here = self.tags.keys().filter(|name| name.starts_with(&of(""))).count() as u64;
        let others = set.dry_run.map_or(0, |others| others.tags);
        match self.max_tags {
            Some(limit) if new > 0 && here + new + others > limit => {
                Err(SinkError::Refused("too many tags".into()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn free(&self) -> u64 {
        let Some((directory, size)) = &self.disk else { return u64::MAX };
        let own: u64 = self.blobs.values().map(|blob| blob.len() as u64).sum();
        size.saturating_sub(own).saturating_sub(size_of(directory))
    }
}

pub(super) fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { size_of(&path) } else { fs::metadata(&path).unwrap().len() }
        })
        .sum()
}

impl Sink for Registry {
    async fn need(&mut self, items: &[Item]) -> Result<Vec<Item>, SinkError> {
        self.questions += 1;
        self.step()?;
        self.lost()?;
        let missing: Vec<Item> =
            items.iter().filter(|item| !self.blobs.contains_key(&item.digest)).cloned().collect();
        let bytes = missing.iter().filter_map(|item| item.size).fold(0, u64::saturating_add);
        if bytes > self.free() {
            return Err(SinkError::Full(format!("{bytes} bytes needed, {} free", self.free())));
        }
        Ok(missing)
    }

    async fn put(&mut self, item: &Item, content: Chunks) -> Result<Put, SinkError> {
        let takes_effect = self.step()?;
        if let Some(known) = self.blobs.get(&item.digest) {
            return self.lost().map(|()| Put::Present(Some(known.len() as u64)));
        }
        let bytes = read(content).await?;
        if Hasher::digest(item.digest.algorithm(), &bytes) != item.digest {
            return Ok(Put::Refused("the content does not match the digest".into()));
        }
        if takes_effect {
            assert!(bytes.len() as u64 <= self.free(), "written beyond the disk");
            self.sent.push(item.digest.clone());
            self.blobs.insert(item.digest.clone(), bytes);
        }
        self.lost().map(|()| Put::Stored)
    }

    async fn post(&mut self, content: Chunks) -> Result<Stored, SinkError> {
        let bytes = read(content).await?;
        let (digest, size) = (digest(&bytes), bytes.len() as u64);
        let present = self.blobs.insert(digest.clone(), bytes).is_some();
        Ok(Stored { digest, size, present })
    }

    async fn read(&mut self, digest: &Digest) -> Result<Option<Bytes>, SinkError> {
        self.step()?;
        self.lost()?;
        Ok(self.blobs.get(digest).cloned().map(Bytes::from))
    }

    async fn export(
        &mut self,
        _content: &str,
        _signature: Option<&str>,
    ) -> Result<Option<String>, SinkError> {
        Ok(None)
    }

    async fn tagged(&mut self, repository: &str, tag: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        self.step()?;
        self.lost()?;
        let by_digest = tag
            .parse()
            .ok()
            .filter(|digest: &Digest| self.manifests.contains(&(repository.to_owned(), digest.clone())));
        let found = self.tags.get(&format!("{repository}:{tag}")).cloned().or(by_digest);
        let bytes = |digest: &Digest| self.blobs.get(digest).cloned().unwrap_or_else(|| b"newer".to_vec());
        Ok(found.map(|digest| (digest.clone(), bytes(&digest).into())))
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        if self.restarts {
            self.breaks = None;
        } else {
            self.lost()?;
        }
        Ok(())
    }

    async fn images(&mut self, set: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        let takes_effect = self.step()?;
        if self.refuses_names {
            return Err(SinkError::Refused("no names".into()));
        }
        self.check_tags(set)?;
        if !set.tags.is_empty() && set.dry_run.is_none() {
            self.tags.extend(self.pushed_meanwhile.take());
        }
        let mut answer = ImagesAnswer::default();
        for manifest in set.manifests.iter().filter(|_| takes_effect) {
            let text = match &manifest.data {
                Some(text) => text.clone().into_bytes(),
                None => self.blobs.get(&manifest.digest).expect("a manifest without text is present").clone(),
            };
            assert_eq!(digest(&text), manifest.digest);
            let parsed = parse_manifest(&text, None).unwrap();
            let mut blobs = parsed.references().iter().filter(|one| one.kind == ReferenceKind::Blob);
            let is_whole = blobs.all(|reference| self.blobs.contains_key(&reference.digest));
            if set.dry_run.is_some() {
                continue;
            }
            assert!(is_whole, "blobs come before manifests");
            self.blobs.insert(manifest.digest.clone(), text);
            self.manifests.insert((set.repository.clone(), manifest.digest.clone()));
            let outcome = ManifestOutcome::Stored;
            answer.manifests.push(ManifestAnswer {
                digest: manifest.digest.clone(),
                outcome,
                missing: Vec::new(),
            });
        }
        for tag in set.tags.iter().filter(|_| takes_effect) {
            let is_there = self.manifests.contains(&(set.repository.clone(), tag.digest.clone()));
            assert!(is_there || set.dry_run.is_some());
            let name = format!("{}:{}", set.repository, tag.tag);
            let (outcome, old) = match self.tags.get(&name) {
                None => (TagOutcome::Set, None),
                Some(old) if *old == tag.digest => (TagOutcome::Unchanged, None),
                Some(old) => (TagOutcome::Kept, Some(old.clone())),
            };
            if outcome != TagOutcome::Kept && set.dry_run.is_none() {
                self.tags.insert(name, tag.digest.clone());
            }
            answer.tags.push(TagAnswer {
                tag: tag.tag.clone(),
                outcome,
                old,
                reason: None,
                missing: Vec::new(),
            });
        }
        self.lost().map(|()| answer)
    }
}

async fn read(mut content: Chunks) -> Result<Vec<u8>, SinkError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = content.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| SinkError::Refused(error.to_string()))?);
    }
    Ok(bytes)
}
