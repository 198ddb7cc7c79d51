//! The store: the only room that touches the data directory.
//!
//! Its verbs are the domain's, and take and return the types of `oci`. It guarantees that what a verb said is
//! done is still there after a power cut: content is synced before it gets its name, and named before the index
//! commits. Single lookups look at mapped memory and are plain functions; everything that waits for the disk is
//! `async` and runs on blocking threads or on the index writer's. A caller that goes away never stops a change
//! half-way.

mod blob;
mod buffers;
mod check;
mod clock;
mod disk;
mod error;
mod gc;
mod index;
mod layout;
mod recover;
mod room;
mod sys;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

pub use self::blob::BlobReader;
pub use self::check::{CheckOptions, Checked, Event, Fault, Progress};
pub use self::error::StoreError;
pub use self::gc::{Policy, Report, Retention, Taken};
pub use self::index::garbage::Amount;
pub use self::index::inspect::inspect;
pub use self::index::{Counts, ManifestEntry, Page};
pub use self::room::RoomLimits;
pub use self::upload::{ParseUploadIdError, Upload, UploadId};

use self::buffers::Buffers;
use self::disk::{DaemonLock, Disk};
use self::index::Index;
use self::index::changes::{NewBlob, NewManifest};
use self::index::writer::Writer;
use self::room::{Room, Space};
use self::upload::Uploads;
use crate::oci::{
    Algorithm, Descriptor, Digest, Hasher, Manifest, Reference, RepositoryName, Tag, referrers_of_index,
};

/// The largest list of referrers in one answer, in descriptors and in bytes.
const REFERRERS_PAGE: (usize, usize) = (1000, 4 << 20);

/// What the store needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; it is made where there is none.
    pub path: PathBuf,
    /// How large the index may get, in bytes; a multiple of 64 KiB.
    pub index_map_size: usize,
    /// How many unfinished uploads are kept in memory.
    pub uploads: usize,
    /// How long a push may count on what no manifest needs.
    pub grace: Duration,
    /// How much pushes may take.
    pub room: RoomLimits,
    /// Says whether the index in a directory, of this map size, reads to its end, at its newest snapshot or (true)
    /// at the one before. Reading a damaged one may end the process.
    pub inspect: fn(&Path, usize, bool) -> bool,
    /// Is told why the store takes no more writes, once that is so.
    pub failed: fn(&str),
}

/// Who opens a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one daemon that serves it.
    Daemon,
    /// The command line, beside a daemon or without one.
    Beside,
    /// The command line that makes the index again, while no daemon serves it.
    Rebuild,
}

/// The store, cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    disk: Arc<Disk>,
    index: Arc<Index>,
    uploads: Arc<Uploads>,
    buffers: Arc<Buffers>,
    role: Role,
    grace: Duration,
    room: Arc<Room>,
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Option<DaemonLock>,
}

/// What `holdfast status` shows of a data directory.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Whether a daemon serves it now.
    pub daemon_runs: bool,
    /// Why that daemon takes no more writes, if it does not.
    pub read_only: Option<String>,
    /// How much there is in it.
    #[serde(flatten)]
    pub counts: Counts,
    /// How many bytes are free on its file system.
    pub free_bytes: u64,
}

