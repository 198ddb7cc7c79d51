//! The rules of the changes, on tables in memory.

mod events;
mod property;
mod records;
mod sparse;
mod tag_index;
mod uses;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::blobs::{AdmitBlob, NewBlob};
use super::deletes::{
    DeleteBlob, DeleteManifest, DeleteTag, DeleteTags, Deleted, ManifestDelete, TagsDeleted,
};
use super::leases::RenewManifestLease;
use super::link_exceptions::RemoveLinkExceptions;
use super::marks::{HoldCollection, MarkComplete, SaveClock, StartRebuild};
use super::push::PutManifest;
use super::restore::{RecordBlobs, RestoreNames, RestoredName};
use crate::oci::{Digest, Manifest, Pattern, Reference};
use crate::store::capacity_limits::NameLimits;
use crate::store::clock::ClockRow;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::tables::link_exceptions::{LinkException, LinkExceptions};
use crate::store::index::tables::lookups::Lookups;
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::rows::{
    LinkExceptionRow, ManifestRow, NameTimestamps, OrphanRow, RepositoryRow,
};
use crate::store::index::tables::{ReadTables, Table, keys};
use crate::store::index::test_index::{TestManifest, digest, image, image_index, repository, tag};
use crate::store::index::test_tables::TestTables;
use crate::store::upload_files::HashedFile;

fn file(length: u64) -> HashedFile {
    HashedFile { name: "upload".into(), inode: 1, length }
}

/// Returns the push of a blob to the repository `a`.
fn admit(content: &str) -> AdmitBlob {
    let blob = NewBlob { file: file(content.len() as u64), digest: digest(content) };
    AdmitBlob { repository: Some(repository("a")), blob }
}

/// Returns the push of a manifest without limits and rules.
fn put(manifest: &TestManifest) -> PutManifest {
    PutManifest {
        new: Box::new(manifest.new.clone()),
        file: file(manifest.size),
        limits: NameLimits::default(),
        immutable: Arc::default(),
        damaged: BTreeSet::new(),
    }
}

fn delete_tag(name: &str) -> DeleteTag {
    DeleteTag { repository: repository("a"), tag: tag(name), immutable: Arc::default() }
}

fn manifest_delete(manifest: &TestManifest, immutable: &Arc<Vec<ImmutableRule>>) -> DeleteManifest {
    DeleteManifest(Arc::new(ManifestDelete {
        repository: repository("a"),
        digest: manifest.digest.clone(),
        subject: manifest.manifest.subject().cloned(),
        immutable: Arc::clone(immutable),
    }))
}

fn delete_manifest(manifest: &TestManifest) -> DeleteManifest {
    manifest_delete(manifest, &Arc::default())
}

fn delete_blob(digest: &Digest) -> DeleteBlob {
    DeleteBlob { repository: repository("a"), digest: digest.clone(), immutable: Arc::default() }
}

/// Returns the rules that make the tags `v*` immutable.
fn immutable(delete: bool) -> Arc<Vec<ImmutableRule>> {
    let pattern = |text: &str| vec![Pattern::from(text.to_owned())];
    Arc::new(vec![ImmutableRule { repositories: pattern("*"), tags: pattern("v*"), delete }])
}

/// Returns an image whose layer is foreign.
fn with_foreign_layer(config: &Digest, layer: &Digest) -> TestManifest {
    let bytes = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "a/b", "digest": config, "size": 1},
        "layers": [{"mediaType": "a/b", "digest": layer, "size": 1, "urls": ["https://elsewhere/"]}],
    }))
    .unwrap();
    let mut manifest = image(config, None, &["foreign"]);
    manifest.new.manifest = Manifest::parse(&bytes, None).unwrap();
    manifest.new.digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, &bytes);
    manifest.new.size = bytes.len() as u64;
    manifest.bytes = bytes;
    manifest
}

fn stats(test: &TestTables) -> RepositoryRow {
    test.tables.row(Table::Repositories, b"a").unwrap().unwrap_or_default()
}

