//! The record of pulls.

use super::*;
use crate::store::index::changes::uses::{NoteUses, PullRecord};
use crate::store::index::tables::uses::{StoreDay, Uses};

const DAY: Duration = Duration::from_hours(24);

fn pulled(test: &TestTables, digest: &Digest) -> NoteUses {
    let key = keys::content_key(&repository("a"), digest).into();
    NoteUses { pulls: vec![(key, StoreDay::of(test.now()))], has_gap: false }
}

fn last_pull(test: &TestTables, manifest: &TestManifest) -> Option<StoreDay> {
    test.assert_consistent();
    test.tables.last_pull(&repository("a"), &manifest.digest).unwrap()
}

#[test]
fn the_last_pull_of_a_manifest_is_recorded_until_it_goes() {
    let mut test = TestTables::default();
    let manifest = image_index(&[], 0, &["1"]);
    test.apply(put(&manifest)).unwrap();
    assert_eq!(last_pull(&test, &manifest), None);
    let early = pulled(&test, &manifest.digest);
    test.advance(3 * DAY);
    let late = pulled(&test, &manifest.digest);
    test.apply(late.clone()).unwrap();
    assert!(!test.files.names_changed, "index.json has no uses");
    test.apply(early).unwrap();
    assert_eq!(last_pull(&test, &manifest), Some(late.pulls[0].1), "an earlier pull changes nothing");
    test.apply(delete_manifest(&manifest)).unwrap();
    assert_eq!(last_pull(&test, &manifest), None);
    test.apply(late).unwrap();
    assert_eq!(test.tables.len(Table::Uses).unwrap(), 0, "the manifest is gone");
}

#[test]
fn a_full_index_refuses_uses() {
    let mut test = TestTables::default();
    let manifest = image_index(&[], 0, &["1"]);
    test.apply(put(&manifest)).unwrap();
    test.tables.limit = Some(0);
    let uses = pulled(&test, &manifest.digest);
    assert!(matches!(test.apply(uses), Err(StoreError::IndexFull)));
}

#[test]
fn the_record_begins_once_and_anew_after_a_gap() {
    let mut test = TestTables::default();
    let since = |test: &TestTables| test.tables.pulls_recorded_since().unwrap();
    assert_eq!(since(&test), None);
    test.advance(DAY);
    test.apply(PullRecord::Begin).unwrap();
    let first = test.now();
    test.advance(DAY);
    test.apply(PullRecord::Begin).unwrap();
    assert_eq!(since(&test), Some(first));
    test.apply(NoteUses { pulls: Vec::new(), has_gap: true }).unwrap();
    assert_eq!(since(&test), Some(test.now()));
    test.advance(DAY);
    test.apply(PullRecord::BeginAnew).unwrap();
    assert_eq!(since(&test), Some(test.now()));
    test.apply(PullRecord::End).unwrap();
    assert_eq!(since(&test), None);
    test.apply(PullRecord::End).unwrap();
}
