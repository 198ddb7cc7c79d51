//! Tests of uploads and their sessions on a real directory.
#![expect(clippy::disallowed_methods, reason = "the tests change files as another process would")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use rustix::fs::{FlockOperation, flock};

use super::Upload;
use super::blob_store::BlobStore;
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::files::FileOperation;
use super::files::observer::{Observer, observe};
use super::test_store::TestStore;
use super::upload_id::UploadId;
use super::uploads::Uploads;
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

struct Fixture {
    test: TestStore,
    disk: Arc<Disk>,
    capacity: Arc<Capacity>,
    uploads: Arc<Uploads>,
}

impl Fixture {
    async fn new(limit: usize) -> Self {
        let test = TestStore::open_changed(|settings| settings.idle_uploads = limit).await;
        let inner = &test.store.0;
        let (disk, capacity) = (Arc::clone(&inner.disk), Arc::clone(&inner.capacity));
        let uploads = Arc::clone(&inner.uploads);
        Fixture { test, disk, capacity, uploads }
    }

    fn file(&self, id: UploadId) -> std::path::PathBuf {
        self.test.path("uploads").join(id.to_string())
    }

    async fn resume(&self, id: UploadId) -> Result<Upload, StoreError> {
        Upload::resume(&self.test.store, &name(), id).await
    }

    /// Creates an idle upload with this content.
    async fn idle(&self, content: &[u8]) -> UploadId {
        let mut upload = Upload::start(&self.test.store, &name(), Algorithm::Sha256).await.unwrap();
        upload.write(content).await.unwrap();
        upload.pause().await.unwrap();
        upload.id()
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.disk.uploads().unwrap()
    }
}

fn name() -> RepositoryName {
    "a".parse().unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

fn open_descriptors_of(file: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == file)).count()
}

#[tokio::test]
async fn an_idle_upload_holds_no_descriptor_and_keeps_its_hash() {
    let fixture = Fixture::new(10).await;
    let id = fixture.idle(b"abc").await;
    assert_eq!(open_descriptors_of(&fixture.file(id)), 0);
    let (first, second) = (fixture.resume(id).await.unwrap(), fixture.resume(id).await.unwrap());
    assert_eq!(open_descriptors_of(&fixture.file(id)), 1, "two requests share one session");
    drop(first);
    let sealed = second.seal(&sha256(b"abc")).await.unwrap();
    assert!(matches!(fixture.resume(id).await, Err(StoreError::UploadUnknown)));
    sealed.reopen().unwrap();
    assert_eq!(fixture.resume(id).await.unwrap().length(), 3);
}

#[tokio::test]
async fn an_ended_upload_refuses_every_request() {
    let fixture = Fixture::new(10).await;
    let id = fixture.idle(b"abc").await;
    let mut old = fixture.resume(id).await.unwrap();
    fixture.resume(id).await.unwrap().cancel().await.unwrap();
    assert!(matches!(fixture.resume(id).await, Err(StoreError::UploadUnknown)));
    old.write(b"more").await.unwrap();
    assert!(matches!(old.pause().await, Err(StoreError::UploadUnknown)));
    assert!(matches!(old.cancel().await, Err(StoreError::UploadUnknown)));
    assert_eq!(fixture.capacity.uploads(), (0, 0));
    assert!(fixture.files().is_empty());
}

#[tokio::test]
async fn expiry_skips_an_upload_that_is_in_use_or_has_grown() {
    let fixture = Fixture::new(10).await;
    let id = fixture.idle(b"abc").await;
    let text = id.to_string();
    let upload = fixture.resume(id).await.unwrap();
    assert!(!fixture.uploads.expire(&text, 3).unwrap(), "in use by a request");
    drop(upload);
    assert!(!fixture.uploads.expire(&text, 2).unwrap(), "it has another length");
    let beside = std::fs::File::open(fixture.file(id)).unwrap();
    flock(&beside, FlockOperation::LockExclusive).unwrap();
    assert!(!fixture.uploads.expire(&text, 3).unwrap(), "locked by another process");
    assert!(matches!(fixture.resume(id).await, Err(StoreError::OutOfResources { .. })));
    drop(beside);
    assert!(fixture.uploads.expire(&text, 3).unwrap());
    assert!(matches!(fixture.resume(id).await, Err(StoreError::UploadUnknown)));
    assert_eq!(fixture.capacity.uploads(), (0, 0));
}

