//! Reads of the feed, on tables in memory.

use std::collections::BTreeMap;

use super::*;
use crate::oci::{Digest, Tag};
use crate::store::index::changes::deletes::DeleteTag;
use crate::store::index::event::{Cause, NoteKind};
use crate::store::index::tables::memory::Memory;
use crate::store::index::tables::{Table, WriteTables, meta};
use crate::store::index::test_index::{image_index, repository, tag};
use crate::store::index::test_tables::TestTables;

fn tables_with(names: usize) -> TestTables {
    let mut opened = TestTables::default();
    opened.tables.put_row(Table::Meta, meta::EPOCH, &7_u64).unwrap();
    for number in 0..names {
        opened.apply(RecordNotes(vec![note(&number.to_string())])).unwrap();
        opened.advance(std::time::Duration::from_secs(1));
    }
    opened
}

fn note(subject: &str) -> Note {
    Note { kind: NoteKind::Job, subject: subject.into(), text: "ended".into(), origin: Origin::system() }
}

fn id(number: u64) -> EventId {
    EventId { epoch: 7, number }
}

fn subjects(page: &EventPage) -> Vec<&str> {
    page.events.iter().map(|stored| stored.event.subject.as_deref().unwrap()).collect()
}

fn page_of(tables: &Memory, after: Option<EventId>, limit: usize) -> EventPage {
    match page(tables, after, &|_| true, limit).unwrap() {
        EventsRead::Page(page) => page,
        EventsRead::Gone { .. } => panic!("the position is gone"),
    }
}

#[test]
fn events_are_read_in_pages_from_a_position() {
    let opened = tables_with(5);
    let first = page_of(&opened.tables, None, 2);
    assert_eq!((subjects(&first), first.next, first.is_last), (vec!["0", "1"], id(2), false));
    let second = page_of(&opened.tables, Some(first.next), 10);
    assert_eq!((subjects(&second), second.next, second.is_last), (vec!["2", "3", "4"], id(5), true));
    let end = page_of(&opened.tables, Some(second.next), 10);
    assert_eq!((end.events.len(), end.next, end.is_last), (0, id(5), true));
    let odd = |event: &Event| event.subject.as_deref() == Some("3");
    let EventsRead::Page(filtered) = page(&opened.tables, Some(id(1)), &odd, 10).unwrap() else { panic!() };
    assert_eq!((subjects(&filtered), filtered.next), (vec!["3"], id(5)));
}

#[test]
fn unknown_and_trimmed_positions_are_gone() {
    let mut opened = tables_with(5);
    for number in [1, 2] {
        opened.tables.delete(Table::Events, &crate::store::index::tables::feed::event_key(number)).unwrap();
    }
    let gone = EventsRead::Gone { oldest: id(2), newest: id(5) };
    for after in [id(0), id(1), id(6), EventId { epoch: 8, number: 3 }] {
        assert_eq!(page(&opened.tables, Some(after), &|_| true, 10).unwrap(), gone, "{after}");
    }
    assert_eq!(subjects(&page_of(&opened.tables, Some(id(2)), 10)), ["2", "3", "4"]);
}