fn orphan(test: &TestTables, manifest: &TestManifest) -> Option<OrphanRow> {
    test.tables.row(Table::Orphans, &keys::content_key(&repository("a"), &manifest.digest)).unwrap()
}

fn by_tag(test: &TestTables, name: &str) -> Option<Digest> {
    let entry = test.tables.manifest(&repository("a"), &Reference::Tag(tag(name))).unwrap();
    entry.map(|entry| entry.digest)
}

#[test]
fn an_image_needs_all_its_blobs_and_an_index_one_of_its_manifests() {
    let mut test = TestTables::default();
    let image = image(&digest("layer"), None, &["1"]);
    let missing = test.apply(put(&image)).unwrap_err();
    assert!(matches!(missing, StoreError::ManifestBlobUnknown(all) if all[..] == [digest("layer")]));
    test.apply(admit("layer")).unwrap();
    let damaged = PutManifest { damaged: [digest("layer")].into(), ..put(&image) };
    assert!(matches!(test.apply(damaged), Err(StoreError::ManifestBlobUnknown(_))));
    test.apply(put(&image)).unwrap();
    assert_eq!(by_tag(&test, "1"), Some(image.digest.clone()));
    let other = image_index(&[digest("x"), digest("y")], 0, &["2"]);
    assert!(matches!(test.apply(put(&other)), Err(StoreError::ManifestBlobUnknown(_))));
    test.apply(put(&image_index(&[digest("x"), image.digest.clone()], 0, &["2"]))).unwrap();
    test.apply(put(&image_index(&[], 0, &["empty"]))).unwrap();
    test.assert_consistent();
}

#[test]
fn a_missing_blob_list_is_bounded() {
    let mut test = TestTables::default();
    let children: Vec<Digest> = (0..500).map(|number| digest(&number.to_string())).collect();
    let refused = test.apply(put(&image_index(&children, 0, &[]))).unwrap_err();
    assert!(matches!(refused, StoreError::ManifestBlobUnknown(missing) if missing.len() == 100));
}

#[test]
fn a_foreign_layer_may_be_missing_and_is_linked_only_if_it_was_pushed() {
    let mut test = TestTables::default();
    test.apply(admit("config")).unwrap();
    let manifest = with_foreign_layer(&digest("config"), &digest("foreign"));
    test.apply(put(&manifest)).unwrap();
    let exception =
        |test: &TestTables| test.tables.link_exception(&repository("a"), &digest("foreign")).unwrap();
    assert_eq!(exception(&test), None);
    test.apply(admit("foreign")).unwrap();
    assert_eq!(exception(&test), Some(LinkExceptionRow::Linked), "a rebuild could not derive it");
    // The same with the layer first.
    let mut test = TestTables::default();
    test.apply(admit("config")).unwrap();
    test.apply(admit("foreign")).unwrap();
    test.apply(put(&manifest)).unwrap();
    assert_eq!(exception(&test), Some(LinkExceptionRow::Linked));
}

#[test]
fn names_are_limited_and_moving_a_tag_adds_none() {
    let mut test = TestTables::default();
    let with = |number: usize, tags: &[&str], tags_per_repository: u64, names: u64| PutManifest {
        limits: NameLimits { tags_per_repository, names },
        ..put(&image_index(&[], number, tags))
    };
    test.apply(with(0, &["1", "2"], 2, 3)).unwrap();
    assert!(matches!(test.apply(with(0, &["3"], 2, 9)), Err(StoreError::TooManyTags { limit: 2, .. })));
    assert!(matches!(test.apply(with(1, &[], 9, 3)), Err(StoreError::TooManyNames { limit: 3 })));
    test.apply(with(0, &["1"], 2, 3)).unwrap();
    test.apply(with(1, &["1"], 2, 4)).unwrap();
    assert_eq!(stats(&test).tags, 2);
    test.assert_consistent();
}

