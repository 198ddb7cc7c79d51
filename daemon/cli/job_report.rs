//! Reports and progress of jobs, as the local API sends them.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use super::format;
use crate::store::Amount;

/// Returns the number in a field; zero without one.
pub(super) fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or(0)
}

/// Returns the text in a field; empty without one.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// Formats the count and the bytes in a field.
pub(super) fn amount(object: &Value, field: &str, noun: &str) -> String {
    let Value::Object(_) = object[field] else { return format::amount(Amount::default(), noun) };
    let (count, bytes) = (number(&object[field], "count"), number(&object[field], "bytes"));
    format::amount(Amount { count, bytes }, noun)
}

/// Returns the jobs that a run waits for, from its progress; none while it runs.
pub(super) fn waits_for(progress: &Value) -> Option<String> {
    let jobs = progress["waits_for"].as_array()?;
    Some(jobs.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" and "))
}

/// Says once on a terminal for which job a run waits.
#[derive(Default)]
pub(super) struct Waiting {
    said: String,
}

impl Waiting {
    pub(super) fn show(&mut self, progress: &Value) {
        let Some(jobs) = waits_for(progress).filter(|jobs| *jobs != self.said) else { return };
        if std::io::stderr().is_terminal() {
            // A closed terminal cannot be told.
            let _ = writeln!(std::io::stderr(), "waiting for {jobs}, which runs");
        }
        self.said = jobs;
    }
}
