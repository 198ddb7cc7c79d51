//! Spools: temporary files for the bodies of large manifests while they arrive.
//!
//! A large manifest needs a place in memory, of which there are few. A slow client must not hold one, so that the body
//! goes to an unlinked file first, and takes a place in memory only once it is complete. A client that sends slowly
//! holds one of many spools; one holder has at most a part of either.
//!
//! On disk: a file without a name in `uploads/` (`O_TMPFILE`), gone when it is closed, also after a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::buffers::{Buffer, Buffers};
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::holder::Holder;
use super::work::{HOLDERS, Kind, Work};
use crate::queue::{FairPermit, FairPool, Limits};

/// The maximum number of spools at once, those of one holder, and those reserved for holders without one.
const SPOOLS: (usize, usize, usize) = (64, 16, 8);
/// The maximum number of large manifests in memory at once, those of one holder, and those reserved for holders without
/// one.
const LARGE: (usize, usize, usize) = (2, 1, 0);
/// The maximum number of waiting requests of one holder for either; more are refused.
const WAITING: usize = 64;
/// The longest wait for a spool. While all are taken, their clients decide when one becomes free, so that the wait
/// needs an end.
const SPOOL_TIMEOUT: Duration = Duration::from_secs(5);
/// The names that are tried on a file system without unnamed files.
const NAMES: usize = 1000;

/// The places for spools and for large manifests in memory.
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

/// Place of a large manifest in memory, released on drop.
pub struct LargePlace(#[expect(dead_code, reason = "releases the place on drop")] FairPermit<Holder>);

/// The body of a large manifest that is arriving.
pub struct Spool {
    content: Arc<Content>,
    buffer: Option<Buffer>,
    buffers: Arc<Buffers>,
    work: Arc<Work>,
    large: Arc<FairPool<Holder>>,
    _place: FairPermit<Holder>,
}

/// The unlinked file, shared with the running write.
pub(super) struct Content {
    file: File,
    disk: Arc<Disk>,
    capacity: Arc<Capacity>,
    length: AtomicU64,
}

impl Spools {
    /// Returns a place for a spool, which the holder waits for at most [`SPOOL_TIMEOUT`].
    pub(super) async fn place(&self) -> Result<FairPermit<Holder>, StoreError> {
        let place = tokio::time::timeout(SPOOL_TIMEOUT, self.spools.acquire(Holder::current()));
        Ok(place.await.map_err(|_| StoreError::TooManyWaiting)??)
    }
}

impl Spool {
    pub(super) fn new(
        content: Content,
        place: FairPermit<Holder>,
        spools: &Spools,
        buffers: Arc<Buffers>,
        work: Arc<Work>,
    ) -> Self {
        let large = Arc::clone(&spools.large);
        Spool { content: Arc::new(content), buffer: None, buffers, work, large, _place: place }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Quota`], or the error of the disk.
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

    /// Waits for a place for a large manifest in memory, and parses the body on a blocking thread. The caller holds the
    /// place for as long as it holds the bytes.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`] if the holder has too many waiting requests, or the error of the disk.
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
    /// Creates the file; blocking.
    pub(super) fn create(disk: Arc<Disk>, capacity: Arc<Capacity>) -> Result<Self, StoreError> {
        let file = disk.create_spool()?;
        Ok(Content { file, disk, capacity, length: AtomicU64::new(0) })
    }

    /// Appends bytes; blocking.
    fn append(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let more = bytes.len() as u64;
        self.capacity.check(more)?;
        self.disk.write_upload(&self.file, self.length.load(Ordering::Relaxed), bytes)?;
        self.length.fetch_add(more, Ordering::Relaxed);
        self.capacity.count_written(more);
        Ok(())
    }

    /// Returns all bytes; blocking.
    fn read(&self) -> Result<Bytes, StoreError> {
        let failed = |error| StoreError::io("read a received manifest", error);
        let length = usize::try_from(self.length.load(Ordering::Relaxed));
        let mut bytes = vec![0; length.map_err(|error| failed(io::Error::other(error)))?];
        self.file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(bytes.into())
    }
}

impl Disk {
    /// Creates an empty unnamed file in `uploads/`; blocking.
    fn create_spool(&self) -> Result<File, StoreError> {
        self.check_writable()?;
        let directory = self.path("uploads");
        let failed = |error| StoreError::io("create a file for a large manifest", error);
        let options = OpenOptions::new().read(true).write(true).mode(0o600).to_owned();
        match self.files.create(&directory, options.clone().custom_flags(libc::O_TMPFILE)) {
            Err(error) if lacks_unnamed_files(&error) => {}
            opened => return opened.map_err(failed),
        }
        // A name may be taken: by a concurrent request, or by a crash between the two calls below.
        let process = std::process::id();
        for number in 0..NAMES {
            let path = directory.join(format!("spool-{process}-{number}"));
            match self.files.create(&path, options.clone().create_new(true)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = opened.map_err(failed)?;
                    self.files.remove_file(&path).map_err(failed)?;
                    return Ok(file);
                }
            }
        }
        Err(failed(rustix::io::Errno::AGAIN.into()))
    }
}

/// Returns true if the file system does not support unnamed files (`O_TMPFILE`).
fn lacks_unnamed_files(error: &io::Error) -> bool {
    const CODES: [i32; 4] = [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOENT];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

impl Drop for Content {
    fn drop(&mut self) {
        self.capacity.count_off(self.length.load(Ordering::Relaxed));
    }
}
