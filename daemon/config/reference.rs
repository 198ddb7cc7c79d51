//! The reference of all keys, for manual pages.

use super::definitions::SECTIONS;
use super::format::RuleKey;
use super::key::{Initial, Key, Section};
use super::settings::Config;

/// A section of the file.
pub struct SectionReference {
    /// The name in brackets; empty for keys outside of sections.
    pub name: &'static str,
    /// The documentation of the section as a whole, which may be empty.
    pub doc: &'static str,
    /// Its keys.
    pub keys: Vec<KeyReference>,
}

/// A key, or a table.
pub struct KeyReference {
    /// The full name, such as `limits.connections`.
    pub name: &'static str,
    /// The default in TOML, if there is one that is the same on every machine.
    pub default: Option<&'static str>,
    /// An example in TOML; empty for rules.
    pub example: &'static str,
    /// The allowed values.
    pub allowed: String,
    /// The name in the environment, unless it is a table.
    pub environment_name: Option<String>,
    /// The documentation.
    pub doc: String,
    /// Name, example and documentation of each key of a rule.
    pub rule: Vec<(&'static str, &'static str, &'static str)>,
}

/// Returns all sections in the order of the file.
pub fn reference() -> Vec<SectionReference> {
    let section = |section: &Section<Config>| SectionReference {
        name: section.name,
        doc: section.doc,
        keys: section.keys.iter().map(key).collect(),
    };
    SECTIONS.iter().map(section).collect()
}

fn key(key: &Key<Config>) -> KeyReference {
    let (default, example) = match key.initial {
        Initial::Value(text) => (Some(text), text),
        Initial::Machine(_, text) | Initial::Unset(text) | Initial::Required(text) => (None, text),
    };
    let rule_key = |key: RuleKey| (key.name, key.example, key.doc);
    KeyReference {
        name: key.name,
        default,
        example,
        allowed: (key.allowed)(),
        environment_name: key.environment_name(),
        doc: key.documentation(),
        rule: (key.rule)().into_iter().map(rule_key).collect(),
    }
}
