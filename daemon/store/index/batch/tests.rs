//! Batches on back ends in memory: the order of files and rows, and what remains after each failure.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::super::metadata_store::memory::{Fault, MemoryMetadata};
use super::*;
use crate::store::blob_store::memory::{MemoryBlobs, Step};
use crate::store::capacity_limits::NameLimits;
use crate::store::index::changes::TypedChange;
use crate::store::index::changes::blobs::{AdmitBlob, MountBlob, Mounted, NewBlob};
use crate::store::index::changes::deletes::{
    DeleteManifest, DeleteTags, DeleteUntaggedManifest, Deleted, ManifestDelete,
};
use crate::store::index::changes::marks::SaveClock;
use crate::store::index::changes::push::PutManifest;
use crate::store::index::changes::repair::{CorruptFile, SetBlobAside};
use crate::store::index::changes::sweep::{AdoptBlobs, SweepBlobs};
use crate::store::index::tables::candidates::SweepOutcome;
use crate::store::index::tables::lookups::Lookups;
use crate::store::index::tables::mark::Mark;
use crate::store::index::tables::memory::Memory;
use crate::store::index::tables::{Table, WriteTables, consistency, meta};
use crate::store::index::test_index::{TestManifest, digest, image_index, repository, tag};

#[derive(Default)]
struct Fixture {
    metadata: MemoryMetadata,
    blobs: MemoryBlobs,
    feed: Feed,
}

/// The answer to a job.
type Answer = mpsc::Receiver<Result<Reply, StoreError>>;

fn job(change: impl Into<Change>) -> (Job, Answer) {
    let (sender, answer) = mpsc::channel();
    (Job::new(change.into(), Origin::system(), move |result| drop(sender.send(result))), answer)
}

fn reply<C: TypedChange>(answer: &Answer) -> Result<C::Reply, StoreError> {
    answer.recv().unwrap().map(|reply| C::typed(reply).unwrap())
}

impl Fixture {
    fn batches(&self) -> Batches<'_, &MemoryMetadata, &MemoryBlobs> {
        Batches { metadata: &self.metadata, blobs: &self.blobs, feed: &self.feed }
    }

    /// Commits jobs in one batch, as the writer does, and answers them.
    fn commit(&self, jobs: Vec<Job>) -> Result<bool, StoreError> {
        let mut jobs = jobs;
        let committed = self.batches().commit(&mut jobs, 1000);
        for job in jobs {
            if let Err(failure) = &committed {
                self.batches().give_back_failed(&job, failure);
            }
            job.answer(committed.as_ref().map(drop).map_err(|failure| copy_error(&failure.error)));
        }
        committed.map_err(|failure| failure.error)
    }

    /// Commits one change.
    fn submit<C: TypedChange>(&self, change: C) -> Result<C::Reply, StoreError> {
        let (job, answer) = job(change);
        let _ = self.commit(vec![job]);
        reply::<C>(&answer)
    }

    /// Returns the change that makes this content a blob of the repository `a`.
    fn admit_blob(&self, name: &str, content: &str) -> AdmitBlob {
        let (file, digest) = self.blobs.upload(name, content.as_bytes());
        AdmitBlob { repository: Some(repository("a")), blob: NewBlob { file, digest } }
    }

    fn put_manifest(&self, name: &str, manifest: &TestManifest) -> PutManifest {
        let (file, _) = self.blobs.upload(name, &manifest.bytes);
        let (new, limits) = (Box::new(manifest.new.clone()), NameLimits::default());
        PutManifest { new, file, limits, immutable: Arc::default(), damaged: BTreeSet::new() }
    }

    fn has_row(&self, digest: &Digest) -> bool {
        self.metadata.tables().contains_blob(digest).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            consistency::check(&self.metadata.tables()).unwrap();
        }
    }
}

fn broken_disk() -> StoreError {
    StoreError::io("sync", io::Error::from_raw_os_error(libc::EIO))
}

fn no_descriptors() -> StoreError {
    StoreError::io("open", io::Error::from_raw_os_error(libc::EMFILE))
}

#[test]
fn files_are_admitted_and_synced_once_before_the_rows() {
    let fixture = Fixture::default();
    let (first, first_answer) = job(fixture.admit_blob("1", "one"));
    let (second, second_answer) = job(fixture.admit_blob("2", "two"));
    assert!(!fixture.commit(vec![first, second]).unwrap(), "no name has changed");
    assert_eq!(fixture.blobs.take_steps(), [Step::Admit, Step::Admit, Step::Sync]);
    reply::<AdmitBlob>(&first_answer).unwrap();
    reply::<AdmitBlob>(&second_answer).unwrap();
    assert!(fixture.has_row(&digest("one")) && fixture.has_row(&digest("two")));
    assert!(fixture.commit(vec![job(fixture.put_manifest("m", &image_index(&[], 0, &["1"]))).0]).unwrap());
}