impl Store {
    /// Opens the data directory. The daemon locks it and climbs down the ladder to an index; the command line
    /// takes the index as it is, or makes it again.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another daemon has it, [`StoreError::Unready`] when only a daemon can put its
    /// index right, [`StoreError::Io`] and [`StoreError::Index`] when it cannot be opened at all.
    pub async fn open(settings: Settings, role: Role) -> Result<Self, StoreError> {
        let buffers = Arc::new(Buffers::default());
        let (grace, limits, kept_uploads) = (settings.grace, settings.room, settings.uploads);
        let (disk, lock, opened) = blocking(move || open_directory(&settings, role)).await?;
        let index = Arc::new(opened.index);
        let room = Arc::new(Room::new(disk.top(""), limits, Arc::clone(&index)));
        let uploads = Arc::new(Uploads::new(kept_uploads, Arc::clone(&buffers), Arc::clone(&room)));
        let (wake, changes) = std::sync::mpsc::sync_channel(1);
        if role == Role::Daemon && !disk.top("index.json").exists() {
            let _ = wake.try_send(());
        }
        let (writer, writer_thread) = Writer::start(Arc::clone(&index), Arc::clone(&disk), move || {
            // A full channel means that a rewrite is due anyway.
            let _ = wake.try_send(());
        })?;
        if opened.rebuild {
            recover::rebuild(&disk, &writer).await?;
        } else if opened.merge {
            recover::merge_names(&disk, &index, &writer).await?;
        } else if !index.is_complete()? {
            writer.mark_complete().await?;
        }
        // Only now: an index that is half made again must never overwrite the index.json it is made from.
        let layout_thread = start_layout(&disk, &index, changes)?;
        let store = Store(Arc::new(Inner {
            disk,
            index,
            uploads,
            buffers,
            role,
            grace,
            room,
            writer: Mutex::new(Some(writer)),
            threads: Mutex::new(vec![writer_thread, layout_thread]),
            _lock: lock,
        }));
        store.sort_trash().await?;
        store.count_uploads().await?;
        Ok(store)
    }

