//! The sweep phase: each transaction checks its candidates again.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::oci::{AttachmentTarget, Tag};
use crate::store::clock::StoreTime;
use crate::store::index::tables::lookups::Lookups;
use crate::store::index::tables::mark::Mark;
use crate::store::index::test_index::{TestManifest, digest, image, image_index, repository, tag};
use crate::store::index::test_tables::TestTables;
use crate::store::transfer_leases::Purpose;

const GRACE: Duration = Duration::from_hours(1);

fn swept<T, R>(outcomes: Vec<SweepOutcome<T, R>>) -> (Vec<R>, usize) {
    let (mut swept, mut postponed) = (Vec::new(), 0);
    for outcome in outcomes {
        match outcome {
            SweepOutcome::Swept(one) => swept.push(one),
            SweepOutcome::Postponed(_) => postponed += 1,
        }
    }
    (swept, postponed)
}

fn sweep_blobs(opened: &mut TestTables, blobs: &[&Digest], grace: Duration) -> (Vec<Digest>, usize) {
    let blobs: Vec<_> = blobs.iter().map(|digest| ((*digest).clone(), 5)).collect();
    let (found, postponed) =
        swept(opened.apply(SweepBlobs { blobs, grace, leases: Arc::default() }).unwrap());
    (found.into_iter().map(|(digest, _)| digest).collect(), postponed)
}

/// Returns a candidate that became an orphan at `since`, or now.
fn candidate(opened: &TestTables, manifest: &TestManifest, since: Option<StoreTime>) -> CandidateWithSubject {
    let since = since.unwrap_or_else(|| opened.now());
    let one =
        OrphanCandidate { digest: manifest.digest.clone(), size: manifest.size, since, by_delete: false };
    (one, manifest.manifest.subject().cloned())
}

fn sweep_manifests(
    opened: &mut TestTables,
    candidates: Vec<CandidateWithSubject>,
    attached: bool,
) -> (Vec<CollectedManifest>, usize) {
    let repository = repository("a");
    swept(opened.apply(SweepManifests { repository, manifests: candidates, attached }).unwrap())
}

#[test]
fn blobs_that_became_live_or_leased_stay() {
    let mut opened = TestTables::default();
    let orphan = opened.push_blob(&["a", "b"], "orphan");
    let layer = opened.push_blob(&["a"], "layer");
    opened.push(&image(&layer, None, &["1"]));
    let all = [&orphan, &layer, &digest("missing")];
    assert_eq!(sweep_blobs(&mut opened, &all, GRACE), (vec![], 0));
    opened.advance(GRACE);
    let fresh = opened.push_blob(&["a"], "fresh");
    let all = [&orphan, &layer, &fresh];
    assert_eq!(sweep_blobs(&mut opened, &all, GRACE), (vec![orphan.clone()], 0));
    assert_eq!(opened.files.unlink, std::slice::from_ref(&orphan), "only its file goes after the commit");
    opened.assert_consistent();
    assert!(opened.tables.blob(&repository("b"), &orphan).unwrap().is_none());
    assert!(!opened.tables.contains_blob(&orphan).unwrap());
}

#[test]
fn widely_linked_blob_is_left_to_a_later_sweep() {
    let mut opened = TestTables::default();
    let names: Vec<String> = (0..=MAX_REPOSITORIES).map(|number| format!("r{number}")).collect();
    let layer = opened.push_blob(&names.iter().map(String::as_str).collect::<Vec<_>>(), "layer");
    assert_eq!(sweep_blobs(&mut opened, &[&layer], Duration::ZERO), (vec![], 0));
    assert!(opened.tables.contains_blob(&layer).unwrap());
}