#[test]
fn a_refused_change_gets_its_file_back_and_the_others_are_committed() {
    let fixture = Fixture::default();
    let missing = image_index(&[digest("missing")], 0, &["1"]);
    let (refused, refusal) = job(fixture.put_manifest("m", &missing));
    let (blob, accepted) = job(fixture.admit_blob("b", "blob"));
    fixture.commit(vec![refused, blob]).unwrap();
    assert!(matches!(reply::<PutManifest>(&refusal), Err(StoreError::ManifestBlobUnknown(_))));
    reply::<AdmitBlob>(&accepted).unwrap();
    assert!(fixture.blobs.has_upload("m") && !fixture.blobs.has_upload("b"));
    assert_eq!(fixture.blobs.digests(), [digest("blob")]);
}

#[test]
fn a_refused_file_of_a_known_blob_stays_a_blob() {
    let fixture = Fixture::default();
    let manifest = image_index(&[], 0, &["1"]);
    fixture.submit(fixture.put_manifest("first", &manifest)).unwrap();
    let mut again = fixture.put_manifest("second", &manifest);
    again.limits = NameLimits { tags_per_repository: 1, names: 2 };
    again.new.tags = vec![tag("2")];
    assert!(matches!(fixture.submit(again), Err(StoreError::TooManyTags { .. })));
    assert!(!fixture.blobs.has_upload("second"));
    assert_eq!(fixture.blobs.digests(), std::slice::from_ref(&manifest.digest));
}

#[test]
fn without_room_no_file_is_moved_and_deletes_continue() {
    let fixture = Fixture::default();
    fixture.submit(fixture.admit_blob("1", "old")).unwrap();
    fixture.metadata.change(|tables| tables.limit = Some(0));
    fixture.blobs.take_steps();
    let (push, refusal) = job(fixture.admit_blob("2", "new"));
    let blobs = vec![(digest("old"), 3)];
    let (sweep, swept) = job(SweepBlobs { blobs, grace: Duration::ZERO, leases: Arc::default() });
    fixture.commit(vec![push, sweep]).unwrap();
    assert!(matches!(reply::<AdmitBlob>(&refusal), Err(StoreError::IndexFull)));
    assert_eq!(reply::<SweepBlobs>(&swept).unwrap().len(), 1);
    assert_eq!(fixture.blobs.take_steps(), [Step::Remove]);
    assert!(fixture.blobs.has_upload("2"));
}

#[test]
fn a_swept_blob_that_the_same_transaction_brings_back_stays() {
    let fixture = Fixture::default();
    fixture.submit(fixture.admit_blob("1", "blob")).unwrap();
    let (sweep, swept) =
        job(SweepBlobs { blobs: vec![(digest("blob"), 4)], grace: Duration::ZERO, leases: Arc::default() });
    let (push, pushed) = job(fixture.admit_blob("2", "blob"));
    fixture.commit(vec![sweep, push]).unwrap();
    assert!(matches!(reply::<SweepBlobs>(&swept).unwrap()[..], [SweepOutcome::Swept(_)]));
    reply::<AdmitBlob>(&pushed).unwrap();
    assert!(fixture.has_row(&digest("blob")));
    assert_eq!(fixture.blobs.digests(), [digest("blob")]);
}

#[test]
fn a_swept_blob_with_a_refused_push_of_its_content_goes() {
    let fixture = Fixture::default();
    let manifest = image_index(&[digest("missing")], 0, &["1"]);
    let content = String::from_utf8(manifest.bytes.clone()).unwrap();
    fixture.submit(fixture.admit_blob("1", &content)).unwrap();
    let blobs = vec![(manifest.digest.clone(), manifest.size)];
    let (sweep, _swept) = job(SweepBlobs { blobs, grace: Duration::ZERO, leases: Arc::default() });
    let (push, refusal) = job(fixture.put_manifest("2", &manifest));
    fixture.commit(vec![sweep, push]).unwrap();
    assert!(reply::<PutManifest>(&refusal).is_err());
    assert!(fixture.blobs.digests().is_empty() && fixture.blobs.has_upload("2"));
}