    /// Ends the store: no change is taken any more, those that were are committed, `index.json` is written.
    ///
    /// # Errors
    /// [`StoreError::Closing`] if a thread of the store has failed.
    pub async fn close(&self) -> Result<(), StoreError> {
        let writer = lock(&self.0.writer).take();
        drop(writer);
        let threads = std::mem::take(&mut *lock(&self.0.threads));
        let inner = Arc::clone(&self.0);
        blocking(move || {
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| StoreError::Closing))?;
            if inner.role == Role::Daemon && !error::index_failed() {
                inner.disk.leave_clean_mark();
            }
            Ok(())
        })
        .await
    }

    /// Counts the bytes of the unfinished uploads anew.
    async fn count_uploads(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let uploads = inner.disk.uploads()?;
            inner.room.set_uploading(uploads.iter().map(|(_, length)| length).sum());
            Ok(())
        })
        .await
    }

    fn writer(&self) -> Result<Writer, StoreError> {
        self.0.disk.check_writable()?;
        lock(&self.0.writer).clone().ok_or(StoreError::Closing)
    }

    /// The manifest under a tag or a digest; one lookup in mapped memory.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], or [`StoreError::NameUnknown`] when the repository has no manifest at all.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestEntry, StoreError> {
        if let Some(entry) = self.0.index.manifest(repository, reference)? {
            return Ok(entry);
        }
        self.check_exists(repository)?;
        Err(StoreError::ManifestUnknown(reference.clone()))
    }

    fn check_exists(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        if self.0.index.repository_exists(repository)? {
            return Ok(());
        }
        Err(StoreError::NameUnknown(repository.clone()))
    }

    /// The bytes of a manifest that [`Store::manifest`] found.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
    pub async fn read_manifest(&self, entry: &ManifestEntry) -> Result<Bytes, StoreError> {
        let (disk, digest, size) = (Arc::clone(&self.0.disk), entry.digest.clone(), entry.size);
        blocking(move || blob::read_whole(&disk, &digest, size)).await
    }

    /// The length of a blob in bytes; one lookup in mapped memory. A client that hears that it is there may leave
    /// out its upload, so that a blob which only waits for its collection is kept for another grace time.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] when the repository does not have it.
    pub fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, StoreError> {
        let Some(link) = self.0.index.blob(repository, digest)? else {
            return Err(StoreError::BlobUnknown(digest.clone()));
        };
        if self.0.index.may_be_collected(repository, digest, &link, self.0.grace)? {
            let (repository, digest) = (repository.clone(), digest.clone());
            // A store that takes no writes collects nothing either.
            if let Ok(writer) = self.writer() {
                writer.suggest(move |batch| batch.count_on(Some(&repository), &digest, batch.moment));
            }
        }
        Ok(link.size)
    }

    /// Opens `length` bytes of a blob that [`Store::blob`] found, from `start` on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
    pub async fn read_blob(
        &self,
        digest: &Digest,
        start: u64,
        length: u64,
    ) -> Result<BlobReader, StoreError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.clone());
        let buffers = Arc::clone(&inner.buffers);
        blocking(move || match BlobReader::open(&inner.disk, buffers, &digest, start, length) {
            // Collected since it was found.
            Err(StoreError::Damaged(_)) if !inner.index.knows_blob(&digest)? => {
                Err(StoreError::BlobUnknown(digest))
            }
            opened => opened,
        })
        .await
    }

    /// A page of the tags of a repository in the order of their bytes, after `last`.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<String>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let (store, repository) = (self.clone(), repository.clone());
        blocking(move || {
            store.check_exists(&repository)?;
            store.0.index.tags(&repository, last.as_deref(), limit)
        })
        .await
    }

    /// A page of the repositories that have a manifest and that `wanted` lets through, after `last`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn repositories(
        &self,
        last: Option<String>,
        limit: usize,
        wanted: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let index = Arc::clone(&self.0.index);
        blocking(move || index.repositories(last.as_deref(), limit, &wanted)).await
    }

    /// A page of the manifests in a repository whose subject is `subject`, after the digest `last`, of one
    /// artifact type if one is named. The first page has what clients keep under the referrers tag merged into it.
    ///
    /// # Errors
    /// [`StoreError::Index`]; an unknown repository has no referrers and is no error.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<String>,
    ) -> Result<Page<Descriptor>, StoreError> {
        let (store, repository, subject) = (self.clone(), repository.clone(), subject.clone());
        blocking(move || {
            let wanted = |descriptor: &Descriptor| {
                artifact_type.is_none() || descriptor.artifact_type == artifact_type
            };
            let index = &store.0.index;
            let mut page = index.referrers(&repository, &subject, last.as_ref(), REFERRERS_PAGE, &wanted)?;
            if last.is_none() {
                let fallback = store.fallback_referrers(&repository, &subject)?;
                page.items.extend(fallback.into_iter().filter(wanted));
            }
            Ok(page)
        })
        .await
    }

    /// The referrers in the index that clients keep under the referrers tag ("Enabling the Referrers API"), less
    /// those that the registry lists by itself.
    fn fallback_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let Ok(tag) = subject.referrers_tag().parse() else { return Ok(Vec::new()) };
        let Some(entry) = self.0.index.manifest(repository, &Reference::Tag(tag))? else {
            return Ok(Vec::new());
        };
        if !entry.media_type.is_index() {
            return Ok(Vec::new());
        }
        let bytes = blob::read_whole(&self.0.disk, &entry.digest, entry.size)?;
        let mut kept = Vec::new();
        for descriptor in referrers_of_index(&bytes) {
            let reference = Reference::Digest(descriptor.digest.clone());
            let here = self.0.index.manifest(repository, &reference)?.is_some();
            let listed =
                here && self.subject_of(repository, &descriptor.digest)?.is_some_and(|own| own == *subject);
            if here && !listed {
                kept.push(descriptor);
            }
        }
        Ok(kept)
    }

    /// What a manifest of a repository is about, read from its bytes.
    fn subject_of(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let reference = Reference::Digest(digest.clone());
        let Some(entry) = self.0.index.manifest(repository, &reference)? else { return Ok(None) };
        let bytes = blob::read_whole(&self.0.disk, digest, entry.size)?;
        Ok(Manifest::parse(&bytes, Some(&entry.media_type))
            .ok()
            .and_then(|manifest| manifest.subject().cloned()))
    }

    /// Opens a new upload.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub async fn start_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        blocking(move || inner.uploads.start(&inner.disk, &repository, algorithm)).await
    }

    /// Goes on with an upload; a request that still has it loses it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when there is none of this id in this repository.
    pub async fn resume_upload(
        &self,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Upload, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        blocking(move || inner.uploads.resume(&inner.disk, &repository, id)).await
    }

    /// How many bytes an upload has, without touching it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when there is none of this id in this repository.
    pub async fn upload_length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        blocking(move || inner.uploads.length(&inner.disk, &repository, id)).await
    }

    /// Lets the rest of an upload be hashed with the algorithm of the digest that it will be ended with.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] or [`StoreError::Io`].
    pub async fn expect_algorithm(&self, upload: &Upload, algorithm: Algorithm) -> Result<(), StoreError> {
        upload.use_algorithm(algorithm).await
    }

    /// Ends an upload: once this says so its content is a blob of the repository, and stays one after a power cut.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the content is something else, and the upload is gone then.
    pub async fn commit_upload(
        &self,
        repository: &RepositoryName,
        upload: Upload,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (store, writer) = (self.clone(), self.writer()?);
        let (repository, digest) = (repository.clone(), digest.clone());
        detached(async move {
            let sealed = upload.seal(digest.clone()).await?;
            let size = sealed.length;
            let blob = NewBlob { upload: sealed.id.to_string(), digest, size };
            let admitted = writer.submit(move |batch| batch.admit_blob(&repository, &blob)).await;
            match admitted {
                // It is a blob now, or its file has been removed since.
                Ok(()) | Err(StoreError::UploadUnknown) => {
                    store.0.uploads.forget(sealed.id);
                    store.0.room.ended(size);
                }
                Err(_) => sealed.reopen(),
            }
            admitted
        })
        .await
    }

    /// The repositories that have a blob, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn blob_homes(&self, digest: &Digest, limit: usize) -> Result<Vec<RepositoryName>, StoreError> {
        let (index, digest) = (Arc::clone(&self.0.index), digest.clone());
        blocking(move || index.blob_homes(&digest, limit)).await
    }

    /// Makes a blob of one repository known in another; false when the first does not have it.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Index`].
    pub async fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (from, to, digest) = (from.clone(), to.clone(), digest.clone());
        let writer = self.writer()?;
        detached(async move { writer.submit(move |batch| batch.mount_blob(&from, &to, &digest)).await }).await
    }

    /// Takes a manifest, with the tags it is to have; gives its digest, which is the claimed one if there is one.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when it has another digest than was claimed,
    /// [`StoreError::ManifestBlobUnknown`] when it points at something that the repository does not have.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: Manifest,
        bytes: Bytes,
        claimed: Option<Digest>,
        tags: Vec<Tag>,
    ) -> Result<Digest, StoreError> {
        let (writer, inner, repository) = (self.writer()?, Arc::clone(&self.0), repository.clone());
        detached(async move {
            let (disk, name, content) = (Arc::clone(&inner.disk), repository.clone(), bytes.clone());
            let (room, size) = (Arc::clone(&inner.room), bytes.len() as u64);
            let written = blocking(move || {
                room.check(size)?;
                write_whole(&disk, &name, claimed, &content)
            });
            let (id, digest) = written.await?;
            let new = NewManifest { repository, manifest, digest: digest.clone(), size, tags };
            let upload = id.to_string();
            let put = writer.submit(move |batch| batch.put_manifest(&new, &upload)).await;
            if put.is_err() {
                let disk = Arc::clone(&inner.disk);
                blocking(move || disk.remove_upload(&id.to_string())).await?;
            }
            put.map(|()| digest)
        })
        .await
    }

    /// Removes a tag and nothing else.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] or [`StoreError::NameUnknown`].
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        let (writer, repository, tag) = (self.writer()?, repository.clone(), tag.clone());
        detached(async move { writer.submit(move |batch| batch.delete_tag(&repository, &tag)).await }).await
    }

    /// Removes a manifest from a repository, and every tag that points at it.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] or [`StoreError::NameUnknown`].
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (writer, store) = (self.writer()?, self.clone());
        let (repository, digest) = (repository.clone(), digest.clone());
        detached(async move {
            let (name, wanted) = (repository.clone(), digest.clone());
            // A manifest that cannot be read any more can still be deleted.
            let subject = blocking(move || Ok(store.subject_of(&name, &wanted).unwrap_or_default())).await?;
            writer.submit(move |batch| batch.delete_manifest(&repository, &digest, subject.as_ref())).await
        })
        .await
    }

    /// Removes a blob from a repository; other repositories keep it.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`].
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (writer, repository, digest) = (self.writer()?, repository.clone(), digest.clone());
        detached(async move { writer.submit(move |batch| batch.delete_blob(&repository, &digest)).await })
            .await
    }
}

