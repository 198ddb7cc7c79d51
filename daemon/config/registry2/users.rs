//! The settings below `auth`: which users the registry has.
//!
//! As in registry:2 there is one kind of users. More than one kind, or one that registry:2 would not start with, is
//! refused, so that no configuration opens the registry by accident.

use super::place::{is_below, place_of};
use super::reading::{Reading, Setting};
use super::yaml::Yaml;
use crate::config::problem::Problem;

const HTPASSWD: &str = "auth.htpasswd";
const PATH: &str = "auth.htpasswd.path";

/// Refuses settings of more than one kind of users, and settings of htpasswd without a file.
pub(super) fn check(all: &[Setting]) -> Result<(), Problem> {
    let mut kinds = all.iter().filter_map(|one| kind(&one.place).map(|kind| (kind, one)));
    if let Some((first, setting)) = kinds.next()
        && let Some((_, other)) = kinds.find(|(kind, _)| *kind != first)
    {
        return Err(Problem::TwoKindsOfUsers(setting.name.clone(), other.name.clone()));
    }
    let is_set = |one: &Setting| one.place == PATH && !one.value.asks_for_nothing();
    match all.iter().find(|one| is_below(&one.place, HTPASSWD)) {
        Some(detail) if !all.iter().any(is_set) => Err(detail.unsupported(
            "auth.htpasswd needs the path of its file, as in registry:2; set REGISTRY_AUTH_HTPASSWD_PATH, or only \
             REGISTRY_AUTH=htpasswd for the file that Holdfast's own configuration names",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns the kind of users that a setting belongs to.
fn kind(place: &str) -> Option<&str> {
    place.strip_prefix("auth.")?.split('.').next()
}

/// Returns true if the only settings of users are variables that change a detail of htpasswd.
pub(super) fn are_details(file: &[Setting], environment: &[(String, String)]) -> bool {
    let is_of_users = |place: &str| place == "auth" || is_below(place, "auth");
    let mut places = environment.iter().map(|(name, _)| place_of(name));
    !file.iter().any(|one| is_of_users(&one.place))
        && places.all(|place| !is_of_users(&place) || is_below(&place, HTPASSWD))
}

/// Reads the kind without settings of its own: every client must log in.
pub(super) fn htpasswd(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    match &setting.value {
        Yaml::Null => {
            reading.set("auth.anonymous", setting, "none");
            Ok(())
        }
        Yaml::Text { .. } | Yaml::List(_) | Yaml::Map(_) => Err(setting.wrong("a map with realm and path")),
    }
}

/// Reads the realm, which implies htpasswd.
pub(super) fn realm(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    close(reading, setting);
    reading.set_value("auth.realm", setting)
}

/// Reads the path of the htpasswd file.
pub(super) fn path(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    close(reading, setting);
    // The key of Holdfast has the same name as the section of registry:2.
    reading.set_value(HTPASSWD, setting)
}

/// Closes the registry to anonymous clients, unless only a detail of the users is set and Holdfast's own configuration
/// sets the rights of anonymous clients.
fn close(reading: &mut Reading, setting: &Setting) {
    if !reading.keeps_anonymous {
        reading.set("auth.anonymous", setting, "none");
    }
}

/// Opens the registry to anonymous clients; `none` must have no value and no settings.
pub(super) fn none(reading: &mut Reading, setting: &Setting) -> Result<(), Problem> {
    let is_empty = match &setting.value {
        Yaml::Null => true,
        Yaml::Map(entries) => entries.is_empty(),
        Yaml::Text { .. } | Yaml::List(_) => false,
    };
    if !is_empty || setting.place != "auth.none" {
        return Err(setting.unsupported("auth.none has no settings and no value; write it as \"none: {}\""));
    }
    reading.set("auth.anonymous", setting, "full");
    Ok(())
}