#[test]
fn large_sweeps_of_blobs_are_postponed_in_part() {
    let mut opened = TestTables::default();
    let names: Vec<String> = (0..MAX_REPOSITORIES).map(|number| format!("r{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = MAX_CHANGES.div_ceil(MAX_REPOSITORIES);
    let mut blobs = Vec::new();
    for number in 0..count + 2 {
        blobs.push(opened.push_blob(&names, &format!("b{number:03}")));
    }
    let blobs: Vec<&Digest> = blobs.iter().collect();
    let (removed, postponed) = sweep_blobs(&mut opened, &blobs, Duration::ZERO);
    assert_eq!((removed.len(), postponed), (count, 2));
}

#[test]
fn only_links_that_are_still_stale_are_removed() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a", "b", "c"], "layer");
    opened.push(&image(&layer, None, &["1"]));
    opened.advance(GRACE);
    // A push in `c` has renewed the lease since.
    opened.push_blob(&["c"], "layer");
    let links = ["a", "b", "c", "d"].map(|name| (layer.clone(), repository(name)));
    opened.apply(UnlinkStaleLinks { links: links.to_vec(), grace: GRACE }).unwrap();
    let linked = ["a", "b", "c"].map(|name| opened.tables.blob(&repository(name), &layer).unwrap().is_some());
    assert_eq!(linked, [true, false, true]);
}

#[test]
fn tags_that_were_set_again_are_not_retired() {
    let mut opened = TestTables::default();
    for (number, name) in ["stays", "moves", "goes"].into_iter().enumerate() {
        opened.push(&image_index(&[], number, &[name]));
    }
    let found = opened.tables.tags_after(&repository("a"), None, 10).unwrap();
    // One tag moves to another manifest, one is set to the same, and one is deleted.
    opened.push(&image_index(&[], 7, &["moves"]));
    opened.push(&image_index(&[], 0, &["stays"]));
    let mut wanted = found.clone();
    wanted.push(DatedTag { tag: tag("missing"), ..found[0].clone() });
    let retired = opened.apply(RetireTags { repository: repository("a"), tags: wanted }).unwrap();
    assert_eq!(retired.iter().map(|one| one.tag.as_str()).collect::<Vec<_>>(), ["goes"]);
    let left: Vec<Tag> = opened.tables.tags(&repository("a"), None, 10).unwrap().items;
    assert_eq!(left, [tag("moves"), tag("stays")]);
}

#[test]
fn manifests_are_swept_only_while_they_are_orphans() {
    let mut opened = TestTables::default();
    let child = image(&digest("child"), None, &[]);
    let parent = image_index(std::slice::from_ref(&child.digest), 0, &[]);
    let tagged = image(&digest("tagged"), None, &["1"]);
    let pushed_again = image(&digest("again"), None, &[]);
    let signature = image(&digest("signature"), Some(&tagged.digest), &[]);
    let detached = image(&digest("detached"), Some(&digest("no subject")), &[]);
    let all = [&child, &parent, &tagged, &pushed_again, &signature, &detached];
    for manifest in all {
        opened.push(manifest);
    }
    let mut candidates: Vec<_> = all.iter().map(|one| candidate(&opened, one, None)).collect();
    candidates.push(candidate(&opened, &image(&digest("missing"), None, &[]), None));
    opened.advance(Duration::from_secs(2));
    opened.push(&pushed_again);
    let (removed, postponed) = sweep_manifests(&mut opened, candidates, false);
    // The child is checked before its parent is removed.
    let removed: BTreeSet<_> = removed.into_iter().map(|one| one.digest).collect();
    assert_eq!(removed, [parent.digest.clone(), detached.digest.clone()].into());
    assert_eq!(postponed, 0);
    let exists = |one: &TestManifest| {
        let by_digest = crate::oci::Reference::Digest(one.digest.clone());
        opened.tables.manifest(&repository("a"), &by_digest).unwrap().is_some()
    };
    assert_eq!(all.map(exists), [true, false, true, true, true, false]);
    // Removing the parent orphaned the child.
    let again = vec![candidate(&opened, &child, None)];
    let (removed, _) = sweep_manifests(&mut opened, again, false);
    assert_eq!(removed.len(), 1);
}

#[test]
fn attached_tags_go_with_their_manifest() {
    let mut opened = TestTables::default();
    let orphan = image(&digest("image"), None, &[]);
    opened.push(&orphan);
    let names: Vec<String> = AttachmentTarget::tags_of(&orphan.digest).map(|tag| tag.to_string()).collect();
    let signature = image_index(&[], 0, &[&names[1]]);
    opened.push(&signature);
    let candidates = vec![candidate(&opened, &orphan, None)];
    let (removed, _) = sweep_manifests(&mut opened, candidates, true);
    assert_eq!(removed[0].tags, [(tag(&names[1]), signature.digest.clone())]);
    assert!(opened.tables.tags(&repository("a"), None, 10).unwrap().items.is_empty());
}

#[test]
fn large_sweeps_of_manifests_are_postponed_in_part() {
    let mut opened = TestTables::default();
    let children: Vec<Digest> = (0..=MAX_CHANGES).map(|number| digest(&number.to_string())).collect();
    let (large, small) = (image_index(&children, 0, &[]), image_index(&[], 1, &[]));
    opened.push(&large);
    opened.push(&small);
    let candidates = [&large, &small].map(|one| candidate(&opened, one, None)).to_vec();
    let (removed, postponed) = sweep_manifests(&mut opened, candidates, false);
    assert_eq!((removed.len(), postponed), (1, 1));
}

#[test]
fn uploads_are_recorded_until_they_are_gone() {
    let mut opened = TestTables::default();
    let record = |opened: &mut TestTables, files: &[(&str, u64)]| {
        let files: Vec<_> = files.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
        opened.apply(RecordUploads(files)).unwrap();
    };
    record(&mut opened, &[("one", 1), ("two", 2)]);
    opened.advance(GRACE);
    // The time of an upload starts again when it gets longer.
    record(&mut opened, &[("one", 1), ("two", 3)]);
    let since = |name: &str| opened.tables.upload_row(name).unwrap().unwrap().since;
    assert!(since("two") > since("one"));
    let gone = opened.tables.vanished_uploads(&[("two".to_owned(), 3)]).unwrap();
    assert_eq!(gone, [b"one".to_vec()]);
    opened.apply(RemoveUploadRows(gone)).unwrap();
    assert!(opened.tables.upload_row("one").unwrap().is_none());
}

#[test]
fn content_that_a_transfer_leases_stays() {
    let mut test = TestTables::default();
    let leases = Arc::new(TransferLeases::default());
    let id = leases.open(Purpose::Export, Instant::now()).unwrap();
    let (kept, swept) = (test.push_blob(&["a"], "kept"), test.push_blob(&["a"], "swept"));
    leases.lease(id, [&kept].into_iter()).unwrap();
    let sweep = |leases: &Arc<TransferLeases>| SweepBlobs {
        blobs: vec![(kept.clone(), 4), (swept.clone(), 5)],
        grace: Duration::ZERO,
        leases: Arc::clone(leases),
    };
    test.apply(sweep(&leases)).unwrap();
    test.assert_consistent();
    assert_eq!(test.files.unlink, std::slice::from_ref(&swept));
    assert!(test.tables.contains_blob(&kept).unwrap());
    leases.end(id).unwrap();
    test.apply(sweep(&leases)).unwrap();
    assert_eq!(test.files.unlink, std::slice::from_ref(&kept));
}
