//! Making the index again from `index.json`, the manifests that it names and the blobs on the disk.
//!
//! Everything is streamed: one thread reads the disk and hands on batches, the writer commits them, and a short queue
//! between the two bounds the memory, whatever the registry holds. The index is marked complete last, so that a power cut
//! starts the rebuild again.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::blob::{self, LARGEST_MANIFEST};
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::link_exceptions::LinkException;
use super::index::names::Name;
use super::index::push::NewManifest;
use super::index::rows::NameTimestamps;
use super::index::writer::{Batch, Writer};
use super::layout_checksum::Checksum;
use super::layout_format::{Entry, Head};
use super::layout_reader::{LayoutRead, read_entries};
use super::recover::RebuildSource;
use crate::oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag};

/// The blobs, names or link exceptions of one transaction. The pages that a transaction changes are in memory until its
/// commit, and a manifest changes about ten.
const AT_ONCE: usize = 256;
/// The names that the log has one by one when they cannot be restored; the file beside has all of them.
const MAX_LOGGED: u64 = 100;
/// The batches that wait for the writer.
const QUEUE: usize = 2;

/// Rows that one transaction restores.
enum Part {
    /// Blobs and their lengths.
    Blobs(Vec<(Digest, u64)>),
    /// Links that the manifests do not imply.
    Exceptions(Vec<LinkException>),
    /// Manifests and tags, and how many names those are.
    Names(Vec<Restored>),
}

/// A name that is restored.
enum Restored {
    /// A manifest, with its tag if the name has one.
    Manifest(Box<NewManifest>),
    /// One more tag of a manifest that an earlier name restored.
    Tag { repository: RepositoryName, tag: Tag, digest: Digest, timestamps: Option<NameTimestamps> },
}

/// Fills a new index. Where names may be lost, blobs that no name needs are held back from collection until a person
/// begins one: they may belong to the lost names. Returns true if that is so.
pub(super) async fn rebuild(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
    (source, told): (RebuildSource, fn(&str)),
) -> Result<bool, StoreError> {
    told("making the index again: reading index.json");
    let reader = Arc::clone(disk);
    let Validated { head, names: all, is_damaged } = super::blocking(move || {
        empty_trash_into_blobs(&reader)?;
        validate_layout(&reader)
    })
    .await?;
    log::warn!("making the index again: {all} names in index.json");
    writer
        .submit(move |batch| {
            batch.index.clock.advance_to(head.now);
            batch.advance_change(head.change)?;
            batch.keep_clock()
        })
        .await?;
    let restored = restore_all(disk, index, writer, (all, told)).await?;
    let left_out = all.saturating_sub(restored);
    if left_out > 0 {
        let aside = disk.keep_layout_beside(&super::seconds_since_1970().to_string())?;
        log::error!("{left_out} names are left out; they are kept in {}", aside.display());
    }
    let index = Arc::clone(index);
    let orphans = super::blocking(move || index.count_unreferenced_blobs()).await?;
    let hold = head.hold || is_damaged || orphans > 0 && (left_out > 0 || source == RebuildSource::Unsure);
    if hold {
        log::error!(
            "names may be lost, and none needs {orphans} of the blobs: nothing is collected until `holdfast gc` is run, or \
             the admin page told to collect"
        );
        writer.submit(|batch| batch.hold_collection(true)).await?;
    }
    writer.mark_complete().await?;
    log::warn!("the index is made again");
    Ok(hold)
}

