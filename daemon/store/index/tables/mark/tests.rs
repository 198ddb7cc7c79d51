//! The mark phase on small indexes: what is live, leased, orphaned or stale.

use super::*;
use crate::oci::Tag;
use crate::store::index::changes::deletes::DeleteTag;
use crate::store::index::changes::sweep::{SweepManifests, UnlinkStaleLinks};
use crate::store::index::tables::WriteTables;
use crate::store::index::test_index::{digest, image, image_index, repository, tag};
use crate::store::index::test_tables::TestTables;

const GRACE: Duration = Duration::from_hours(1);

/// Returns the change that deletes a tag of the repository `a`.
fn delete_tag(name: &str) -> DeleteTag {
    DeleteTag { repository: repository("a"), tag: tag(name), immutable: std::sync::Arc::default() }
}

fn page(opened: &TestTables, grace: Duration) -> BlobPage {
    opened.tables.blob_page(None, 1000, (opened.now(), grace), &Forecast::default()).unwrap()
}

fn candidates(opened: &TestTables, all: bool, forecast: &Forecast) -> Vec<OrphanCandidate> {
    let mut page = opened.tables.orphan_candidates(&repository("a"), None, 1000, all, forecast).unwrap();
    opened.tables.retain_orphans(&repository("a"), &mut page, forecast).unwrap();
    page
}

fn digests(candidates: &[OrphanCandidate]) -> BTreeSet<Digest> {
    candidates.iter().map(|one| one.digest.clone()).collect()
}

#[test]
fn blobs_are_live_leased_or_orphaned() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a"], "layer");
    let other = opened.push_blob(&["a"], "other");
    opened.push(&image(&layer, None, &["1"]));
    let early = page(&opened, GRACE);
    assert_eq!((early.leased.count, early.orphans.len()), (1, 0));
    assert!(early.next.is_none());
    opened.advance(GRACE);
    let late = page(&opened, GRACE);
    assert_eq!(late.leased.count, 0);
    assert_eq!(late.orphans, [(other, 5)]);
    assert_eq!(opened.tables.count_unreferenced_blobs().unwrap(), 1);
}

#[test]
fn link_without_a_manifest_of_its_repository_is_stale_after_the_lease() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a", "b"], "layer");
    opened.push(&image(&layer, None, &["1"]));
    assert!(page(&opened, GRACE).stale_links.is_empty());
    opened.advance(GRACE);
    assert_eq!(page(&opened, GRACE).stale_links, [(layer, repository("b"))]);
}

#[test]
fn links_of_a_widely_linked_orphan_go_before_the_orphan() {
    let mut opened = TestTables::default();
    let names: Vec<String> = (0..=MAX_REPOSITORIES).map(|number| format!("r{number}")).collect();
    let layer = opened.push_blob(&names.iter().map(String::as_str).collect::<Vec<_>>(), "layer");
    let found = page(&opened, Duration::ZERO);
    assert!(found.orphans.is_empty());
    assert_eq!(found.stale_links.len(), names.len());
    let stale_links = found.stale_links;
    opened.apply(UnlinkStaleLinks { links: stale_links, grace: Duration::ZERO }).unwrap();
    assert_eq!(page(&opened, Duration::ZERO).orphans, [(layer, 5)]);
}

#[test]
fn pages_of_blobs_continue_after_the_limit() {
    let mut opened = TestTables::default();
    for number in 0..5 {
        opened.push_blob(&["a"], &number.to_string());
    }
    let (mut after, mut found, mut pages) = (None, 0, 0);
    loop {
        let forecast = Forecast::default();
        let page =
            opened.tables.blob_page(after.as_deref(), 2, (opened.now(), Duration::ZERO), &forecast).unwrap();
        found += page.orphans.len();
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (5, 3));
}

#[test]
fn unreadable_repository_name_keeps_a_blob() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a"], "layer");
    let key = keys::digest_key(&layer);
    let links = vec![(layer, repository("a"))];
    opened.apply(UnlinkStaleLinks { links, grace: Duration::ZERO }).unwrap();
    opened.tables.put(Table::BlobRepositories, &[&key[..], b"\xff"].concat(), &[]).unwrap();
    let found = page(&opened, Duration::ZERO);
    assert_eq!((found.orphans.len(), found.stale_links.len()), (0, 0));
}

