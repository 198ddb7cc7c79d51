//! Deletes that need several transactions.

use super::*;
use crate::store::index::test_index::{
    TestIndex, TestManifest, digest as content_digest, image, image_index, repository, tag,
};
use crate::store::work::Cancel;

/// Returns a manifest, with tags `t0`, `t1` and so on.
fn manifest(number: usize, tags: std::ops::Range<usize>) -> TestManifest {
    let tags: Vec<String> = tags.map(|number| format!("t{number}")).collect();
    image_index(&[], number, &tags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn orphans(opened: &TestIndex) -> usize {
    let txn = opened.index.env.read_txn().unwrap();
    let table = opened.index.tables.orphans;
    let rows = table.rows(&txn).unwrap();
    rows.filter(|row| table.decode::<OrphanRow>(row.as_ref().unwrap().1).unwrap().deleted).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn interrupted_delete_is_continued() {
    const REFERRERS: usize = 2 * MAX_PER_TRANSACTION + 10;
    let opened = TestIndex::new();
    let subject = manifest(0, 0..0);
    let digest = subject.digest.clone();
    opened.push(&subject).await;
    for number in 1..=REFERRERS {
        opened.push(&image(&content_digest(&number.to_string()), Some(&digest), &[])).await;
    }
    let delete = ManifestDelete {
        repository: repository("a"),
        digest: digest.clone(),
        subject: None,
        immutable: Arc::default(),
    };
    let deleted = opened.submit(move |batch| batch.delete_manifest(&delete)).await;
    assert_eq!(deleted, Deleted::ReferrersLeft);
    // One page of orphans, and the row of the deleted manifest that marks the delete as unfinished.
    assert_eq!(orphans(&opened), MAX_PER_TRANSACTION + 1);
    assert_eq!(opened.index.unfinished_deletes(&repository("a")).unwrap(), std::slice::from_ref(&digest));
    let mut after = None;
    loop {
        let (wanted, last) = (digest.clone(), after.take());
        let orphan =
            move |batch: &mut Batch| batch.orphan_referrers(&repository("a"), &wanted, last.as_ref());
        after = opened.submit(orphan).await;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(orphans(&opened), REFERRERS);
    assert!(opened.index.unfinished_deletes(&repository("a")).unwrap().is_empty());
    // A manifest that was pushed again keeps its referrers.
    opened.push(&subject).await;
    let orphan = move |batch: &mut Batch| batch.orphan_referrers(&repository("a"), &digest, None);
    assert_eq!(opened.submit(orphan).await, None);
    assert_eq!(orphans(&opened), REFERRERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tag_set_during_the_search_is_deleted_with_its_manifest() {
    let opened = TestIndex::new();
    opened.push(&manifest(0, 0..2)).await;
    opened.push(&manifest(1, 2..2000)).await;
    let digest = manifest(0, 0..0).digest.clone();
    let delete = Arc::new(ManifestDelete {
        repository: repository("a"),
        digest: digest.clone(),
        subject: None,
        immutable: Arc::default(),
    });
    let watch = opened.index.watch(&repository("a"), &digest);
    let whole = Arc::clone(&delete);
    assert_eq!(
        opened.submit(move |batch| batch.delete_manifest(&whole)).await,
        Deleted::TagsUnknown,
        "the repository has too many tags to search in the transaction"
    );
    let found = opened.index.tags_of_manifest(&repository("a"), &digest, &Cancel::default()).unwrap();
    assert_eq!(found, [tag("t0"), tag("t1")]);
    // One tag is set, another moves to another manifest.
    opened.push(&image_index(&[], 0, &["late"])).await;
    opened.push(&manifest(1, 1..2)).await;
    assert_eq!(watch.recorded().len(), 1);
    let deleted = opened.submit(move |batch| batch.delete_watched_manifest(&delete, &found)).await;
    assert_eq!(deleted, Deleted::Complete);
    let listed = opened.index.tags(&repository("a"), None, 10_000).unwrap().items;
    assert_eq!(listed.len(), 1999);
    assert!(listed.iter().all(|tag| tag.as_str() != "late" && tag.as_str() != "t0"));
    assert!(opened.index.repository_stats_match(&repository("a")).unwrap());
}
