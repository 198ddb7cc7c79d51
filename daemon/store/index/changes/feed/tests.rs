//! The feed in transactions: numbers, bounds, and a nearly full index.

use std::time::Duration;

use super::*;
use crate::store::index::changes::marks::SaveClock;
use crate::store::index::event::{NoteKind, Origin};
use crate::store::index::tables::ReadTables;
use crate::store::index::tables::feed::FeedExtent;
use crate::store::index::test_tables::TestTables;

fn notes(count: usize) -> RecordNotes {
    let note = |number: usize| Note {
        kind: NoteKind::Job,
        subject: number.to_string(),
        text: "x".repeat(1000),
        origin: Origin::system(),
    };
    RecordNotes((0..count).map(note).collect())
}

fn extent(opened: &TestTables) -> FeedExtent {
    opened.tables.feed_extent().unwrap()
}

#[test]
fn numbers_rise_without_gaps_and_continue_after_trimming() {
    let mut opened = TestTables::default();
    opened.bounds.keep = 100;
    for _ in 0..4 {
        opened.apply(notes(60)).unwrap();
    }
    let FeedExtent { oldest, next, .. } = extent(&opened);
    assert_eq!((oldest, next), (141, 241));
    assert_eq!(opened.tables.len(Table::Events).unwrap(), 100);
}

#[test]
fn a_lower_limit_is_reached_in_bounded_steps() {
    let mut opened = TestTables::default();
    opened.apply(notes(2000)).unwrap();
    opened.bounds.keep = 100;
    opened.apply(notes(1)).unwrap();
    assert_eq!(opened.tables.len(Table::Events).unwrap(), 2000 - TRIM);
    // A collection trims without an event of its own.
    for _ in 0..10 {
        opened.apply(SaveClock).unwrap();
    }
    assert_eq!(opened.tables.len(Table::Events).unwrap(), 100);
    assert_eq!(extent(&opened).next, 2002);
}

#[test]
fn events_above_the_age_are_trimmed() {
    let mut opened = TestTables::default();
    opened.bounds.age = Duration::from_hours(1);
    opened.apply(notes(3)).unwrap();
    opened.advance(Duration::from_mins(59));
    opened.apply(notes(1)).unwrap();
    assert_eq!(extent(&opened).oldest, 1);
    opened.advance(Duration::from_mins(1));
    opened.apply(SaveClock).unwrap();
    assert_eq!(extent(&opened), FeedExtent { epoch: 0, oldest: 4, next: 5 });
    opened.advance(Duration::from_hours(1));
    opened.apply(SaveClock).unwrap();
    assert_eq!(extent(&opened), FeedExtent { epoch: 0, oldest: 5, next: 5 });
}

#[test]
fn a_nearly_full_index_trims_more_than_it_writes() {
    let mut opened = TestTables::default();
    opened.apply(notes(1000)).unwrap();
    opened.tables.limit = Some(0);
    opened.apply(notes(10)).unwrap();
    assert_eq!(opened.tables.len(Table::Events).unwrap(), 1000 - TRIM - 10);
    assert_eq!(extent(&opened).epoch, 0);
}

#[test]
fn events_without_room_begin_a_new_epoch() {
    let mut opened = TestTables::default();
    opened.tables.limit = Some(0);
    opened.apply(notes(1000)).unwrap();
    let FeedExtent { epoch, oldest, next } = extent(&opened);
    assert!(epoch == 1 && oldest == 1 && (100..300).contains(&next), "{next}");
    opened.apply(notes(1)).unwrap();
    assert_eq!((extent(&opened).epoch, extent(&opened).next), (1, next + 1));
}

#[test]
fn a_refused_change_has_no_event() {
    use crate::store::index::changes::deletes::DeleteTag;
    use crate::store::index::test_index::{repository, tag};
    let mut opened = TestTables::default();
    let delete =
        DeleteTag { repository: repository("a"), tag: tag("1"), immutable: std::sync::Arc::default() };
    assert!(opened.apply(delete).is_err());
    assert_eq!(extent(&opened).next, 1);
}
