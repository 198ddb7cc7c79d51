//! The last pull of each manifest, to the day.
//!
//! Days are days of store time, so that a wall clock that jumps makes nothing look unused. A pull counts until the end
//! of its day: no manifest ever looks less recently pulled than it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys;
use super::meta;
use super::port::{ReadTables, Table};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

/// The length of a day of store time, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// A day of store time, counted from the creation of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::store) struct StoreDay(u64);

impl StoreDay {
    /// Returns the day of a moment.
    pub(in crate::store) fn of(time: StoreTime) -> Self {
        StoreDay(time.seconds() / DAY)
    }

    /// Returns the first moment after the day.
    pub(in crate::store) fn end(self) -> StoreTime {
        StoreTime::from_seconds(self.0.saturating_add(1).saturating_mul(DAY))
    }
}

/// The use of a manifest in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct UseRow {
    /// The day of the last pull.
    pub(in crate::store) pulled: StoreDay,
}

/// Returns true if a manifest may have been pulled within the period before `now`: it was, or pulls have not been
/// recorded for that long (`recorded_since`).
pub(in crate::store) fn may_be_in_use(
    last_pull: Option<StoreDay>,
    recorded_since: Option<StoreTime>,
    (now, period): (StoreTime, Duration),
) -> bool {
    let Some(recorded_since) = recorded_since else { return true };
    let last = last_pull.map_or(recorded_since, |day| day.end().max(recorded_since));
    last.age(now) < period
}

/// Lookups of uses.
pub(in crate::store) trait Uses: ReadTables {
    /// Returns the day of the last recorded pull of a manifest.
    fn last_pull(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<StoreDay>, StoreError> {
        let row: Option<UseRow> = self.row(Table::Uses, &keys::content_key(repository, digest))?;
        Ok(row.map(|row| row.pulled))
    }

    /// Returns the store time from which on pulls have been recorded without a gap; `None` if they are not recorded.
    fn pulls_recorded_since(&self) -> Result<Option<StoreTime>, StoreError> {
        Ok(self.row(Table::Meta, meta::PULLS_RECORDED_SINCE)?)
    }
}

impl<T: ReadTables> Uses for T {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64, seconds: u64) -> StoreTime {
        StoreTime::from_seconds(days * DAY + seconds)
    }

    const MONTH: Duration = Duration::from_hours(30 * 24);

    #[test]
    fn a_pull_counts_until_the_end_of_its_day() {
        let (day, since) = (StoreDay::of(at(100, 5)), Some(at(0, 0)));
        assert_eq!((day, day.end()), (StoreDay::of(at(100, DAY - 1)), at(101, 0)));
        assert!(may_be_in_use(Some(day), since, (at(100, 6), MONTH)));
        assert!(may_be_in_use(Some(day), since, (at(130, DAY - 1), MONTH)));
        assert!(!may_be_in_use(Some(day), since, (at(131, 0), MONTH)));
        assert!(!may_be_in_use(Some(day), since, (at(100, 6), Duration::ZERO)));
    }

    #[test]
    fn nothing_is_unused_before_pulls_were_recorded_for_the_period() {
        assert!(may_be_in_use(None, None, (at(1000, 0), MONTH)));
        let since = Some(at(100, 0));
        assert!(may_be_in_use(None, since, (at(129, DAY - 1), MONTH)));
        assert!(!may_be_in_use(None, since, (at(130, 0), MONTH)));
        let earlier = StoreDay::of(at(3, 0));
        assert!(may_be_in_use(Some(earlier), since, (at(129, 0), MONTH)));
        assert!(!may_be_in_use(Some(earlier), since, (at(130, 0), MONTH)));
    }
}
