//! Noting pulls in memory.

use super::*;
use crate::oci::{Algorithm, Hasher};
use crate::store::clock::StoreTime;

fn digest(number: usize) -> Digest {
    Hasher::digest(Algorithm::Sha512, &number.to_le_bytes())
}

fn day(number: u64) -> StoreDay {
    StoreDay::of(StoreTime::from_seconds(number * 86_400))
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[test]
fn a_key_is_that_of_the_tables() {
    let longest = name(&"a".repeat(255));
    for (repository, digest) in
        [(&longest, digest(1)), (&name("b/c"), Hasher::digest(Algorithm::Sha256, b"x"))]
    {
        let mut buffer = [0; LONGEST_KEY];
        assert_eq!(
            key_in(&mut buffer, repository, &digest),
            Some(&keys::content_key(repository, &digest)[..])
        );
    }
}

#[test]
fn a_pull_is_recorded_once_for_each_day() {
    let pulls = Pulls::default();
    assert_eq!(pulls.pending(), None);
    for _ in 0..3 {
        pulls.note(&name("a"), &digest(1), day(7));
    }
    let first = pulls.pending().unwrap();
    assert_eq!(first.pulls, [(keys::content_key(&name("a"), &digest(1)).into(), day(7))]);
    assert!(!first.has_gap);
    pulls.recorded(&first);
    pulls.recorded(&first);
    pulls.note(&name("a"), &digest(1), day(7));
    pulls.note(&name("a"), &digest(1), day(6));
    assert_eq!(pulls.pending(), None);
    assert_eq!(pulls.last(&name("a"), &digest(1)), Some(day(7)));
    assert_eq!(pulls.last(&name("b"), &digest(1)), None);
    pulls.note(&name("a"), &digest(1), day(8));
    assert_eq!(pulls.pending().unwrap().pulls[0].1, day(8));
}

#[test]
fn a_pull_of_the_next_day_is_not_taken_for_recorded() {
    let pulls = Pulls::default();
    pulls.note(&name("a"), &digest(1), day(7));
    let first = pulls.pending().unwrap();
    pulls.note(&name("a"), &digest(1), day(8));
    pulls.recorded(&first);
    assert_eq!(pulls.pending().unwrap().pulls[0].1, day(8));
}

#[test]
fn memory_is_bounded_and_a_dropped_pull_leaves_a_gap() {
    let pulls = Pulls::default();
    for number in 0..MAX_MANIFESTS {
        pulls.note(&name("a"), &digest(number), day(7));
    }
    assert!(!pulls.has_gap());
    pulls.note(&name("a"), &digest(MAX_MANIFESTS), day(7));
    assert!(pulls.has_gap() && pulls.last(&name("a"), &digest(MAX_MANIFESTS)).is_none());
    let (mut transactions, mut recorded) = (0, 0);
    while let Some(uses) = pulls.pending() {
        assert!(uses.pulls.len() <= MAX_PER_TRANSACTION);
        assert_eq!(uses.has_gap, transactions == 0);
        recorded += uses.pulls.len();
        transactions += 1;
        pulls.recorded(&uses);
    }
    assert_eq!(recorded, MAX_MANIFESTS);
    // Recorded pulls make room for others.
    pulls.note(&name("b"), &digest(1), day(7));
    assert!(!pulls.has_gap() && pulls.pending().unwrap().pulls.len() == 1);
    assert_eq!(pulls.noted.lock().last.len(), 1);
}
