//! The identity of an index, and the records of jobs.

use uuid::Uuid;

use super::*;
use crate::store::index::changes::identity::Identify;
use crate::store::index::changes::jobs::NoteJob;
use crate::store::index::tables::jobs::{JobMoment, JobOutcome, JobRow, JobRows};

#[test]
fn an_index_keeps_its_first_identity() {
    let mut test = TestTables::default();
    assert_eq!(test.tables.registry_id().unwrap(), None);
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    test.apply(Identify { id: first, epoch: 7 }).unwrap();
    assert!(test.files.names_changed, "index.json has the id");
    test.apply(Identify { id: second, epoch: 8 }).unwrap();
    assert!(!test.files.names_changed);
    assert_eq!(test.tables.registry_id().unwrap(), Some(first));
    assert_eq!(test.tables.row::<u64>(Table::Meta, meta::EPOCH).unwrap(), Some(7));
}

#[test]
fn the_record_of_a_job_is_replaced_by_the_next() {
    let mut test = TestTables::default();
    let note = |name: &str, failures: u32| {
        let moment = JobMoment { wall: 1_800_000_000, machine: 5 };
        let row = JobRow {
            last_start: Some(moment),
            outcome: Some(JobOutcome::Failed),
            text: "the disk is full".into(),
            failures,
            ..JobRow::default()
        };
        NoteJob { name: name.into(), row }
    };
    for (name, failures) in [("gc", 1), ("check", 5), ("gc", 2)] {
        test.apply(note(name, failures)).unwrap();
    }
    let expected =
        [("check", 5), ("gc", 2)].map(|(name, failures)| (name.to_owned(), note(name, failures).row));
    assert_eq!(test.tables.job_rows().unwrap(), expected);
    assert!(!test.files.names_changed);
}
