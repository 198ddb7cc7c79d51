//! The sweep phase: each transaction checks its candidates again.

use super::*;
use crate::oci::{AttachmentTarget, Tag};
use crate::store::clock::StoreTime;
use crate::store::index::test_index::{TestIndex, TestManifest, digest, image, image_index, repository, tag};

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

async fn sweep_blobs(opened: &TestIndex, blobs: &[&Digest], grace: Duration) -> (Vec<Digest>, usize) {
    let blobs: Vec<_> = blobs.iter().map(|digest| ((*digest).clone(), 5)).collect();
    let (found, postponed) = swept(opened.submit(move |batch| batch.sweep_blobs(&blobs, grace)).await);
    (found.into_iter().map(|(digest, _)| digest).collect(), postponed)
}

/// Returns a candidate that became an orphan at `since`, or now.
fn candidate(opened: &TestIndex, manifest: &TestManifest, since: Option<StoreTime>) -> CandidateWithSubject {
    let since = since.unwrap_or_else(|| opened.index.clock.now());
    let one =
        OrphanCandidate { digest: manifest.digest.clone(), size: manifest.size, since, by_delete: false };
    (one, manifest.manifest.subject().cloned())
}

async fn sweep_manifests(
    opened: &TestIndex,
    candidates: Vec<CandidateWithSubject>,
    attached: bool,
) -> (Vec<CollectedManifest>, usize) {
    let sweep = move |batch: &mut Batch| batch.sweep_manifests(&repository("a"), &candidates, attached);
    swept(opened.submit(sweep).await)
}

#[tokio::test]
async fn blobs_that_became_live_or_leased_stay() {
    let opened = TestIndex::new();
    let orphan = opened.push_blob(&["a", "b"], "orphan").await;
    let layer = opened.push_blob(&["a"], "layer").await;
    opened.push(&image(&layer, None, &["1"])).await;
    let all = [&orphan, &layer, &digest("missing")];
    assert_eq!(sweep_blobs(&opened, &all, GRACE).await, (vec![], 0));
    opened.advance(GRACE);
    let fresh = opened.push_blob(&["a"], "fresh").await;
    let all = [&orphan, &layer, &fresh];
    assert_eq!(sweep_blobs(&opened, &all, GRACE).await, (vec![orphan.clone()], 0));
    assert!(!opened.has_file(&orphan) && opened.has_file(&layer) && opened.has_file(&fresh));
    assert_eq!(opened.disk.trash().unwrap(), std::slice::from_ref(&orphan));
    assert!(opened.index.blob(&repository("b"), &orphan).unwrap().is_none());
    assert!(!opened.index.contains_blob(&orphan).unwrap());
}

#[tokio::test]
async fn widely_linked_blob_is_left_to_a_later_sweep() {
    let opened = TestIndex::new();
    let names: Vec<String> = (0..=MAX_REPOSITORIES).map(|number| format!("r{number}")).collect();
    let layer = opened.push_blob(&names.iter().map(String::as_str).collect::<Vec<_>>(), "layer").await;
    assert_eq!(sweep_blobs(&opened, &[&layer], Duration::ZERO).await, (vec![], 0));
    assert!(opened.has_file(&layer));
}

