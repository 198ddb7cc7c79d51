//! Leases of blobs and manifests, with store time that the test sets.

use super::*;
use crate::store::index::batch::Batch;
use crate::store::index::test_index::{TestIndex, digest, image, image_index, repository, tag};

const GRACE: Duration = Duration::from_hours(4);
const HOUR: Duration = Duration::from_hours(1);

#[test]
fn lease_ends_in_steps_of_a_quarter() {
    let lease = |age: u64| Lease::of(Duration::from_mins(age), GRACE);
    assert_eq!(lease(0), Lease::Valid);
    assert_eq!(lease(119), Lease::Valid);
    assert_eq!(lease(120), Lease::Renewable);
    assert_eq!(lease(180), Lease::Expiring);
    assert_eq!(Lease::of(GRACE, Duration::ZERO), Lease::Valid, "no grace period, no lease");
}

#[tokio::test]
async fn lease_of_a_blob_ends_unless_a_live_manifest_references_it() {
    let opened = TestIndex::new();
    let layer = opened.push_blob(&["a"], "layer").await;
    let lease = || {
        let row = opened.index.blob(&repository("a"), &layer).unwrap().unwrap();
        opened.index.blob_lease(&repository("a"), &layer, &row, GRACE).unwrap()
    };
    assert_eq!(lease(), Lease::Valid);
    opened.advance(2 * HOUR);
    assert_eq!(lease(), Lease::Renewable);
    opened.advance(HOUR);
    assert_eq!(lease(), Lease::Expiring);
    let manifest = image(&layer, None, &["1"]);
    opened.push(&manifest).await;
    assert_eq!(lease(), Lease::Valid, "a manifest references it");
    opened.submit(|batch: &mut Batch| batch.delete_tag(&repository("a"), &tag("1"))).await;
    assert_eq!(lease(), Lease::Expiring, "the manifest is an orphan");
    let wanted = layer.clone();
    opened.submit(move |batch| batch.renew_lease(Some(&repository("a")), &wanted, batch.store_time)).await;
    assert_eq!(lease(), Lease::Valid, "the lease was renewed");
}

#[tokio::test]
async fn lease_of_a_manifest_ends_after_a_delete_or_by_retention() {
    let opened = TestIndex::new();
    let child = image(&digest("layer"), None, &[]);
    let parent = image_index(std::slice::from_ref(&child.digest), 0, &["1"]);
    opened.push(&child).await;
    opened.push(&parent).await;
    let lease = |digest: &Digest, untagged: Option<Duration>| {
        opened.index.manifest_lease(&repository("a"), digest, GRACE, untagged).unwrap()
    };
    opened.advance(3 * HOUR);
    assert_eq!(lease(&child.digest, None), Lease::Valid);
    assert_eq!(lease(&child.digest, Some(GRACE)), Lease::Expiring, "by a rule for untagged manifests");
    assert_eq!(lease(&digest("missing"), None), Lease::Expiring);
    // The delete orphans the parent, and with it the child, which has no orphan row of its own.
    opened.submit(|batch: &mut Batch| batch.delete_tag(&repository("a"), &tag("1"))).await;
    assert_eq!(lease(&parent.digest, None), Lease::Valid);
    assert_eq!(lease(&child.digest, None), Lease::Expiring);
    opened.advance(2 * HOUR);
    assert_eq!(lease(&parent.digest, None), Lease::Renewable);
    let wanted = parent.digest.clone();
    opened.submit(move |batch| batch.renew_manifest_lease(&repository("a"), &wanted)).await;
    assert_eq!(lease(&parent.digest, None), Lease::Valid, "the lease was renewed");
}

#[tokio::test]
async fn tag_is_found_within_the_limit() {
    let opened = TestIndex::new();
    let first = image_index(&[], 0, &["1"]);
    let second = image_index(&[], 1, &["2"]);
    opened.push(&first).await;
    opened.push(&second).await;
    let is_tagged = |digest: &Digest, limit| opened.index.is_tagged(&repository("a"), digest, limit).unwrap();
    assert!(is_tagged(&first.digest, 1) && is_tagged(&second.digest, 2));
    assert!(!is_tagged(&second.digest, 1) && !is_tagged(&digest("x"), 2));
}
