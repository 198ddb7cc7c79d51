//! Leases of blobs and manifests, with store time that the test sets.

use super::*;
use crate::store::index::changes::deletes::DeleteTag;
use crate::store::index::changes::leases::{RenewBlobLease, RenewManifestLease};
use crate::store::index::tables::lookups::Lookups;
use crate::store::index::test_index::{digest, image, image_index, repository, tag};
use crate::store::index::test_tables::TestTables;

const GRACE: Duration = Duration::from_hours(4);
/// Returns the change that deletes a tag of the repository `a`.
fn delete_tag(name: &str) -> DeleteTag {
    DeleteTag { repository: repository("a"), tag: tag(name), immutable: std::sync::Arc::default() }
}

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

#[test]
fn lease_of_a_blob_ends_unless_a_live_manifest_references_it() {
    let mut opened = TestTables::default();
    let layer = opened.push_blob(&["a"], "layer");
    let lease = |opened: &TestTables| {
        let row = opened.tables.blob(&repository("a"), &layer).unwrap().unwrap();
        opened.tables.blob_lease(&repository("a"), &layer, &row, (opened.now(), GRACE)).unwrap()
    };
    assert_eq!(lease(&opened), Lease::Valid);
    opened.advance(2 * HOUR);
    assert_eq!(lease(&opened), Lease::Renewable);
    opened.advance(HOUR);
    assert_eq!(lease(&opened), Lease::Expiring);
    let manifest = image(&layer, None, &["1"]);
    opened.push(&manifest);
    assert_eq!(lease(&opened), Lease::Valid, "a manifest references it");
    opened.apply(delete_tag("1")).unwrap();
    assert_eq!(lease(&opened), Lease::Expiring, "the manifest is an orphan");
    opened.apply(RenewBlobLease { repository: repository("a"), digest: layer.clone() }).unwrap();
    assert_eq!(lease(&opened), Lease::Valid, "the lease was renewed");
}

#[test]
fn lease_of_a_manifest_ends_after_a_delete_or_by_retention() {
    let mut opened = TestTables::default();
    let child = image(&digest("layer"), None, &[]);
    let parent = image_index(std::slice::from_ref(&child.digest), 0, &["1"]);
    opened.push(&child);
    opened.push(&parent);
    let lease = |opened: &TestTables, digest: &Digest, untagged: Option<Duration>| {
        opened.tables.manifest_lease(&repository("a"), digest, opened.now(), (GRACE, untagged)).unwrap()
    };
    opened.advance(3 * HOUR);
    assert_eq!(lease(&opened, &child.digest, None), Lease::Valid);
    assert_eq!(
        lease(&opened, &child.digest, Some(GRACE)),
        Lease::Expiring,
        "by a rule for untagged manifests"
    );
    assert_eq!(lease(&opened, &digest("missing"), None), Lease::Expiring);
    // The delete orphans the parent, and with it the child, which has no orphan row of its own.
    opened.apply(delete_tag("1")).unwrap();
    assert_eq!(lease(&opened, &parent.digest, None), Lease::Valid);
    assert_eq!(lease(&opened, &child.digest, None), Lease::Expiring);
    opened.advance(2 * HOUR);
    assert_eq!(lease(&opened, &parent.digest, None), Lease::Renewable);
    opened.apply(RenewManifestLease { repository: repository("a"), digest: parent.digest.clone() }).unwrap();
    assert_eq!(lease(&opened, &parent.digest, None), Lease::Valid, "the lease was renewed");
}
