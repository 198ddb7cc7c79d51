//! The mistakes of a configuration. All of them are found at once, and each is one line that names the place, the key,
//! what was found and what is allowed.

use std::fmt;
use std::sync::Arc;

use super::item::{Item, Place};

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// A file cannot be read.
    #[error("cannot read {file}: {reason}; name another file with --config")]
    Read { file: String, reason: String },
    /// A file is not TOML or YAML.
    #[error("{place}: {reason}")]
    Syntax { place: Place, reason: String },
    /// A key or a variable does not exist.
    #[error("{}", unknown(place, name, suggestion.as_deref()))]
    Unknown { place: Place, name: String, suggestion: Option<String> },
    /// A value is not allowed.
    #[error("{} is {found}, but must be {allowed}", subject(place.as_ref(), key))]
    Value { place: Option<Place>, key: String, found: String, allowed: String },
    /// A rule lacks a key.
    #[error("{place}: {key} is missing; it must be {allowed}")]
    Missing { place: Place, key: String, allowed: String },
    /// Two keys contradict each other.
    #[error("{}{reason}", place.as_ref().map_or_else(String::new, |place| format!("{place}: ")))]
    Conflict { place: Option<Place>, reason: &'static str },
    /// A setting of registry:2 has no counterpart, and would be dangerous to ignore.
    #[error("{name} is not supported: {reason}")]
    Unsupported { name: String, reason: &'static str },
    /// Settings of registry:2 name more than one kind of users.
    #[error(
        "{0} and {1} name two kinds of users (auth), but there may be only one, as in registry:2; remove one of them"
    )]
    TwoKindsOfUsers(String, String),
}

impl Problem {
    /// Describes a value that is not allowed for a key.
    pub(super) fn value(key: &str, item: &Item, allowed: impl Into<String>) -> Self {
        let (place, found) = (Some(item.place.clone()), item.value.to_string());
        Problem::Value { place, key: key.to_owned(), found, allowed: allowed.into() }
    }

    /// Describes the value of an option of the command line that is not allowed.
    pub(super) fn option(name: &str, text: &str, allowed: &str) -> Self {
        Problem::Value {
            place: None,
            key: name.to_owned(),
            found: format!("{text:?}"),
            allowed: allowed.into(),
        }
    }

    /// Returns the position in a file, by which problems are sorted.
    fn position(&self) -> Option<&Place> {
        let place = match self {
            Problem::Syntax { place, .. }
            | Problem::Unknown { place, .. }
            | Problem::Missing { place, .. } => Some(place),
            Problem::Value { place, .. } | Problem::Conflict { place, .. } => place.as_ref(),
            Problem::Read { .. } | Problem::Unsupported { .. } | Problem::TwoKindsOfUsers(..) => None,
        };
        place.filter(|place| matches!(place, Place::File { .. }))
    }

    fn line(&self) -> Option<(Arc<str>, usize)> {
        match self.position()? {
            Place::File { file, line, .. } => Some((Arc::clone(file), *line)),
            Place::Name(_) => None,
        }
    }
}

fn subject(place: Option<&Place>, key: &str) -> String {
    match place {
        None => key.to_owned(),
        Some(place @ Place::File { .. }) => format!("{place}: {key}"),
        Some(Place::Name(name)) if key.is_empty() || key == name => name.clone(),
        Some(Place::Name(name)) => format!("{name} ({key})"),
    }
}

fn unknown(place: &Place, name: &str, suggestion: Option<&str>) -> String {
    let subject = match place {
        Place::File { .. } => format!("{place}: unknown key {name}"),
        Place::Name(_) => format!("{name} is not a setting of Holdfast"),
    };
    match suggestion {
        Some(suggestion) => format!("{subject}; did you mean {suggestion}?"),
        None => format!("{subject}; `holdfast man holdfast.toml` explains all keys"),
    }
}

/// The mistakes of a configuration, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// Sorts the problems of the files by their position; the others follow. For a line that is not TOML, only the
    /// syntax error is reported.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        let syntax = problems.iter().filter(|problem| matches!(problem, Problem::Syntax { .. }));
        let broken: Vec<_> = syntax.filter_map(Problem::line).collect();
        problems.retain(|problem| {
            matches!(problem, Problem::Syntax { .. })
                || problem.line().is_none_or(|line| !broken.contains(&line))
        });
        problems.sort_by_key(|problem| (problem.position().is_none(), problem.position().cloned()));
        ConfigError(problems)
    }

    /// Returns one line for each mistake.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    /// Writes all mistakes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("; "))
    }
}

impl std::error::Error for ConfigError {}
