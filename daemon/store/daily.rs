//! The totals of the last days: stored bytes, pushes, pulls and bytes served.
//!
//! Counts are in memory first and written with later changes; see `index/feed/daily.rs`. A rebuild of the index loses the
//! days before it.

use super::Store;
use super::error::StoreError;
use super::index::{Day, DayCounts};
use super::work::Kind;
use crate::base::clock::unix_seconds;

/// The totals of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayTotals {
    /// The day.
    pub day: Day,
    /// The total length of all blobs at the end of the day; `None` before the first row.
    pub stored: Option<u64>,
    /// The counts of the day.
    pub counts: DayCounts,
}

impl Store {
    /// Adds bytes of content that were sent to clients to the totals of today, in memory.
    pub fn count_served(&self, bytes: u64) {
        self.0.feed.count(DayCounts { served: bytes, ..DayCounts::default() });
    }

    /// Writes the counts of the days, if they have waited for an hour without a change that took them along.
    pub async fn write_overdue_days(&self) {
        if self.0.feed.has_overdue_days() {
            self.write_days().await;
        }
    }

    /// Writes the counts of the days, best effort: a read-only store keeps them in memory.
    pub(super) async fn write_days(&self) {
        if self.0.feed.flush_days()
            && let Ok(writer) = self.writer()
            && let Err(error) = writer.barrier().await
        {
            log::debug!("the totals of the day cannot be written yet: {error}");
        }
    }

    /// Returns the totals of the last `days` days up to today, oldest first; none while the clock is wrong.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn daily_totals(&self, days: u32) -> Result<Vec<DayTotals>, StoreError> {
        let Some(today) = Day::of(unix_seconds()) else { return Ok(Vec::new()) };
        self.list(Kind::Page, move |inner, _| {
            let first = today.before(days.saturating_sub(1));
            let mut stored = inner.index.day_before(first)?.map(|(_, row)| row.stored);
            let (rows, waiting) = (inner.index.days_from(first)?, inner.feed.waiting_days());
            let now = inner.index.bytes()?;
            let mut totals = Vec::new();
            for age in (0..days).rev() {
                let (day, mut counts) = (today.before(age), DayCounts::default());
                if let Some((_, row)) = rows.iter().find(|(known, _)| *known == day) {
                    stored = Some(row.stored);
                    counts = DayCounts { pushes: row.pushes, pulls: row.pulls, served: row.served };
                }
                waiting.iter().filter(|(known, _)| *known == day).for_each(|(_, more)| counts.add(*more));
                let stored = if age == 0 { Some(now) } else { stored };
                totals.push(DayTotals { day, stored, counts });
            }
            Ok(totals)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_store::{TestStore, name};
    use super::super::{Origin, Role};
    use super::*;

    async fn today(test: &TestStore) -> DayTotals {
        let days = test.store.daily_totals(30).await.unwrap();
        assert_eq!(days.len(), 30);
        assert!(days.is_sorted_by_key(|one| one.day));
        *days.last().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn days_of_a_clock_that_was_ahead_hide_no_counts_of_today() {
        let test = TestStore::open().await;
        let pull = DayCounts { pulls: 1, ..DayCounts::default() };
        for (ahead, pulls) in [(10, 1), (100, 2)] {
            test.store.0.feed.count_at(pull, unix_seconds() + ahead * 86400);
            test.store.write_days().await;
            test.store.0.feed.count(pull);
            test.store.write_days().await;
            assert_eq!(today(&test).await.counts.pulls, pulls, "{ahead} days ahead");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn pulls_cause_no_write_until_the_flush_and_totals_survive_a_restart() {
        let test = TestStore::open().await;
        let digest = test.push_image("a", &["1"], b"layer", None).await;
        let reference = crate::oci::Reference::Digest(digest);
        let entry = test.store.manifest(&name("a"), &reference).unwrap();
        test.store.write_days().await;
        let data = || std::fs::read(test.path("index/data.mdb")).unwrap();
        let before = data();
        for _ in 0..100 {
            test.store.record_pull(&name("a"), &reference, &entry, &Origin::system());
            test.store.count_served(7);
        }
        assert!(data() == before, "a pull has written");
        let counts = DayCounts { pushes: 1, pulls: 100, served: 700 };
        let seen = today(&test).await;
        assert_eq!(seen.counts, counts);
        assert_eq!(seen.stored, Some(test.store.0.index.bytes().unwrap()));
        test.store.write_overdue_days().await;
        assert!(data() == before, "an hour has not passed");
        test.store.close().await.unwrap();
        let directory = test.into_directory();
        let settings = super::super::test_store::settings(directory.path());
        let again = Store::open(settings, Role::Daemon).await.unwrap();
        let days = again.daily_totals(1).await.unwrap();
        assert_eq!(days[0].counts, counts);
        again.close().await.unwrap();
    }
}
