//! The settings below `auth`: which users the registry has.
//!
//! As in registry:2 there is one kind of users. More than one, or one that registry:2 would not start with, is refused, so
//! that no configuration opens the registry by accident.

use toml::{Table, Value};

use super::settings::is_below;
use super::yaml::Yaml;
use super::{Reading, Setting, place_of};
use crate::config::ConfigError;
use crate::config::environment::Kind;

const HTPASSWD: &str = "auth.htpasswd";
const PATH: &str = "auth.htpasswd.path";

/// Refuses settings of more than one kind of users, and settings of htpasswd without a file.
pub(super) fn check(all: &[Setting]) -> Result<(), ConfigError> {
    let mut kinds = all.iter().filter_map(|one| kind(&one.place).map(|kind| (kind, one)));
    if let Some((first, setting)) = kinds.next()
        && let Some((_, other)) = kinds.find(|(kind, _)| *kind != first)
    {
        return Err(ConfigError::TwoKindsOfUsers(setting.name.clone(), other.name.clone()));
    }
    let is_set = |one: &Setting| one.place == PATH && !super::says_nothing(&one.value);
    match all.iter().find(|one| is_below(&one.place, HTPASSWD)) {
        Some(detail) if !all.iter().any(is_set) => Err(detail.refused(
            "auth.htpasswd needs the path of its file, as in registry:2; set REGISTRY_AUTH_HTPASSWD_PATH, or only \
             REGISTRY_AUTH=htpasswd for the file that Holdfast's own configuration names",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns the kind of users that a setting is about.
fn kind(place: &str) -> Option<&str> {
    place.strip_prefix("auth.")?.split('.').next()
}

/// Returns true if all settings of users are names of the environment that change a detail of htpasswd.
pub(super) fn are_details(file: &[Setting], environment: &[(String, String)]) -> bool {
    let is_about_users = |place: &str| place == "auth" || is_below(place, "auth");
    let mut places = environment.iter().map(|(name, _)| place_of(name));
    !file.iter().any(|one| is_about_users(&one.place))
        && places.all(|place| !is_about_users(&place) || is_below(&place, HTPASSWD))
}

/// Returns true if the configuration says already what clients may do without a log-in.
pub(super) fn anonymous_is_set(table: &Table) -> bool {
    table.get("auth").and_then(Value::as_table).is_some_and(|auth| auth.contains_key("anonymous"))
}

/// The kind alone: each client has to log in.
pub(super) fn htpasswd(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    match &setting.value {
        Yaml::Null => {
            reading.set("auth.anonymous", setting, "none".into());
            Ok(())
        }
        Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_) => Err(setting.wrong("a map with realm and path")),
    }
}

pub(super) fn realm(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    close(reading, setting);
    reading.set("auth.realm", setting, setting.typed(Kind::Text)?);
    Ok(())
}

pub(super) fn path(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    close(reading, setting);
    reading.set(HTPASSWD, setting, setting.typed(Kind::Text)?);
    Ok(())
}

/// Closes the registry to clients without a log-in, unless only a detail is set and Holdfast's own configuration says what
/// such clients may do.
fn close(reading: &mut Reading, setting: &Setting) {
    if !reading.keeps_anonymous {
        reading.set("auth.anonymous", setting, "none".into());
    }
}

/// Opens the registry, if this is `none` without any value or setting.
pub(super) fn none(reading: &mut Reading, setting: &Setting) -> Result<(), ConfigError> {
    let is_empty = match &setting.value {
        Yaml::Null => true,
        Yaml::Map(entries) => entries.is_empty(),
        Yaml::Text { .. } | Yaml::List(_) => false,
    };
    if !is_empty || setting.place != "auth.none" {
        return Err(setting.refused("auth.none has no settings and no value; write it as \"none: {}\""));
    }
    reading.set("auth.anonymous", setting, "full".into());
    Ok(())
}
