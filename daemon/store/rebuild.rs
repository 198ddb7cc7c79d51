//! The rebuild: fills a new index from `index.json`, the manifests that it names and the blobs on the disk.
//!
//! The rebuild streams: one thread reads the disk and sends batches, the writer commits them, and a short queue
//! between them bounds the memory, however large the registry is. The index is marked complete last, so that a power
//! cut starts the rebuild again.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::blob::{self, LARGEST_MANIFEST};
use super::blob_store::BlobStore;
use super::disk::Disk;
use super::error::StoreError;
use super::identity;
use super::index::Index;
use super::index::changes::feed::RecordNotes;
use super::index::changes::link_exceptions::RestoreLinkExceptions;
use super::index::changes::marks::{HoldCollection, StartRebuild};
use super::index::changes::push::NewManifest;
use super::index::changes::restore::{RecordBlobs, RestoreNames, RestoredName};
use super::index::event::{Note, NoteKind, Origin};
use super::index::tables::link_exceptions::LinkException;
use super::index::tables::names::Name;
use super::index::writer::Writer;
use super::layout_checksum::Checksum;
use super::layout_format::{Entry, Head};
use super::layout_reader::{LayoutRead, read_entries};
use super::recover::RebuildSource;
use crate::base::clock::unix_seconds;
use crate::oci::{Algorithm, Digest, Manifest, Reference};

/// The blobs, names or link exceptions of one transaction. The pages that it changes stay in memory until its commit,
/// and a manifest changes about ten.
const AT_ONCE: usize = 256;
/// The maximum number of omitted names that are logged one by one; the kept `index.json` has all of them.
const MAX_LOGGED: u64 = 100;
/// The batches that wait for the writer (back-pressure on the reading thread).
const QUEUE: usize = 2;

/// The rows that one transaction restores.
enum Rows {
    /// Blobs and their lengths.
    Blobs(Vec<(Digest, u64)>),
    /// Link exceptions.
    Exceptions(Vec<LinkException>),
    /// Manifests and tags.
    Names(Vec<RestoredName>),
}

/// Fills a new index. If names may be lost, sets the collection hold, since unreferenced blobs may belong to the lost
/// names, and returns true. `progress` is called with each step.
pub(super) async fn rebuild(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
    (source, progress): (RebuildSource, fn(&str)),
) -> Result<bool, StoreError> {
    progress("rebuilding the index: reading index.json");
    let reader = Arc::clone(disk);
    let ValidatedLayout { head, names: all, is_damaged, is_cut } = super::blocking(move || {
        restore_trash(&reader)?;
        validate_layout(&reader)
    })
    .await?;
    log::warn!("rebuilding the index from {all} names in index.json");
    index.clock.advance_to(head.now);
    writer.submit(StartRebuild { change: head.change }).await?;
    identity::identify(writer, head.id).await?;
    let restored = restore_all(disk, index, writer, (all, progress)).await?;
    let omitted = all.saturating_sub(restored);
    if omitted > 0 {
        let aside = disk.keep_layout_beside(&unix_seconds().to_string())?;
        log::error!("{omitted} names could not be restored; index.json is kept as {}", aside.display());
    }
    let index = Arc::clone(index);
    let orphans = super::blocking(move || index.count_unreferenced_blobs()).await?;
    let hold =
        head.hold || is_damaged || orphans > 0 && (omitted > 0 || is_cut || source == RebuildSource::Unsure);
    if hold {
        log::error!(
            "names may be lost, and {orphans} blobs belong to no known image: nothing is collected until the operator runs \
             `holdfast gc` or starts a collection on the admin page"
        );
        writer.submit(HoldCollection(true)).await?;
    }
    let text = format!("rebuilt with {restored} of {all} names");
    let (subject, origin) = ("index".to_owned(), Origin::system());
    let note = Note { kind: NoteKind::State, subject, text, origin };
    writer.submit(RecordNotes(vec![note])).await?;
    writer.mark_complete().await?;
    log::warn!("the index has been rebuilt");
    Ok(hold)
}

/// Restores blobs, link exceptions and names. Returns the number of restored names.
async fn restore_all(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
    (all, progress): (u64, fn(&str)),
) -> Result<u64, StoreError> {
    let (batches, mut received) = mpsc::channel(QUEUE);
    let (disk, index) = (Arc::clone(disk), Arc::clone(index));
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::new(&disk, &index, batches);
        reader.blobs()?;
        reader.layout()
    });
    let (mut blobs, mut names) = (0, 0);
    while let Some(rows) = received.recv().await {
        match rows {
            Rows::Blobs(rows) => {
                blobs += rows.len() as u64;
                progress(&format!("rebuilding the index: {blobs} blobs"));
                writer.submit(RecordBlobs(rows)).await?;
            }
            Rows::Exceptions(rows) => writer.submit(RestoreLinkExceptions(rows)).await?,
            Rows::Names(rows) => {
                names += writer.submit(RestoreNames(rows)).await?;
                progress(&format!("rebuilding the index: {names} of {all} names"));
            }
        }
    }
    reading.await.map_err(|_| StoreError::Closing)??;
    Ok(names)
}

/// Reads the disk and sends batches to the writer.
struct Reader<'a> {
    disk: &'a Disk,
    index: &'a Index,
    batches: mpsc::Sender<Rows>,
    names: Vec<RestoredName>,
    exceptions: Vec<LinkException>,
    /// The total length of the manifests in `names`.
    bytes: u64,
    omitted: u64,
}

