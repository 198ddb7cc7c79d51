//! Every file operation on the data directory, and the latch that refuses writes after one failed.
//!
//! Guarantees: a file appears in `blobs/` only whole and synced. The first write that fails for any reason but a full
//! disk, or something else in the place of a file (`obstacles.rs`), latches, and the first sync that fails for whatever reason: a page may be lost though the next sync says yes,
//! so nothing is written any more until the daemon has restarted. A lack of descriptors or memory is neither: what needed
//! them fails, and the store goes on. The directories that are synced stay open, so that this needs no descriptor.
#![expect(clippy::disallowed_methods, reason = "this is the file that the others leave it to")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::delay::{DiskDelay, Operation, Operations};
use super::error::StoreError;
use super::locks::Lock;
use super::obstacles::{is_in_the_way, open_regular, open_regular_with, regular_file};
use super::reported::Reported;
use super::sys;
use crate::oci::{Algorithm, Digest};

/// Says why the daemon takes no more writes, while it does not.
const READ_ONLY: &str = "index/read-only";

/// Write-back is begun in steps of this many bytes.
const WRITEBACK_STEP: u64 = 8 << 20;

/// How often, and how long apart, a request looks whether another process has let go of an upload.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A file in `uploads/` that is hashed and synced; only this very file becomes the blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HashedFile {
    /// Its name in `uploads/`.
    pub(super) name: String,
    /// Its inode.
    pub(super) inode: u64,
    /// How many bytes were hashed.
    pub(super) length: u64,
}

/// A file in `uploads/`.
pub(super) struct UploadFile {
    pub(super) name: String,
    /// In bytes.
    pub(super) length: u64,
    /// When it was written to last, by the wall clock.
    pub(super) modified: SystemTime,
}

/// What [`Disk::open_upload`] finds.
pub(super) enum OpenedUpload {
    /// The file, locked for as long as it is open.
    File(File),
    /// Another process has it locked.
    InUse,
    /// There is no such file.
    Missing,
}

/// A directory whose names are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    /// The data directory itself.
    Root,
    /// That of the index.
    Index,
    /// One of those of blobs.
    Blobs(Algorithm),
}

/// The open directories.
struct Directories {
    root: File,
    index: File,
    sha256: File,
    sha512: File,
}

/// The numbers that the file system has for the files of the index.
type IndexFiles = [u64; 2];

/// The data directory.
pub(super) struct Disk {
    root: PathBuf,
    latched: OnceLock<String>,
    /// Who is told when it latches.
    told: fn(&str),
    /// Which files the index is, for a process that works on it beside the daemon.
    index_files: OnceLock<IndexFiles>,
    reads: Operations,
    writes: Operations,
    /// Set in the process that serves the directory.
    is_daemon: OnceLock<()>,
    /// Files in `uploads/`; other processes remove some, so that each look at the directory counts them anew.
    upload_count: AtomicU64,
    /// The blobs whose files are not as the index says, as far as the log has them.
    reported: Reported,
    /// Open where something may be written.
    directories: Option<Directories>,
}

impl Disk {
    /// A data directory to look at; nothing is made.
    pub(super) fn at(root: &Path, told: fn(&str)) -> Self {
        Disk {
            root: root.to_owned(),
            latched: OnceLock::new(),
            told,
            index_files: OnceLock::new(),
            reads: Operations::default(),
            writes: Operations::default(),
            is_daemon: OnceLock::new(),
            upload_count: AtomicU64::new(0),
            reported: Reported::default(),
            directories: None,
        }
    }

    /// Makes the directories that are not there yet and opens the data directory.
    pub(super) fn open(root: &Path, told: fn(&str)) -> Result<Self, StoreError> {
        let mut disk = Self::at(root, told);
        for directory in ["uploads", "index", "trash", "blobs", "blobs/sha256", "blobs/sha512"] {
            let path = root.join(directory);
            disk.make_directory(&path)
                .map_err(|error| StoreError::io(format!("create {}", path.display()), error))?;
        }
        for directory in [root.to_owned(), root.join("blobs")] {
            File::open(&directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| StoreError::io(format!("sync {}", directory.display()), error))?;
        }
        let open = |directory| {
            let path = disk.path_of(directory);
            File::open(&path).map_err(|error| StoreError::io(format!("open {}", path.display()), error))
        };
        let directories = Directories {
            root: open(Directory::Root)?,
            index: open(Directory::Index)?,
            sha256: open(Directory::Blobs(Algorithm::Sha256))?,
            sha512: open(Directory::Blobs(Algorithm::Sha512))?,
        };
        disk.directories = Some(directories);
        Ok(disk)
    }

