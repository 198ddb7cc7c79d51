//! Formats: how a value of a key is read and checked, shown, and described.

use super::item::{Item, Place, Shape, Value};
use super::problem::Problem;

/// Reads and shows values of the type `T`.
pub(super) trait Format<T>: Describe {
    /// Reads the value of the key `name`; returns all problems of the value.
    fn read(&self, name: &str, item: &Item) -> Result<T, Vec<Problem>>;

    /// Returns the value as TOML that reads back as the same value; `None` if it is not set.
    fn show(&self, value: &T) -> Option<toml::Value>;
}

/// Describes the values of a format.
pub(super) trait Describe {
    fn shape(&self) -> Shape;

    /// Describes the allowed values, as the end of the sentence "it must be ...".
    fn allowed(&self) -> String;

    /// Returns the keys of a rule, if the format is a list of rules.
    fn rule(&self) -> Vec<RuleKey> {
        Vec::new()
    }
}

/// A key of a rule, as the documentation describes it.
pub(super) struct RuleKey {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
    pub(super) doc: &'static str,
}

/// A text that is parsed into a value: a path, a duration, an address.
pub(super) struct Parsed<T: 'static> {
    pub(super) allowed: &'static str,
    pub(super) parse: fn(&str) -> Option<T>,
    pub(super) show: fn(&T) -> String,
}

impl<T> Describe for Parsed<T> {
    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }
}

impl<T> Format<T> for Parsed<T> {
    fn read(&self, name: &str, item: &Item) -> Result<T, Vec<Problem>> {
        let text = text(name, item, self.allowed)?;
        (self.parse)(text).ok_or_else(|| vec![Problem::value(name, item, self.allowed)])
    }

    fn show(&self, value: &T) -> Option<toml::Value> {
        Some((self.show)(value).into())
    }
}

/// Returns the text of an item that must be one.
fn text<'a>(name: &str, item: &'a Item, allowed: &str) -> Result<&'a str, Vec<Problem>> {
    match &item.value {
        Value::Text(text) => Ok(text),
        Value::Number(_) | Value::Flag(_) | Value::Other(_) => {
            Err(vec![Problem::value(name, item, format!("{allowed}, in quotes"))])
        }
        Value::List(_) | Value::Table(_) => Err(vec![Problem::value(name, item, allowed)]),
    }
}

/// One of a few words, each with its value.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T> Describe for Choice<T> {
    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn allowed(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("{word:?}")).collect();
        match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            Some(_) | None => words.concat(),
        }
    }
}

impl<T: Copy + PartialEq> Format<T> for Choice<T> {
    fn read(&self, name: &str, item: &Item) -> Result<T, Vec<Problem>> {
        let text = text(name, item, &self.allowed())?;
        let found = self.0.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| vec![Problem::value(name, item, self.allowed())])
    }

    fn show(&self, value: &T) -> Option<toml::Value> {
        self.0.iter().find(|(_, known)| known == value).map(|(word, _)| (*word).into())
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Describe for Flag {
    fn shape(&self) -> Shape {
        Shape::Flag
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

impl Format<bool> for Flag {
    fn read(&self, name: &str, item: &Item) -> Result<bool, Vec<Problem>> {
        match &item.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Text(text) => {
                let is_quoted = text == "true" || text == "false";
                Err(vec![Problem::value(name, item, unquoted(item, is_quoted, self.allowed()))])
            }
            Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                Err(vec![Problem::value(name, item, self.allowed())])
            }
        }
    }

    fn show(&self, value: &bool) -> Option<toml::Value> {
        Some((*value).into())
    }
}

/// Adds to `allowed` that a value of a file must not stand in quotes, if that is its only fault.
fn unquoted(item: &Item, is_quoted: bool, allowed: String) -> String {
    match item.place {
        Place::File { .. } if is_quoted => format!("{allowed}, without quotes"),
        Place::File { .. } | Place::Name(_) => allowed,
    }
}

/// A whole number from the first field to the second, both included.
pub(super) struct Number(pub(super) u32, pub(super) u32);

impl Describe for Number {
    fn shape(&self) -> Shape {
        Shape::Number
    }

    fn allowed(&self) -> String {
        match self.1 {
            u32::MAX => format!("a number of at least {}", self.0),
            most => format!("a number from {} to {most}", self.0),
        }
    }
}

impl<N: TryFrom<i64> + TryInto<i64> + Copy> Format<N> for Number {
    fn read(&self, name: &str, item: &Item) -> Result<N, Vec<Problem>> {
        let allowed = match &item.value {
            Value::Number(number) if (i64::from(self.0)..=i64::from(self.1)).contains(number) => {
                match N::try_from(*number) {
                    Ok(number) => return Ok(number),
                    Err(_) => self.allowed(),
                }
            }
            Value::Text(text) => unquoted(item, text.trim().parse::<i64>().is_ok(), self.allowed()),
            Value::Number(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                self.allowed()
            }
        };
        Err(vec![Problem::value(name, item, allowed)])
    }

    fn show(&self, value: &N) -> Option<toml::Value> {
        (*value).try_into().ok().map(toml::Value::Integer)
    }
}

/// A value of another format, or none: a key that is not set.
pub(super) struct Optional<F>(pub(super) F);

impl<F: Describe> Describe for Optional<F> {
    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }
}