#[test]
fn nothing_is_removed_unless_the_commit_succeeds() {
    for (fault, is_row_left) in [
        (Fault::Abort(|| StoreError::PagesHeld), true),
        (Fault::Lost(|| StoreError::Full), true),
        (Fault::Kept(|| StoreError::Full), false),
    ] {
        let fixture = Fixture::default();
        fixture.submit(fixture.admit_blob("1", "blob")).unwrap();
        fixture.metadata.fail(&[fault]);
        let sweep =
            SweepBlobs { blobs: vec![(digest("blob"), 4)], grace: Duration::ZERO, leases: Arc::default() };
        assert!(fixture.submit(sweep).is_err());
        assert_eq!(fixture.has_row(&digest("blob")), is_row_left);
        assert_eq!(fixture.blobs.digests(), [digest("blob")], "{fault:?}");
    }
}

#[test]
fn the_file_of_a_failed_push_goes_back_only_if_the_push_is_certainly_undone() {
    for (fault, is_upload) in [
        (Fault::Abort(|| StoreError::PagesHeld), true),
        (Fault::Lost(|| StoreError::Full), false),
        (Fault::Kept(|| StoreError::Full), false),
    ] {
        let fixture = Fixture::default();
        fixture.metadata.fail(&[fault]);
        assert!(fixture.submit(fixture.admit_blob("1", "blob")).is_err());
        assert_eq!(fixture.blobs.has_upload("1"), is_upload, "{fault:?}");
        assert_eq!(fixture.blobs.digests().is_empty(), is_upload, "{fault:?}");
    }
}

#[test]
fn a_push_is_repeated_after_its_file_was_admitted() {
    let fixture = Fixture::default();
    fixture.metadata.fail(&[Fault::Abort(|| StoreError::PagesHeld)]);
    let (push, answer) = job(fixture.admit_blob("1", "blob"));
    let mut jobs = [push];
    assert!(fixture.batches().commit(&mut jobs, 0).is_err());
    fixture.batches().commit(&mut jobs, 0).unwrap_or_else(|_| panic!("it fails again"));
    assert_eq!(fixture.blobs.take_steps(), [Step::Admit, Step::Sync, Step::Admit, Step::Sync]);
    let [push] = jobs;
    push.answer(Ok(()));
    reply::<AdmitBlob>(&answer).unwrap();
    assert!(fixture.has_row(&digest("blob")));
}

#[test]
fn a_failed_sync_changes_no_row_and_latches_unless_resources_are_lacking() {
    for (error, is_latched) in [(broken_disk as fn() -> StoreError, true), (no_descriptors, false)] {
        let fixture = Fixture::default();
        fixture.blobs.fail(Some((Step::Sync, error)));
        assert!(fixture.submit(fixture.admit_blob("1", "blob")).is_err());
        assert!(!fixture.has_row(&digest("blob")));
        assert_eq!(fixture.blobs.is_read_only(), is_latched);
        // The name may not be durable, and is not synced again: the file is left to the next push or collection.
        assert_eq!(fixture.blobs.digests(), [digest("blob")]);
        fixture.blobs.fail(None);
        assert_eq!(fixture.submit(fixture.admit_blob("2", "blob")).is_ok(), !is_latched);
    }
}

#[test]
fn a_corrupt_index_latches() {
    let fixture = Fixture::default();
    fixture.metadata.change(|tables| {
        tables.put(Table::Meta, meta::CLOCK, &[0xff; 3]).unwrap();
    });
    assert!(fixture.submit(SaveClock).is_err());
    assert!(fixture.blobs.is_read_only());
    assert!(matches!(fixture.submit(SaveClock), Err(StoreError::ReadOnly)));
    fixture.metadata.change(|tables| *tables = Memory::default());
}

#[test]
fn a_file_that_cannot_be_removed_is_found_by_the_next_collection() {
    let fixture = Fixture::default();
    fixture.submit(fixture.admit_blob("1", "blob")).unwrap();
    fixture.blobs.fail(Some((Step::Remove, no_descriptors)));
    let sweep =
        SweepBlobs { blobs: vec![(digest("blob"), 4)], grace: Duration::ZERO, leases: Arc::default() };
    assert_eq!(fixture.submit(sweep).unwrap().len(), 1);
    assert!(!fixture.has_row(&digest("blob")));
    let unknown: Vec<_> = fixture.blobs.digests().into_iter().map(FileFact::about).collect();
    assert_eq!(fixture.submit(AdoptBlobs(unknown)).unwrap(), [(digest("blob"), 4)]);
}

