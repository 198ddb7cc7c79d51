//! Collections on a real store whose clock the tests move.
#![expect(clippy::disallowed_methods, reason = "tests play the power cut that leaves files")]

use std::time::Duration;

use super::{CollectedItem, CollectionReport, StopRequest, WaitingContent};
use crate::oci::{Algorithm, Digest, Pattern, Reference};
use crate::store::index::changes::marks::HoldCollection;
use crate::store::index::tables::Table;
use crate::store::retention::{CollectionPolicy, RetentionRule};
use crate::store::settings::IndexHealth;
use crate::store::test_store::{GRACE, TestStore, delete, digest, name, policy};
use crate::store::{Store, StoreError, Upload};

fn blobs_of(items: &[CollectedItem]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = items
        .iter()
        .filter_map(|item| match item {
            CollectedItem::Blob { digest, .. } => Some(digest.clone()),
            CollectedItem::Tag { .. } | CollectedItem::Manifest { .. } | CollectedItem::Upload { .. } => None,
        })
        .collect();
    digests.sort();
    digests
}

/// Runs a dry run and a real collection, which have to free the same items.
async fn collect(test: &TestStore, policy: &CollectionPolicy) -> (CollectionReport, Vec<CollectedItem>) {
    let (forecast, expected) = test.collect(policy, true).await.unwrap();
    let (report, items) = test.collect(policy, false).await.unwrap();
    assert_eq!(items, expected);
    // A real run notes referrers of freed manifests that a dry run does not find: those of which the manifest is corrupt.
    let comparable = |report: CollectionReport| CollectionReport {
        dry_run: false,
        milliseconds: 0,
        waiting: WaitingContent::default(),
        ..report
    };
    assert_eq!(comparable(report), comparable(forecast));
    (report, items)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_unused_blob_is_freed_after_the_grace_period() {
    let test = TestStore::open().await;
    let blob = test.push_blob("a", b"unused").await;
    test.advance(GRACE / 2);
    let (report, items) = collect(&test, &policy(Vec::new())).await;
    assert_eq!((report.kept_young.count, items.len()), (1, 0));
    test.advance(GRACE / 2);
    let (report, items) = collect(&test, &policy(Vec::new())).await;
    assert_eq!((report.freed_blobs.bytes, blobs_of(&items)), (6, vec![blob.clone()]));
    assert!(!test.file(&blob).exists());
    assert_eq!(test.store.overview().await.unwrap().collected.map(|last| last.report), Some(report));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_protects_a_blob_for_another_grace_period() {
    let test = TestStore::open().await;
    let (asked, other) = (test.push_blob("a", b"asked for").await, test.push_blob("a", b"other").await);
    // In the last quarter of the grace period the renewal is committed before the answer.
    test.advance(GRACE / 8 * 7);
    test.store.blob_with_lease(&name("a"), &asked).await.unwrap();
    test.advance(GRACE / 2);
    let (report, items) = collect(&test, &policy(Vec::new())).await;
    assert_eq!((blobs_of(&items), report.kept_young.count), (vec![other], 1));
    test.advance(GRACE);
    assert_eq!(blobs_of(&collect(&test, &policy(Vec::new())).await.1), [asked]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deleted_image_is_freed_with_its_referrers_and_shared_blobs_stay() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"layer", None).await;
    let kept = test.push_image("a", &["2"], b"other layer", None).await;
    let signature = test.push_image("a", &[], b"signature", Some(&image)).await;
    test.advance(GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 0, "the image has a tag");
    test.store.delete_manifest(delete("a", image.clone())).await.unwrap();
    test.advance(GRACE);
    let (report, items) = collect(&test, &policy(Vec::new())).await;
    assert_eq!(report.freed_manifests, 1);
    assert!(items.contains(&CollectedItem::Manifest { repository: name("a"), digest: signature.clone() }));
    let mut freed = vec![image, signature, digest(b"layer"), digest(b"signature")];
    freed.sort();
    assert_eq!(blobs_of(&items), freed);
    assert_eq!(report.kept_needed.count, 3, "a manifest, its layer, and the config of all");
    test.store.manifest(&name("a"), &Reference::Digest(kept)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_retention_rule_expires_tags_and_what_is_attached_to_them() {
    let test = TestStore::open().await;
    let image = test.push_image("ci/a", &["b1"], b"1", None).await;
    let signature = format!("sha256-{}.sig", image.hex());
    test.push_image("ci/a", &[&signature], b"signature", None).await;
    test.push_image("ci/a", &["v1"], b"2", None).await;
    test.push_image("ci/a", &["b2"], b"3", None).await;
    test.push_image("other", &["b1"], b"1", None).await;
    let rule = RetentionRule {
        repositories: vec![Pattern::from("ci/*".to_owned())],
        newest: Some(1),
        tags: vec![Pattern::from("v*".to_owned())],
        ..RetentionRule::default()
    };
    let rules = policy(vec![rule]);
    let (report, items) = collect(&test, &rules).await;
    let repository = name("ci/a");
    let tag = |tag: &str, digest: &Digest| CollectedItem::Tag {
        repository: repository.clone(),
        tag: tag.parse().unwrap(),
        digest: digest.clone(),
    };
    assert_eq!((report.repositories, items), (2, vec![tag("b1", &image)]));
    test.advance(GRACE);
    let (report, items) = collect(&test, &rules).await;
    assert_eq!((report.freed_tags, report.freed_manifests), (1, 1), "{items:?}");
    assert!(
        items.contains(&CollectedItem::Manifest { repository: repository.clone(), digest: image.clone() })
    );
    test.advance(GRACE);
    assert_eq!(collect(&test, &rules).await.0.freed_manifests, 1, "the manifest of the signature");
    let tags = test.store.tags(&repository, None, 10).await.unwrap().items;
    assert_eq!(tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>(), ["b2", "v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_grace_period_signatures_of_signatures_go_in_one_run() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["b1"], b"1", None).await;
    let signature = test.push_image("a", &[&format!("sha256-{}.sig", image.hex())], b"2", None).await;
    test.push_image("a", &[&format!("sha256-{}.sig", signature.hex())], b"3", None).await;
    test.push_image("a", &["b2"], b"4", None).await;
    let rule = RetentionRule {
        repositories: vec![Pattern::from("*".to_owned())],
        newest: Some(1),
        ..RetentionRule::default()
    };
    let rules = CollectionPolicy { grace: Duration::ZERO, ..policy(vec![rule]) };
    let (report, _) = collect(&test, &rules).await;
    assert_eq!((report.freed_tags, report.freed_manifests), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_untagged_manifest_expires_by_a_rule_unless_a_client_asks_for_it() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"1", None).await;
    test.push_image("a", &["1"], b"2", None).await;
    test.advance(10 * GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 0);
    let rule = RetentionRule {
        repositories: vec![Pattern::from("*".to_owned())],
        untagged: Some(11 * GRACE),
        ..RetentionRule::default()
    };
    let rules = policy(vec![rule]);
    assert_eq!(collect(&test, &rules).await.0.freed_manifests, 0);
    test.advance(GRACE);
    let (report, items) = collect(&test, &rules).await;
    assert_eq!((report.freed_manifests, report.freed_tags), (1, 0));
    assert!(items.contains(&CollectedItem::Manifest { repository: name("a"), digest: image }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_repository_loses_a_blob_that_only_others_reference() {
    let test = TestStore::open().await;
    let layer = test.push_blob("b", b"shared").await;
    test.push_image("a", &["1"], b"shared", None).await;
    collect(&test, &policy(Vec::new())).await;
    test.store.blob(&name("b"), &layer).unwrap();
    test.advance(GRACE);
    collect(&test, &policy(Vec::new())).await;
    assert!(matches!(test.store.blob(&name("b"), &layer), Err(StoreError::BlobUnknown(_))));
    test.store.blob(&name("a"), &layer).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_blob_that_was_deleted_from_an_image_is_forgotten_with_the_image() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"layer", None).await;
    test.store.delete_blob(delete("a", digest(b"layer"))).await.unwrap();
    let exceptions = |test: &TestStore| test.store.0.index.link_exceptions_after(None, 10).unwrap().len();
    collect(&test, &policy(Vec::new())).await;
    assert_eq!(exceptions(&test), 1);
    test.store.delete_manifest(delete("a", image.clone())).await.unwrap();
    test.advance(GRACE);
    collect(&test, &policy(Vec::new())).await;
    assert_eq!(exceptions(&test), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_does_not_grow_expires() {
    let test = TestStore::open().await;
    let repository = name("a");
    let mut abandoned = Upload::start(&test.store, &repository, Algorithm::Sha256).await.unwrap();
    let mut growing = Upload::start(&test.store, &repository, Algorithm::Sha256).await.unwrap();
    abandoned.write(b"half").await.unwrap();
    abandoned.pause().await.unwrap();
    growing.pause().await.unwrap();
    let (abandoned_id, growing_id) = (abandoned.id(), growing.id());
    drop((abandoned, growing));
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.kept_uploads.count, 2);
    test.advance(GRACE / 2);
    let mut growing = Upload::resume(&test.store, &repository, growing_id).await.unwrap();
    growing.write(b"more").await.unwrap();
    growing.pause().await.unwrap();
    drop(growing);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.kept_uploads.count, 2);
    test.advance(GRACE / 2);
    let (report, items) = collect(&test, &policy(Vec::new())).await;
    assert_eq!(items, [CollectedItem::Upload { id: abandoned_id.to_string(), bytes: 4 }]);
    assert_eq!((report.kept_uploads.count, report.freed_uploads.bytes), (1, 4));
    assert!(Upload::resume(&test.store, &repository, abandoned_id).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_that_are_not_in_the_index_get_a_grace_period() {
    let test = TestStore::open().await;
    let unknown = digest(b"unknown");
    std::fs::write(test.file(&unknown), b"unknown").unwrap();
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.found, 1);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.kept_young.count, 1);
    test.advance(GRACE);
    assert_eq!(blobs_of(&collect(&test, &policy(Vec::new())).await.1), [unknown]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_interrupted_collection_of_an_earlier_release_is_recovered() {
    let test = TestStore::open().await;
    let blob = test.push_blob("a", b"moved").await;
    let trash = |digest: &Digest| test.path("trash").join(digest.to_string().replacen(':', "-", 1));
    // One file was moved before the commit, another one was committed and not removed.
    std::fs::create_dir(test.path("trash")).unwrap();
    std::fs::rename(test.file(&blob), trash(&blob)).unwrap();
    std::fs::write(trash(&digest(b"gone")), b"gone").unwrap();
    test.store.recover_trash().await.unwrap();
    assert!(test.file(&blob).exists());
    assert!(!test.path("trash").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_names_were_lost_only_the_operator_collects() {
    let test = TestStore::open().await;
    test.push_blob("a", b"perhaps of a lost name").await;
    test.store.writer().unwrap().submit(HoldCollection(true)).await.unwrap();
    test.advance(GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0, CollectionReport::default());
    let by_operator = CollectionPolicy { by_operator: true, ..policy(Vec::new()) };
    assert_eq!(collect(&test, &by_operator).await.0.freed_blobs.count, 1);
    assert!(!test.store.overview().await.unwrap().collection_is_held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_daemon_does_not_wait_for_another_collection() {
    let test = TestStore::open().await;
    test.push_blob("a", b"unused").await;
    test.advance(GRACE);
    let other = test.store.0.disk.try_lock_collection().unwrap();
    assert_eq!(test.collect(&policy(Vec::new()), false).await.unwrap().0, CollectionReport::default());
    // It leaves the trash to the other one, too.
    test.store.recover_trash().await.unwrap();
    drop(other);
    assert_eq!(test.collect(&policy(Vec::new()), false).await.unwrap().0.freed_blobs.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_damaged_index_frees_nothing() {
    let test = TestStore::open_with(|_| IndexHealth::Corrupt).await;
    let blob = test.push_blob("a", b"unused").await;
    test.advance(GRACE);
    let failed = test.collect(&policy(Vec::new()), false).await;
    assert!(matches!(failed, Err(StoreError::NeedsRecovery)), "{failed:?}");
    assert!(test.file(&blob).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_corrupt_referrer_is_freed_with_its_subject() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"layer", None).await;
    let signature = test.push_image("a", &["signature"], b"signature", Some(&image)).await;
    std::fs::write(test.file(&signature), b"corrupt").unwrap();
    let delete_tag = |tag: &'static str| delete_tag(&test.store, tag);
    delete_tag("signature").await;
    test.advance(GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 0, "its subject is live");
    delete_tag("1").await;
    test.advance(GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 1, "first the subject");
    test.advance(GRACE);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 1);
}

async fn delete_tag(store: &Store, tag: &str) {
    store.delete_tag(delete("a", tag.parse().unwrap())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stopped_collection_reports_what_it_has_freed() {
    let test = TestStore::open().await;
    for number in 0..80_u8 {
        test.push_blob("a", &[number]).await;
    }
    test.advance(GRACE);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (mut stop, mut items) = (Some(stop), Vec::new());
    let mut observe = |item| {
        items.push(item);
        drop(stop.take());
    };
    let rules = policy(Vec::new());
    let request = StopRequest::new(async { drop(stopped.await) });
    let report = test.store.collect_until(&rules, false, &mut observe, request).await.unwrap();
    // The step in which the request came is whole, and no other has begun.
    assert!(report.cancelled);
    assert_eq!((report.freed_blobs.count, items.len()), (32, 32));
    assert!(blobs_of(&items).iter().all(|blob| !test.file(blob).exists()));
    let (rest, _) = test.collect(&rules, false).await.unwrap();
    assert!(!rest.cancelled && rest.freed_blobs.count == 48, "{rest:?}");
    let before = StopRequest::new(std::future::ready(()));
    let report = test.store.collect_until(&rules, false, &mut |_| (), before).await.unwrap();
    assert_eq!(report, CollectionReport { cancelled: true, ..CollectionReport::default() });
}

/// Returns the rows that a collection of two deleted images reads in a registry of other images, by table.
async fn rows_of_a_collection(others: &[(&str, &str)]) -> Vec<(Table, u64)> {
    let test = TestStore::open().await;
    for (number, (repository, tag)) in others.iter().enumerate() {
        test.push_image(repository, &[tag], format!("layer {number}").as_bytes(), None).await;
    }
    for name in ["deleted", "deleted-2"] {
        test.push_image("a", &[name], name.as_bytes(), None).await;
    }
    test.advance(GRACE);
    // A collection looks at everything once.
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.freed_manifests, 0);
    for name in ["deleted", "deleted-2"] {
        test.store.delete_tag(delete("a", name.parse().unwrap())).await.unwrap();
    }
    test.advance(GRACE);
    let index = &test.store.0.index;
    index.checkpoint().unwrap();
    let before = index.rows_read();
    let (report, items) = test.collect(&policy(Vec::new()), false).await.unwrap();
    assert_eq!((report.freed_manifests, blobs_of(&items).len()), (2, 4));
    let read = index.rows_read().into_iter().zip(before);
    read.map(|((table, after), (_, before))| (table, after - before)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn collection_reads_as_much_in_a_large_registry_as_in_a_small_one() {
    let names: Vec<String> = (0..60).map(|number| format!("n{number}")).collect();
    let repositories: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let tags: Vec<(&str, &str)> = names.iter().map(|name| ("a", name.as_str())).collect();
    for (small, large) in [(&repositories[..6], &repositories[..]), (&tags[..6], &tags[..])] {
        let (small, large) = (rows_of_a_collection(small).await, rows_of_a_collection(large).await);
        for ((table, few), (_, many)) in small.into_iter().zip(large) {
            // A search for a key reads no row, or that of another key.
            assert!(many <= few + 12, "{table:?}: {few} rows, and {many} in the large registry");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_are_listed_by_a_full_collection_and_after_a_check_found_some() {
    let test = TestStore::open().await;
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.found, 0);
    let write = |content: &[u8]| std::fs::write(test.file(&digest(content)), content).unwrap();
    write(b"unknown");
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.found, 0, "nothing says that there is one");
    let full = CollectionPolicy { full: true, ..policy(Vec::new()) };
    assert_eq!(collect(&test, &full).await.0.found, 1);
    write(b"found by a check");
    assert_eq!(test.check(false).await.0.unknown_files, 1);
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.found, 1);
    write(b"found once a week");
    test.advance(Duration::from_hours(7 * 24));
    assert_eq!(collect(&test, &policy(Vec::new())).await.0.found, 1);
}