/// Restores blobs, link exceptions and names; returns how many names were restored.
async fn restore_all(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
    (all, told): (u64, fn(&str)),
) -> Result<u64, StoreError> {
    let (parts, mut waiting) = mpsc::channel(QUEUE);
    let (disk, index) = (Arc::clone(disk), Arc::clone(index));
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::new(&disk, &index, parts);
        reader.blobs()?;
        reader.layout()
    });
    let (mut blobs, mut names) = (0, 0);
    while let Some(part) = waiting.recv().await {
        match part {
            Part::Blobs(part) => {
                blobs += part.len() as u64;
                told(&format!("making the index again: {blobs} blobs"));
                writer.submit(move |batch| record_blobs(batch, &part)).await?;
            }
            Part::Exceptions(part) => {
                let restore = move |batch: &mut Batch| {
                    part.iter().try_for_each(|exception| batch.restore_link_exception(exception))
                };
                writer.submit(restore).await?;
            }
            Part::Names(part) => {
                names += writer.submit(move |batch| restore(batch, &part)).await?;
                told(&format!("making the index again: {names} of {all} names"));
            }
        }
    }
    reading.await.map_err(|_| StoreError::Closing)??;
    Ok(names)
}

/// Reads the disk and hands on what it finds; the writer's pace limits it.
struct Reader<'a> {
    disk: &'a Disk,
    index: &'a Index,
    parts: mpsc::Sender<Part>,
    names: Vec<Restored>,
    exceptions: Vec<LinkException>,
    /// The bytes of the manifests in `names`.
    bytes: u64,
    left_out: u64,
}

impl<'a> Reader<'a> {
    fn new(disk: &'a Disk, index: &'a Index, parts: mpsc::Sender<Part>) -> Self {
        Reader { disk, index, parts, names: Vec::new(), exceptions: Vec::new(), bytes: 0, left_out: 0 }
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        let mut part = Vec::new();
        for algorithm in Algorithm::ALL {
            for digest in self.disk.blobs(algorithm)? {
                let digest = digest?;
                let length = self.disk.blob_length(&digest)?;
                part.extend(length.map(|length| (digest, length)));
                if part.len() == AT_ONCE {
                    self.send(Part::Blobs(std::mem::take(&mut part)))?;
                }
            }
        }
        self.send(Part::Blobs(part))
    }

    fn layout(&mut self) -> Result<(), StoreError> {
        read_entries(self.disk, &mut |entry| self.entry(entry))?;
        self.send_exceptions()?;
        self.send_names()
    }

    fn entry(&mut self, entry: Entry) -> Result<(), StoreError> {
        match entry {
            Entry::Exception(exception) => {
                self.exceptions.push(exception);
                if self.exceptions.len() < AT_ONCE { Ok(()) } else { self.send_exceptions() }
            }
            Entry::Name(name) => {
                // They stand before the names, and decide which links those imply.
                if !self.exceptions.is_empty() {
                    self.send_exceptions()?;
                }
                self.name(&name)?;
                let whole = self.names.len() >= AT_ONCE || self.bytes >= LARGEST_MANIFEST;
                if whole { self.send_names() } else { Ok(()) }
            }
        }
    }

    fn name(&mut self, name: &Name) -> Result<(), StoreError> {
        if let Reference::Tag(tag) = &name.reference
            && self.is_restored(name)?
        {
            let Name { repository, digest, timestamps, .. } = name.clone();
            self.names.push(Restored::Tag { repository, tag: tag.clone(), digest, timestamps });
            return Ok(());
        }
        match read_manifest(self.disk, name) {
            Ok(new) => {
                self.bytes += new.size;
                self.names.push(Restored::Manifest(Box::new(new)));
                Ok(())
            }
            // It may be readable in a moment.
            Err(error) if error.is_lack_of_resources() => Err(error),
            Err(error) => {
                self.left_out += 1;
                if self.left_out <= MAX_LOGGED {
                    log::warn!("{} of {} is left out: {error}", name.reference, name.repository);
                }
                Ok(())
            }
        }
    }

    /// Returns true if an earlier name restored the manifest: then it need not be read once more for each of its tags.
    fn is_restored(&self, name: &Name) -> Result<bool, StoreError> {
        let waits = self.names.iter().any(|one| match one {
            Restored::Manifest(new) => new.digest == name.digest && new.repository == name.repository,
            Restored::Tag { .. } => false,
        });
        let by_digest = Reference::Digest(name.digest.clone());
        Ok(waits || self.index.manifest(&name.repository, &by_digest)?.is_some())
    }

