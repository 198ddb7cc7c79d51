//! The totals of each day, for the plots of the admin page: a row for each day by the wall clock, in UTC.
//!
//! A day before this release is implausible: the machine has no clock yet. Such a day gets no row.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::port::{ReadTables, Table};
use crate::base::clock::RELEASED;
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

/// The seconds of a day.
const SECONDS: u64 = 86400;

/// A day, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

/// Amounts that are counted over a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayCounts {
    /// Pushes of manifests.
    pub pushes: u64,
    /// Pulls of manifests.
    pub pulls: u64,
    /// The bytes of manifests and blobs that were sent to clients.
    pub served: u64,
}

/// The row of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct DailyRow {
    /// The total length of all blobs when the row was last written.
    pub(in crate::store) stored: u64,
    pub(in crate::store) pushes: u64,
    pub(in crate::store) pulls: u64,
    pub(in crate::store) served: u64,
}

impl Day {
    /// Returns the day of a time in seconds since 1970; `None` for an implausible one.
    pub fn of(seconds: u64) -> Option<Self> {
        let day = u32::try_from(seconds / SECONDS).ok()?;
        (seconds >= RELEASED).then_some(Day(day))
    }

    /// Returns the first second of the day, since 1970.
    pub fn start(self) -> u64 {
        u64::from(self.0) * SECONDS
    }

    /// Returns the day that is this number of days earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Day(self.0.saturating_sub(days))
    }

    /// Returns the number of days from an earlier day to this one; zero if `other` is not earlier.
    #[cfg(test)]
    pub(in crate::store) fn since(self, other: Day) -> u32 {
        self.0.saturating_sub(other.0)
    }

    /// Returns the key of the day's row.
    pub(in crate::store) fn key(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        Some(Day(u32::from_be_bytes(key.try_into().ok()?)))
    }
}

impl DayCounts {
    /// Returns true if nothing was counted.
    pub(in crate::store) fn is_zero(&self) -> bool {
        *self == DayCounts::default()
    }

    /// Adds other counts.
    pub(in crate::store) fn add(&mut self, other: DayCounts) {
        self.pushes = self.pushes.saturating_add(other.pushes);
        self.pulls = self.pulls.saturating_add(other.pulls);
        self.served = self.served.saturating_add(other.served);
    }
}

/// Reads of the days.
pub(in crate::store) trait Daily: ReadTables {
    /// Returns the rows of the days from `first` on, oldest first.
    fn days_from(&self, first: Day) -> Result<Vec<(Day, DailyRow)>, StoreError> {
        let mut days = Vec::new();
        for row in self.range(Table::Daily, &(Bound::Included(&first.key()[..]), Bound::Unbounded))? {
            let (key, value) = row?;
            days.push((self.day_of(key)?, self.decode(value)?));
        }
        Ok(days)
    }

    /// Returns the last day before another that has a row.
    fn day_before(&self, day: Day) -> Result<Option<(Day, DailyRow)>, StoreError> {
        let mut last = None;
        for row in self.range(Table::Daily, &(Bound::Unbounded, Bound::Excluded(&day.key()[..])))? {
            last = Some(row?);
        }
        let Some((key, value)) = last else { return Ok(None) };
        Ok(Some((self.day_of(key)?, self.decode(value)?)))
    }

    /// Returns the oldest and the newest day that have rows.
    fn daily_extent(&self) -> Result<Option<(Day, Day)>, StoreError> {
        let (mut oldest, mut newest) = (None, None);
        for row in self.rows(Table::Daily)? {
            let day = self.day_of(row?.0)?;
            oldest = oldest.or(Some(day));
            newest = Some(day);
        }
        Ok(oldest.zip(newest))
    }

    /// Reads the day of a key.
    fn day_of(&self, key: &[u8]) -> Result<Day, IndexError> {
        self.noted(Day::of_key(key).ok_or_else(|| IndexError::Row("a day has a wrong key".into())))
    }
}

impl<T: ReadTables> Daily for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_release_has_no_day() {
        assert_eq!((Day::of(0), Day::of(RELEASED - 1)), (None, None));
        let day = Day::of(RELEASED + 86399).unwrap();
        assert_eq!((day.start(), Day::of(RELEASED)), (RELEASED, Some(day)));
        assert_eq!((Day::of_key(&day.key()), Day::of_key(b"xyz")), (Some(day), None));
        assert_eq!((day.since(day.before(3)), day.before(3).since(day)), (3, 0));
    }
}