#[test]
fn unknown_files_are_adopted_once() {
    let fixture = Fixture::default();
    let unknown = fixture.blobs.put(b"unknown");
    fixture.submit(fixture.admit_blob("1", "known")).unwrap();
    let files =
        || [&unknown, &digest("known"), &digest("missing")].map(|one| FileFact::about(one.clone())).to_vec();
    assert_eq!(fixture.submit(AdoptBlobs(files())).unwrap(), [(unknown.clone(), 7)]);
    assert_eq!(fixture.submit(AdoptBlobs(files())).unwrap(), []);
    assert_eq!(fixture.metadata.tables().blob_size(&unknown).unwrap(), Some(7));
}

#[test]
fn a_mount_needs_the_file() {
    let fixture = Fixture::default();
    fixture.submit(fixture.admit_blob("1", "blob")).unwrap();
    let mount = |from: &str| MountBlob {
        from: repository(from),
        to: repository("b"),
        file: FileFact::about(digest("blob")),
    };
    assert_eq!(fixture.submit(mount("c")).unwrap(), Mounted::Unknown);
    fixture.blobs.remove(&digest("blob")).unwrap();
    assert_eq!(fixture.submit(mount("a")).unwrap(), Mounted::Damaged);
    fixture.blobs.put(b"blob");
    assert_eq!(fixture.submit(mount("a")).unwrap(), Mounted::Yes);
    assert!(fixture.metadata.tables().blob(&repository("b"), &digest("blob")).unwrap().is_some());
}

#[test]
fn a_corrupt_blob_is_set_aside_unless_it_was_replaced() {
    let fixture = Fixture::default();
    fixture.submit(fixture.admit_blob("1", "blob")).unwrap();
    let read = fixture.blobs.file(&digest("blob")).unwrap().map(|file| file.inode);
    let (push, _) = job(fixture.admit_blob("2", "blob"));
    let (repair, repaired) = job(SetBlobAside(CorruptFile::new(digest("blob"), read)));
    fixture.commit(vec![repair, push]).unwrap();
    assert!(!reply::<SetBlobAside>(&repaired).unwrap(), "the push of the same batch replaced it");
    let read = fixture.blobs.file(&digest("blob")).unwrap().map(|file| file.inode);
    assert!(fixture.submit(SetBlobAside(CorruptFile::new(digest("blob"), read))).unwrap());
    assert!(fixture.blobs.has_damaged(&digest("blob")) && !fixture.has_row(&digest("blob")));
}

/// Returns the delete of an image index in the repository `a`.
fn manifest_delete(number: usize) -> Arc<ManifestDelete> {
    Arc::new(ManifestDelete {
        repository: repository("a"),
        digest: image_index(&[], number, &[]).digest.clone(),
        subject: None,
        immutable: Arc::default(),
    })
}

#[test]
fn tag_set_in_the_transaction_of_a_delete_is_deleted_with_its_manifest() {
    let fixture = Fixture::default();
    fixture.submit(fixture.put_manifest("1", &image_index(&[], 0, &["1", "moves"]))).unwrap();
    fixture.submit(fixture.put_manifest("2", &image_index(&[], 1, &["moves"]))).unwrap();
    let (push, _) = job(fixture.put_manifest("3", &image_index(&[], 0, &["late"])));
    let (delete, deleted) = job(DeleteManifest(manifest_delete(0)));
    fixture.commit(vec![push, delete]).unwrap();
    assert_eq!(reply::<DeleteManifest>(&deleted).unwrap(), Deleted::Complete);
    let tags = fixture.metadata.tables().tags_after(&repository("a"), None, 10_000).unwrap();
    assert_eq!(tags.iter().map(|one| one.tag.as_str()).collect::<Vec<_>>(), ["moves"]);
}

#[test]
fn tag_set_before_the_delete_of_an_untagged_manifest_keeps_it() {
    let fixture = Fixture::default();
    fixture.submit(fixture.put_manifest("1", &image_index(&[], 0, &[]))).unwrap();
    let change = || DeleteUntaggedManifest(manifest_delete(0));
    // In the transaction of the delete itself, and before it.
    let (push, _) = job(fixture.put_manifest("2", &image_index(&[], 0, &["late"])));
    let (last, deleted) = job(change());
    fixture.commit(vec![push, last]).unwrap();
    assert_eq!(reply::<DeleteUntaggedManifest>(&deleted).unwrap(), None);
    assert_eq!(fixture.submit(change()).unwrap(), None);
    let tags = vec![(tag("late"), manifest_delete(0).digest.clone())];
    fixture.submit(DeleteTags { repository: repository("a"), tags, immutable: Arc::default() }).unwrap();
    assert_eq!(fixture.submit(change()).unwrap(), Some(Deleted::Complete));
    assert!(matches!(
        fixture.submit(change()),
        Err(StoreError::NameUnknown(_) | StoreError::ManifestUnknown(_))
    ));
}
