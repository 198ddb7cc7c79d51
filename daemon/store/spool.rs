//! Bodies of large manifests while they arrive.
//!
//! The body of a large manifest is written to an unlinked file until it is complete. A client that sends slowly holds one
//! of many spools, and none of the few places for large manifests in memory, which decide how much memory these take:
//! a place is held while the daemon works, never while it waits for a client. One holder has at most a part of either.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::Store;
use super::buffers::{Buffer, Buffers};
use super::disk::Disk;
use super::error::StoreError;
use super::holder::Holder;
use super::room::Room;
use super::work::{HOLDERS, Kind, Work};
use crate::queue::{FairPermit, FairPool, Limits};

/// Spools at once, those of one holder, and those that are kept for holders without one.
const SPOOLS: (usize, usize, usize) = (64, 16, 8);
/// Large manifests in memory at once, those of one holder, and those that are kept for holders without one.
const LARGE: (usize, usize, usize) = (2, 1, 0);
/// Requests of one holder that wait for either; more are refused.
const WAITING: usize = 64;
/// How long a request waits for a spool: as long as all are taken, their clients decide when one becomes free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many names are tried for a file where the file system has none without a name.
const NAMES: usize = 1000;

/// Places for large manifests.
pub(super) struct Spools {
    spools: Arc<FairPool<Holder>>,
    large: Arc<FairPool<Holder>>,
}

impl Default for Spools {
    fn default() -> Self {
        let pool = |(places, places_per_holder, reserved)| {
            let waiting_per_holder = WAITING;
            let limits = Limits { places, places_per_holder, reserved, waiting_per_holder, holders: HOLDERS };
            Arc::new(FairPool::new(limits))
        };
        Spools { spools: pool(SPOOLS), large: pool(LARGE) }
    }
}

/// Place of a large manifest in memory, given back on drop.
pub struct LargePlace(
    #[expect(dead_code, reason = "it is given back when it is dropped")] FairPermit<Holder>,
);

/// Body of a large manifest that is arriving.
pub struct Spool {
    content: Arc<Content>,
    buffer: Option<Buffer>,
    buffers: Arc<Buffers>,
    work: Arc<Work>,
    large: Arc<FairPool<Holder>>,
    _place: FairPermit<Holder>,
}

/// The unlinked file. Writes that are under way share it with the spool.
struct Content {
    file: File,
    disk: Arc<Disk>,
    room: Arc<Room>,
    length: AtomicU64,
}

impl Store {
    /// Opens a spool.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`] when none becomes free soon, [`StoreError::ReadOnly`], or what the disk says.
    pub async fn spool(&self) -> Result<Spool, StoreError> {
        let inner = &self.0;
        let place = tokio::time::timeout(PATIENCE, inner.spools.spools.acquire(Holder::current()));
        let place = place.await.map_err(|_| StoreError::TooManyWaiting)??;
        let (disk, room) = (Arc::clone(&inner.disk), Arc::clone(&inner.room));
        let create = move || {
            let file = disk.create_spool()?;
            Ok(Content { file, disk, room, length: AtomicU64::new(0) })
        };
        Ok(Spool {
            content: Arc::new(inner.work.run(Kind::Write, create).await?),
            buffer: None,
            buffers: Arc::clone(&inner.buffers),
            work: Arc::clone(&inner.work),
            large: Arc::clone(&inner.spools.large),
            _place: place,
        })
    }
}

impl Spool {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Quota`], or what the disk says.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let buffer = self.buffer.get_or_insert_with(|| self.buffers.take());
            let taken = buffer.fill(bytes);
            bytes = &bytes[taken..];
            if buffer.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let Some(buffer) = self.buffer.take() else { return Ok(()) };
        let content = Arc::clone(&self.content);
        self.work.run(Kind::Write, move || content.append(buffer.as_ref())).await
    }

    /// Waits for a place among the large manifests and parses the body there, on a blocking thread. The place is to be
    /// held for as long as the bytes are.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`] when the holder has too many waiting requests, or what the disk says.
    pub async fn parse<T: Send + 'static>(
        mut self,
        parse: impl FnOnce(Bytes) -> T + Send + 'static,
    ) -> Result<(T, LargePlace), StoreError> {
        self.flush().await?;
        let place = LargePlace(self.large.acquire(Holder::current()).await?);
        let content = Arc::clone(&self.content);
        let parsed = self.work.run(Kind::Write, move || Ok(parse(content.read()?))).await?;
        Ok((parsed, place))
    }
}

impl Content {
    /// Appends bytes; blocking.
    fn append(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let more = bytes.len() as u64;
        self.room.check(more)?;
        self.disk.write_upload(&self.file, self.length.load(Ordering::Relaxed), bytes)?;
        self.length.fetch_add(more, Ordering::Relaxed);
        self.room.uploaded(more);
        Ok(())
    }

    /// Returns all bytes; blocking.
    fn read(&self) -> Result<Bytes, StoreError> {
        let failed = |error| StoreError::io("read a manifest that was received", error);
        let length = usize::try_from(self.length.load(Ordering::Relaxed));
        let mut bytes = vec![0; length.map_err(|error| failed(io::Error::other(error)))?];
        self.file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(bytes.into())
    }
}

impl Disk {
    /// Makes an empty file without a name beside the uploads: it is gone when it is closed, also after a crash. Blocking.
    #[expect(clippy::disallowed_methods, reason = "the file has no name, and nothing in it has to survive")]
    fn create_spool(&self) -> Result<File, StoreError> {
        self.check_writable()?;
        let directory = self.top("uploads");
        let failed = |error| StoreError::io("create a file for a large manifest", error);
        let options = OpenOptions::new().read(true).write(true).mode(0o600).to_owned();
        match options.clone().custom_flags(libc::O_TMPFILE).open(&directory) {
            Err(error) if lacks_unnamed_files(&error) => {}
            opened => return opened.map_err(failed),
        }
        // Requests at the same moment, and a crash between the two calls below, leave names that are taken.
        let process = std::process::id();
        for number in 0..NAMES {
            let path = directory.join(format!("spool-{process}-{number}"));
            match options.clone().create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = opened.map_err(failed)?;
                    fs::remove_file(&path).map_err(failed)?;
                    return Ok(file);
                }
            }
        }
        Err(failed(rustix::io::Errno::AGAIN.into()))
    }
}

/// Returns true if the file system has no files without a name (`O_TMPFILE`).
fn lacks_unnamed_files(error: &io::Error) -> bool {
    const CODES: [i32; 4] = [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOENT];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

impl Drop for Content {
    fn drop(&mut self) {
        self.room.ended(self.length.load(Ordering::Relaxed));
    }
}
