//! Decisions of a collection, as pure functions with the time as a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::oci::Digest;
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::index::tables::candidates::{CandidateWithSubject, OrphanCandidate};
use crate::store::index::tables::rows::UploadRow;

/// Returns true if a collection may run. After names were lost (`held`), unnamed content may belong to a lost name, so
/// that only the operator starts a collection.
pub(super) fn may_collect(held: bool, by_operator: bool) -> bool {
    !held || by_operator
}

/// Returns true if a manifest is old enough to be freed, provided that no tag and no manifest references it: an orphan
/// after the grace period, and any untagged manifest after the period `untagged` of the retention rule, if there is
/// one.
pub(super) fn is_manifest_due(
    candidate: &OrphanCandidate,
    now: StoreTime,
    grace: Duration,
    untagged: Option<Duration>,
) -> bool {
    let age = candidate.since.age(now);
    (candidate.by_delete && age >= grace) || untagged.is_some_and(|untagged| age >= untagged)
}

/// Returns the time after which a manifest that is not due becomes due; `None` if no time makes it due.
pub(super) fn remaining_time(
    candidate: &OrphanCandidate,
    now: StoreTime,
    grace: Duration,
    untagged: Option<Duration>,
) -> Option<Duration> {
    let by_delete = candidate.by_delete.then_some(grace);
    let age = candidate.since.age(now);
    by_delete.into_iter().chain(untagged).min().map(|period| period.saturating_sub(age))
}

/// Returns true if an upload has expired: for the time `expire` its file has had the length that an earlier collection
/// noted (`row`). An upload without a note is new.
pub(super) fn is_upload_due(row: Option<&UploadRow>, length: u64, now: StoreTime, expire: Duration) -> bool {
    row.is_some_and(|row| row.length == length && row.since.age(now) >= expire)
}

/// Drops the manifests whose subject is live: a referrer stays as long as its subject. Returns the others, each with
/// its subject.
pub(super) fn without_live_subject(
    candidates: Vec<OrphanCandidate>,
    mut subjects: BTreeMap<Digest, Digest>,
    is_live: impl Fn(&Digest) -> Result<bool, StoreError>,
) -> Result<Vec<CandidateWithSubject>, StoreError> {
    let mut due = Vec::new();
    for candidate in candidates {
        let subject = subjects.remove(&candidate.digest);
        let has_live_subject = subject.as_ref().map_or(Ok(false), &is_live)?;
        if !has_live_subject {
            due.push((candidate, subject));
        }
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    const HOUR: Duration = Duration::from_hours(1);

    fn at(second: u64) -> StoreTime {
        StoreTime::from_seconds(second)
    }

    fn candidate(name: &str, since: u64, deleted: bool) -> OrphanCandidate {
        OrphanCandidate { digest: digest(name), size: 1, since: at(since), by_delete: deleted }
    }

    fn digest(name: &str) -> Digest {
        Hasher::digest(Algorithm::Sha256, name.as_bytes())
    }

    #[test]
    fn only_the_operator_collects_after_names_were_lost() {
        assert!(may_collect(false, false) && may_collect(false, true) && may_collect(true, true));
        assert!(!may_collect(true, false));
    }

    #[test]
    fn an_orphan_is_due_after_the_grace_period() {
        let orphan = candidate("a", 100, true);
        assert!(!is_manifest_due(&orphan, at(3699), HOUR, None));
        assert!(is_manifest_due(&orphan, at(3700), HOUR, None));
        assert!(is_manifest_due(&orphan, at(100), Duration::ZERO, None));
    }

    #[test]
    fn an_untagged_manifest_is_due_only_by_a_rule() {
        let untagged = candidate("a", 100, false);
        assert!(!is_manifest_due(&untagged, at(1_000_000), Duration::ZERO, None));
        assert!(!is_manifest_due(&untagged, at(3699), Duration::ZERO, Some(HOUR)));
        assert!(is_manifest_due(&untagged, at(3700), Duration::MAX, Some(HOUR)));
    }

    #[test]
    fn an_upload_expires_when_its_length_has_not_changed() {
        let row = UploadRow { length: 7, since: at(100) };
        assert!(!is_upload_due(None, 7, at(1_000_000), HOUR));
        assert!(!is_upload_due(Some(&row), 8, at(1_000_000), HOUR));
        assert!(!is_upload_due(Some(&row), 7, at(3699), HOUR));
        assert!(is_upload_due(Some(&row), 7, at(3700), HOUR));
    }

    #[test]
    fn a_referrer_of_a_live_subject_stays() {
        let candidates =
            vec![candidate("of live", 0, true), candidate("of dead", 0, true), candidate("alone", 0, true)];
        let subjects =
            BTreeMap::from([(digest("of live"), digest("live")), (digest("of dead"), digest("dead"))]);
        let is_live = |subject: &Digest| Ok(*subject == digest("live"));
        let due = without_live_subject(candidates.clone(), subjects.clone(), is_live).unwrap();
        assert_eq!(
            due,
            [(candidate("of dead", 0, true), Some(digest("dead"))), (candidate("alone", 0, true), None)]
        );
        let failing = without_live_subject(candidates, subjects, |_| Err(StoreError::Closing));
        assert!(matches!(failing, Err(StoreError::Closing)));
    }

    proptest! {
        /// Once due, a manifest stays due: a collection that runs later takes no less.
        #[test]
        fn time_only_makes_manifests_due(
            since in 0_u64..1000, now in 0_u64..2000, later in 0_u64..1000, grace in 0_u64..1000,
            untagged: Option<u16>, deleted: bool,
        ) {
            let one = candidate("a", since, deleted);
            let (grace, untagged) =
                (Duration::from_secs(grace), untagged.map(|seconds| Duration::from_secs(seconds.into())));
            if is_manifest_due(&one, at(now), grace, untagged) {
                prop_assert!(deleted || untagged.is_some());
                prop_assert!(is_manifest_due(&one, at(now + later), grace, untagged));
            }
        }
    }
}
