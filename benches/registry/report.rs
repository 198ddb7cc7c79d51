//! The report: medians of all rounds, side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::peers::{BEFORE, HOLDFAST, NGINX, REGISTRY_2};

/// A measure: its name with the unit, and Holdfast's goal.
pub struct Measure {
    pub name: &'static str,
    pub goal: Goal,
}

/// A goal of Holdfast.
pub enum Goal {
    Most(f64),
    Least(f64),
    /// At least this fraction of another server's value.
    PartOf(f64, &'static str),
}

/// All samples of a run.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    measure: &'static Measure,
    samples: BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    /// Adds one sample of a server.
    pub fn add(&mut self, measure: &'static Measure, server: &'static str, value: f64) {
        let known = self.rows.iter().position(|row| row.measure.name == measure.name);
        let place = known.unwrap_or(self.rows.len());
        if known.is_none() {
            self.rows.push(Row { measure, samples: BTreeMap::new() });
        }
        self.rows[place].samples.entry(server).or_default().push(value);
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Returns the median of at least one sample.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

impl Row {
    fn median(&self, server: &str) -> Option<f64> {
        self.samples.get(server).cloned().map(median)
    }

    fn ratio_to(&self, server: &str) -> String {
        match (self.median(HOLDFAST), self.median(server)) {
            (Some(own), Some(other)) if other > 0.0 => format!("{:.2}", own / other),
            _ => "-".to_owned(),
        }
    }

    fn goal(&self) -> String {
        let Some(own) = self.median(HOLDFAST) else { return "not measured".to_owned() };
        let (text, reached) = match self.measure.goal {
            Goal::Most(limit) => (format!("at most {limit}"), Some(own <= limit)),
            Goal::Least(limit) => (format!("at least {limit}"), Some(own >= limit)),
            Goal::PartOf(part, server) => {
                let other = self.median(server).filter(|other| *other > 0.0);
                let is = other.map_or_else(String::new, |other| format!(" (is {:.2})", own / other));
                (format!("at least {part:.2} of {server}{is}"), other.map(|other| own >= part * other))
            }
        };
        match reached {
            Some(true) => format!("{text}: reached"),
            Some(false) => format!("{text}: not reached"),
            None => text,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<44} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}  goal",
            "median", HOLDFAST, BEFORE, REGISTRY_2, NGINX, "/before", "/reg:2", "/nginx"
        )?;
        for row in &self.rows {
            write!(out, "{:<44}", row.measure.name)?;
            for server in [HOLDFAST, BEFORE, REGISTRY_2, NGINX] {
                write!(out, " {:>10}", row.median(server).map_or_else(|| "-".to_owned(), number))?;
            }
            for server in [BEFORE, REGISTRY_2, NGINX] {
                write!(out, " {:>8}", row.ratio_to(server))?;
            }
            writeln!(out, "  {}", row.goal())?;
        }
        Ok(())
    }
}

/// Formats a number with three significant digits.
pub fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
