//! The outcomes of imports, on tables in memory.

use super::*;
use crate::oci::{Actor, Pattern};
use crate::store::index::changes::Origin;
use crate::store::index::changes::blobs::NewBlob;
use crate::store::index::event::{Cause, Event, EventKind};
use crate::store::index::tables::ReadTables;
use crate::store::index::tables::rows::OrphanRow;
use crate::store::index::tables::sparse::SparseManifests;
use crate::store::index::test_index::{TestManifest, digest, image, image_index, repository, tag};
use crate::store::index::test_tables::TestTables;
use crate::store::upload_files::HashedFile;

const REGISTRY: &str = "import:6f6e4b1e-0000-4000-8000-000000000000";

/// Admits content without a repository.
fn admit(test: &mut TestTables, content: &str, digest: &Digest) {
    let file = HashedFile { name: "upload".into(), inode: 1, length: content.len() as u64 };
    let blob = NewBlob { file, digest: digest.clone() };
    test.apply(super::super::blobs::AdmitBlob { repository: None, blob }).unwrap();
}

/// An image whose config is also its layer, whose file is admitted.
fn admitted_image(test: &mut TestTables, layer: &str) -> TestManifest {
    let manifest = image(&digest(layer), None, &[]);
    admit(test, &"m".repeat(manifest.bytes.len()), &manifest.digest);
    manifest
}

fn admitted_index(test: &mut TestTables, children: &[&TestManifest]) -> TestManifest {
    let digests: Vec<Digest> = children.iter().map(|child| child.digest.clone()).collect();
    let manifest = image_index(&digests, 0, &[]);
    admit(test, &"m".repeat(manifest.bytes.len()), &manifest.digest);
    manifest
}

fn complete_image(test: &mut TestTables, layer: &str) -> TestManifest {
    admit(test, layer, &digest(layer));
    admitted_image(test, layer)
}

fn import(manifests: &[&TestManifest], tags: &[(&str, &TestManifest, Option<u64>)]) -> NameImage {
    let wanted = tags.iter().map(|(name, manifest, pushed)| WantedTag {
        tag: tag(name),
        digest: manifest.digest.clone(),
        pushed: *pushed,
    });
    NameImage {
        repository: repository("a"),
        manifests: manifests.iter().map(|manifest| manifest.new.clone()).collect(),
        tags: wanted.collect(),
        policy: TagPolicy { rule: Some(REGISTRY.into()), ..TagPolicy::default() },
        sparse: false,
        limits: NameLimits::default(),
        immutable: Arc::default(),
        damaged: BTreeSet::new(),
        unlinked: BTreeSet::new(),
        dry_run: None,
    }
}

fn outcome(test: &mut TestTables, change: NameImage) -> TagOutcome {
    let mut named = test.apply(change).unwrap();
    test.assert_consistent();
    named.tags.remove(0)
}

fn missing(content: &str) -> MissingContent {
    MissingContent { digest: digest(content), size: Some(1) }
}

fn named(test: &TestTables) -> Vec<(String, Digest)> {
    test.tags().into_iter().map(|tag| (tag.tag.to_string(), tag.digest)).collect()
}

#[test]
fn a_complete_image_is_named_by_its_importer() {
    let mut test = TestTables::default();
    let first = complete_image(&mut test, "layer");
    let index = admitted_index(&mut test, &[&first]);
    let origin = Origin { cause: Cause::Import, ..Origin::system() };
    let change = import(&[&first, &index], &[("1", &index, Some(5)), ("latest", &index, None)]);
    let reply = test.apply_by(&origin, change).unwrap();
    assert_eq!(
        reply,
        Named { manifests: vec![vec![], vec![]], tags: vec![TagOutcome::Set, TagOutcome::Set] }
    );
    test.assert_consistent();
    assert_eq!(named(&test), [("1".into(), index.digest.clone()), ("latest".into(), index.digest.clone())]);
    let events: Vec<Event> = test.take_events();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Push, EventKind::Push, EventKind::Tag, EventKind::Tag]);
    assert!(events.iter().all(|event| event.cause == Cause::Import && event.actor == Actor::system()));
    // The same import again changes nothing.
    let change = import(&[&first, &index], &[("1", &index, Some(5))]);
    assert_eq!(outcome(&mut test, change), TagOutcome::Unchanged);
    assert!(test.take_events().is_empty() && !test.files.names_changed);
}