#[test]
fn an_immutable_tag_neither_moves_nor_goes() {
    let mut test = TestTables::default();
    let (first, second) = (image_index(&[], 0, &["v1"]), image_index(&[], 1, &["v1"]));
    let rules = immutable(false);
    let push = |manifest: &TestManifest| PutManifest { immutable: Arc::clone(&rules), ..put(manifest) };
    test.apply(push(&first)).unwrap();
    test.apply(push(&first)).unwrap();
    assert!(matches!(test.apply(push(&second)), Err(StoreError::TagImmutable { .. })));
    let delete = DeleteTag { immutable: Arc::clone(&rules), ..delete_tag("v1") };
    assert!(matches!(test.apply(delete), Err(StoreError::TagKept { .. })));
    let tags = vec![(tag("v1"), first.digest.clone())];
    let delete = DeleteTags { repository: repository("a"), tags, immutable: Arc::clone(&rules) };
    assert!(matches!(test.apply(delete), Err(StoreError::TagKept { .. })));
    assert!(matches!(test.apply(manifest_delete(&first, &rules)), Err(StoreError::TagKept { .. })));
    // With `delete`, a client may delete it, and then set it to another manifest.
    let rules = immutable(true);
    assert_eq!(test.apply(manifest_delete(&first, &rules)).unwrap(), Deleted::Complete);
    test.apply(PutManifest { immutable: rules, ..put(&second) }).unwrap();
    test.assert_consistent();
}

#[test]
fn content_of_an_immutable_repository_stays_while_it_is_referenced() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    let image = image(&digest("layer"), None, &[]);
    test.apply(put(&image)).unwrap();
    let index = image_index(std::slice::from_ref(&image.digest), 0, &["1"]);
    test.apply(put(&index)).unwrap();
    let rules = immutable(false);
    let blob = DeleteBlob { immutable: Arc::clone(&rules), ..delete_blob(&digest("layer")) };
    assert!(matches!(test.apply(blob), Err(StoreError::ContentKept { .. })));
    assert!(matches!(test.apply(manifest_delete(&image, &rules)), Err(StoreError::ContentKept { .. })));
    assert_eq!(test.apply(manifest_delete(&index, &rules)).unwrap(), Deleted::Complete);
    assert_eq!(test.apply(manifest_delete(&image, &rules)).unwrap(), Deleted::Complete);
}

#[test]
fn a_full_index_refuses_pushes_and_takes_deletes() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    test.apply(put(&image_index(&[], 0, &["1"]))).unwrap();
    test.tables.limit = Some(0);
    assert!(matches!(test.apply(admit("other")), Err(StoreError::IndexFull)));
    assert!(matches!(test.apply(put(&image_index(&[], 1, &["2"]))), Err(StoreError::IndexFull)));
    test.apply(delete_tag("1")).unwrap();
    test.apply(delete_blob(&digest("layer"))).unwrap();
}

#[test]
fn a_moved_tag_orphans_its_manifest_until_that_is_pushed_again() {
    let mut test = TestTables::default();
    let (first, second) = (image_index(&[], 0, &["1"]), image_index(&[], 1, &["1"]));
    test.apply(put(&first)).unwrap();
    test.advance(Duration::from_secs(5));
    test.apply(put(&second)).unwrap();
    let row = orphan(&test, &first).unwrap();
    assert!(!row.deleted && row.since == test.now(), "only a retention rule takes it");
    test.apply(put(&image_index(&[], 0, &["2"]))).unwrap();
    assert!(orphan(&test, &first).is_none());
    test.apply(delete_tag("2")).unwrap();
    assert!(orphan(&test, &first).unwrap().deleted);
    // A lease starts again, and its cause stays.
    test.advance(Duration::from_secs(5));
    test.apply(RenewManifestLease { repository: repository("a"), digest: first.digest.clone() }).unwrap();
    let row = orphan(&test, &first).unwrap();
    assert!(row.deleted && row.since == test.now());
}

