//! Tests of uploads and their sessions on a real directory.
#![expect(clippy::disallowed_methods, reason = "tests play the other process")]

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::room::{Room, RoomLimits};
use super::upload::Uploads;
use super::upload_id::UploadId;
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

struct Place {
    directory: tempfile::TempDir,
    disk: Arc<Disk>,
    room: Arc<Room>,
    uploads: Uploads,
}

impl Place {
    fn new(limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(directory.path(), |_| ()).unwrap());
        let index = Arc::new(Index::open(&disk, 1 << 20).unwrap());
        let limits = RoomLimits { reserve: Some(0), ..RoomLimits::default() };
        let room = Arc::new(Room::new(directory.path().into(), limits, index));
        let uploads =
            Uploads::new(limit, Arc::clone(&disk), Arc::default(), Arc::clone(&room), Arc::default());
        Place { directory, disk, room, uploads }
    }

    fn file(&self, id: UploadId) -> std::path::PathBuf {
        self.directory.path().join("uploads").join(id.to_string())
    }

    /// An idle upload with this content.
    async fn idle(&self, content: &[u8]) -> UploadId {
        let mut upload = self.uploads.start(&name(), Algorithm::Sha256).unwrap();
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
    let place = Place::new(10);
    let id = place.idle(b"abc").await;
    assert_eq!(open_descriptors_of(&place.file(id)), 0);
    let (first, second) =
        (place.uploads.resume(&name(), id).unwrap(), place.uploads.resume(&name(), id).unwrap());
    assert_eq!(open_descriptors_of(&place.file(id)), 1, "two requests share one session");
    drop(first);
    let sealed = second.seal(sha256(b"abc")).await.unwrap();
    assert!(matches!(place.uploads.resume(&name(), id), Err(StoreError::UploadUnknown)));
    sealed.reopen();
    assert_eq!(place.uploads.resume(&name(), id).unwrap().length(), 3);
}

#[tokio::test]
async fn a_request_that_comes_while_an_upload_ends_never_gets_it() {
    let place = Place::new(10);
    let id = place.idle(b"abc").await;
    let mut old = place.uploads.resume(&name(), id).unwrap();
    place.uploads.resume(&name(), id).unwrap().cancel().await.unwrap();
    assert!(matches!(place.uploads.resume(&name(), id), Err(StoreError::UploadUnknown)));
    old.write(b"more").await.unwrap();
    assert!(matches!(old.pause().await, Err(StoreError::UploadUnknown)));
    assert!(matches!(old.cancel().await, Err(StoreError::UploadUnknown)));
    assert_eq!(place.room.uploads(), (0, 0));
    assert!(place.files().is_empty());
}

#[tokio::test]
async fn expiry_leaves_an_upload_alone_that_is_in_use_or_has_grown() {
    let place = Place::new(10);
    let id = place.idle(b"abc").await;
    let text = id.to_string();
    let upload = place.uploads.resume(&name(), id).unwrap();
    assert!(!place.uploads.expire(&text, 3).unwrap(), "a request has it");
    drop(upload);
    assert!(!place.uploads.expire(&text, 2).unwrap(), "it has grown");
    let beside = std::fs::File::open(place.file(id)).unwrap();
    flock(&beside, FlockOperation::LockExclusive).unwrap();
    assert!(!place.uploads.expire(&text, 3).unwrap(), "another process has it");
    assert!(matches!(place.uploads.resume(&name(), id), Err(StoreError::OutOfResources { .. })));
    drop(beside);
    assert!(place.uploads.expire(&text, 3).unwrap());
    assert!(matches!(place.uploads.resume(&name(), id), Err(StoreError::UploadUnknown)));
    assert_eq!(place.room.uploads(), (0, 0));
}

#[tokio::test]
async fn bytes_are_counted_once_whatever_happens_to_the_file() {
    let place = Place::new(1);
    let (small, large) = (place.idle(b"abc").await, place.idle(b"abcdef").await);
    // The smaller one has been evicted.
    assert_eq!(place.room.uploads(), (6, 3));
    place.uploads.recount(&place.files());
    assert_eq!(place.room.uploads(), (6, 3));
    let upload = place.uploads.resume(&name(), small).unwrap();
    assert_eq!(place.room.uploads(), (9, 0));
    drop(upload);
    assert_eq!(place.room.uploads(), (6, 3));
    // Another process removes both.
    std::fs::remove_file(place.file(small)).unwrap();
    std::fs::remove_file(place.file(large)).unwrap();
    place.uploads.recount(&place.files());
    assert_eq!(place.room.uploads(), (0, 0));
    assert!(matches!(place.uploads.resume(&name(), large), Err(StoreError::UploadUnknown)));
    assert_eq!(place.room.uploads(), (0, 0));
}

#[tokio::test]
async fn a_file_that_is_another_one_is_hashed_again() {
    let place = Place::new(10);
    let id = place.idle(b"abc").await;
    std::fs::write(place.file(id), b"other").unwrap();
    let upload = place.uploads.resume(&name(), id).unwrap();
    assert_eq!((upload.length(), place.room.uploads()), (5, (5, 0)));
    let sealed = upload.seal(sha256(b"other")).await.unwrap();
    // The file that is admitted is the one that was hashed.
    let digest = sha256(b"other");
    std::fs::rename(place.file(id), place.directory.path().join("aside")).unwrap();
    std::fs::write(place.file(id), b"forge").unwrap();
    assert!(matches!(place.disk.admit(&sealed.file, &digest), Err(StoreError::UploadUnknown)));
    std::fs::rename(place.directory.path().join("aside"), place.file(id)).unwrap();
    place.disk.admit(&sealed.file, &digest).unwrap();
    sealed.admitted();
    assert_eq!(place.room.uploads(), (0, 0));
}

#[tokio::test]
async fn a_tail_that_was_not_counted_does_not_become_part_of_a_blob() {
    use std::io::Write;
    let place = Place::new(10);
    let id = place.idle(b"abc").await;
    let upload = place.uploads.resume(&name(), id).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(place.file(id)).unwrap();
    file.write_all(b"tail").unwrap();
    let sealed = upload.seal(sha256(b"abc")).await.unwrap();
    assert_eq!((sealed.file.length, file.metadata().unwrap().len()), (3, 3));
    sealed.discard().unwrap();
    // One that has become shorter is refused.
    let id = place.idle(b"abc").await;
    let upload = place.uploads.resume(&name(), id).unwrap();
    std::fs::OpenOptions::new().write(true).open(place.file(id)).unwrap().set_len(1).unwrap();
    assert!(matches!(upload.seal(sha256(b"abc")).await, Err(StoreError::Io { .. })));
}

#[tokio::test]
async fn a_hash_that_was_left_half_way_goes_on_from_there() {
    let place = Place::new(0);
    let content = vec![7; 9 << 20];
    let id = place.idle(&content).await;
    let upload = place.uploads.resume(&name(), id).unwrap();
    // One step of three, as when the client goes away.
    let half = tokio::time::timeout(std::time::Duration::ZERO, upload.prepare(Some(Algorithm::Sha512)));
    assert!(half.await.is_err());
    let sealed = upload.seal(Hasher::digest(Algorithm::Sha512, &content)).await.unwrap();
    sealed.discard().unwrap();
}
