//! Candidates on small indexes.

use super::*;
use crate::store::index::changes::blob_candidates::SettleCandidates;
use crate::store::index::changes::deletes::DeleteBlob;
use crate::store::index::changes::sweep::{SweepBlobs, SweepManifests, UnlinkStaleLinks};
use crate::store::index::tables::WriteTables;
use crate::store::index::tables::memory::Memory;
use crate::store::index::test_index::{digest, image, repository};
use crate::store::index::test_tables::TestTables;

fn rows(opened: &TestTables) -> Vec<BlobCandidate> {
    let (page, next) = opened.tables.candidates_after(None, 1000, &Forecast::default()).unwrap();
    assert!(next.is_none());
    page.into_values().flatten().collect()
}

fn row(digest: &Digest, name: Option<&str>) -> BlobCandidate {
    BlobCandidate { digest: digest.clone(), repository: name.map(repository) }
}

#[test]
fn blob_is_a_candidate_until_a_manifest_of_its_repository_references_it() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a", "b"], "layer");
    assert_eq!(rows(&opened), [row(&layer, Some("a")), row(&layer, Some("b"))]);
    let image = image(&layer, None, &[]);
    opened.push(&image);
    assert_eq!(rows(&opened), [row(&layer, Some("b"))]);
    let manifests = vec![opened.candidate(&image, true)];
    opened.apply(SweepManifests { repository: repository("a"), manifests, attached: false }).unwrap();
    let mut expected = [row(&layer, Some("a")), row(&layer, Some("b")), row(&image.digest, None)];
    expected.sort_by_key(row_key);
    assert_eq!(rows(&opened), expected, "the file of the manifest as well");
    let blobs = [&layer, &image.digest].map(|digest| (digest.clone(), 0)).to_vec();
    opened.apply(SweepBlobs { blobs, grace: Duration::ZERO, leases: std::sync::Arc::default() }).unwrap();
    assert!(rows(&opened).is_empty());
}

#[test]
fn blob_that_loses_its_last_repository_is_a_candidate_without_one() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a", "b"], "layer");
    let links = vec![(layer.clone(), repository("a"))];
    opened.apply(UnlinkStaleLinks { links, grace: Duration::ZERO }).unwrap();
    assert_eq!(rows(&opened), [row(&layer, Some("b"))]);
    let immutable = std::sync::Arc::default();
    opened.apply(DeleteBlob { repository: repository("b"), digest: layer.clone(), immutable }).unwrap();
    assert_eq!(rows(&opened), [row(&layer, None)]);
    opened.push_blob(&["c"], "layer");
    assert_eq!(rows(&opened), [row(&layer, Some("c"))]);
}

#[test]
fn rows_that_are_not_true_are_settled() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a"], "layer");
    opened.push(&image(&layer, None, &["1"]));
    let other = opened.push_blob(&["a"], "other");
    for one in [row(&layer, Some("a")), row(&layer, None), row(&other, Some("z"))] {
        opened.tables.put(Table::BlobCandidates, &row_key(&one), &[]).unwrap();
    }
    let all = rows(&opened);
    assert_eq!(all.len(), 4);
    opened.apply(SettleCandidates(all)).unwrap();
    assert_eq!(rows(&opened), [row(&other, Some("a"))]);
}

#[test]
fn pages_have_all_rows_of_their_blobs_and_those_of_the_forecast() {
    let mut opened = TestTables::default();
    let mut wanted = Vec::new();
    for number in 0..5 {
        wanted.push(keys::digest_key(&opened.push_blob(&["a", "b", "c"], &number.to_string())));
    }
    let mut forecast = Forecast::default();
    for number in 5..8 {
        let blob = digest(&number.to_string());
        forecast.renew_lease(&blob, opened.now());
        wanted.push(keys::digest_key(&blob));
    }
    wanted.sort();
    for limit in 1..20 {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let (page, next) = opened.tables.candidates_after(after.as_deref(), limit, &forecast).unwrap();
            assert!(page.values().all(|rows| rows.is_empty() || rows.len() == 3));
            found.extend(page.into_keys());
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "pages of {limit}");
    }
}

#[test]
fn full_collection_is_due_once_a_week() {
    let mut tables = Memory::default();
    let at = |seconds: u64| StoreTime::from_seconds(seconds);
    assert!(tables.needs_full_collection(at(0)).unwrap());
    tables.put_row(Table::Meta, meta::FULL_COLLECTION, &at(10)).unwrap();
    assert!(!tables.needs_full_collection(at(9 + 7 * 24 * 3600)).unwrap());
    assert!(tables.needs_full_collection(at(10 + 7 * 24 * 3600)).unwrap());
}
