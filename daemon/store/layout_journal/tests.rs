//! The form of the journal.

use proptest::prelude::*;

use super::*;
use crate::oci::{Algorithm, Hasher};
use crate::store::clock::StoreTime;

#[test]
fn head_round_trips() {
    let head =
        Head { change: 7, now: StoreTime::from_seconds(9), hold: true, id: Some(uuid::Uuid::from_u128(3)) };
    let batch = Batch::default().end(5, head).unwrap();
    let journal = Journal::parse(&batch);
    assert_eq!((journal.base, journal.head, journal.condition), (5, head, Condition::Whole));
    assert!(journal.is_newer_than(&Head { change: 6, ..head }) && !journal.is_newer_than(&head));
    let other = Head { change: 5, id: Some(uuid::Uuid::from_u128(4)), ..head };
    assert!(!journal.is_newer_than(&other), "the journal of another registry");
}

#[test]
fn the_last_record_of_a_name_counts() {
    let (repository, digest) = ("team/app".parse().unwrap(), Hasher::digest(Algorithm::Sha256, b"x"));
    let mut batch = Batch::default();
    batch.link(&repository, &digest, Some(LinkExceptionRow::Linked)).unwrap();
    batch.remove(&repository, &"1".parse().unwrap()).unwrap();
    batch.link(&repository, &digest, None).unwrap();
    let journal = Journal::parse(&batch.end(1, Head { change: 2, ..Head::default() }).unwrap());
    assert!(journal.links[&(repository.clone(), digest)].is_none());
    assert!(journal.names[&(repository, "1".parse().unwrap())].is_none());
}

#[test]
fn an_empty_journal_has_nothing() {
    for bytes in [&b""[..], b"\n", b"garbage", b"{\"annotations\":{}}\n", &[0; 5000]] {
        let journal = Journal::parse(bytes);
        assert!(journal.is_empty());
        assert!(!journal.is_newer_than(&Head::default()));
        assert_eq!(journal.condition == Condition::Whole, bytes.is_empty());
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), end in any::<bool>()) {
        let mut bytes = bytes;
        if end {
            bytes.extend_from_slice(b"\n{\"annotations\":{\"io.holdfast.change\":\"1\"},\"checksum\":\"00000000\"}\n");
        }
        let _ = Journal::parse(&bytes);
    }
}
