//! The format of arrays of tables: rules, each with keys of its own.

use super::format::{Describe, Format, RuleKey, collect};
use super::item::{Entry, Item, Shape, Value};
use super::key::{Initial, Key};
use super::problem::Problem;
use super::suggest::suggest;

/// A list of rules, such as `[[retention]]`.
pub(super) struct Rules<T: 'static> {
    pub(super) keys: &'static [Key<T>],
    /// Returns the reason why a rule that is valid key by key is not valid as a whole.
    pub(super) check: fn(&T) -> Option<&'static str>,
}

impl<T> Describe for Rules<T> {
    fn shape(&self) -> Shape {
        Shape::Rules
    }

    fn allowed(&self) -> String {
        "a table with two brackets on each side, for each rule".to_owned()
    }

    fn rule(&self) -> Vec<RuleKey> {
        let describe = |key: &Key<T>| {
            let example = match key.initial {
                Initial::Value(text) | Initial::Unset(text) | Initial::Required(text) => text,
                Initial::Machine(_, shown) => shown,
            };
            RuleKey { name: key.short_name(), example, doc: key.doc }
        };
        self.keys.iter().map(describe).collect()
    }
}

impl<T: Default> Format<Vec<T>> for Rules<T> {
    fn read(&self, name: &str, item: &Item) -> Result<Vec<T>, Vec<Problem>> {
        let Value::List(rules) = &item.value else {
            return Err(vec![Problem::value(name, item, format!("{}: [[{name}]]", self.allowed()))]);
        };
        collect(rules.iter().map(|rule| self.rule(name, rule)))
    }

    fn show(&self, rules: &Vec<T>) -> Option<toml::Value> {
        let table = |rule: &T| {
            let shown = |key: &Key<T>| Some((key.short_name().to_owned(), (key.show)(rule)?));
            toml::Value::Table(self.keys.iter().filter_map(shown).collect())
        };
        (!rules.is_empty()).then(|| toml::Value::Array(rules.iter().map(table).collect()))
    }
}

impl<T: Default> Rules<T> {
    fn rule(&self, name: &str, item: &Item) -> Result<T, Vec<Problem>> {
        let Value::Table(entries) = &item.value else {
            return Err(vec![Problem::value(name, item, format!("{}: [[{name}]]", self.allowed()))]);
        };
        let (mut rule, mut problems) = (T::default(), Vec::new());
        for entry in entries {
            match self.keys.iter().find(|key| key.short_name() == entry.key) {
                Some(key) => {
                    problems.extend((key.read)(&mut rule, key.name, &entry.item).err().into_iter().flatten());
                }
                None => problems.push(self.unknown(name, entry)),
            }
        }
        let is_set = |key: &&Key<T>| entries.iter().any(|entry| entry.key == key.short_name());
        for key in self.keys.iter().filter(|key| !is_set(key)) {
            if let Initial::Required(_) = key.initial {
                let (place, key, allowed) = (item.place.clone(), key.name.to_owned(), (key.allowed)());
                problems.push(Problem::Missing { place, key, allowed });
            }
        }
        if problems.is_empty()
            && let Some(reason) = (self.check)(&rule)
        {
            problems.push(Problem::Conflict { place: Some(item.place.clone()), reason });
        }
        if problems.is_empty() { Ok(rule) } else { Err(problems) }
    }

    fn unknown(&self, name: &str, entry: &Entry) -> Problem {
        let written = format!("{name}.{}", entry.key);
        let suggestion = suggest(&written, self.keys.iter().map(|key| key.name)).map(str::to_owned);
        Problem::Unknown { place: entry.place.clone(), name: written, suggestion }
    }
}