#[tokio::test]
async fn bytes_are_counted_once_through_eviction_and_removal() {
    let fixture = Fixture::new(1).await;
    let (small, large) = (fixture.idle(b"abc").await, fixture.idle(b"abcdef").await);
    // The shorter upload was evicted.
    assert_eq!(fixture.capacity.uploads(), (6, 3));
    fixture.uploads.recount(&fixture.files());
    assert_eq!(fixture.capacity.uploads(), (6, 3));
    let upload = fixture.resume(small).await.unwrap();
    assert_eq!(fixture.capacity.uploads(), (9, 0));
    drop(upload);
    assert_eq!(fixture.capacity.uploads(), (6, 3));
    // As `holdfast gc` would.
    std::fs::remove_file(fixture.file(small)).unwrap();
    std::fs::remove_file(fixture.file(large)).unwrap();
    fixture.uploads.recount(&fixture.files());
    assert_eq!(fixture.capacity.uploads(), (0, 0));
    assert!(matches!(fixture.resume(large).await, Err(StoreError::UploadUnknown)));
    assert_eq!(fixture.capacity.uploads(), (0, 0));
}

#[tokio::test]
async fn a_replaced_file_is_hashed_again() {
    let fixture = Fixture::new(10).await;
    let id = fixture.idle(b"abc").await;
    std::fs::write(fixture.file(id), b"other").unwrap();
    let upload = fixture.resume(id).await.unwrap();
    assert_eq!((upload.length(), fixture.capacity.uploads()), (5, (5, 0)));
    let sealed = upload.seal(&sha256(b"other")).await.unwrap();
    // Only the file that was hashed becomes the blob.
    let digest = sha256(b"other");
    std::fs::rename(fixture.file(id), fixture.test.path("aside")).unwrap();
    std::fs::write(fixture.file(id), b"forge").unwrap();
    assert!(matches!(fixture.disk.admit(&sealed.file, &digest), Err(StoreError::UploadUnknown)));
    std::fs::rename(fixture.test.path("aside"), fixture.file(id)).unwrap();
    fixture.disk.admit(&sealed.file, &digest).unwrap();
    sealed.committed().unwrap();
    assert_eq!(fixture.capacity.uploads(), (0, 0));
}

#[tokio::test]
async fn uncounted_bytes_do_not_become_part_of_a_blob() {
    use std::io::Write;
    let fixture = Fixture::new(10).await;
    let id = fixture.idle(b"abc").await;
    let upload = fixture.resume(id).await.unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(fixture.file(id)).unwrap();
    file.write_all(b"tail").unwrap();
    let sealed = upload.seal(&sha256(b"abc")).await.unwrap();
    assert_eq!((sealed.file.length, file.metadata().unwrap().len()), (3, 3));
    sealed.discard().unwrap();
    // A file that became shorter is refused.
    let id = fixture.idle(b"abc").await;
    let upload = fixture.resume(id).await.unwrap();
    std::fs::OpenOptions::new().write(true).open(fixture.file(id)).unwrap().set_len(1).unwrap();
    assert!(matches!(upload.seal(&sha256(b"abc")).await, Err(StoreError::Io { .. })));
}

#[tokio::test]
async fn a_cancelled_catch_up_resumes_at_its_position() {
    let fixture = Fixture::new(0).await;
    let content = vec![7; 9 << 20];
    let id = fixture.idle(&content).await;
    let upload = fixture.resume(id).await.unwrap();
    // Runs one step of three, as when the client disconnects.
    let half = tokio::time::timeout(std::time::Duration::ZERO, upload.prepare(Some(Algorithm::Sha512)));
    assert!(half.await.is_err());
    let sealed = upload.seal(&Hasher::digest(Algorithm::Sha512, &content)).await.unwrap();
    sealed.discard().unwrap();
}

/// Returns bytes of which no two blocks are equal, so that a lost, doubled or moved block changes the content.
fn numbers(length: usize) -> Vec<u8> {
    let words = (0_u32..).map(|number| number.wrapping_mul(0x9E37_79B1).to_le_bytes());
    words.flatten().take(length).collect()
}

/// Waits until no upload has large buffers.
async fn until_no_large_buffers(fixture: &Fixture) {
    let unused = async {
        while fixture.uploads.buffers.large_uploads() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), unused).await.unwrap();
}

#[tokio::test]
async fn an_upload_of_tiny_chunks_has_two_buffers_at_most() {
    let fixture = Fixture::new(10).await;
    let buffers = &fixture.uploads.buffers;
    let content = numbers((3 << 20) + 1);
    let mut upload = Upload::start(&fixture.test.store, &name(), Algorithm::Sha256).await.unwrap();
    // Keeps the spare buffers until they are counted.
    let other = buffers.admit_to_large();
    for chunk in content.chunks(61) {
        upload.write(chunk).await.unwrap();
    }
    assert_eq!(buffers.large_uploads(), 2);
    upload.commit(sha256(&content)).await.unwrap();
    assert_eq!(buffers.large_uploads(), 1);
    assert!((1..=2).contains(&buffers.spare_large_for_test()), "{}", buffers.spare_large_for_test());
    drop(other);
    assert_eq!(std::fs::read(fixture.test.file(&sha256(&content))).unwrap(), content);
}

