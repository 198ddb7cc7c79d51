//! Sparse manifests: when they are marked, and when the mark goes.

use proptest::prelude::*;

use super::*;
use crate::oci::ReferenceKind;
use crate::store::index::changes::sparse::RemoveSparseMarks;
use crate::store::index::tables::parents::WRITER_LOOKUPS;
use crate::store::index::tables::sparse::{Presence, SparseManifest, SparseManifests};

/// Returns the push of a manifest whose content may be missing.
fn put_sparse(manifest: &TestManifest) -> PutManifest {
    let mut put = put(manifest);
    put.new.may_be_sparse = true;
    put
}

/// Returns an image of these layers.
fn image_of(config: &Digest, layers: &[Digest]) -> TestManifest {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| serde_json::json!({"mediaType": "a/b", "digest": layer, "size": 1}))
        .collect();
    let bytes = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "a/b", "digest": config, "size": 1}, "layers": layers,
    }))
    .unwrap();
    let mut manifest = image(config, None, &["sparse"]);
    manifest.new.manifest = Manifest::parse(&bytes, None).unwrap();
    manifest.new.digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, &bytes);
    manifest.new.size = bytes.len() as u64;
    manifest.bytes = bytes;
    manifest
}

fn is_sparse(test: &TestTables, manifest: &TestManifest) -> bool {
    test.assert_consistent();
    test.tables.is_sparse(&repository("a"), &manifest.digest).unwrap()
}

fn exception(test: &TestTables, content: &str) -> Option<LinkExceptionRow> {
    test.tables.link_exception(&repository("a"), &digest(content)).unwrap()
}

fn presence(test: &TestTables, manifest: &TestManifest, config: Option<&str>) -> Option<(usize, usize)> {
    let config = config.map(digest);
    let presence = test.tables.presence(&repository("a"), &manifest.digest, config.as_ref()).unwrap();
    presence.map(|Presence { present, all }| (present, all))
}

#[test]
fn the_mark_of_an_image_goes_with_its_last_hole() {
    let mut test = TestTables::default();
    let layers = ["1", "2", "3"].map(digest);
    let manifest = image_of(&digest("config"), &layers);
    test.apply(admit("1")).unwrap();
    assert!(matches!(test.apply(put(&manifest)), Err(StoreError::ManifestBlobUnknown(_))));
    test.apply(put_sparse(&manifest)).unwrap();
    assert!(is_sparse(&test, &manifest) && test.files.names_changed);
    assert_eq!(presence(&test, &manifest, Some("config")), Some((1, 3)));
    assert_eq!(exception(&test, "1"), None);
    assert_eq!(exception(&test, "2"), Some(LinkExceptionRow::Missing));
    for content in ["3", "config"] {
        test.apply(admit(content)).unwrap();
        assert!(is_sparse(&test, &manifest), "2 is missing");
    }
    assert_eq!(presence(&test, &manifest, Some("config")), Some((2, 3)));
    test.apply(admit("2")).unwrap();
    assert!(!is_sparse(&test, &manifest) && test.files.names_changed);
    assert_eq!(exception(&test, "2"), Some(LinkExceptionRow::Linked));
    assert_eq!(presence(&test, &manifest, None), None);
    // From now on it is an image like any other.
    test.apply(put(&manifest)).unwrap();
    assert!(!is_sparse(&test, &manifest));
}

#[test]
fn an_image_without_holes_is_not_marked() {
    let mut test = TestTables::default();
    test.apply(admit("config")).unwrap();
    let foreign = with_foreign_layer(&digest("config"), &digest("foreign"));
    test.apply(put_sparse(&foreign)).unwrap();
    assert!(!is_sparse(&test, &foreign), "a foreign layer is no hole");
    assert_eq!(exception(&test, "foreign"), None);
    let empty = image_index(&[], 0, &["1"]);
    test.apply(put_sparse(&empty)).unwrap();
    assert!(!is_sparse(&test, &empty));
    // A client that deletes content makes no hole.
    test.apply(delete_blob(&digest("config"))).unwrap();
    assert!(!is_sparse(&test, &foreign));
    assert_eq!(exception(&test, "config"), Some(LinkExceptionRow::Deleted));
}

