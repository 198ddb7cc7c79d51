//! The TOML file: its text becomes values with their places, and every mistake in it becomes a problem.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::{is_section, key, suggest_key};
use super::given::Given;
use super::item::{Entry, Item, Place, Value};
use super::problem::Problem;

/// Reads the values of a text into `given`; a syntax error loses only the values that it is in.
pub(super) fn read(name: &str, text: &str, given: &mut Given, problems: &mut Vec<Problem>) {
    let file = File { name: name.into(), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = file.place(error.span().map_or(0, |span| span.start));
        problems.push(Problem::Syntax { place, reason: one_line(error.message()) });
    }
    for entry in file.entries(table.into_inner()) {
        if key(&entry.key).is_some() && !entry.key.contains('.') {
            given.set(entry.key, entry.item);
        } else if is_section(&entry.key) {
            section(entry, given, problems);
        } else {
            problems.push(unknown(entry.key, entry.place));
        }
    }
}

/// Reads the values of `[section]`.
fn section(section: Entry, given: &mut Given, problems: &mut Vec<Problem>) {
    let Value::Table(entries) = section.item.value else {
        let allowed = format!("a section, [{}]", section.key);
        problems.push(Problem::value(&section.key, &section.item, allowed));
        return;
    };
    for entry in entries {
        let name = format!("{}.{}", section.key, entry.key);
        if key(&name).is_some() {
            given.set(name, entry.item);
        } else {
            problems.push(unknown(name, entry.place));
        }
    }
}

fn unknown(name: String, place: Place) -> Problem {
    let suggestion = suggest_key(&name).map(str::to_owned);
    Problem::Unknown { place, name, suggestion }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Reads one value in TOML, the default of a key.
pub(super) fn value(text: &str) -> Option<Item> {
    let file = File { name: "default".into(), text };
    DeValue::parse(text).ok().map(|value| file.item(value))
}

/// A file while it is read.
struct File<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Place::File { file: Arc::clone(&self.name), line, column }
    }

    fn entries(&self, table: DeTable) -> Vec<Entry> {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue>)| {
            let place = self.place(key.span().start);
            let key: std::borrow::Cow<str> = key.into_inner();
            Entry { key: key.into_owned(), place, item: self.item(value) }
        };
        table.into_iter().map(entry).collect()
    }

    fn item(&self, value: Spanned<DeValue>) -> Item {
        let span = value.span();
        let place = self.place(span.start);
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Number(number),
                Err(_) => Value::Other(number.to_string()),
            },
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Float(number) => Value::Other(number.to_string()),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
            DeValue::Array(items) => Value::List(items.into_iter().map(|item| self.item(item)).collect()),
            DeValue::Table(table) => Value::Table(self.entries(table)),
        };
        Item { value, place }
    }
}