#[test]
fn an_image_with_missing_content_gets_no_name() {
    let mut test = TestTables::default();
    let (whole, broken) = (complete_image(&mut test, "layer"), admitted_image(&mut test, "missing"));
    let index = admitted_index(&mut test, &[&whole, &broken]);
    let unknown = image(&digest("x"), None, &[]);
    let mut change = import(
        &[&whole, &broken, &index],
        &[("broken", &broken, None), ("index", &index, None), ("whole", &whole, None), ("x", &unknown, None)],
    );
    change.sparse = true;
    let reply = test.apply(change).unwrap();
    test.assert_consistent();
    let lacks = vec![missing("missing")];
    assert_eq!(reply.manifests, [vec![], lacks.clone(), lacks.clone()]);
    let expected = [
        TagOutcome::Incomplete(lacks.clone()),
        TagOutcome::Incomplete(lacks),
        TagOutcome::Set,
        TagOutcome::Incomplete(vec![MissingContent { digest: unknown.digest.clone(), size: None }]),
    ];
    assert_eq!(reply.tags, expected);
    assert_eq!(named(&test), [("whole".into(), whole.digest.clone())]);
    // The next stick brings the rest.
    admit(&mut test, "missing", &digest("missing"));
    let change = import(&[&broken, &index], &[("index", &index, None)]);
    assert_eq!(outcome(&mut test, change), TagOutcome::Set);
}

#[test]
fn damaged_content_counts_as_missing() {
    let mut test = TestTables::default();
    let whole = complete_image(&mut test, "layer");
    let mut change = import(&[&whole], &[("1", &whole, None)]);
    change.damaged.insert(digest("layer"));
    assert_eq!(outcome(&mut test, change), TagOutcome::Incomplete(vec![missing("layer")]));
    let mut change = import(&[&whole], &[("1", &whole, None)]);
    change.damaged.insert(whole.digest.clone());
    let own = MissingContent { digest: whole.digest.clone(), size: Some(whole.size) };
    assert_eq!(outcome(&mut test, change), TagOutcome::Incomplete(vec![own]));
    assert!(named(&test).is_empty());
}

#[test]
fn platforms_of_an_index_may_be_missing_only_if_asked() {
    let mut test = TestTables::default();
    let (first, second) = (complete_image(&mut test, "layer"), image(&digest("other"), None, &[]));
    let index = admitted_index(&mut test, &[&first, &second]);
    let absent = MissingContent { digest: second.digest.clone(), size: Some(1) };
    let change = import(&[&first, &index], &[("1", &index, None)]);
    assert_eq!(outcome(&mut test, change), TagOutcome::Incomplete(vec![absent.clone()]));
    let mut change = import(&[&first, &index], &[("1", &index, None)]);
    change.sparse = true;
    assert_eq!(outcome(&mut test, change), TagOutcome::Set);
    let holes = test.tables.holes(&repository("a"), &index.digest).unwrap();
    assert_eq!(holes, std::slice::from_ref(&second.digest));
    // An index none of whose platforms is there names nothing.
    let hollow = admitted_index(&mut test, &[&second]);
    let mut change = import(&[&hollow], &[("2", &hollow, None)]);
    change.sparse = true;
    assert_eq!(outcome(&mut test, change), TagOutcome::Incomplete(vec![absent]));
}

