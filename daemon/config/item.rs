//! Values as the sources of the configuration give them, each with the place where it was written, so that an error can
//! name that place.

use std::fmt;
use std::sync::Arc;

/// A file: its name and its text.
pub(super) type Named<'a> = (&'a str, &'a str);

/// The place where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A position in a file; line and column count from 1.
    File {
        /// The name of the file.
        file: Arc<str>,
        line: usize,
        column: usize,
    },
    /// A variable of the environment, an option of the command line, or a setting in a file of registry:2.
    Name(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Name(name) => f.write_str(name),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value, before the definition of its key gives it a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<Item>),
    Table(Vec<Entry>),
    /// A value that no key allows, such as a date or a fraction, as it was written.
    Other(String),
}

/// A key of a table and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The place of the key itself.
    pub(super) place: Place,
    pub(super) item: Item,
}

/// The shape of a value in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Number,
    Flag,
    List,
    /// A table whose keys the operator chooses.
    Table,
    /// An array of tables.
    Rules,
}

impl Item {
    /// Makes an item of a text, for sources that know only texts. A text that does not fit the shape stays a text,
    /// which the definition of the key refuses.
    pub(super) fn of_text(shape: Shape, text: &str, place: Place) -> Self {
        let as_text = || Value::Text(text.to_owned());
        let value = match shape {
            Shape::Text | Shape::Table | Shape::Rules => as_text(),
            Shape::List => Value::List(list(text, &place)),
            Shape::Number => text.trim().parse().map_or_else(|_| as_text(), Value::Number),
            // YAML's other words for true and false are accepted, too: compose files use them.
            Shape::Flag => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" | "y" => Value::Flag(true),
                "false" | "0" | "no" | "off" | "n" => Value::Flag(false),
                _ => as_text(),
            },
        };
        Item { value, place }
    }

    /// Makes an item of a text that is taken as it is.
    pub(super) fn text(text: impl Into<String>, place: Place) -> Self {
        Item { value: Value::Text(text.into()), place }
    }
}

/// Splits a list at its commas; YAML's brackets and quotes are removed, as in `['a', "b"]`.
pub(super) fn list(text: &str, place: &Place) -> Vec<Item> {
    let inner = text.trim();
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner);
    let items = inner.split(',').map(|item| item.trim().trim_matches(['\'', '"']));
    items.filter(|item| !item.is_empty()).map(|item| Item::text(item, place.clone())).collect()
}

impl fmt::Display for Value {
    /// Writes the value as an error message quotes it, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Number(number) => number.fmt(f),
            Value::Flag(flag) => flag.fmt(f),
            Value::List(items) if items.is_empty() => f.write_str("an empty list"),
            Value::List(_) => f.write_str("a list"),
            Value::Table(_) => f.write_str("a table"),
            Value::Other(text) => f.write_str(text),
        }
    }
}

impl Item {
    /// Returns the texts of a list, or the one text of a key that takes one in place of a list, each with its item.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &Item)> {
        let items = match &self.value {
            Value::List(items) => items.as_slice(),
            Value::Text(_) => std::slice::from_ref(self),
            Value::Number(_) | Value::Flag(_) | Value::Table(_) | Value::Other(_) => &[],
        };
        items.iter().filter_map(|item| match &item.value {
            Value::Text(text) => Some((text.as_str(), item)),
            Value::Number(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => None,
        })
    }
}