#[test]
fn missing_names_are_told_apart() {
    let mut test = TestTables::default();
    assert!(matches!(test.apply(delete_tag("1")), Err(StoreError::NameUnknown(_))));
    let manifest = image_index(&[], 0, &["1"]);
    assert!(matches!(test.apply(delete_manifest(&manifest)), Err(StoreError::NameUnknown(_))));
    assert!(matches!(test.apply(delete_blob(&digest("x"))), Err(StoreError::BlobUnknown(_))));
    test.apply(put(&manifest)).unwrap();
    assert!(matches!(test.apply(delete_tag("2")), Err(StoreError::ManifestUnknown(_))));
    let missing = delete_manifest(&image_index(&[], 1, &[]));
    assert!(matches!(test.apply(missing), Err(StoreError::ManifestUnknown(_))));
}

#[test]
fn tags_are_deleted_only_from_the_manifest_that_was_shown() {
    let mut test = TestTables::default();
    let (first, second) = (image_index(&[], 0, &["1", "2"]), image_index(&[], 1, &["2"]));
    test.apply(put(&first)).unwrap();
    test.apply(put(&second)).unwrap();
    let tags = ["1", "2", "gone"].map(|name| (tag(name), first.digest.clone())).to_vec();
    let delete = DeleteTags { repository: repository("a"), tags, immutable: Arc::default() };
    assert_eq!(test.apply(delete).unwrap(), TagsDeleted { deleted: vec![tag("1")], moved: 1 });
    assert_eq!((by_tag(&test, "1"), by_tag(&test, "2")), (None, Some(second.digest.clone())));
}

#[test]
fn a_deleted_manifest_takes_its_tags_and_orphans_children_and_referrers() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    let child = image(&digest("layer"), None, &[]);
    let index = image_index(std::slice::from_ref(&child.digest), 0, &["1", "2"]);
    let signature = image(&digest("layer"), Some(&index.digest), &[]);
    for manifest in [&child, &index, &signature] {
        test.apply(put(manifest)).unwrap();
    }
    assert_eq!(test.apply(delete_manifest(&index)).unwrap(), Deleted::Complete);
    assert!(test.tags().is_empty());
    assert!(orphan(&test, &index).is_none(), "the delete is complete");
    assert!(orphan(&test, &child).unwrap().deleted && orphan(&test, &signature).unwrap().deleted);
    // The referrer goes with its row.
    assert_eq!(test.tables.len(Table::Referrers).unwrap(), 1);
    test.apply(delete_manifest(&signature)).unwrap();
    assert_eq!(test.tables.len(Table::Referrers).unwrap(), 0);
    test.assert_consistent();
}

#[test]
fn references_stay_while_another_repository_has_the_manifest() {
    let mut test = TestTables::default();
    test.push_blob(&["a", "b"], "layer");
    let here = image(&digest("layer"), None, &[]);
    let mut there = here.clone();
    there.new.repository = repository("b");
    test.apply(put(&here)).unwrap();
    test.apply(put(&there)).unwrap();
    test.apply(delete_manifest(&here)).unwrap();
    assert_eq!(test.tables.children_of(&here.digest).unwrap().len(), 1);
    test.assert_consistent();
}

#[test]
fn totals_follow_each_change() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    assert_eq!(
        test.tables.row::<u64>(Table::BlobTotals, b"a").unwrap(),
        Some(5),
        "before the first manifest"
    );
    let image = image(&digest("layer"), None, &["1", "2"]);
    test.apply(put(&image)).unwrap();
    test.apply(put(&image)).unwrap();
    let RepositoryRow { manifests, tags, bytes, pushed } = stats(&test);
    assert_eq!((manifests, tags, bytes), (1, 2, 5 + image.size));
    assert_eq!(pushed, 1_000_000);
    assert_eq!(test.tables.row::<u64>(Table::BlobTotals, b"a").unwrap(), None);
    assert_eq!(test.tables.bytes().unwrap(), 5 + image.size);
    test.apply(delete_manifest(&image)).unwrap();
    assert_eq!(stats(&test).manifests, 0, "the repository is gone with its last manifest");
    assert_eq!(test.tables.row::<u64>(Table::BlobTotals, b"a").unwrap(), Some(5));
    test.assert_consistent();
}

