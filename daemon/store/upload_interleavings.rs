//! All interleavings of two or three requests, expiries and commits of one upload, over the real sessions and files.
//!
//! Other actors may run before each lock of the session table or of a session, before each file operation, and while
//! the index writer has a sealed upload. A model beside the store learns each result and refuses those that must not
//! be: a step of a request that was taken over, a step after the end, two ends, content that no digest covers, two
//! sessions of one id, a session of an upload in use that expires, and bytes that stay counted.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blob_store::BlobStore;
use super::buffers::Buffers;
use super::capacity::Capacity;
use super::capacity_limits::CapacityLimits;
use super::disk::Disk;
use super::error::StoreError;
use super::files::FileOperation;
use super::files::observer::{Observer, Registration, observe};
use super::index::Index;
use super::interleaving::{Actor, explore, explore_at_most, point};
use super::sessions::Session;
use super::upload_id::UploadId;
use super::upload_owner::Owner;
use super::uploads::Uploads;
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

/// The number of the files as an object of the scheduler; all operations on files count as dependent.
const FILES: usize = 0;
/// The content of the upload before each run.
const BEGUN: &[u8] = b"begun,";

/// Lets other actors run before each file operation; refuses the removal of a file that does not exist.
struct Points;

impl Observer for Points {
    fn before(&self, _: FileOperation<'_>) -> io::Result<()> {
        point(FILES);
        Ok(())
    }

    fn after(&self, operation: FileOperation<'_>, error: Option<&io::Error>) {
        let removes = matches!(operation, FileOperation::RemoveFile(_) | FileOperation::Rename(..));
        assert!(!removes || error.is_none(), "a file is lost twice: {error:?}");
    }
}

/// The expected state of the upload.
#[derive(Default)]
struct Model {
    content: Vec<u8>,
    /// The actor whose resume returned last.
    owner: Option<usize>,
    is_sealed: bool,
    has_ended: bool,
    /// The expiries that have not returned: the upload may have ended.
    expiring: usize,
    /// The number of times that the upload was sealed or expired.
    closings: usize,
    /// The sessions of the owners that exist, by actor.
    sessions: Vec<(usize, usize)>,
}

impl Model {
    fn resumed(&mut self, actor: usize, owner: &Owner) {
        assert!(
            !self.has_ended && !self.is_sealed,
            "a request resumed an upload that is sealed or has ended"
        );
        let session = std::ptr::from_ref::<Session>(&owner.handle).addr();
        assert!(self.sessions.iter().all(|(_, other)| *other == session), "an upload has two sessions");
        assert_eq!(owner.handle.length(), self.content.len() as u64);
        self.sessions.push((actor, session));
        self.owner = Some(actor);
    }

    /// Records a step of an owner; returns true if it succeeded.
    fn stepped<T>(&mut self, actor: usize, step: &Result<T, StoreError>) -> bool {
        match step {
            Ok(_) => {
                assert!(
                    !self.has_ended && !self.is_sealed,
                    "a step after the upload was sealed or has ended"
                );
                assert_eq!(self.owner, Some(actor), "a step of a request that was taken over");
                true
            }
            Err(StoreError::UploadTakenOver) => {
                assert_ne!(self.owner, Some(actor), "the owner counts as taken over");
                false
            }
            Err(error) => self.refused(error),
        }
    }

    /// Records a refusal that is right only once the upload is sealed or has ended.
    fn refused(&self, error: &StoreError) -> bool {
        self.refused_since(error, self.open_since())
    }

    /// Records a refusal by a call that began when [`Model::open_since`] had this result.
    fn refused_since(&self, error: &StoreError, open_since: Option<usize>) -> bool {
        assert!(matches!(error, StoreError::UploadUnknown), "{error:?}");
        let was_open = open_since.is_some_and(|closings| self.closings == closings);
        assert!(!was_open || self.has_ended, "an open upload counts as unknown");
        false
    }

    /// Returns the number of closings so far if the upload is open.
    fn open_since(&self) -> Option<usize> {
        (!self.has_ended && !self.is_sealed && self.expiring == 0).then_some(self.closings)
    }

    fn expires(&mut self) {
        self.expiring += 1;
        self.closings += 1;
    }

    fn sealed(&mut self) {
        self.is_sealed = true;
        self.closings += 1;
    }

    fn ended(&mut self) {
        assert!(!self.has_ended && !self.is_sealed, "an upload ended twice, or while it was sealed");
        self.has_ended = true;
    }
}