/// How many manifests the bytes of an `index.json` name.
#[cfg(fuzzing)]
pub fn names_in_layout(bytes: &[u8]) -> usize {
    layout::parse(bytes).map_or(0, |names| names.len())
}

/// Looks at a data directory beside the daemon, or without one; blocking.
///
/// # Errors
/// [`StoreError::Index`] when its index cannot be read.
pub fn status(path: &Path, index_map_size: usize) -> Result<Status, StoreError> {
    let daemon_runs = Disk::daemon_runs(path);
    let disk = Disk::at(path, |_| {});
    let read_only = if daemon_runs { disk.failure_of_daemon() } else { None };
    let index = Index::open_to_look(&disk, index_map_size)?;
    Ok(Status { daemon_runs, read_only, counts: index.counts()?, free_bytes: Space::of(path)?.free })
}

fn open_directory(
    settings: &Settings,
    role: Role,
) -> Result<(Arc<Disk>, Option<DaemonLock>, recover::Opened), StoreError> {
    let disk = Disk::open(&settings.path, settings.failed)?;
    if role == Role::Beside {
        let index = Index::open(&disk, settings.index_map_size, false)?;
        if !index.is_complete()? {
            return Err(StoreError::Unready);
        }
        return Ok((Arc::new(disk), None, recover::Opened { index, rebuild: false, merge: false }));
    }
    let lock = disk.lock_for_daemon()?;
    disk.forget_failure();
    layout::mark(&disk)?;
    if role == Role::Rebuild {
        let index = recover::start_anew(&disk, settings.index_map_size)?;
        return Ok((Arc::new(disk), Some(lock), recover::Opened { index, rebuild: true, merge: false }));
    }
    let opened = recover::open(&disk, settings)?;
    Ok((Arc::new(disk), Some(lock), opened))
}