#[test]
fn an_existing_tag_moves_by_the_times_of_the_exporting_registry() {
    let mut test = TestTables::default();
    let images = ["0", "1", "2", "3"].map(|layer| complete_image(&mut test, layer));
    let tagged = |number: usize, pushed| import(&[&images[number]], &[("t", &images[number], pushed)]);
    assert_eq!(outcome(&mut test, tagged(0, Some(10))), TagOutcome::Set);
    assert_eq!(outcome(&mut test, tagged(1, Some(20))), TagOutcome::Moved(images[0].digest.clone()));
    let kept = |why| TagOutcome::Kept(images[1].digest.clone(), why);
    assert_eq!(outcome(&mut test, tagged(0, Some(10))), kept(Kept::NotNewer), "an old stick");
    assert_eq!(outcome(&mut test, tagged(0, Some(20))), kept(Kept::NotNewer));
    assert_eq!(outcome(&mut test, tagged(2, None)), kept(Kept::NoTime));
    let mut unknown = tagged(2, Some(30));
    unknown.policy.rule = None;
    assert_eq!(outcome(&mut test, unknown), kept(Kept::NoTime));
    let mut other = tagged(2, Some(30));
    other.policy.rule = Some("import:other".into());
    assert_eq!(outcome(&mut test, other), kept(Kept::NeverImported));
    let mut existing = tagged(2, Some(30));
    existing.policy.keep_existing = true;
    assert_eq!(outcome(&mut test, existing), kept(Kept::Existing));
    let rules = vec![ImmutableRule {
        repositories: vec![Pattern::from("a".to_owned())],
        tags: vec![Pattern::from("t".to_owned())],
        delete: false,
    }];
    let mut immutable = tagged(2, Some(30));
    (immutable.immutable, immutable.policy.force) = (Arc::new(rules), true);
    assert_eq!(outcome(&mut test, immutable), kept(Kept::Immutable));
    let mut forced = tagged(2, Some(5));
    forced.policy.force = true;
    assert_eq!(outcome(&mut test, forced), TagOutcome::Moved(images[1].digest.clone()));
    // A tag that was moved here meanwhile is moved by a newer one.
    assert_eq!(outcome(&mut test, tagged(3, Some(6))), TagOutcome::Moved(images[2].digest.clone()));
    assert_eq!(outcome(&mut test, tagged(3, Some(50))), TagOutcome::Unchanged);
    assert_eq!(
        outcome(&mut test, tagged(1, Some(50))),
        TagOutcome::Kept(images[3].digest.clone(), Kept::NotNewer)
    );
}

#[test]
fn an_image_whose_tags_were_kept_goes_with_a_collection() {
    let mut test = TestTables::default();
    let (first, second) = (complete_image(&mut test, "0"), complete_image(&mut test, "1"));
    assert_eq!(outcome(&mut test, import(&[&first], &[("t", &first, Some(10))])), TagOutcome::Set);
    let kept = TagOutcome::Kept(first.digest.clone(), Kept::NotNewer);
    assert_eq!(outcome(&mut test, import(&[&second], &[("t", &second, Some(9))])), kept);
    let orphan = |test: &TestTables, manifest: &TestManifest| {
        let key = keys::content_key(&repository("a"), &manifest.digest);
        test.tables.row::<OrphanRow>(Table::Orphans, &key).unwrap().is_some_and(|row| row.deleted)
    };
    assert!(orphan(&test, &second) && !orphan(&test, &first));
    // The same stick again.
    let again = import(&[&second], &[("t", &second, Some(9))]);
    assert!(matches!(outcome(&mut test, again), TagOutcome::Kept(..)) && orphan(&test, &second));
    // A tag makes it live again.
    assert_eq!(outcome(&mut test, import(&[], &[("u", &second, Some(9))])), TagOutcome::Set);
    assert!(!orphan(&test, &second));
    // An image without a tag is pinned by its digest, and stays.
    let third = complete_image(&mut test, "2");
    test.apply(import(&[&third], &[])).unwrap();
    assert!(!orphan(&test, &third));
}

#[test]
fn new_names_beyond_the_limits_are_refused() {
    let mut test = TestTables::default();
    let first = complete_image(&mut test, "0");
    let with = |names, tags_per_repository| {
        let mut change = import(&[&first], &[("1", &first, None), ("2", &first, None)]);
        change.limits = NameLimits { tags_per_repository, names };
        change
    };
    assert!(matches!(test.apply(with(100, 1)), Err(StoreError::TooManyTags { limit: 1, .. })));
    assert!(matches!(test.apply(with(2, 100)), Err(StoreError::TooManyNames { limit: 2 })));
    test.apply(with(3, 2)).unwrap();
    test.apply(with(3, 2)).unwrap();
}