/// The store's side of a run, and the model.
struct Upload {
    uploads: Arc<Uploads>,
    id: UploadId,
    model: Mutex<Model>,
}

/// The part of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Owns the upload from before the run, and writes.
    Old,
    /// Takes over and writes.
    New,
    /// Takes over and cancels, as DELETE does.
    Cancel,
    /// The collection.
    Expire,
    /// Takes over, writes and commits; the index takes the blob or refuses it.
    Commit { accepted: bool },
}

impl Upload {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resumes the upload; returns `None` if it is sealed or has ended.
    fn resume(&self, actor: usize) -> Option<Owner> {
        let open_since = self.model().open_since();
        let resumed = Owner::resume(&self.uploads, &repository(), self.id);
        let mut model = self.model();
        match resumed {
            Ok(owner) => {
                model.resumed(actor, &owner);
                Some(owner)
            }
            Err(error) => {
                model.refused_since(&error, open_since);
                None
            }
        }
    }

    /// Appends bytes; returns true if this actor still owned the upload.
    fn write(&self, actor: usize, owner: &Owner, bytes: &[u8]) -> bool {
        let written = owner.write(bytes);
        let mut model = self.model();
        let succeeded = model.stepped(actor, &written);
        if succeeded {
            model.content.extend(bytes);
        }
        succeeded
    }

    fn end(&self, actor: usize, owner: Owner) {
        self.model().sessions.retain(|(other, _)| *other != actor);
        drop(owner);
    }

    fn cancel(&self, owner: &Owner) {
        let cancelled = owner.cancel();
        let mut model = self.model();
        match cancelled {
            Ok(()) => model.ended(),
            Err(error) => drop(model.refused(&error)),
        }
    }

    fn expire(&self) {
        self.model().expires();
        let expired = self.uploads.expire(&self.id.to_string(), BEGUN.len() as u64).unwrap();
        let mut model = self.model();
        model.expiring -= 1;
        if expired {
            assert_eq!(model.content, BEGUN, "an upload expired that had grown");
            assert!(model.sessions.is_empty(), "an upload expired that a request uses");
            model.ended();
        }
    }

    /// Commits as a client does that knows the content as it was when it resumed, and sends the end.
    fn commit(&self, actor: usize, owner: &Owner, accepted: bool) {
        let content = [self.model().content.as_slice(), b"commit"].concat();
        if !self.write(actor, owner, b"commit") {
            return;
        }
        let digest = sha256(&content);
        let sealed = owner.seal(&digest).map(|sealed| sealed.expect("the hash covers all bytes"));
        if !self.model().stepped(actor, &sealed) {
            return;
        }
        let sealed = sealed.unwrap();
        self.model().sealed();
        point(FILES);
        if accepted {
            let disk = &self.uploads.disk;
            disk.admit(&sealed.file, &digest).expect("the sealed file is lost");
            assert_eq!(std::fs::read(disk.blob_path(&digest)).unwrap(), content);
            point(FILES);
            sealed.committed().unwrap();
            assert_eq!(std::fs::read(disk.blob_path(&digest)).unwrap(), content);
        } else {
            sealed.reopen().unwrap();
        }
        let mut model = self.model();
        (model.is_sealed, model.has_ended) = (false, accepted);
    }

    fn play(&self, actor: usize, part: Part, old: Option<Owner>) {
        if part == Part::Expire {
            return self.expire();
        }
        let Some(owner) = old.or_else(|| self.resume(actor)) else { return };
        match part {
            Part::Old | Part::New => drop(self.write(actor, &owner, format!("{actor},").as_bytes())),
            Part::Cancel => self.cancel(&owner),
            Part::Commit { accepted } => self.commit(actor, &owner, accepted),
            Part::Expire => unreachable!("it owns nothing"),
        }
        self.end(actor, owner);
    }

    /// Checks the state after all actors have ended, and ends the upload.
    fn check(&self) {
        let Model { has_ended, content, .. } = std::mem::take(&mut *self.model());
        assert!(matches!(self.uploads.sessions.count_for_test(), (0 | 1, 0)), "a handle is left");
        let file = self.uploads.disk.upload_length(&self.id.to_string()).unwrap();
        assert_eq!(file, (!has_ended).then_some(content.len() as u64));
        if !has_ended {
            let owner = Owner::resume(&self.uploads, &repository(), self.id).unwrap();
            owner.seal(&sha256(&content)).unwrap().expect("the hash is current").discard().unwrap();
        }
        assert_eq!(self.uploads.capacity.uploads(), (0, 0), "bytes stay counted");
        assert_eq!(self.uploads.sessions.count_for_test(), (0, 0), "the session is left");
        assert_eq!(self.uploads.disk.upload_count(), 0);
    }
}