fn start_layout(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    changes: Receiver<()>,
) -> Result<JoinHandle<()>, StoreError> {
    let (disk, index) = (Arc::clone(disk), Arc::clone(index));
    let thread = std::thread::Builder::new().name("layout".into());
    thread
        .spawn(move || layout::keep_current(&disk, &index, &changes))
        .map_err(|error| StoreError::io("start the layout writer", error))
}

/// Writes the bytes of a manifest to a file of their own, synced and ready to be admitted.
fn write_whole(
    disk: &Disk,
    repository: &RepositoryName,
    claimed: Option<Digest>,
    bytes: &[u8],
) -> Result<(UploadId, Digest), StoreError> {
    let algorithm = claimed.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let actual = Hasher::digest(algorithm, bytes);
    if let Some(claimed) = claimed.filter(|claimed| *claimed != actual) {
        return Err(StoreError::DigestMismatch { claimed, actual });
    }
    let id = UploadId::new(repository, algorithm)?;
    let file = disk.create_upload(&id.to_string())?;
    let written = disk.write_upload(&file, 0, bytes).and_then(|()| disk.sync_upload(&file));
    if let Err(error) = written {
        disk.remove_upload(&id.to_string())?;
        return Err(error);
    }
    Ok((id, actual))
}

/// The one bridge from async: runs what waits for the disk on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closing)?
}

/// Carries on to the end even if the caller goes away, so that no commit stops half-way.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.map_err(|_| StoreError::Closing)?
}

/// Takes a lock; a thread that panicked while it held one has ended the daemon.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock; zero before 1970, since a box without a clock may wake there.
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