    fn send_names(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let names = std::mem::take(&mut self.names);
        self.send(Part::Names(names))
    }

    fn send_exceptions(&mut self) -> Result<(), StoreError> {
        let exceptions = std::mem::take(&mut self.exceptions);
        self.send(Part::Exceptions(exceptions))
    }

    fn send(&self, part: Part) -> Result<(), StoreError> {
        // The other end is gone when the writer failed; its error is the one that is reported.
        self.parts.blocking_send(part).map_err(|_| StoreError::Closing)
    }
}

/// An `index.json` that was read to its end.
struct Validated {
    head: Head,
    names: u64,
    /// Names may be lost: it cannot be read, or is not as it was written.
    is_damaged: bool,
}

/// Reads `index.json` to its end and counts its names. If it cannot be read, it is kept beside and says nothing. If it can
/// be read and has another checksum than was written, its names are used, and a copy is kept beside.
fn validate_layout(disk: &Disk) -> Result<Validated, StoreError> {
    let mut names = 0;
    let read = read_entries(disk, &mut |entry| {
        names += u64::from(matches!(entry, Entry::Name(_)));
        Ok(())
    });
    let aside = || super::seconds_since_1970().to_string();
    match read {
        Err(error) if error.is_corrupt_file() => {
            log::error!("index.json is broken, too, and kept beside: the names of the images are lost");
            disk.set_layout_aside(&aside())?;
            Ok(Validated { head: Head::default(), names: 0, is_damaged: true })
        }
        read => {
            let LayoutRead { head, checksum } = read?;
            let is_damaged = checksum == Checksum::Wrong;
            if is_damaged {
                let kept = disk.keep_layout_beside(&aside())?;
                log::error!(
                    "index.json is damaged: names may be wrong or missing; kept in {}",
                    kept.display()
                );
            }
            Ok(Validated { head, names, is_damaged })
        }
    }
}

/// Without the index it is unknown which of the files in the trash are needed: the next collection finds out.
fn empty_trash_into_blobs(disk: &Disk) -> Result<(), StoreError> {
    disk.trash()?.iter().try_for_each(|digest| disk.restore(digest))?;
    Algorithm::ALL.into_iter().try_for_each(|algorithm| disk.sync_blobs(algorithm))
}

fn record_blobs(batch: &mut Batch, blobs: &[(Digest, u64)]) -> Result<(), StoreError> {
    blobs.iter().try_for_each(|(digest, size)| batch.know_blob(digest, *size))
}

/// Restores names and returns how many of them could be.
fn restore(batch: &mut Batch, names: &[Restored]) -> Result<u64, StoreError> {
    let mut restored = 0;
    for name in names {
        restored += match name {
            Restored::Manifest(new) => {
                batch.know_blob(&new.digest, new.size)?;
                batch.link_children(&new.repository, new.manifest.links())?;
                batch.index_manifest(new)?;
                1
            }
            Restored::Tag { repository, tag, digest, timestamps } => {
                u64::from(batch.restore_tag(repository, tag, digest, *timestamps)?)
            }
        };
    }
    Ok(restored)
}

fn read_manifest(disk: &Disk, name: &Name) -> Result<NewManifest, StoreError> {
    let damaged = || StoreError::Damaged(name.digest.clone());
    let size = disk.blob_length(&name.digest)?.ok_or_else(damaged)?;
    let bytes = blob::read_whole(disk, &name.digest, size)?;
    let manifest = Manifest::parse(&bytes, Some(&name.media_type)).map_err(|_| damaged())?;
    let tags = match &name.reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(_) => Vec::new(),
    };
    let (repository, digest) = (name.repository.clone(), name.digest.clone());
    Ok(NewManifest { repository, manifest, digest, size, tags, timestamps: name.timestamps })
}