#[test]
fn candidate_is_an_orphan_without_tag_and_parent() {
    let mut opened = TestTables::default();
    let (layer, none) = (digest("layer"), Forecast::default());
    let child = image(&layer, None, &[]);
    let (tagged, parent) =
        (image(&digest("x"), None, &["tagged"]), image_index(std::slice::from_ref(&child.digest), 0, &[]));
    for manifest in [&child, &tagged, &parent] {
        opened.push(manifest);
    }
    // Without a rule for untagged manifests only orphans are candidates.
    assert!(candidates(&opened, false, &none).is_empty());
    assert_eq!(digests(&candidates(&opened, true, &none)), [parent.digest.clone()].into());
    // Deleting the parent orphans the child; deleting the tag orphans the other image.
    opened.apply(delete_tag("tagged")).unwrap();
    let gone = vec![opened.candidate(&parent, true)];
    opened.apply(SweepManifests { repository: repository("a"), manifests: gone, attached: false }).unwrap();
    let found = candidates(&opened, false, &none);
    assert_eq!(digests(&found), [child.digest.clone(), tagged.digest.clone()].into());
    assert!(found.iter().all(|one| one.by_delete));
    // A tag that is set again keeps its manifest.
    opened.push(&image(&digest("x"), None, &["again"]));
    assert_eq!(digests(&candidates(&opened, false, &none)), [child.digest.clone()].into());
}

#[test]
fn candidates_and_tags_are_listed_in_pages() {
    let mut opened = TestTables::default();
    for number in 0..5 {
        opened.push(&image_index(&[], number, &[&format!("t{number}")]));
    }
    let (index, forecast) = (&opened.tables, Forecast::default());
    let first = index.orphan_candidates(&repository("a"), None, 3, true, &forecast).unwrap();
    let after = first.last().map(|one| one.digest.clone());
    let second = index.orphan_candidates(&repository("a"), after.as_ref(), 3, true, &forecast).unwrap();
    assert_eq!((first.len(), second.len()), (3, 2));
    let tags = |after: Option<&Tag>| -> Vec<String> {
        let page = index.tags_after(&repository("a"), after, 3).unwrap();
        page.iter().map(|one| one.tag.to_string()).collect()
    };
    assert_eq!(tags(None), ["t0", "t1", "t2"]);
    assert_eq!(tags(Some(&tag("t2"))), ["t3", "t4"]);
    assert!(index.tags_after(&repository("b"), None, 3).unwrap().is_empty());
}

#[test]
fn forecast_counts_as_done() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a"], "layer");
    let (child, mut forecast) = (image(&layer, None, &[]), Forecast::default());
    let parent = image_index(std::slice::from_ref(&child.digest), 0, &["1"]);
    opened.push(&child);
    opened.push(&parent);
    let tags = opened.tables.tags_after(&repository("a"), None, 10).unwrap();
    let now = opened.now();
    forecast.retire_tags(&opened.tables, now, &repository("a"), &tags).unwrap();
    let collect = |forecast: &mut Forecast| {
        let found = candidates(&opened, false, forecast);
        let found = found.into_iter().map(|one| (one, None)).collect();
        let gone = forecast.sweep_manifests(&opened.tables, now, &repository("a"), found, false).unwrap();
        gone.into_iter().map(|one| one.digest).collect::<Vec<_>>()
    };
    assert_eq!(collect(&mut forecast), std::slice::from_ref(&parent.digest));
    assert_eq!(collect(&mut forecast), std::slice::from_ref(&child.digest));
    assert!(collect(&mut forecast).is_empty());
    let found = opened.tables.blob_page(None, 1000, (now, Duration::ZERO), &forecast).unwrap();
    assert_eq!(found.orphans.len(), 3);
    let candidates = opened.tables.candidate_page(None, 1000, (now, Duration::ZERO), &forecast).unwrap();
    assert_eq!(candidates.orphans, found.orphans);
    // Content that the collection would orphan is within its grace period.
    let leased = opened.tables.blob_page(None, 1000, (now, GRACE), &forecast).unwrap();
    assert_eq!((leased.leased.count, leased.orphans.len()), (3, 0));
    // Nothing has changed in the index.
    assert!(page(&opened, Duration::ZERO).orphans.is_empty());
}
