//! Tests of the pending rows: they read as one table with the rows below them.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::store::index::tables::memory::Memory;
use crate::store::index::tables::{ReadTables, WriteTables};

const TABLE: Table = Table::Tags;

/// A change of a row: its key, and its value if it is set.
type Change = (u8, Option<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec((0..40u8, proptest::option::of(any::<u8>())), 0..60)
}

/// Two bytes, so that prefixes have several rows.
fn key(number: u8) -> [u8; 2] {
    [number / 8, number % 8]
}

fn apply(model: &mut BTreeMap<Vec<u8>, u8>, (number, value): Change) {
    match value {
        Some(value) => drop(model.insert(key(number).to_vec(), value)),
        None => drop(model.remove(key(number).as_slice())),
    }
}

/// Returns a base table, pending rows above it, and what both say together.
fn build(below: &[Change], above: &[Change]) -> (Memory, Pending, BTreeMap<Vec<u8>, u8>) {
    let (mut base, mut model) = (Memory::default(), BTreeMap::new());
    for change in below {
        apply(&mut model, *change);
        match change.1 {
            Some(value) => base.put(TABLE, &key(change.0), &[value]).unwrap(),
            None => drop(base.delete(TABLE, &key(change.0)).unwrap()),
        }
    }
    let mut pending = Pending::empty(0, 0);
    for change in above {
        pending.sequence += 1;
        let existed = model.contains_key(key(change.0).as_slice());
        apply(&mut model, *change);
        pending.set(TABLE, &key(change.0), change.1.as_ref().map(std::slice::from_ref), existed);
    }
    (base, pending, model)
}

fn owned<'a>(rows: impl Iterator<Item = Result<Row<'a>, IndexError>>) -> Vec<(Vec<u8>, u8)> {
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value[0])).unwrap()).collect()
}

proptest! {
    #[test]
    fn pending_rows_and_those_below_read_as_one_table(
        below in changes(), above in changes(), start in 0..50u8, end in 0..50u8, kinds in (0..3u8, 0..3u8)
    ) {
        let (base, pending, model) = build(&below, &above);
        let (start, end) = (key(start), key(end));
        let bound = |kind, key| match kind {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        let bounds: Bounds<'_> = (bound(kinds.0, &start[..]), bound(kinds.1, &end[..]));
        // The back ends read inverted ranges as empty; a map panics.
        let is_empty = OwnedBounds::of(&bounds).is_inverted();
        let range = |rows: &Memory| if is_empty { Vec::new() } else { owned(rows.range(TABLE, &bounds).unwrap()) };
        let below_rows = range(&base);
        let borrowed = below_rows.iter().map(|(key, value)| Ok((key.as_slice(), std::slice::from_ref(value))));
        let found = owned(pending.merge_range(TABLE, &bounds, borrowed));
        let wanted: Vec<_> = if is_empty {
            Vec::new()
        } else {
            model.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), *value)).collect()
        };
        prop_assert_eq!(found, wanted);
        let prefix = &start[..1];
        let found = owned(pending.merge_prefix(TABLE, prefix, base.prefix(TABLE, prefix).unwrap()));
        let wanted: Vec<_> =
            model.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.clone(), *value)).collect();
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(pending.len(TABLE, base.len(TABLE).unwrap()), model.len() as u64);
    }

    #[test]
    fn a_checkpoint_in_steps_changes_nothing_that_is_read(
        below in changes(), above in changes(), later in changes(), step in 1..20usize
    ) {
        let (mut base, mut pending, mut model) = build(&below, &above);
        let (rows, mut position) = (pending.clone(), None);
        let mut later = later.into_iter();
        loop {
            let (mut count, mut last) = (0, None);
            for (table, key, version) in rows.after(position.as_ref()).take(step) {
                let existed = base.get(table, key).unwrap().is_some();
                match &version.value {
                    Some(value) => base.put(table, key, value).unwrap(),
                    None => drop(base.delete(table, key).unwrap()),
                }
                pending.merged(table, version, existed);
                (count, last) = (count + 1, Some((table, Box::from(key))));
            }
            if count < step {
                break;
            }
            position = last;
            // The writer commits other changes between two steps.
            if let Some(change) = later.next() {
                pending.sequence += 1;
                let existed = model.contains_key(key(change.0).as_slice());
                apply(&mut model, change);
                pending.set(TABLE, &key(change.0), change.1.as_ref().map(std::slice::from_ref), existed);
            }
            let all = owned(pending.merge_prefix(TABLE, b"", base.rows(TABLE).unwrap()));
            prop_assert_eq!(all.len() as u64, pending.len(TABLE, base.len(TABLE).unwrap()));
        }
        for (table, key, _) in rows.after(None) {
            pending.forget_until(table, key, rows.sequence);
        }
        let all = owned(pending.merge_prefix(TABLE, b"", base.rows(TABLE).unwrap()));
        prop_assert_eq!(all.len() as u64, pending.len(TABLE, base.len(TABLE).unwrap()));
        let wanted: Vec<_> = model.into_iter().collect();
        prop_assert_eq!(all, wanted);
        let bytes: u64 = pending.after(None).map(|(_, key, version)| size_of_row(key, version)).sum();
        prop_assert_eq!(pending.bytes(), bytes);
        prop_assert!(pending.of_last().all(|(_, _, version)| version.sequence == pending.sequence));
    }
}