fn repository() -> RepositoryName {
    "a".parse().unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

/// The directory and the parts of the store that all runs share.
struct Fixture {
    disk: Arc<Disk>,
    capacity: Arc<Capacity>,
    _observed: Registration,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.unwrap();
        let observed = observe(directory.path(), Arc::new(Points));
        let disk = Arc::new(Disk::open(directory.path(), |_| ()).unwrap());
        let index = Arc::new(Index::open(&disk, 1 << 20).unwrap());
        let limits = CapacityLimits { reserve: Some(0), ..CapacityLimits::default() };
        let capacity = Arc::new(Capacity::new(directory.path().into(), limits, index));
        Fixture { disk, capacity, _observed: observed, _directory: directory }
    }

    /// Begins an upload and returns the actors.
    fn begin(&self, parts: &[Part]) -> (Vec<Actor>, impl FnOnce() + use<>) {
        let (disk, capacity) = (Arc::clone(&self.disk), Arc::clone(&self.capacity));
        let uploads = Arc::new(Uploads::new(10, disk, Arc::new(Buffers::default()), capacity));
        let owner = Owner::start(&uploads, &repository(), Algorithm::Sha256).unwrap();
        owner.write(BEGUN).unwrap();
        let model = Mutex::new(Model { content: BEGUN.to_vec(), ..Model::default() });
        let upload = Arc::new(Upload { uploads, id: owner.handle.id(), model });
        drop(owner);
        let actor = |(actor, part): (usize, &Part)| {
            let (upload, part) = (Arc::clone(&upload), *part);
            let old = (part == Part::Old).then(|| upload.resume(actor).unwrap());
            Box::new(move || upload.play(actor, part, old)) as Actor
        };
        let actors = parts.iter().enumerate().map(actor).collect();
        (actors, move || upload.check())
    }

    fn explore(&self, parts: &[Part]) -> usize {
        let orders = explore(|| self.begin(parts));
        println!("{orders} orders of {parts:?}");
        orders
    }
}

const PARTS: [Part; 6] = [
    Part::Old,
    Part::New,
    Part::Cancel,
    Part::Expire,
    Part::Commit { accepted: true },
    Part::Commit { accepted: false },
];

#[test]
fn every_interleaving_of_two_actors_is_sound() {
    let fixture = Fixture::new();
    let mut orders = 0;
    for (number, first) in PARTS.into_iter().enumerate() {
        for second in &PARTS[number..] {
            orders += fixture.explore(&[first, *second]);
        }
    }
    assert!(orders > 500, "only {orders} orders");
}

#[test]
fn every_interleaving_of_a_writer_and_two_others_is_sound() {
    let (accepted, refused) = (Part::Commit { accepted: true }, Part::Commit { accepted: false });
    let fixture = Fixture::new();
    let others = [
        [Part::New, Part::Cancel],
        [Part::New, Part::Expire],
        [Part::New, accepted],
        [Part::Cancel, accepted],
        [Part::Expire, refused],
    ];
    let orders: usize = others.into_iter().map(|[one, two]| fixture.explore(&[Part::Old, one, two])).sum();
    let orders = orders + fixture.explore(&[Part::New, Part::Cancel, Part::Expire]);
    assert!(orders > 2000, "only {orders} orders");
}

/// All orders of all triples take minutes; those of the triples above are explored whole.
#[test]
fn the_first_interleavings_of_any_three_actors_are_sound() {
    const MOST: usize = 40;
    let fixture = Fixture::new();
    let (mut triples, mut orders) = (0, 0);
    for (one, first) in PARTS.into_iter().enumerate() {
        for (two, second) in PARTS.into_iter().enumerate().skip(one) {
            for third in &PARTS[two..] {
                let parts = [first, second, *third];
                println!("{parts:?}");
                triples += 1;
                orders += explore_at_most(MOST, || fixture.begin(&parts));
            }
        }
    }
    assert!(triples == 56 && orders > 56 * MOST / 2, "only {orders} orders of {triples} triples");
}