    fn path_of(&self, directory: Directory) -> PathBuf {
        match directory {
            Directory::Root => self.root.clone(),
            Directory::Index => self.index_directory(),
            Directory::Blobs(algorithm) => self.blob_directory(algorithm),
        }
    }

    /// Waits until the names in a directory are on the medium.
    pub(super) fn sync_directory(&self, directory: Directory) -> io::Result<()> {
        let path = self.path_of(directory);
        let Some(directories) = &self.directories else { return File::open(path)?.sync_all() };
        let open = match directory {
            Directory::Root => &directories.root,
            Directory::Index => &directories.index,
            Directory::Blobs(Algorithm::Sha256) => &directories.sha256,
            Directory::Blobs(Algorithm::Sha512) => &directories.sha512,
        };
        // Names are changed by path. A file system mounted over it meanwhile would take them, and not the sync.
        let (known, now) = (open.metadata()?, fs::metadata(&path)?);
        if (known.dev(), known.ino()) != (now.dev(), now.ino()) {
            return Err(io::Error::other(format!("{} is another directory by now", path.display())));
        }
        open.sync_all()
    }

    /// Returns how long the disk has not answered.
    pub(super) fn delay(&self) -> DiskDelay {
        DiskDelay { read: self.reads.oldest(), write: self.writes.oldest() }
    }

