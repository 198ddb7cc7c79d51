//! Tables in memory with the changes of a small registry, for unit tests without disk, clock or socket.

use std::time::Duration;

use super::changes::feed::{FeedBounds, FeedWriter};
use super::changes::{self, Change, Event, FileActions, Now, Origin, TypedChange};
use super::tables::blob_candidates::{BlobCandidates, row_key};
use super::tables::candidates::{BlobCandidate, DatedTag, OrphanCandidate};
use super::tables::consistency;
use super::tables::memory::Memory;
use super::tables::parents::References;
use super::tables::{ReadTables, Table, keys};
use super::test_index::{TestManifest, digest, repository};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::{ClockRow, StoreTime};
use crate::store::error::StoreError;

/// Tables, and the moment at which the next change is applied.
#[derive(Default)]
pub(in crate::store) struct TestTables {
    pub(in crate::store) tables: Memory,
    seconds: u64,
    /// The bounds of the event feed.
    pub(in crate::store) bounds: FeedBounds,
    /// The events of all changes.
    pub(in crate::store) events: Vec<Event>,
    /// True for a rebuilt index, in which the first collection finds the candidates.
    was_rebuilt: bool,
    /// The work on files of the last change.
    pub(in crate::store) files: FileActions,
}

impl TestTables {
    /// Returns the store time.
    pub(in crate::store) fn now(&self) -> StoreTime {
        StoreTime::from_seconds(self.seconds)
    }

    /// Lets store time pass.
    pub(in crate::store) fn advance(&mut self, by: Duration) {
        self.seconds += by.as_secs();
    }

    fn moment(&self) -> Now {
        let store_time = self.now();
        Now { wall_time: 1_000_000 + self.seconds, store_time, clock: ClockRow::at(store_time), names_set: 0 }
    }

    /// Applies a change in a transaction of its own; an error that ends the transaction aborts it. A refused change
    /// has written nothing.
    pub(in crate::store) fn apply<C: TypedChange>(&mut self, change: C) -> Result<C::Reply, StoreError> {
        self.apply_by(&Origin::system(), change)
    }

    /// As [`TestTables::apply`], for a change of this origin.
    pub(in crate::store) fn apply_by<C: TypedChange>(
        &mut self,
        origin: &Origin,
        change: C,
    ) -> Result<C::Reply, StoreError> {
        let (mut tables, now) = (self.tables.clone(), self.moment());
        let change: Change = change.into();
        self.was_rebuilt |= matches!(change, Change::RecordBlobs(_));
        match changes::apply(&change, origin, &mut tables, &now) {
            Ok(outcome) => {
                let mut feed = FeedWriter::new(&now, self.bounds);
                feed.append(&mut tables, &outcome.events)?;
                feed.finish(&mut tables, outcome.trims_feed)?;
                if outcome.files.names_changed {
                    changes::end_with_names(&mut tables, &now)?;
                }
                self.tables = tables;
                self.events.extend(outcome.events);
                self.files = outcome.files;
                Ok(C::typed(outcome.result).expect("the reply of the change"))
            }
            Err(error) => {
                assert!(
                    error.ends_transaction() || tables.has_same_rows(&self.tables),
                    "a refused change has written rows: {change:?}"
                );
                Err(error)
            }
        }
    }

    /// Returns the events since the last call.
    pub(in crate::store) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Stores a manifest, whatever it references.
    pub(in crate::store) fn push(&mut self, manifest: &TestManifest) {
        let (now, new) = (self.moment(), &manifest.new);
        changes::put_unchecked(&mut self.tables, &now, new).unwrap();
        changes::end_with_names(&mut self.tables, &now).unwrap();
    }

    /// Stores a blob, and adds it to the repositories.
    pub(in crate::store) fn push_blob(&mut self, repositories: &[&str], content: &str) -> Digest {
        let (now, digest) = (self.moment(), digest(content));
        let repositories: Vec<RepositoryName> = repositories.iter().map(|name| repository(name)).collect();
        let size = content.len() as u64;
        changes::put_blob_unchecked(&mut self.tables, &now, &repositories, (&digest, size)).unwrap();
        digest
    }

    /// Returns a candidate of a collection that became an orphan now.
    pub(in crate::store) fn candidate(
        &self,
        manifest: &TestManifest,
        by_delete: bool,
    ) -> (OrphanCandidate, Option<Digest>) {
        let (digest, size) = (manifest.digest.clone(), manifest.size);
        let one = OrphanCandidate { digest, size, since: self.now(), by_delete };
        (one, manifest.manifest.subject().cloned())
    }

    /// Returns the tags of the repository `a`.
    pub(in crate::store) fn tags(&self) -> Vec<DatedTag> {
        use super::tables::mark::Mark;
        self.tables.tags_after(&repository("a"), None, 100_000).unwrap()
    }

    /// Checks that all tables agree, and that no candidate of a collection lacks its row.
    pub(in crate::store) fn assert_consistent(&self) {
        consistency::check(&self.tables).unwrap();
        if self.was_rebuilt {
            return;
        }
        for row in self.tables.rows(Table::RepositoryBlobs).unwrap() {
            let (repository, digest) = keys::split_content(row.unwrap().0).unwrap();
            self.assert_noted(&BlobCandidate { digest, repository: Some(repository) });
        }
        for row in self.tables.rows(Table::Blobs).unwrap() {
            let (digest, _) = keys::split_digest(row.unwrap().0).unwrap();
            self.assert_noted(&BlobCandidate { digest, repository: None });
        }
        for row in self.tables.rows(Table::LinkExceptions).unwrap() {
            let (repository, digest) = keys::split_content(row.unwrap().0).unwrap();
            if !self.tables.is_referenced_in(&repository, &digest).unwrap() {
                let one = BlobCandidate { digest, repository: Some(repository) };
                assert!(self.is_noted(&one), "the exception of {one:?} would stay");
            }
        }
    }

    fn assert_noted(&self, one: &BlobCandidate) {
        let is_noted = self.is_noted(one) || !self.tables.is_candidate(one).unwrap();
        assert!(is_noted, "no collection looks at {one:?}");
    }

    fn is_noted(&self, one: &BlobCandidate) -> bool {
        self.tables.get(Table::BlobCandidates, &row_key(one)).unwrap().is_some()
    }
}