#[test]
fn durable_events_and_those_in_memory_are_merged_by_time() {
    let opened = tables_with(3);
    let at = |time, subject: &str| {
        let event = Event::new(EventKind::Pull, time, &Origin::system());
        Event { subject: Some(subject.into()), ..event }
    };
    // The durable events are of the seconds 1000000 to 1000002.
    let in_memory = [at(5, "early"), at(1_000_001, "middle"), at(2_000_000, "late")];
    let cancel = Cancel::default();
    let part = |skip, limit| {
        let open = || Ok(opened.tables.clone());
        let activity = activity(open, &in_memory, &|_| true, (skip, limit), &cancel).unwrap();
        assert_eq!(activity.total, 6);
        activity.events.into_iter().map(|event| event.subject.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(part(0, 10), ["late", "2", "middle", "1", "0", "early"]);
    assert_eq!(part(2, 3), ["middle", "1", "0"]);
    assert_eq!(part(6, 3), Vec::<String>::new());
}

/// The tags of a registry, as a reader of the feed knows them.
#[derive(Default)]
struct Replica(BTreeMap<(RepositoryName, Tag), Digest>);

impl Replica {
    fn apply(&mut self, event: &Event) {
        let Some(repository) = &event.repository else { return };
        match (event.kind, &event.tag, &event.digest) {
            (EventKind::Tag, Some(tag), Some(digest)) => {
                let before = self.0.insert((repository.clone(), tag.clone()), digest.clone());
                assert_eq!(before, event.before, "{event:?}");
            }
            (EventKind::Untag | EventKind::Expire | EventKind::Evict, Some(tag), Some(digest)) => {
                assert_eq!(self.0.remove(&(repository.clone(), tag.clone())).as_ref(), Some(digest));
            }
            (EventKind::Delete | EventKind::Expire, None, Some(digest)) => {
                let names = |((name, _), named): (&(RepositoryName, Tag), &Digest)| {
                    name == repository && named == digest
                };
                assert!(!self.0.iter().any(names), "a tag of {digest} is left: {event:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn a_deleted_tag_is_an_event_with_its_digest() {
    let mut opened = TestTables::default();
    let manifest = image_index(&[], 0, &["1"]);
    opened.push(&manifest);
    let delete =
        DeleteTag { repository: repository("a"), tag: tag("1"), immutable: std::sync::Arc::default() };
    opened.apply(delete).unwrap();
    let page = page_of(&opened.tables, None, 10);
    let event = &page.events[0].event;
    assert_eq!((event.kind, event.digest.as_ref()), (EventKind::Untag, Some(&manifest.digest)));
    assert_eq!((event.tag.as_ref(), event.cause.clone()), (Some(&tag("1")), Cause::System));
}

mod replay {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::store::capacity_limits::NameLimits;
    use crate::store::index::changes::deletes::{DeleteManifest, DeleteTags, ManifestDelete};
    use crate::store::index::changes::push::PutManifest;
    use crate::store::index::changes::sweep::RetireTags;
    use crate::store::index::tables::mark::Mark;
    use crate::store::upload_files::HashedFile;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, Vec<u8>),
        DeleteTag(u8),
        DeleteTags(Vec<(u8, usize)>),
        DeleteManifest(usize),
        Retire(Vec<usize>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..4, prop::collection::vec(0_u8..6, 0..4)).prop_map(|(image, tags)| Step::Push(image, tags)),
            2 => (0_u8..6).prop_map(Step::DeleteTag),
            1 => prop::collection::vec((0_u8..6, 0_usize..4), 0..4).prop_map(Step::DeleteTags),
            1 => (0_usize..4).prop_map(Step::DeleteManifest),
            1 => prop::collection::vec(0_usize..6, 0..3).prop_map(Step::Retire),
        ]
    }

    fn run(opened: &mut TestTables, step: &Step) {
        let image = |number| image_index(&[], number, &[]);
        let name = |tag: &u8| super::tag(&format!("t{tag}"));
        // Refusals, such as that of a missing tag, have no events.
        match step {
            Step::Push(number, tags) => {
                let mut new = Box::new(image(*number).new.clone());
                new.tags = tags.iter().map(name).collect();
                let file = HashedFile { name: "m".into(), inode: 1, length: new.size };
                let (limits, immutable) = (NameLimits::default(), Arc::default());
                let damaged = std::collections::BTreeSet::new();
                let _ = opened.apply(PutManifest { new, file, limits, immutable, damaged });
            }
            Step::DeleteTag(tag) => {
                let (repository, tag) = (repository("a"), name(tag));
                let _ = opened.apply(DeleteTag { repository, tag, immutable: Arc::default() });
            }
            Step::DeleteTags(tags) => {
                let tags =
                    tags.iter().map(|(tag, number)| (name(tag), image(*number).digest.clone())).collect();
                let _ =
                    opened.apply(DeleteTags { repository: repository("a"), tags, immutable: Arc::default() });
            }
            Step::DeleteManifest(number) => {
                let delete = ManifestDelete {
                    repository: repository("a"),
                    digest: image(*number).digest.clone(),
                    subject: None,
                    immutable: Arc::default(),
                };
                let _ = opened.apply(DeleteManifest(Arc::new(delete)));
            }
            Step::Retire(places) => {
                let all = opened.tables.tags_after(&repository("a"), None, 100).unwrap();
                let tags = places.iter().filter_map(|place| all.get(*place).cloned()).collect();
                let _ = opened.apply(RetireTags { repository: repository("a"), tags });
            }
        }
        opened.advance(std::time::Duration::from_secs(1));
    }

    proptest! {
        /// A reader that applies all events to nothing knows the tags exactly.
        #[test]
        fn the_feed_replayed_gives_the_tags(steps in prop::collection::vec(step(), 0..40)) {
            let mut opened = TestTables::default();
            for step in &steps {
                run(&mut opened, step);
            }
            let mut replica = Replica::default();
            for (number, stored) in (1..).zip(page_of(&opened.tables, None, usize::MAX).events) {
                prop_assert_eq!(stored.id.number, number, "numbers have no gap");
                replica.apply(&stored.event);
            }
            let tags = opened.tables.tags_after(&repository("a"), None, 100).unwrap();
            let expected: BTreeMap<_, _> =
                tags.into_iter().map(|tag| ((repository("a"), tag.tag), tag.digest)).collect();
            prop_assert_eq!(replica.0, expected);
            opened.assert_consistent();
        }
    }
}
