//! The form of a definition. Each key of the configuration is defined once, in `keys/`: its name, default, place in the
//! settings, format and documentation. The parser of the file, the environment, validation, `config show`, the
//! commented `config/holdfast.toml` and holdfast.toml(5) follow from that.

use super::format::RuleKey;
use super::item::{Item, Shape};
use super::problem::Problem;

/// The prefix of the names in the environment.
pub(super) const ENVIRONMENT_PREFIX: &str = "HOLDFAST_";

/// The definition of a key that sets a part of `T`.
pub(super) struct Key<T: 'static> {
    /// The full name, such as `limits.connections`.
    pub(super) name: &'static str,
    pub(super) initial: Initial,
    /// One paragraph, which [`Key::documentation`] completes.
    pub(super) doc: &'static str,
    pub(super) shape: fn() -> Shape,
    /// Describes the allowed values.
    pub(super) allowed: fn() -> String,
    /// Sets the part; gets the name of the key, for errors.
    pub(super) read: fn(&mut T, &str, &Item) -> Result<(), Vec<Problem>>,
    /// Returns the value as TOML; `None` where the key is not set.
    pub(super) show: fn(&T) -> Option<toml::Value>,
    /// True if a change takes effect only at the next restart, not at a reload.
    pub(super) restart: bool,
    /// The keys of a rule, if the key is an array of them.
    pub(super) rule: fn() -> Vec<RuleKey>,
}

/// The value of a key that no source sets, in TOML.
pub(super) enum Initial {
    /// This value.
    Value(&'static str),
    /// This value, which differs between machines; the commented file has the second one, in a comment.
    Machine(&'static str, &'static str),
    /// No value; the commented file has this example in a comment.
    Unset(&'static str),
    /// No value, and a rule is not valid without this key; the commented file has this example in a comment.
    Required(&'static str),
}

/// A section of the file.
pub(super) struct Section<T: 'static> {
    /// The name in brackets; empty for the keys before the first section.
    pub(super) name: &'static str,
    /// The documentation of the section as a whole, which may be empty.
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key<T>],
}

impl<T> Key<T> {
    /// Returns the name without the section.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Returns the documentation: one paragraph, which is wrapped where it is written.
    pub(super) fn documentation(&self) -> String {
        let restart = if self.restart { " Takes effect at the next restart." } else { "" };
        format!("{}{restart}", self.doc)
    }

    /// Returns the name in the environment; tables and rules have none.
    pub(super) fn environment_name(&self) -> Option<String> {
        match (self.shape)() {
            Shape::Table | Shape::Rules => None,
            Shape::Text | Shape::Number | Shape::Flag | Shape::List => {
                Some(format!("{ENVIRONMENT_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase()))
            }
        }
    }
}

/// Defines a key: name, initial value, place in the settings, format, documentation, and `restart: true` if a change
/// takes effect only at the next restart.
macro_rules! key {
    ($name:literal, $initial:expr, $($place:ident).+, $format:expr, $doc:expr) => {
        $crate::config::key::key!($name, $initial, $($place).+, $format, $doc, restart: false)
    };
    ($name:literal, $initial:expr, $($place:ident).+, $format:expr, $doc:expr, restart: $restart:literal) => {
        $crate::config::key::Key {
            name: $name,
            initial: $initial,
            doc: $doc,
            shape: || $crate::config::format::Describe::shape(&$format),
            allowed: || $crate::config::format::Describe::allowed(&$format),
            read: |settings, name, item| {
                settings.$($place).+ = $crate::config::format::Format::read(&$format, name, item)?;
                Ok(())
            },
            show: |settings| $crate::config::format::Format::show(&$format, &settings.$($place).+),
            restart: $restart,
            rule: || $crate::config::format::Describe::rule(&$format),
        }
    };
}
pub(super) use key;