    /// Notes that a read begins, until the result is dropped.
    pub(super) fn reads(&self) -> Operation<'_> {
        self.reads.begin()
    }

    /// Notes that a write or a sync begins, until the result is dropped.
    pub(super) fn writes(&self) -> Operation<'_> {
        self.writes.begin()
    }

    /// Reads a few bytes from the medium, and not from the cache.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let _read = self.reads();
        let failed = |error| StoreError::io("read oci-layout", error);
        let file = open_regular(&self.root.join("oci-layout")).map_err(failed)?;
        // A file system that cannot forget it answers from memory.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        file.read_at(&mut [0; 16], 0).map_err(failed)?;
        Ok(())
    }

    /// The directory of the index.
    pub(super) fn index_directory(&self) -> PathBuf {
        self.root.join("index")
    }

    /// A file at the top of the data directory.
    pub(super) fn top(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the unfinished upload of this name lies.
    pub(super) fn upload_path(&self, name: &str) -> PathBuf {
        self.root.join("uploads").join(name)
    }

    /// Where the blob of this digest lies.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_directory(digest.algorithm()).join(digest.hex())
    }

    fn blob_directory(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    /// Refuses when an earlier write failed.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if self.latched.get().is_some() { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    /// Takes note of a failure: from now on nothing is written, unless the disk was only full, or resources were lacking.
    pub(super) fn failed(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Io { .. } | StoreError::Index(_))
            && self.latched.set(error.to_string()).is_ok()
        {
            let why = read_only(&error.to_string());
            log::error!("the store is {why}");
            (self.told)(&why);
            // For `holdfast status`, which asks about the daemon; a disk that takes not even this is told of by the log.
            if self.is_daemon.get().is_some() {
                let note = || self.create_anew(&self.top(READ_ONLY))?.write_all(why.as_bytes());
                let _ = note();
            }
        }
        error
    }

    /// Forgets why the daemon before took no more writes; this process is the daemon from now on.
    pub(super) fn forget_failure(&self) {
        let _ = self.is_daemon.set(());
        // It is most often not there.
        let _ = self.remove(&self.root.join(READ_ONLY));
    }

    /// Why nothing is written any more, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        self.latched.get().map(|error| read_only(error))
    }

    /// Why the daemon takes no more writes, if it does not.
    pub(super) fn failure_of_daemon(&self) -> Option<String> {
        io::read_to_string(open_regular(&self.root.join(READ_ONLY)).ok()?).ok()
    }

    /// Makes the empty file of a new upload.
    pub(super) fn create_upload(&self, name: &str) -> Result<File, StoreError> {
        self.check_writable()?;
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).to_owned();
        let failed = |error| StoreError::io("create an upload", error);
        let file = options.open(self.upload_path(name)).map_err(failed)?;
        self.upload_count.fetch_add(1, Ordering::Relaxed);
        match lock_upload(&file) {
            Ok(true) => Ok(file),
            locked => {
                self.remove_upload(name)?;
                Err(failed(locked.err().unwrap_or_else(|| rustix::io::Errno::AGAIN.into())))
            }
        }
    }

    /// Opens and locks the file of an upload.
    pub(super) fn open_upload(&self, name: &str) -> Result<OpenedUpload, StoreError> {
        let failed = |error| StoreError::io("open an upload", error);
        let path = self.upload_path(name);
        let file = match found(open_regular_with(OpenOptions::new().read(true).write(true), &path)) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(OpenedUpload::Missing),
            // A collection sets it aside.
            Err(error) if is_in_the_way(&error) => return Ok(OpenedUpload::Missing),
            Err(error) => return Err(failed(error)),
        };
        if !lock_upload(&file).map_err(failed)? {
            return Ok(OpenedUpload::InUse);
        }
        // The process that had it may have removed it before it let go.
        let inode = file.metadata().map_err(failed)?.ino();
        let named = found(fs::metadata(&path)).map_err(failed)?;
        match named.filter(|named| named.ino() == inode) {
            Some(_) => Ok(OpenedUpload::File(file)),
            None => Ok(OpenedUpload::Missing),
        }
    }

    /// Refuses an upload whose file has not the length that was hashed; what a failed write has left behind it is cut
    /// off.
    pub(super) fn check_upload_length(&self, file: &File, hashed: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| StoreError::io("look at an upload", error);
        let mut length = file.metadata().map_err(failed)?.len();
        if length > hashed {
            file.set_len(hashed).map_err(|error| self.failed(StoreError::io("shorten an upload", error)))?;
            length = file.metadata().map_err(failed)?.len();
        }
        if length == hashed {
            return Ok(());
        }
        let why = format!("it has {length} bytes, and {hashed} were written");
        Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    /// Whether an upload of this name is there, and how many bytes it has.
    pub(super) fn upload_length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let file = regular_file(&self.upload_path(name));
        Ok(file.map_err(|error| StoreError::io("look at an upload", error))?.map(|(length, _)| length))
    }

    /// Removes the file of an upload, if it is there.
    pub(super) fn remove_upload(&self, name: &str) -> Result<(), StoreError> {
        let removed = self
            .remove(&self.upload_path(name))
            .map_err(|error| StoreError::io("remove an upload", error))?;
        if removed.is_some() {
            self.count_ended_upload();
        }
        Ok(())
    }

    fn count_ended_upload(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        // The closure always gives a value.
        let _ = self.upload_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Returns how many files there are in `uploads/`, as far as this process knows.
    pub(super) fn upload_count(&self) -> u64 {
        self.upload_count.load(Ordering::Relaxed)
    }

    /// Writes bytes at an offset of an upload and begins their write-back early.
    pub(super) fn write_upload(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_writable()?;
        let _write = self.writes();
        if let Err(error) = file.write_all_at(bytes, offset) {
            let error = self.failed(StoreError::io("write an upload", error));
            if matches!(error, StoreError::Full | StoreError::OutOfResources { .. }) {
                // What still fitted is not counted, and must not be in the file that becomes a blob.
                let shortened =
                    file.set_len(offset).map_err(|error| StoreError::io("shorten an upload", error));
                match shortened.map_err(|error| self.failed(error)) {
                    // It is tried again before the file is sealed.
                    Ok(()) | Err(StoreError::OutOfResources { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Err(error);
        }
        let end = offset + bytes.len() as u64;
        let step = end / WRITEBACK_STEP * WRITEBACK_STEP;
        if step > offset {
            sys::begin_writeback(file, step - WRITEBACK_STEP, WRITEBACK_STEP);
        }
        Ok(())
    }

    /// Waits until the content of an upload is on the medium. A failure latches; after one for lack of resources the
    /// caller removes the file, so that the same content is never synced again.
    pub(super) fn sync_upload(&self, file: &File) -> Result<(), StoreError> {
        self.check_writable()?;
        let _write = self.writes();
        file.sync_data().map_err(|error| self.failed(StoreError::sync("sync an upload", error)))
    }

    /// Gives a synced upload its name as a blob, over an older copy if there is one. The name is durable only
    /// after [`Disk::sync_blobs`]. Refuses any other file than the one that was hashed.
    pub(super) fn admit(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.failed(StoreError::io("move an upload to the blobs", error));
        let (path, blob) = (self.upload_path(&upload.name), self.blob_path(digest));
        match found(fs::symlink_metadata(&path)).map_err(failed)? {
            Some(file) if (file.ino(), file.len()) == (upload.inode, upload.length) => {
                self.rename_over(&path, &blob).map_err(failed)?;
                self.count_ended_upload();
                self.reported.forget(digest);
                Ok(())
            }
            Some(_) => {
                log::error!("the upload {} is not the file that was hashed, and is refused", upload.name);
                Err(StoreError::UploadUnknown)
            }
            // A batch whose transaction failed is applied again change by change, after the file has moved.
            None => match regular_file(&blob).map_err(failed)? {
                Some((length, _)) if length == upload.length => Ok(()),
                _ => Err(StoreError::UploadUnknown),
            },
        }
    }

    /// Waits until the names of admitted blobs are on the medium.
    pub(super) fn sync_blobs(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        self.check_writable()?;
        self.sync_directory(Directory::Blobs(algorithm))
            .map_err(|error| self.failed(StoreError::sync("sync the directory of blobs", error)))
    }

    /// Moves a blob that nobody needs to the trash; one that is not there is there already, or lost.
    pub(super) fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.failed(StoreError::io("move a blob to the trash", error));
        let blob = self.blob_path(digest);
        if !self.clear_way(&blob).map_err(failed)? {
            found(self.rename_over(&blob, &self.trash_path(digest))).map_err(failed)?;
        }
        Ok(())
    }

    /// Moves a blob back from the trash, unless it has been pushed again; its name is durable only after
    /// [`Disk::sync_blobs`].
    pub(super) fn restore(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.failed(StoreError::io("move a blob back from the trash", error));
        let (blob, trash) = (self.blob_path(digest), self.trash_path(digest));
        if regular_file(&blob).map_err(failed)?.is_none() && !self.clear_way(&trash).map_err(failed)? {
            found(self.rename_over(&trash, &blob)).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes a blob for good; for one that the trash has no room for.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        self.remove(&self.blob_path(digest))
            .map_err(|error| self.failed(StoreError::io("remove a blob", error)))?;
        Ok(())
    }

    /// Removes a blob from the trash for good.
    pub(super) fn remove_trash(&self, digest: &Digest) -> Result<(), StoreError> {
        self.remove(&self.trash_path(digest)).map_err(|error| StoreError::io("empty the trash", error))?;
        Ok(())
    }

    /// The blobs in the trash.
    pub(super) fn trash(&self) -> Result<Vec<Digest>, StoreError> {
        let failed = |error| StoreError::io("list the trash", error);
        let mut trash = Vec::new();
        for entry in fs::read_dir(self.root.join("trash")).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            trash.extend(name.to_str().and_then(|name| name.replacen('-', ":", 1).parse().ok()));
        }
        Ok(trash)
    }

    fn trash_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("trash").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// The unfinished uploads: the names of their files and how many bytes they have.
    pub(super) fn uploads(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.uploads_by_age()?.into_iter().map(|upload| (upload.name, upload.length)).collect())
    }

    /// The unfinished uploads, with when they were written to last.
    pub(super) fn uploads_by_age(&self) -> Result<Vec<UploadFile>, StoreError> {
        let failed = |error| StoreError::io("list the uploads", error);
        let mut uploads = Vec::new();
        for entry in fs::read_dir(self.root.join("uploads")).map_err(failed)? {
            // An error is not the end of the directory: uploads that are not in the list count as gone.
            let entry = entry.map_err(failed)?;
            let Some(metadata) = found(entry.metadata()).map_err(failed)?.filter(fs::Metadata::is_file)
            else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let Ok(name) = entry.file_name().into_string() else { continue };
            uploads.push(UploadFile { name, length: metadata.len(), modified });
        }
        self.upload_count.store(uploads.len() as u64, Ordering::Relaxed);
        Ok(uploads)
    }

    /// Opens a blob that the index knows. A collection that has not committed yet, or was killed before, has it
    /// in the trash, and it may be moved back from there meanwhile.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let _read = self.reads();
        for path in [self.blob_path(digest), self.trash_path(digest), self.blob_path(digest)] {
            match found(open_regular(&path)) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(error) => return Err(StoreError::io("open a blob", error)),
            }
        }
        Err(StoreError::Damaged(digest.clone()))
    }

    /// The digests of all blobs on the disk of one algorithm; other files are passed over.
    pub(super) fn blobs(
        &self,
        algorithm: Algorithm,
    ) -> Result<impl Iterator<Item = Result<Digest, StoreError>> + use<>, StoreError> {
        let failed = |error| StoreError::io("list the blobs", error);
        let entries = fs::read_dir(self.blob_directory(algorithm)).map_err(failed)?;
        let digest = move |name: &str| format!("{algorithm}:{name}").parse().ok();
        // An error ends the list: a blob that is not in it counts as one that is not there.
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => digest(entry.file_name().to_str()?).map(Ok),
            Err(error) => Some(Err(failed(error))),
        }))
    }

    /// Which file a blob is, by the number that the file system has for it, if it is there.
    pub(super) fn blob_file(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.look_at_blob(digest)?.map(|(_, inode)| inode))
    }

    /// Moves a broken blob out of the way and keeps it beside.
    pub(super) fn set_blob_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let aside = self.root.join("damaged");
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        self.make_directory(&aside)
            .and_then(|()| found(self.rename_over(&self.blob_path(digest), &aside.join(name))))
            .map_err(|error| self.failed(StoreError::io("set a broken blob aside", error)))?;
        Ok(())
    }

    /// The length of the file of a blob in bytes, if it is there.
    pub(super) fn blob_length(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.look_at_blob(digest)?.map(|(length, _)| length))
    }

    fn look_at_blob(&self, digest: &Digest) -> Result<Option<(u64, u64)>, StoreError> {
        regular_file(&self.blob_path(digest)).map_err(|error| StoreError::io("look at a blob", error))
    }

    /// Returns true if the file of a blob that the index knows is there with this length; one on its way to the trash or
    /// back counts as well.
    pub(super) fn has_blob(&self, digest: &Digest, length: u64) -> Result<bool, StoreError> {
        let _read = self.reads();
        for path in [self.blob_path(digest), self.trash_path(digest), self.blob_path(digest)] {
            let file = regular_file(&path).map_err(|error| StoreError::io("look at a blob", error))?;
            if file.is_some_and(|(found, _)| found == length) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Warns of a blob without its file, once.
    pub(super) fn report_damaged(&self, digest: &Digest) {
        if self.reported.is_new(digest) {
            log::warn!(
                "blob {digest} is missing or damaged on the disk; the next push of it replaces the file"
            );
        }
    }

    /// Returns true for a blob that was reported as damaged and has had no new file since.
    pub(super) fn is_reported(&self, digest: &Digest) -> bool {
        self.reported.contains(digest)
    }

    /// Takes a report back: the file is there again.
    pub(super) fn forget_report(&self, digest: &Digest) {
        self.reported.forget(digest);
    }

    /// Replaces a small file at the top of the data directory so that it is whole at any moment.
    pub(super) fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut io::BufWriter<File>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check_writable()?;
        let temporary = self.root.join(format!(".{name}.new"));
        let failed = |error| self.failed(StoreError::io(format!("write {name}"), error));
        let file = self.create_anew(&temporary).map_err(failed)?;
        let mut writer = io::BufWriter::with_capacity(64 << 10, file);
        write(&mut writer)?;
        writer.flush().map_err(failed)?;
        writer.get_ref().sync_data().map_err(failed)?;
        self.rename_over(&temporary, &self.root.join(name)).map_err(failed)?;
        self.sync_directory(Directory::Root).map_err(failed)
    }

    /// Whether LMDB's magic number stands in the index where a system of the other word size puts it: behind a page
    /// header that begins with a number of that size.
    pub(super) fn index_is_of_another_word_size(&self) -> Result<bool, StoreError> {
        const MAGIC: [u8; 4] = 0xBEEF_C0DE_u32.to_ne_bytes();
        let failed = |error| StoreError::io("look at the index", error);
        let Some(file) = found(File::open(self.index_directory().join("data.mdb"))).map_err(failed)? else {
            return Ok(false);
        };
        let mut start = [0; 20];
        match file.read_exact_at(&mut start, 0) {
            Ok(()) if size_of::<usize>() == 8 => Ok(start[12..16] == MAGIC),
            Ok(()) => Ok(start[16..20] == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Moves a broken `index.json` out of the way and keeps it beside.
    pub(super) fn set_layout_aside(&self, suffix: &str) -> Result<(), StoreError> {
        fs::rename(self.top("index.json"), self.free_name(&format!("index.json.broken-{suffix}")))
            .map_err(|error| StoreError::io("set the broken index.json aside", error))
    }

    /// Gives `index.json` a second name beside, under which it stays when another takes its place. It may have one since
    /// an earlier attempt.
    pub(super) fn keep_layout_beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let failed = |error| StoreError::io("keep index.json", error);
        let layout = self.top("index.json");
        if let Some(kept) = self.other_name_of(&layout, "index.json.kept-").map_err(failed)? {
            return Ok(kept);
        }
        let aside = self.free_name(&format!("index.json.kept-{suffix}"));
        // Not every file system knows second names.
        if fs::hard_link(&layout, &aside).is_err() {
            let mut copy =
                OpenOptions::new().write(true).create_new(true).mode(0o640).open(&aside).map_err(failed)?;
            io::copy(&mut File::open(&layout).map_err(failed)?, &mut copy).map_err(failed)?;
            copy.sync_all().map_err(failed)?;
        }
        self.sync_directory(Directory::Root).map_err(failed)?;
        Ok(aside)
    }

    /// Another name that a file has in the data directory, one that begins so.
    fn other_name_of(&self, path: &Path, begins: &str) -> io::Result<Option<PathBuf>> {
        let file = fs::metadata(path)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(begins)
                && entry.metadata()?.ino() == file.ino()
            {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// Gives the file of a broken index a second name beside, under which it stays when another takes its place; that
    /// needs no room where the file system knows second names. The caller holds [`Disk::lock_index_file`].
    pub(super) fn keep_index_beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let failed = |error| StoreError::io("keep the broken index", error);
        let aside = self.directory_aside(suffix);
        fs::create_dir_all(&aside).map_err(failed)?;
        let (data, kept) = (self.index_directory().join("data.mdb"), aside.join("data.mdb"));
        // Not every file system knows second names.
        let kept = fs::hard_link(&data, &kept).or_else(|_| fs::copy(&data, &kept).map(drop));
        if let Err(error) = kept {
            let _ = fs::remove_dir_all(&aside);
            return Err(failed(error));
        }
        Ok(aside)
    }

    /// Where an inspection puts its copy of the index.
    pub(super) fn inspected_index(&self) -> PathBuf {
        self.root.join("index/inspected.mdb")
    }

    /// Lets the copy of an inspection, if there is one, be the index; its content is that of the old one. The caller
    /// has held [`Disk::lock_index_file`] since before the inspection.
    pub(super) fn use_inspected_index(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("replace the index", error);
        let Some(copy) = found(open_regular(&self.inspected_index())).map_err(failed)? else { return Ok(()) };
        copy.sync_all().map_err(failed)?;
        let directory = self.index_directory();
        // First: readers and transactions that LMDB has noted there are those of the old one.
        self.remove(&directory.join("lock.mdb")).map_err(failed)?;
        self.rename_over(&self.inspected_index(), &directory.join("data.mdb")).map_err(failed)?;
        self.sync_directory(Directory::Index).map_err(failed)?;
        self.forget_inspected_index()
    }

    /// Removes the copy that an inspection has left, and the lock that LMDB keeps beside it.
    pub(super) fn forget_inspected_index(&self) -> Result<(), StoreError> {
        for name in ["index/inspected.mdb", "index/inspected.mdb-lock"] {
            self.remove(&self.root.join(name))
                .map_err(|error| StoreError::io("remove the copy of the index", error))?;
        }
        Ok(())
    }

    /// Notes which files the index is, for a process that works on it beside the daemon; it has them open, and shares
    /// the lock of [`Disk::share_index_file`] since before it opened them.
    pub(super) fn remember_index_files(&self) -> Result<(), StoreError> {
        let files = self.index_files()?;
        // It is noted once, when the directory is opened.
        let _ = self.index_files.set(files);
        Ok(())
    }

    /// Keeps the daemon from replacing the index for as long as this lives; refused when it has done so. The daemon
    /// itself holds nothing.
    pub(super) fn hold_index_file(&self) -> Result<Option<Lock>, StoreError> {
        let Some(known) = self.index_files.get() else { return Ok(None) };
        let lock = self.share_index_file()?;
        if self.index_files()? == *known { Ok(Some(lock)) } else { Err(StoreError::Replaced) }
    }

    fn index_files(&self) -> Result<IndexFiles, StoreError> {
        let mut files = IndexFiles::default();
        for (name, number) in ["data.mdb", "lock.mdb"].into_iter().zip(&mut files) {
            let metadata = found(fs::metadata(self.index_directory().join(name)));
            let metadata = metadata.map_err(|error| StoreError::io("look at the index", error))?;
            // No file has the number zero.
            *number = metadata.map_or(0, |metadata| metadata.ino());
        }
        Ok(files)
    }

    /// Moves a broken index out of the way and keeps it beside, unless there is nothing in it; the caller holds
    /// [`Disk::lock_index_file`]. Gives where it is.
    pub(super) fn set_index_aside(&self, suffix: &str) -> Result<Option<PathBuf>, StoreError> {
        let failed = |error| StoreError::io("set the broken index aside", error);
        let (data, lock) = ("index/data.mdb", "index/lock.mdb");
        let length = found(fs::metadata(self.root.join(data))).map_err(failed)?.map_or(0, |file| file.len());
        self.remove(&self.root.join(lock)).map_err(failed)?;
        if length == 0 {
            // One that could not even be begun, for lack of room: whoever tries again and again leaves none of them.
            self.remove(&self.root.join(data)).map_err(failed)?;
            return Ok(None);
        }
        let aside = self.directory_aside(suffix);
        fs::create_dir_all(&aside).map_err(failed)?;
        fs::rename(self.root.join(data), aside.join("data.mdb")).map_err(failed)?;
        self.sync_directory(Directory::Root).map_err(failed)?;
        Ok(Some(aside))
    }

    fn directory_aside(&self, suffix: &str) -> PathBuf {
        self.free_name(&format!("index.broken-{suffix}"))
    }

    /// A name in the data directory that nothing has, this or one that begins so: what was kept in the same second, or by
    /// a clock that stands still, stays as well.
    fn free_name(&self, name: &str) -> PathBuf {
        let names =
            std::iter::once(name.to_owned()).chain((1..1000).map(|number| format!("{name}-{number}")));
        let mut free = names.map(|name| self.root.join(name)).filter(|path| !path.exists());
        free.next().unwrap_or_else(|| self.root.join(name))
    }
}

fn read_only(error: &str) -> String {
    format!("read-only: {error}; restart the daemon when the disk is well")
}

/// Turns "not found" into nothing, and leaves every other error as it is.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks the file of an upload for as long as it is open; false if another process keeps it. That is `holdfast gc`, which
/// removes it, or sees that it must not and lets go.
fn lock_upload(file: &File) -> io::Result<bool> {
    for tried in 1.. {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if tried < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