impl<T, F: Format<T>> Format<Option<T>> for Optional<F> {
    fn read(&self, name: &str, item: &Item) -> Result<Option<T>, Vec<Problem>> {
        self.0.read(name, item).map(Some)
    }

    fn show(&self, value: &Option<T>) -> Option<toml::Value> {
        value.as_ref().and_then(|value| self.0.show(value))
    }
}

/// A text of another format, or "off" for none.
pub(super) struct OrOff<T: 'static>(pub(super) Parsed<T>);

const OFF: &str = "off";

impl<T> Describe for OrOff<T> {
    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn allowed(&self) -> String {
        format!("{}, or {OFF:?}", self.0.allowed)
    }
}

impl<T> Format<Option<T>> for OrOff<T> {
    fn read(&self, name: &str, item: &Item) -> Result<Option<T>, Vec<Problem>> {
        match text(name, item, &self.allowed())? {
            OFF => Ok(None),
            text => match (self.0.parse)(text) {
                Some(value) => Ok(Some(value)),
                None => Err(vec![Problem::value(name, item, self.allowed())]),
            },
        }
    }

    fn show(&self, value: &Option<T>) -> Option<toml::Value> {
        Some(value.as_ref().map_or_else(|| OFF.to_owned(), |value| (self.0.show)(value)).into())
    }
}

/// A list of values of another format, and the smallest number of them, zero or one.
pub(super) struct List<F>(pub(super) F, pub(super) usize);

impl<F: Describe> Describe for List<F> {
    fn shape(&self) -> Shape {
        Shape::List
    }

    fn allowed(&self) -> String {
        let items = if self.1 > 0 { "one or more items" } else { "items" };
        format!("a list of {items}, each {}", self.0.allowed())
    }
}

impl<T, F: Format<T>> Format<Vec<T>> for List<F> {
    fn read(&self, name: &str, item: &Item) -> Result<Vec<T>, Vec<Problem>> {
        let allowed = match &item.value {
            Value::List(items) if items.len() >= self.1 => {
                return collect(items.iter().map(|item| self.0.read(name, item)));
            }
            // An empty text may mean an empty list as well as a list with one empty item.
            Value::Text(text) if !text.is_empty() => format!("{}, in brackets: [{text:?}]", self.allowed()),
            Value::List(_)
            | Value::Text(_)
            | Value::Number(_)
            | Value::Flag(_)
            | Value::Table(_)
            | Value::Other(_) => self.allowed(),
        };
        Err(vec![Problem::value(name, item, allowed)])
    }

    fn show(&self, value: &Vec<T>) -> Option<toml::Value> {
        Some(toml::Value::Array(value.iter().filter_map(|value| self.0.show(value)).collect()))
    }
}

/// A list for which a single text may stand, as a list of one.
pub(super) struct ListOrText<F>(pub(super) List<F>);

impl<F: Describe> Describe for ListOrText<F> {
    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }
}

impl<T, F: Format<T>> Format<Vec<T>> for ListOrText<F> {
    fn read(&self, name: &str, item: &Item) -> Result<Vec<T>, Vec<Problem>> {
        match &item.value {
            Value::Text(_) => self.0.0.read(name, item).map(|value| vec![value]),
            Value::Number(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                self.0.read(name, item)
            }
        }
    }

    fn show(&self, value: &Vec<T>) -> Option<toml::Value> {
        self.0.show(value)
    }
}

/// Returns all values, or all problems.
pub(super) fn collect<T>(
    results: impl IntoIterator<Item = Result<T, Vec<Problem>>>,
) -> Result<Vec<T>, Vec<Problem>> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}
