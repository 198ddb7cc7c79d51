//! Deletes that need several transactions.

use super::*;
use crate::store::index::tables::ReadTables;
use crate::store::index::tables::Table;
use crate::store::index::tables::candidates::MAX_PER_TRANSACTION;
use crate::store::index::tables::mark::Mark;
use crate::store::index::tables::rows::OrphanRow;
use crate::store::index::test_index::{
    TestManifest, digest as content_digest, image, image_index, repository,
};
use crate::store::index::test_tables::TestTables;

/// Returns a manifest, with tags `t0`, `t1` and so on.
fn manifest(number: usize, tags: std::ops::Range<usize>) -> TestManifest {
    let tags: Vec<String> = tags.map(|number| format!("t{number}")).collect();
    image_index(&[], number, &tags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn orphans(opened: &TestTables) -> usize {
    let rows = opened.tables.rows(Table::Orphans).unwrap();
    rows.filter(|row| opened.tables.decode::<OrphanRow>(row.as_ref().unwrap().1).unwrap().deleted).count()
}

#[test]
fn interrupted_delete_is_continued() {
    const REFERRERS: usize = 2 * MAX_PER_TRANSACTION + 10;
    let mut opened = TestTables::default();
    let subject = manifest(0, 0..0);
    let digest = subject.digest.clone();
    opened.push(&subject);
    for number in 1..=REFERRERS {
        opened.push(&image(&content_digest(&number.to_string()), Some(&digest), &[]));
    }
    let delete = ManifestDelete {
        repository: repository("a"),
        digest: digest.clone(),
        subject: None,
        immutable: Arc::default(),
    };
    let deleted = opened.apply(DeleteManifest(Arc::new(delete))).unwrap();
    assert_eq!(deleted, Deleted::ReferrersLeft);
    // One page of orphans, and the row of the deleted manifest that marks the delete as unfinished.
    assert_eq!(orphans(&opened), MAX_PER_TRANSACTION + 1);
    assert_eq!(opened.tables.unfinished_deletes(&repository("a")).unwrap(), std::slice::from_ref(&digest));
    let mut after = None;
    loop {
        let (subject, last) = (digest.clone(), after.take());
        after = opened.apply(OrphanReferrers { repository: repository("a"), subject, after: last }).unwrap();
        if after.is_none() {
            break;
        }
    }
    assert_eq!(orphans(&opened), REFERRERS);
    assert!(opened.tables.unfinished_deletes(&repository("a")).unwrap().is_empty());
    // A manifest that was pushed again keeps its referrers.
    opened.push(&subject);
    let orphan = OrphanReferrers { repository: repository("a"), subject: digest, after: None };
    assert_eq!(opened.apply(orphan).unwrap(), None);
    assert_eq!(orphans(&opened), REFERRERS);
}
