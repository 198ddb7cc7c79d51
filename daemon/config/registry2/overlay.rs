//! The tree of settings: the file flattened into a list, and variables of the environment laid over it.

use super::place::{is_below, place_of};
use super::reading::Setting;
use super::settings::{effect, is_section};
use super::yaml::{self, Yaml};
use crate::config::item::Place;
use crate::config::problem::Problem;

/// The most items that variables can give to a list one by one, so that `..._4000000000` allocates no memory.
const MOST_ITEMS: usize = 64;

/// Reads the settings of a file.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<Setting>, Problem> {
    let syntax = |reason: String| Problem::Syntax { place: Place::Name(name.to_owned()), reason };
    let mut settings = Vec::new();
    match yaml::read(text).map_err(syntax)? {
        Yaml::Map(entries) => {
            let name_of = |place: &str| format!("{name}: {place}");
            flatten("", Yaml::Map(entries), &name_of, &mut settings)?;
        }
        Yaml::Null | Yaml::Text { .. } | Yaml::List(_) => {
            return Err(syntax(
                "this is not a configuration of registry:2, which is a map of settings".into(),
            ));
        }
    }
    if !settings.iter().any(|setting| setting.place == "version") {
        let reason = "this is not a configuration of registry:2, which begins with version: 0.1";
        return Err(syntax(reason.into()));
    }
    Ok(settings)
}

/// Lays a variable over the settings.
pub(super) fn overlay(settings: &mut Vec<Setting>, name: &str, value: &str) -> Result<(), Problem> {
    let place = place_of(name);
    let value = value_of(value);
    if let Some((list, number)) = place.rsplit_once('.').filter(|(list, _)| effect(list).is_some())
        && let Ok(number) = number.parse::<usize>()
    {
        set_item(settings, list, (number, value), name);
        return Ok(());
    }
    settings.retain(|setting| setting.place != place && !is_below(&setting.place, &place));
    flatten(&place, value, &|_| name.to_owned(), settings)
}

/// Sets an item of a list, as `REGISTRY_HTTP_TLS_CLIENTCAS_0` does.
fn set_item(settings: &mut Vec<Setting>, place: &str, (number, value): (usize, Yaml), name: &str) {
    let at = settings.iter().position(|setting| setting.place == place);
    let mut items = match at.map(|at| settings.remove(at).value) {
        Some(Yaml::List(items)) => items,
        Some(single @ Yaml::Text { .. }) => vec![single],
        Some(Yaml::Null | Yaml::Map(_)) | None => Vec::new(),
    };
    let is_full = items.len() >= MOST_ITEMS;
    match items.get_mut(number) {
        Some(item) => *item = value,
        None if is_full => {}
        None => items.push(value),
    }
    settings.push(Setting { place: place.to_owned(), value: Yaml::List(items), name: name.to_owned() });
}

/// Returns the value of a variable: YAML, as in registry:2. Text without quotes is taken as it is, even where YAML
/// would find a comment in it or could not read it.
fn value_of(text: &str) -> Yaml {
    let verbatim = Yaml::plain(text.trim());
    match yaml::read(text) {
        Ok(Yaml::Text { plain: true, .. }) | Err(_) => verbatim,
        Ok(Yaml::Null) if text.trim().starts_with('#') => verbatim,
        Ok(value) => value,
    }
}

/// Adds the settings of a part of the tree.
fn flatten(
    place: &str,
    value: Yaml,
    name_of: &dyn Fn(&str) -> String,
    settings: &mut Vec<Setting>,
) -> Result<(), Problem> {
    let mut add = |place: String, value: Yaml| {
        let name = name_of(&place);
        settings.push(Setting { place, value, name });
    };
    match value {
        Yaml::Map(entries) if is_section(place) => {
            if entries.is_empty() {
                add(place.to_owned(), Yaml::Null);
            }
            for (key, value) in entries {
                let place = if place.is_empty() { key } else { format!("{place}.{key}") };
                check_case(&place, &name_of(&place))?;
                flatten(&place, value, name_of, settings)?;
            }
        }
        // A driver or a kind of users may be named without settings of its own; its name then stands for the section.
        Yaml::Text { text, .. } if matches!(place, "auth" | "storage") => {
            let name = name_of(place);
            let place = format!("{place}.{text}");
            check_case(&place, &name)?;
            settings.push(Setting { place, value: Yaml::Null, name });
        }
        value => add(place.to_owned(), value),
    }
    Ok(())
}

/// Refuses a setting that is known in lower case only: registry:2 is case-sensitive.
fn check_case(place: &str, name: &str) -> Result<(), Problem> {
    let lower = place.to_ascii_lowercase();
    if lower != place && (is_section(&lower) || effect(&lower).is_some()) {
        let reason = "registry:2 knows names of settings, drivers and kinds of users in lower case only";
        return Err(Problem::Unsupported { name: name.to_owned(), reason });
    }
    Ok(())
}