#[tokio::test]
async fn an_abandoned_upload_gives_its_buffers_back() {
    let fixture = Fixture::new(10).await;
    let content = numbers((2 << 20) + 4567);
    let mut upload = Upload::start(&fixture.test.store, &name(), Algorithm::Sha256).await.unwrap();
    upload.write(&content).await.unwrap();
    let id = upload.id();
    assert!(fixture.uploads.buffers.large_uploads() > 0);
    // As when the client disconnects; the running write is completed.
    drop(upload);
    until_no_large_buffers(&fixture).await;
    let mut upload = fixture.resume(id).await.unwrap();
    let length = usize::try_from(upload.length()).unwrap();
    assert!(length > content.len() - (1 << 20), "{length}");
    upload.write(&content[length..]).await.unwrap();
    upload.commit(sha256(&content)).await.unwrap();
}

/// Lets a number of writes succeed, and then one meet a full disk; zero lets all succeed.
#[derive(Default)]
struct FullDisk(AtomicU32);

impl Observer for FullDisk {
    fn before(&self, operation: FileOperation<'_>) -> io::Result<()> {
        let count = |left: u32| left.checked_sub(1);
        let counted = matches!(operation, FileOperation::Write)
            && self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1);
        if counted { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }

    fn after(&self, _: FileOperation<'_>, _: Option<&io::Error>) {}
}

#[tokio::test]
async fn a_long_upload_resumes_where_a_full_disk_stopped_it() {
    let disk = Arc::new(FullDisk::default());
    let mut observed = None;
    let test = TestStore::open_changed(|settings| {
        observed = Some(observe(&settings.path, Arc::clone(&disk) as Arc<dyn Observer>));
    });
    let test = test.await;
    let content = numbers((4 << 20) + 77);
    let mut upload = Upload::start(&test.store, &name(), Algorithm::Sha256).await.unwrap();
    disk.0.store(4, Ordering::Relaxed);
    let mut written = Ok(());
    for chunk in content.chunks(65_000) {
        written = upload.write(chunk).await;
        if written.is_err() {
            break;
        }
    }
    assert!(matches!(written, Err(StoreError::Full)), "{written:?}");
    let (id, length) = (upload.id(), usize::try_from(upload.length()).unwrap());
    drop(upload);
    let mut upload = Upload::resume(&test.store, &name(), id).await.unwrap();
    assert!(length > 0 && upload.length() == length as u64, "the bytes that failed do not count");
    assert_eq!(std::fs::read(test.path("uploads").join(id.to_string())).unwrap(), content[..length]);
    upload.write(&content[length..]).await.unwrap();
    upload.commit(sha256(&content)).await.unwrap();
    drop(observed);
}

#[tokio::test]
async fn an_upload_without_large_buffers_goes_on_with_ordinary_ones() {
    let fixture = Fixture::new(10).await;
    let buffers = &fixture.uploads.buffers;
    let others: Vec<_> = std::iter::from_fn(|| buffers.admit_to_large()).collect();
    let content = numbers((1 << 20) + 99);
    let mut upload = Upload::start(&fixture.test.store, &name(), Algorithm::Sha256).await.unwrap();
    upload.write(&content).await.unwrap();
    assert_eq!(buffers.large_uploads(), others.len());
    upload.commit(sha256(&content)).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn chunks_of_any_size_arrive_in_order(
        chunks in proptest::collection::vec(
            prop_oneof![0_usize..100, 60_000_usize..70_000, 130_000_usize..140_000, 500_000_usize..1_200_000],
            1..12,
        ),
        pauses in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let content = numbers(chunks.iter().sum());
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
            let fixture = Fixture::new(10).await;
            let mut upload = Upload::start(&fixture.test.store, &name(), Algorithm::Sha256).await.unwrap();
            let mut rest = &content[..];
            for (length, pauses) in chunks.iter().zip(pauses) {
                let (chunk, after) = rest.split_at(*length);
                upload.write(chunk).await.unwrap();
                rest = after;
                if pauses {
                    upload.pause().await.unwrap();
                    assert_eq!(upload.length(), (content.len() - rest.len()) as u64);
                }
            }
            upload.commit(sha256(&content)).await.unwrap();
            assert!(std::fs::read(fixture.test.file(&sha256(&content))).unwrap() == content);
            assert_eq!(fixture.capacity.uploads(), (0, 0));
        });
    }
}
