//! The totals of each day, written beside the changes of a transaction.
//!
//! The number of rows is bounded. While the index or the disk is nearly full nothing is written: the counts stay in
//! memory, and never take the room that deletes need.

use crate::store::error::StoreError;
use crate::store::index::tables::daily::{Daily, DailyRow, Day, DayCounts};
use crate::store::index::tables::meta::Meta;
use crate::store::index::tables::{Table, WriteTables};

/// The most days that are kept.
pub(in crate::store) const DAYS: u64 = 400;
/// The outcome of [`record`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct RecordedDays {
    /// The total length of all blobs after the transaction.
    pub(in crate::store) stored: u64,
    /// True if the counts were written.
    pub(in crate::store) is_written: bool,
}

/// Adds counts to the rows of their days, which are given oldest first.
pub(in crate::store) fn record(
    tables: &mut impl WriteTables,
    days: &[(Day, DayCounts)],
) -> Result<RecordedDays, StoreError> {
    let stored = tables.bytes()?;
    if days.is_empty() || !tables.has_table(Table::Daily) || tables.is_nearly_full()? {
        return Ok(RecordedDays { stored, is_written: false });
    }
    let newest = tables.daily_extent()?.map(|(_, newest)| newest);
    for (day, counts) in days {
        let known: Option<DailyRow> = tables.row(Table::Daily, &day.key())?;
        // A day before the newest row is one of a clock that is behind, or that was ahead before: its counts are its own, but what
        // it knew of the stored bytes stays.
        let is_late = newest.is_some_and(|newest| newest > *day);
        let stored = known.filter(|_| is_late).map_or(stored, |row| row.stored);
        let row = known.unwrap_or_default();
        let mut sum = DayCounts { pushes: row.pushes, pulls: row.pulls, served: row.served };
        sum.add(*counts);
        let DayCounts { pushes, pulls, served } = sum;
        tables.put_row(Table::Daily, &day.key(), &DailyRow { stored, pushes, pulls, served })?;
    }
    while tables.len(Table::Daily)? > DAYS {
        let Some((oldest, _)) = tables.daily_extent()? else { break };
        tables.delete(Table::Daily, &oldest.key())?;
    }
    Ok(RecordedDays { stored, is_written: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::RELEASED;
    use crate::store::index::tables::memory::Memory;

    const ONE: DayCounts = DayCounts { pushes: 1, pulls: 2, served: 3 };

    fn day(number: u64) -> Day {
        Day::of(RELEASED + number * 86400).unwrap()
    }

    fn pulls(tables: &Memory) -> Vec<(u32, u64)> {
        let rows = tables.days_from(day(0)).unwrap();
        rows.into_iter().map(|(one, row)| (one.since(day(0)), row.pulls)).collect()
    }

    #[test]
    fn counts_of_a_day_are_added_to_its_row() {
        let mut tables = Memory::default();
        assert_eq!(record(&mut tables, &[]).unwrap(), RecordedDays::default());
        for _ in 0..2 {
            assert!(record(&mut tables, &[(day(0), ONE), (day(1), ONE)]).unwrap().is_written);
        }
        assert_eq!(pulls(&tables), [(0, 4), (1, 4)]);
    }

    #[test]
    fn days_are_bounded() {
        let mut tables = Memory::default();
        for number in 0..DAYS + 20 {
            record(&mut tables, &[(day(number), ONE)]).unwrap();
        }
        let kept = pulls(&tables);
        assert_eq!((kept.len() as u64, kept[0].0), (DAYS, 20));
    }

    #[test]
    fn days_of_a_clock_that_was_ahead_take_no_counts_of_today() {
        let mut tables = Memory::default();
        record(&mut tables, &[(day(5), ONE)]).unwrap();
        record(&mut tables, &[(day(30), ONE)]).unwrap();
        for _ in 0..2 {
            record(&mut tables, &[(day(6), ONE)]).unwrap();
        }
        assert_eq!(pulls(&tables), [(5, 2), (6, 4), (30, 2)]);
    }
}