#[tokio::test]
async fn large_sweeps_of_blobs_are_postponed_in_part() {
    let opened = TestIndex::new();
    let names: Vec<String> = (0..MAX_REPOSITORIES).map(|number| format!("r{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = MAX_CHANGES.div_ceil(MAX_REPOSITORIES);
    let mut blobs = Vec::new();
    for number in 0..count + 2 {
        blobs.push(opened.push_blob(&names, &format!("b{number:03}")).await);
    }
    let blobs: Vec<&Digest> = blobs.iter().collect();
    let (removed, postponed) = sweep_blobs(&opened, &blobs, Duration::ZERO).await;
    assert_eq!((removed.len(), postponed), (count, 2));
}

#[tokio::test]
async fn only_links_that_are_still_stale_are_removed() {
    let opened = TestIndex::new();
    let layer = opened.push_blob(&["a", "b", "c"], "layer").await;
    opened.push(&image(&layer, None, &["1"])).await;
    opened.advance(GRACE);
    // A push in `c` has renewed the lease since.
    opened.push_blob(&["c"], "layer").await;
    let links = ["a", "b", "c", "d"].map(|name| (layer.clone(), repository(name)));
    opened.submit(move |batch| batch.unlink_stale_links(&links, GRACE)).await;
    let linked = ["a", "b", "c"].map(|name| opened.index.blob(&repository(name), &layer).unwrap().is_some());
    assert_eq!(linked, [true, false, true]);
}

#[tokio::test]
async fn tags_that_were_set_again_are_not_retired() {
    let opened = TestIndex::new();
    for (number, name) in ["stays", "moves", "goes"].into_iter().enumerate() {
        opened.push(&image_index(&[], number, &[name])).await;
    }
    let found = opened.index.tags_after(&repository("a"), None, 10).unwrap();
    // One tag moves to another manifest, one is set to the same, and one is deleted.
    opened.push(&image_index(&[], 7, &["moves"])).await;
    opened.push(&image_index(&[], 0, &["stays"])).await;
    let mut wanted = found.clone();
    wanted.push(DatedTag { tag: tag("missing"), ..found[0].clone() });
    let retired = opened.submit(move |batch| batch.retire_tags(&repository("a"), &wanted)).await;
    assert_eq!(retired.iter().map(|one| one.tag.as_str()).collect::<Vec<_>>(), ["goes"]);
    let left: Vec<Tag> = opened.index.tags(&repository("a"), None, 10).unwrap().items;
    assert_eq!(left, [tag("moves"), tag("stays")]);
}

#[tokio::test]
async fn manifests_are_swept_only_while_they_are_orphans() {
    let opened = TestIndex::new();
    let child = image(&digest("child"), None, &[]);
    let parent = image_index(std::slice::from_ref(&child.digest), 0, &[]);
    let tagged = image(&digest("tagged"), None, &["1"]);
    let pushed_again = image(&digest("again"), None, &[]);
    let signature = image(&digest("signature"), Some(&tagged.digest), &[]);
    let detached = image(&digest("detached"), Some(&digest("no subject")), &[]);
    let all = [&child, &parent, &tagged, &pushed_again, &signature, &detached];
    for manifest in all {
        opened.push(manifest).await;
    }
    let mut candidates: Vec<_> = all.iter().map(|one| candidate(&opened, one, None)).collect();
    candidates.push(candidate(&opened, &image(&digest("missing"), None, &[]), None));
    opened.advance(Duration::from_secs(2));
    opened.push(&pushed_again).await;
    let (removed, postponed) = sweep_manifests(&opened, candidates, false).await;
    // The child is checked before its parent is removed.
    let removed: BTreeSet<_> = removed.into_iter().map(|one| one.digest).collect();
    assert_eq!(removed, [parent.digest.clone(), detached.digest.clone()].into());
    assert_eq!(postponed, 0);
    let exists = |one: &TestManifest| {
        let by_digest = crate::oci::Reference::Digest(one.digest.clone());
        opened.index.manifest(&repository("a"), &by_digest).unwrap().is_some()
    };
    assert_eq!(all.map(exists), [true, false, true, true, true, false]);
    // Removing the parent orphaned the child.
    let (removed, _) = sweep_manifests(&opened, vec![candidate(&opened, &child, None)], false).await;
    assert_eq!(removed.len(), 1);
}

#[tokio::test]
async fn attached_tags_go_with_their_manifest() {
    let opened = TestIndex::new();
    let orphan = image(&digest("image"), None, &[]);
    opened.push(&orphan).await;
    let names: Vec<String> = AttachmentTarget::tags_of(&orphan.digest).map(|tag| tag.to_string()).collect();
    let signature = image_index(&[], 0, &[&names[1]]);
    opened.push(&signature).await;
    let candidates = vec![candidate(&opened, &orphan, None)];
    let (removed, _) = sweep_manifests(&opened, candidates, true).await;
    assert_eq!(removed[0].tags, [(tag(&names[1]), signature.digest.clone())]);
    assert!(opened.index.tags(&repository("a"), None, 10).unwrap().items.is_empty());
}

#[tokio::test]
async fn large_sweeps_of_manifests_are_postponed_in_part() {
    let opened = TestIndex::new();
    let children: Vec<Digest> = (0..=MAX_CHANGES).map(|number| digest(&number.to_string())).collect();
    let (large, small) = (image_index(&children, 0, &[]), image_index(&[], 1, &[]));
    opened.push(&large).await;
    opened.push(&small).await;
    let candidates = [&large, &small].map(|one| candidate(&opened, one, None)).to_vec();
    let (removed, postponed) = sweep_manifests(&opened, candidates, false).await;
    assert_eq!((removed.len(), postponed), (1, 1));
}

#[tokio::test]
async fn unknown_files_are_adopted_once() {
    let opened = TestIndex::new();
    let (unknown, known) = (digest("unknown"), opened.push_blob(&["a"], "known").await);
    opened.write_file(&unknown, b"unknown");
    let files = [(unknown.clone(), 7), (known, 5), (digest("missing"), 1)];
    let adopt = move |batch: &mut Batch| batch.adopt_blobs(&files);
    assert_eq!(opened.submit(adopt.clone()).await, 1);
    assert_eq!(opened.submit(adopt).await, 0);
    assert_eq!(opened.index.blob_size(&unknown).unwrap(), Some(7));
}

#[tokio::test]
async fn interrupted_trash_is_restored_or_released() {
    let opened = TestIndex::new();
    let (known, gone) = (opened.push_blob(&["a"], "known").await, digest("gone"));
    let again = opened.push_blob(&["a"], "again").await;
    opened.write_file(&gone, b"gone");
    for digest in [&known, &gone, &again] {
        opened.disk.move_to_trash(digest).unwrap();
    }
    // The second one was pushed again after it went to the trash.
    opened.write_file(&again, b"again");
    let trash = opened.disk.trash().unwrap();
    assert_eq!(trash.len(), 3);
    let removable = opened.submit(move |batch| batch.recover_trash(&trash)).await;
    let removable: BTreeSet<_> = removable.into_iter().collect();
    assert_eq!(removable, [gone, again].into());
    assert!(opened.has_file(&known));
}

#[tokio::test]
async fn uploads_are_recorded_until_they_are_gone() {
    let opened = TestIndex::new();
    let record = |files: &'static [(&str, u64)]| {
        let files: Vec<_> = files.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
        opened.submit(move |batch: &mut Batch| batch.record_uploads(&files))
    };
    record(&[("one", 1), ("two", 2)]).await;
    opened.advance(GRACE);
    // The time of an upload starts again when it gets longer.
    record(&[("one", 1), ("two", 3)]).await;
    let since = |name: &str| opened.index.upload_row(name).unwrap().unwrap().since;
    assert!(since("two") > since("one"));
    let gone = opened.index.vanished_uploads(&[("two".to_owned(), 3)]).unwrap();
    assert_eq!(gone, [b"one".to_vec()]);
    opened.submit(move |batch| batch.remove_upload_rows(&gone)).await;
    assert!(opened.index.upload_row("one").unwrap().is_none());
}
