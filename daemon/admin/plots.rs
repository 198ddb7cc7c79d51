//! The plots of the overview: the totals of the last days as paths of SVG, and as a table for people who do not see them.

use time::OffsetDateTime;
use time::macros::format_description;

use crate::base::human::size;
use crate::store::{DayCounts, DayTotals};

/// The periods that a user may choose, in days.
pub(super) const PERIODS: [u32; 2] = [30, 90];
/// The width and the height of a plot, in units of its view box.
const WIDTH: u64 = 900;
const HEIGHT: u64 = 100;

/// A plot of one amount over some days.
pub(super) struct Plot {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The amount over the whole period, or now.
    pub(super) sum: String,
    /// The top of the scale.
    pub(super) top: String,
    /// The path, in the view box `0 0 900 100`.
    pub(super) path: String,
}

/// A row of the table.
pub(super) struct DayRow {
    pub(super) date: String,
    pub(super) stored: String,
    pub(super) pushes: u64,
    pub(super) pulls: u64,
    pub(super) served: String,
}

/// The plots of a period.
pub(super) struct Plots {
    pub(super) days: u32,
    pub(super) all: Vec<Plot>,
    pub(super) rows: Vec<DayRow>,
    /// The dates of the first and the last day.
    pub(super) first: String,
    pub(super) last: String,
}

impl Plots {
    /// Draws the totals, which are given oldest first. Returns `None` without a day: the clock is wrong.
    pub(super) fn new(totals: &[DayTotals]) -> Option<Self> {
        let (first, last) = (totals.first()?, totals.last()?);
        let sum = |amount: fn(&DayCounts) -> u64| {
            totals.iter().map(|one| amount(&one.counts)).fold(0, u64::saturating_add)
        };
        let values = |amount: fn(&DayCounts) -> u64| -> Vec<u64> {
            totals.iter().map(|one| amount(&one.counts)).collect()
        };
        let stored: Vec<u64> = totals.iter().map(|one| one.stored.unwrap_or(0)).collect();
        let all = vec![
            plot(("stored", "Stored"), &stored, size(last.stored.unwrap_or(0)), size),
            counted(("pulls", "Pulls"), &values(|counts| counts.pulls), sum(|counts| counts.pulls)),
            counted(("pushes", "Pushes"), &values(|counts| counts.pushes), sum(|counts| counts.pushes)),
            plot(
                ("served", "Served"),
                &values(|counts| counts.served),
                size(sum(|counts| counts.served)),
                size,
            ),
        ];
        Some(Plots {
            days: u32::try_from(totals.len()).unwrap_or(u32::MAX),
            all,
            rows: totals.iter().rev().map(row).collect(),
            first: date(first),
            last: date(last),
        })
    }
}

fn counted(name: (&'static str, &'static str), values: &[u64], sum: u64) -> Plot {
    plot(name, values, sum.to_string(), |top| top.to_string())
}

fn plot(
    (id, title): (&'static str, &'static str),
    values: &[u64],
    sum: String,
    format: impl Fn(u64) -> String,
) -> Plot {
    let top = values.iter().copied().max().unwrap_or(0);
    Plot { id, title, sum, top: format(top), path: path(values, top) }
}

/// Returns the bars of a plot: one rectangle for each day with an amount.
fn path(values: &[u64], top: u64) -> String {
    let step = WIDTH / (values.len() as u64).max(1);
    let mut path = String::new();
    for (day, value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
        let height = u128::from(*value) * u128::from(HEIGHT) / u128::from(top.max(1));
        // The smallest amount that is not zero stays visible.
        let height = u64::try_from(height).unwrap_or(HEIGHT).clamp(2, HEIGHT);
        let (x, width) = (day as u64 * step, step.saturating_sub(1).max(1));
        path += &format!("M{x} {HEIGHT}v-{height}h{width}v{height}z");
    }
    path
}

fn row(one: &DayTotals) -> DayRow {
    let DayCounts { pushes, pulls, served } = one.counts;
    let stored = one.stored.map_or_else(|| "-".to_owned(), size);
    DayRow { date: date(one), stored, pushes, pulls, served: size(served) }
}

fn date(one: &DayTotals) -> String {
    let seconds = i64::try_from(one.day.start()).unwrap_or_default();
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = date.and_then(|date| date.format(format_description!("[year]-[month]-[day]")).ok());
    text.unwrap_or_default()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::base::clock::RELEASED;
    use crate::store::Day;

    /// Returns the plots of 90 days with the largest amounts.
    pub(crate) fn largest() -> Option<Plots> {
        let counts = DayCounts { pushes: u64::MAX, pulls: u64::MAX, served: u64::MAX };
        let total = |day: u64| DayTotals {
            day: Day::of(RELEASED + day * 86400).unwrap(),
            stored: Some(u64::MAX),
            counts,
        };
        Plots::new(&(0..90_u64).map(total).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::RELEASED;
    use crate::store::Day;

    fn totals(pulls: &[u64]) -> Vec<DayTotals> {
        let days = pulls.iter().enumerate();
        let total = |(day, pulls): (usize, &u64)| DayTotals {
            day: Day::of(RELEASED + day as u64 * 86400).unwrap(),
            stored: (day > 0).then_some(1024),
            counts: DayCounts { pulls: *pulls, ..DayCounts::default() },
        };
        days.map(total).collect()
    }

    #[test]
    fn each_day_with_an_amount_has_a_bar() {
        assert!(Plots::new(&[]).is_none());
        let plots = Plots::new(&totals(&[0, 1, 1000])).unwrap();
        let pulls = &plots.all[1];
        assert_eq!((pulls.sum.as_str(), pulls.top.as_str()), ("1001", "1000"));
        assert_eq!(pulls.path, "M300 100v-2h299v2zM600 100v-100h299v100z");
        assert_eq!((plots.first.as_str(), plots.last.as_str()), ("2026-01-01", "2026-01-03"));
        assert_eq!((plots.rows[0].pulls, plots.rows[2].stored.as_str()), (1000, "-"));
        assert_eq!(plots.all[2].path, "");
    }
}
