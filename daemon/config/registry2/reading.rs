//! A setting of registry:2, and the configuration while settings are read into it.

use super::yaml::Yaml;
use crate::config::definitions::key;
use crate::config::given::Given;
use crate::config::item::{Item, Place, Shape, Value};
use crate::config::problem::Problem;

/// A setting as it was written.
pub(super) struct Setting {
    /// Its place in the tree, such as `http.tls.key`.
    pub(super) place: String,
    pub(super) value: Yaml,
    /// Its name where it was written: a variable, or file and place.
    pub(super) name: String,
}

/// The effects of registry:2's settings beside the values of keys.
#[derive(Default)]
pub(in crate::config) struct Effects {
    /// True if a setting of registry:2 had an effect.
    pub(in crate::config) registry: bool,
    /// True if a setting below `auth` was there.
    pub(in crate::config) users: bool,
    /// The settings that have no effect, and why.
    pub(in crate::config) warnings: Vec<String>,
    /// The names that had an effect.
    pub(in crate::config) sources: Vec<String>,
}

/// The configuration while settings are read into it.
pub(super) struct Reading<'a> {
    pub(super) given: &'a mut Given,
    pub(super) effects: &'a mut Effects,
    /// The places that have a value.
    pub(super) places: Vec<String>,
    /// True if `auth.anonymous` of Holdfast's own configuration stays, because only details of the users are set.
    pub(super) keeps_anonymous: bool,
}

impl Reading<'_> {
    /// Sets a key to a text.
    pub(super) fn set(&mut self, key: &str, setting: &Setting, text: impl Into<String>) {
        self.set_item(key, setting, Item::text(text, setting.written()));
    }

    /// Sets a key to the value of the setting.
    pub(super) fn set_value(&mut self, key_name: &str, setting: &Setting) -> Result<(), Problem> {
        let shape = key(key_name).map_or(Shape::Text, |key| (key.shape)());
        self.set_item(key_name, setting, setting.item(shape)?);
        Ok(())
    }

    pub(super) fn set_item(&mut self, key: &str, setting: &Setting, item: Item) {
        self.given.set(key, item);
        self.note(setting);
    }

    /// Notes that a setting has its effect.
    pub(super) fn note(&mut self, setting: &Setting) {
        self.effects.registry = true;
        if !self.effects.sources.contains(&setting.name) {
            self.effects.sources.push(setting.name.clone());
        }
    }

    pub(super) fn ignore(&mut self, setting: &Setting, why: &str) {
        self.effects.warnings.push(format!("{} has no effect: {why}", setting.name));
    }

    pub(super) fn has(&self, place: &str) -> bool {
        self.places.iter().any(|known| known == place)
    }
}

impl Setting {
    /// Describes a value that is not allowed.
    pub(super) fn wrong(&self, allowed: &str) -> Problem {
        let found = match &self.value {
            Yaml::Null => "empty".to_owned(),
            Yaml::Text { text, .. } => format!("{text:?}"),
            Yaml::List(_) => "a list".to_owned(),
            Yaml::Map(_) => "a map".to_owned(),
        };
        Problem::Value { place: Some(self.written()), key: String::new(), found, allowed: allowed.to_owned() }
    }

    pub(super) fn unsupported(&self, reason: &'static str) -> Problem {
        Problem::Unsupported { name: self.name.clone(), reason }
    }

    /// Returns the place for errors.
    pub(super) fn written(&self) -> Place {
        Place::Name(self.name.clone())
    }

    pub(super) fn text(&self) -> Result<&str, Problem> {
        match &self.value {
            Yaml::Text { text, .. } => Ok(text),
            Yaml::Null => Ok(""),
            Yaml::List(_) | Yaml::Map(_) => Err(self.wrong("a text")),
        }
    }

    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.item(Shape::Flag)?.value {
            Value::Flag(flag) => Ok(flag),
            Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                Err(self.wrong("true or false"))
            }
        }
    }

    /// Returns the value as one for a key of this shape.
    pub(super) fn item(&self, shape: Shape) -> Result<Item, Problem> {
        match (shape, &self.value) {
            (Shape::List, Yaml::List(items)) => Ok(self.list(self.texts(items)?)),
            (Shape::List, Yaml::Null) => Ok(self.list(Vec::new())),
            (
                Shape::List | Shape::Text | Shape::Number | Shape::Flag | Shape::Table | Shape::Rules,
                Yaml::Null | Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_),
            ) => Ok(Item::of_text(shape, self.text()?, self.written())),
        }
    }

    pub(super) fn list(&self, items: Vec<Item>) -> Item {
        Item { value: Value::List(items), place: self.written() }
    }

    pub(super) fn texts(&self, items: &[Yaml]) -> Result<Vec<Item>, Problem> {
        let text = |item: &Yaml| match item {
            Yaml::Text { text, .. } => Ok(Item::text(text.as_str(), self.written())),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => Err(self.wrong("a list of texts")),
        };
        items.iter().map(text).collect()
    }
}