impl<'a> Reader<'a> {
    fn new(disk: &'a Disk, index: &'a Index, batches: mpsc::Sender<Rows>) -> Self {
        Reader { disk, index, batches, names: Vec::new(), exceptions: Vec::new(), bytes: 0, omitted: 0 }
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for algorithm in Algorithm::ALL {
            for digest in self.disk.list(algorithm)? {
                let digest = digest?;
                let length = self.disk.blob_length(&digest)?;
                rows.extend(length.map(|length| (digest, length)));
                if rows.len() == AT_ONCE {
                    self.send(Rows::Blobs(std::mem::take(&mut rows)))?;
                }
            }
        }
        self.send(Rows::Blobs(rows))
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
                // Link exceptions precede the names in the file, and decide which links the names imply.
                if !self.exceptions.is_empty() {
                    self.send_exceptions()?;
                }
                self.name(&name)?;
                let is_full = self.names.len() >= AT_ONCE || self.bytes >= LARGEST_MANIFEST;
                if is_full { self.send_names() } else { Ok(()) }
            }
        }
    }

    fn name(&mut self, name: &Name) -> Result<(), StoreError> {
        if let Reference::Tag(tag) = &name.reference
            && self.is_restored(name)?
        {
            let Name { repository, digest, timestamps, .. } = name.clone();
            self.names.push(RestoredName::Tag { repository, tag: tag.clone(), digest, timestamps });
            return Ok(());
        }
        match read_manifest(self.disk, name) {
            Ok(new) => {
                self.bytes += new.size;
                self.names.push(RestoredName::Manifest(Box::new(new)));
                Ok(())
            }
            // A lack of descriptors or memory is no reason to omit a name.
            Err(error) if error.is_lack_of_resources() => Err(error),
            Err(error) => {
                self.omitted += 1;
                if self.omitted <= MAX_LOGGED {
                    log::warn!("{} of {} could not be restored: {error}", name.reference, name.repository);
                }
                Ok(())
            }
        }
    }

    /// Returns true if an earlier name restored the manifest, which need not be read again for each of its tags.
    fn is_restored(&self, name: &Name) -> Result<bool, StoreError> {
        let is_pending = self.names.iter().any(|one| match one {
            RestoredName::Manifest(new) => new.digest == name.digest && new.repository == name.repository,
            RestoredName::Tag { .. } => false,
        });
        let by_digest = Reference::Digest(name.digest.clone());
        Ok(is_pending || self.index.manifest(&name.repository, &by_digest)?.is_some())
    }

    fn send_names(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let names = std::mem::take(&mut self.names);
        self.send(Rows::Names(names))
    }

    fn send_exceptions(&mut self) -> Result<(), StoreError> {
        let exceptions = std::mem::take(&mut self.exceptions);
        self.send(Rows::Exceptions(exceptions))
    }

    fn send(&self, rows: Rows) -> Result<(), StoreError> {
        // The receiver is dropped when the writer fails, whose error is the one that is reported.
        self.batches.blocking_send(rows).map_err(|_| StoreError::Closing)
    }
}

/// An `index.json` that was read to its end.
struct ValidatedLayout {
    head: Head,
    names: u64,
    /// The file is unreadable or corrupt, so that names may be lost.
    is_damaged: bool,
    /// The end of the journal was cut off, so that the newest names may be lost.
    is_cut: bool,
}

/// Reads `index.json` to its end and counts its names. An unreadable file is moved aside and counts as empty. A file
/// with a wrong checksum is used, and a copy of it is kept.
fn validate_layout(disk: &Disk) -> Result<ValidatedLayout, StoreError> {
    let mut names = 0;
    let read = read_entries(disk, &mut |entry| {
        names += u64::from(matches!(entry, Entry::Name(_)));
        Ok(())
    });
    let aside = || unix_seconds().to_string();
    match read {
        Err(error) if error.is_corrupt_file() => {
            log::error!(
                "index.json is corrupt as well and has been moved aside: the names of the images are lost"
            );
            disk.set_layout_aside(&aside())?;
            Ok(ValidatedLayout { head: Head::default(), names: 0, is_damaged: true, is_cut: false })
        }
        read => {
            let LayoutRead { head, checksum, is_cut } = read?;
            let is_damaged = checksum == Checksum::Wrong;
            if is_damaged {
                let kept = disk.keep_layout_beside(&aside())?;
                log::error!(
                    "index.json is damaged: names may be wrong or missing; a copy is kept as {}",
                    kept.display()
                );
            }
            Ok(ValidatedLayout { head, names, is_damaged, is_cut })
        }
    }
}

/// Moves the trash of an earlier release back to `blobs/`: without an index it is unknown which files are orphans, and the next collection
/// decides.
fn restore_trash(disk: &Disk) -> Result<(), StoreError> {
    disk.trash()?.iter().try_for_each(|digest| disk.restore_from_trash(digest))?;
    Algorithm::ALL.into_iter().try_for_each(|algorithm| disk.sync(algorithm))
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
    let (repository, digest, may_be_sparse) = (name.repository.clone(), name.digest.clone(), name.is_sparse);
    Ok(NewManifest { repository, manifest, digest, size, tags, timestamps: name.timestamps, may_be_sparse })
}

#[cfg(test)]
mod tests;