#[test]
fn the_mark_of_an_index_goes_with_its_last_platform() {
    let mut test = TestTables::default();
    let (first, second) = (image_index(&[], 1, &[]), image_index(&[], 2, &[]));
    let index = image_index(&[first.digest.clone(), second.digest.clone()], 0, &["1"]);
    test.apply(put_sparse(&index)).unwrap();
    assert_eq!((is_sparse(&test, &index), presence(&test, &index, None)), (true, Some((0, 2))));
    test.apply(put(&first)).unwrap();
    assert_eq!((is_sparse(&test, &index), presence(&test, &index, None)), (true, Some((1, 2))));
    test.apply(put(&second)).unwrap();
    assert!(!is_sparse(&test, &index));
    assert!(test.tables.link_exceptions_after(None, 10).unwrap().is_empty());
    // Without the switch an index with one platform is accepted as before, and not marked.
    let partial = image_index(&[first.digest.clone(), digest("elsewhere")], 3, &["2"]);
    test.apply(put(&partial)).unwrap();
    assert!(!is_sparse(&test, &partial));
}

#[test]
fn a_hole_is_filled_for_all_manifests_that_wait_for_it() {
    let mut test = TestTables::default();
    let both = image_of(&digest("1"), &[digest("2")]);
    let one = image(&digest("2"), None, &["one"]);
    test.apply(put_sparse(&both)).unwrap();
    test.apply(put_sparse(&one)).unwrap();
    test.apply(admit("2")).unwrap();
    assert!(is_sparse(&test, &both) && !is_sparse(&test, &one));
    test.apply(admit("1")).unwrap();
    assert!(!is_sparse(&test, &both));
}

#[test]
fn content_of_another_repository_fills_no_hole() {
    let mut test = TestTables::default();
    test.push_blob(&["b"], "secret");
    let manifest = image(&digest("secret"), None, &["1"]);
    test.apply(put_sparse(&manifest)).unwrap();
    assert!(is_sparse(&test, &manifest));
    test.push_blob(&["c"], "secret");
    assert!(is_sparse(&test, &manifest));
    // A rebuild restores the exceptions first, and then links what the manifests reference.
    let exceptions = test.tables.link_exceptions_after(None, 10).unwrap();
    let mut rebuilt = TestTables::default();
    let secret = (digest("secret"), 6);
    rebuilt.apply(RecordBlobs(vec![secret, (manifest.digest.clone(), manifest.size)])).unwrap();
    rebuilt.apply(super::super::link_exceptions::RestoreLinkExceptions(exceptions)).unwrap();
    let mut restored = manifest.new.clone();
    restored.may_be_sparse = true;
    rebuilt.apply(RestoreNames(vec![RestoredName::Manifest(Box::new(restored))])).unwrap();
    assert!(is_sparse(&rebuilt, &manifest));
    assert!(rebuilt.tables.blob(&repository("a"), &digest("secret")).unwrap().is_none());
}

#[test]
fn damaged_content_is_no_hole() {
    let mut test = TestTables::default();
    test.apply(admit("layer")).unwrap();
    let manifest = image_of(&digest("layer"), &[digest("missing")]);
    let damaged = PutManifest { damaged: [digest("layer")].into(), ..put_sparse(&manifest) };
    let refused = test.apply(damaged).unwrap_err();
    assert!(matches!(refused, StoreError::ManifestBlobUnknown(all) if all[..] == [digest("layer")]));
}

#[test]
fn a_deleted_manifest_loses_its_mark() {
    let mut test = TestTables::default();
    let manifest = image(&digest("layer"), None, &["1"]);
    test.apply(put_sparse(&manifest)).unwrap();
    test.apply(delete_manifest(&manifest)).unwrap();
    assert!(!is_sparse(&test, &manifest));
    let exceptions = test.tables.link_exceptions_after(None, 10).unwrap();
    test.apply(RemoveLinkExceptions(exceptions)).unwrap();
    assert_eq!(exception(&test, "layer"), None);
}