#[test]
fn a_deleted_blob_of_an_image_is_an_exception_until_the_image_goes() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    let image = image(&digest("layer"), None, &["1"]);
    test.apply(put(&image)).unwrap();
    test.apply(delete_blob(&digest("layer"))).unwrap();
    let all = |test: &TestTables| test.tables.link_exceptions_after(None, 10).unwrap();
    let kind = LinkExceptionRow::Deleted;
    let expected = LinkException { repository: repository("a"), digest: digest("layer"), kind };
    assert_eq!(all(&test), std::slice::from_ref(&expected));
    test.apply(RemoveLinkExceptions(all(&test))).unwrap();
    assert_eq!(all(&test).len(), 1, "the image needs it");
    // A push of the blob turns it around.
    test.apply(admit("layer")).unwrap();
    assert_eq!(all(&test)[0].kind, LinkExceptionRow::Linked);
    test.apply(delete_manifest(&image)).unwrap();
    test.apply(RemoveLinkExceptions(all(&test))).unwrap();
    assert!(all(&test).is_empty());
}

#[test]
fn sequence_numbers_rise_within_and_across_transactions() {
    let mut test = TestTables::default();
    test.apply(put(&image_index(&[], 0, &["1", "2", "3"]))).unwrap();
    test.apply(put(&image_index(&[], 1, &["4"]))).unwrap();
    let orders: Vec<u64> = test.tags().iter().map(|tag| tag.order).collect();
    assert!(orders.windows(2).all(|pair| pair[0] < pair[1]), "{orders:?}");
}

#[test]
fn marks_and_the_clock_are_saved() {
    let mut test = TestTables::default();
    test.apply(HoldCollection(true)).unwrap();
    assert!(test.tables.collection_is_held().unwrap() && test.files.names_changed);
    test.apply(HoldCollection(false)).unwrap();
    assert!(!test.tables.collection_is_held().unwrap());
    test.apply(MarkComplete).unwrap();
    assert!(test.tables.is_complete().unwrap());
    test.advance(Duration::from_secs(7));
    test.apply(SaveClock).unwrap();
    let saved: ClockRow = test.tables.row(Table::Meta, meta::CLOCK).unwrap().unwrap();
    assert_eq!(saved.time(), test.now());
    test.apply(StartRebuild { change: 99 }).unwrap();
    test.apply(StartRebuild { change: 7 }).unwrap();
    assert_eq!(test.tables.change().unwrap(), 99);
}

#[test]
fn restored_names_keep_their_times_and_are_no_events() {
    let mut test = TestTables::default();
    let mut manifest = image_index(&[], 0, &["1"]);
    let since = test.now();
    let timestamps = Some(NameTimestamps { pushed: 17, since, order: 3 });
    manifest.new.timestamps = timestamps;
    test.apply(RecordBlobs(vec![(manifest.digest.clone(), manifest.size)])).unwrap();
    test.advance(Duration::from_secs(5));
    let another = |digest: &Digest| RestoredName::Tag {
        repository: repository("a"),
        tag: tag("2"),
        digest: digest.clone(),
        timestamps,
    };
    let names = vec![
        RestoredName::Manifest(Box::new(manifest.new.clone())),
        another(&manifest.digest),
        another(&digest("missing")),
    ];
    assert_eq!(test.apply(RestoreNames(names)).unwrap(), 2);
    assert!(test.take_events().is_empty());
    assert!(test.tags().iter().all(|tag| (tag.since, tag.order) == (since, 3)));
    assert_eq!(stats(&test).pushed, 17);
    test.assert_consistent();
}