#[test]
fn the_writer_gives_up_and_a_collection_removes_the_mark() {
    let mut test = TestTables::default();
    let layers: Vec<Digest> = (0..=WRITER_LOOKUPS).map(|number| digest(&number.to_string())).collect();
    for number in 0..WRITER_LOOKUPS {
        test.apply(admit(&number.to_string())).unwrap();
    }
    test.apply(admit("config")).unwrap();
    let manifest = image_of(&digest("config"), &layers);
    test.apply(put_sparse(&manifest)).unwrap();
    test.apply(admit(&WRITER_LOOKUPS.to_string())).unwrap();
    assert!(is_sparse(&test, &manifest), "not all references were looked at");
    let marked = test.tables.sparse_after(None, 10).unwrap();
    let expected = SparseManifest { repository: repository("a"), digest: manifest.digest.clone() };
    assert_eq!(marked, std::slice::from_ref(&expected));
    assert!(test.tables.sparse_after(Some(&expected), 10).unwrap().is_empty());
    test.apply(RemoveSparseMarks(marked)).unwrap();
    assert!(!is_sparse(&test, &manifest));
    // A mark with a hole stays.
    let other = image(&digest("missing"), None, &["other"]);
    test.apply(put_sparse(&other)).unwrap();
    test.apply(RemoveSparseMarks(test.tables.sparse_after(None, 10).unwrap())).unwrap();
    assert!(is_sparse(&test, &other));
}

/// A step of a random sequence; the numbers choose among few names.
#[derive(Clone, Debug)]
enum Step {
    Blob(u8),
    Image(Vec<u8>, bool),
    Index(Vec<u8>, bool),
    DeleteBlob(u8),
    DeleteManifest(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = 0_u8..5;
    let parts = prop::collection::vec(few.clone(), 1..4);
    let step = prop_oneof![
        3 => few.clone().prop_map(Step::Blob),
        3 => (parts.clone(), any::<bool>()).prop_map(|(parts, sparse)| Step::Image(parts, sparse)),
        2 => (parts, any::<bool>()).prop_map(|(parts, sparse)| Step::Index(parts, sparse)),
        1 => few.clone().prop_map(Step::DeleteBlob),
        1 => few.prop_map(Step::DeleteManifest),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A marked manifest has a hole, keeps its mark while it has one, and every blob that an image lacks has an
    /// exception, so that a rebuild does not give it to the repository.
    #[test]
    fn marks_agree_with_holes(steps in steps()) {
        let (mut test, mut manifests) = (TestTables::default(), Vec::<TestManifest>::new());
        let blob = |number: &u8| digest(&format!("blob {number}"));
        let (name, mut marked) = (repository("a"), BTreeSet::new());
        for step in steps {
            match step {
                Step::Blob(number) => test.apply(admit(&format!("blob {number}"))).unwrap(),
                Step::DeleteBlob(number) => drop(test.apply(delete_blob(&blob(&number)))),
                Step::DeleteManifest(number) => {
                    if let Some(one) = manifests.get(usize::from(number)) {
                        drop(test.apply(delete_manifest(one)));
                    }
                }
                Step::Image(parts, sparse) => {
                    let layers: Vec<Digest> = parts.iter().map(blob).collect();
                    let manifest = image_of(&layers[0], &layers);
                    drop(test.apply(if sparse { put_sparse(&manifest) } else { put(&manifest) }));
                    manifests.push(manifest);
                }
                Step::Index(parts, sparse) => {
                    // A platform that does not exist yet, or one that was tried.
                    let child = |number: &u8| {
                        let tried = manifests.get(usize::from(*number)).map(|one| one.digest.clone());
                        tried.unwrap_or_else(|| image_of(&blob(number), &[blob(number)]).digest.clone())
                    };
                    let manifest = image_index(&parts.iter().map(child).collect::<Vec<_>>(), 0, &["index"]);
                    drop(test.apply(if sparse { put_sparse(&manifest) } else { put(&manifest) }));
                    manifests.push(manifest);
                }
            }
            test.assert_consistent();
            for one in &manifests {
                if test.tables.get(Table::Manifests, &keys::content_key(&name, &one.digest)).unwrap().is_none() {
                    marked.remove(&one.digest);
                    continue;
                }
                let is_marked = test.tables.is_sparse(&name, &one.digest).unwrap();
                let has_holes = test.tables.may_have_holes(&name, &one.digest, &mut u32::MAX.clone()).unwrap();
                prop_assert!(has_holes || !is_marked, "a mark without a hole");
                prop_assert!(is_marked || !has_holes || !marked.contains(&one.digest), "a mark is lost");
                if is_marked {
                    marked.insert(one.digest.clone());
                } else {
                    marked.remove(&one.digest);
                }
                for link in one.manifest.references().iter().filter(|link| link.kind == ReferenceKind::Blob) {
                    if test.tables.has_content(&name, &link.digest).unwrap() {
                        continue;
                    }
                    let exception = test.tables.link_exception(&name, &link.digest).unwrap();
                    prop_assert!(exception.is_some_and(LinkExceptionRow::is_absence), "an unrecorded hole");
                }
            }
        }
    }
}
