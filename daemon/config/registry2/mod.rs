//! The configuration of registry:2: its file and its `REGISTRY_*` names, which are one tree there.
//!
//! Both become a list of settings, each with its place in the tree; a name of the environment replaces what the file says
//! at its place and below. What each setting means here is in [`settings`]. No setting has no effect in silence, other than
//! one that asks for what is so anyway.

mod readers;
mod settings;
#[cfg(test)]
mod tests;
mod users;
mod yaml;

use std::io::Read;
use std::path::Path;

use toml::{Table, Value};

use self::settings::{
    Meaning, OTHER_DRIVER, OTHER_NAMES, OTHER_USERS, is_below, is_known_kind, is_section, meaning,
};
use self::yaml::Yaml;
use super::ConfigError;
use super::environment::{Found, kind_of, set, title_case};

/// What the names in the environment begin with.
const PREFIX: &str = "REGISTRY_";
/// What the names of headers begin with; a header's name may have other letters than the rest.
const HEADERS: &str = "REGISTRY_HTTP_HEADERS_";
/// Where registry:2 keeps its content when its file does not say it.
const DEFAULT_ROOT: &str = "/var/lib/registry";
/// The directory below that in which registry:2 keeps everything.
pub const DATA: &str = "docker/registry/v2";
/// The name in the environment of the file that registry:2 reads where no other is named.
pub(super) const PATH: &str = "REGISTRY_CONFIGURATION_PATH";
/// The most items that names of the environment may give a list, one by one.
const MOST_ITEMS: usize = 64;

/// A setting, as it was written.
struct Setting {
    /// Its place in the tree, such as `http.tls.key`.
    place: String,
    value: Yaml,
    /// What it is called where it was written.
    name: String,
}

/// The configuration while settings are read into it.
struct Reading<'a> {
    table: &'a mut Table,
    found: &'a mut Found,
    /// The places that are set to something.
    places: Vec<String>,
    /// Whether `auth.anonymous` of Holdfast's own configuration stays when only details of users are set.
    keeps_anonymous: bool,
}

impl Reading<'_> {
    fn set(&mut self, key: &str, setting: &Setting, value: Value) {
        set(self.table, key, value);
        self.take(setting);
    }

    /// Notes that a setting has its effect.
    fn take(&mut self, setting: &Setting) {
        self.found.registry = true;
        if !self.found.names.contains(&setting.name) {
            self.found.names.push(setting.name.clone());
        }
    }

    fn ignore(&mut self, setting: &Setting, why: &str) {
        self.found.warnings.push(format!("{} has no effect: {why}", setting.name));
    }

    fn has(&self, place: &str) -> bool {
        self.places.iter().any(|known| known == place)
    }
}

/// Returns true if a configuration file is one of registry:2, by its name.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// Reads a file, up to the length that is looked at.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let failed = |why: String| ConfigError::Read(path.display().to_string(), why);
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    let most = yaml::LONGEST as u64 + 1;
    file.take(most).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

/// Puts what a file of registry:2, with its name, and the names of the environment say into the table.
pub(super) fn apply(
    file: Option<(&str, &str)>,
    environment: &[(String, String)],
    table: &mut Table,
    found: &mut Found,
) -> Result<(), ConfigError> {
    let mut all = file.map_or_else(|| Ok(Vec::new()), |(name, text)| read(name, text))?;
    let keeps_anonymous = users::are_details(&all, environment) && users::anonymous_is_set(table);
    for (name, value) in environment {
        overlay(&mut all, name, value)?;
    }
    users::check(&all)?;
    found.registry |= file.is_some();
    let needs_root = file.is_some() && !all.iter().any(|one| one.place == "storage.filesystem.rootdirectory");
    if needs_root && all.iter().any(|one| one.place.starts_with("storage.filesystem")) {
        let storage = table.get("storage").and_then(Value::as_table);
        if !storage.is_some_and(|storage| storage.contains_key("path")) {
            set(table, "storage.path", DEFAULT_ROOT.into());
        }
    }
    let is_set = |one: &&Setting| !says_nothing(&one.value);
    let places = all.iter().filter(is_set).map(|one| one.place.clone()).collect();
    let mut reading = Reading { table, found, places, keeps_anonymous };
    all.iter().try_for_each(|setting| reading.read(setting))
}

/// Reads the settings of a file.
fn read(name: &str, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let syntax = |why: String| ConfigError::Syntax(name.to_owned(), why);
    let mut all = Vec::new();
    match yaml::read(text).map_err(syntax)? {
        Yaml::Map(entries) => {
            let name_of = |place: &str| format!("{name}: {place}");
            flatten("", Yaml::Map(entries), &name_of, &mut all)?;
        }
        Yaml::Null | Yaml::Text { .. } | Yaml::List(_) => {
            return Err(syntax("is no configuration of registry:2, which is a map of settings".into()));
        }
    }
    if !all.iter().any(|one| one.place == "version") {
        return Err(syntax("is no configuration of registry:2, which begins with version: 0.1".into()));
    }
    Ok(all)
}

/// Lays a name of the environment over the settings.
fn overlay(all: &mut Vec<Setting>, name: &str, value: &str) -> Result<(), ConfigError> {
    let place = place_of(name);
    let value = value_of(value);
    if let Some((list, number)) = place.rsplit_once('.').filter(|(list, _)| meaning(list).is_some())
        && let Ok(number) = number.parse::<usize>()
    {
        set_item(all, list, (number, value), name);
        return Ok(());
    }
    all.retain(|one| one.place != place && !is_below(&one.place, &place));
    flatten(&place, value, &|_| name.to_owned(), all)
}

/// Sets an item of a list, as `REGISTRY_HTTP_TLS_CLIENTCAS_0` does.
fn set_item(all: &mut Vec<Setting>, place: &str, (number, value): (usize, Yaml), name: &str) {
    let at = all.iter().position(|one| one.place == place);
    let mut items = match at.map(|at| all.remove(at).value) {
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
    all.push(Setting { place: place.to_owned(), value: Yaml::List(items), name: name.to_owned() });
}

/// Returns the place that a name of the environment stands for.
fn place_of(name: &str) -> String {
    if let Some(header) = name.strip_prefix(HEADERS) {
        return format!("http.headers.{}", title_case(&header.replace("__", "-")));
    }
    let place = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase().replace('_', ".");
    for (field, known) in OTHER_NAMES {
        if let Some(rest) = place.strip_prefix(field) {
            return format!("{known}{rest}");
        }
    }
    place
}

/// Returns the value of a name in the environment: YAML, as there. Text without quotes is taken as it is, also where YAML
/// would find a comment in it or could not read it.
fn value_of(text: &str) -> Yaml {
    let as_it_is = Yaml::plain(text.trim());
    match yaml::read(text) {
        Ok(Yaml::Text { plain: true, .. }) | Err(_) => as_it_is,
        Ok(Yaml::Null) if text.trim().starts_with('#') => as_it_is,
        Ok(value) => value,
    }
}

/// Makes settings of a part of the tree.
fn flatten(
    place: &str,
    value: Yaml,
    name_of: &dyn Fn(&str) -> String,
    all: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    let mut add = |place: String, value: Yaml| {
        let name = name_of(&place);
        all.push(Setting { place, value, name });
    };
    match value {
        Yaml::Map(entries) if is_section(place) => {
            if entries.is_empty() {
                add(place.to_owned(), Yaml::Null);
            }
            for (key, value) in entries {
                let place = if place.is_empty() { key } else { format!("{place}.{key}") };
                check_case(&place, &name_of(&place))?;
                flatten(&place, value, name_of, all)?;
            }
        }
        // A driver or a kind of users may be named without settings of its own.
        Yaml::Text { text, .. } if matches!(place, "auth" | "storage") => {
            // Its name is that of the section.
            let name = name_of(place);
            let place = format!("{place}.{text}");
            check_case(&place, &name)?;
            all.push(Setting { place, value: Yaml::Null, name });
        }
        value => add(place.to_owned(), value),
    }
    Ok(())
}

/// Refuses a setting that is known in lower case only: registry:2 tells the letters apart.
fn check_case(place: &str, name: &str) -> Result<(), ConfigError> {
    let lower = place.to_ascii_lowercase();
    if lower != place && (is_section(&lower) || meaning(&lower).is_some()) {
        let why = "registry:2 knows names of settings, drivers and kinds of users in lower case only";
        return Err(ConfigError::Refused { name: name.to_owned(), why });
    }
    Ok(())
}

/// Returns true for a value that asks for nothing.
fn says_nothing(value: &Yaml) -> bool {
    match value {
        Yaml::Null => true,
        Yaml::Text { text, .. } => {
            matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "off" | "n")
        }
        Yaml::List(items) => items.is_empty(),
        Yaml::Map(entries) => entries.is_empty(),
    }
}

impl Reading<'_> {
    fn read(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        // A configuration that says anything about users does not mean an open registry.
        self.found.registry_auth |= setting.place.starts_with("auth");
        let Some(meaning) = meaning(&setting.place) else { return self.unknown(setting) };
        // The name of a driver or of a kind of users says what it says, also without settings of its own.
        let is_kind = is_below(&setting.place, "auth") || is_below(&setting.place, "storage");
        match meaning {
            Meaning::Sets(_) if setting.value == Yaml::Null => {}
            Meaning::Sets(key) => self.set(key, setting, setting.typed(kind_of(key))?),
            Meaning::Read(read) | Meaning::IgnoredUnless(read) | Meaning::RefusedUnless(read) => {
                read(self, setting)?;
            }
            Meaning::Moot => {}
            Meaning::Ignored(_) if says_nothing(&setting.value) => {}
            Meaning::Ignored(why) => self.ignore(setting, why),
            Meaning::Refused(_) if says_nothing(&setting.value) && !is_kind => {}
            Meaning::Refused(why) => return Err(setting.refused(why)),
        }
        Ok(())
    }

    fn unknown(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let is_kind = matches!(setting.place.as_str(), "auth" | "storage");
        if is_section(&setting.place) && (is_kind || setting.value != Yaml::Null) {
            return Err(setting.wrong("a map of settings in YAML"));
        }
        if !is_known_kind(&setting.place) && is_below(&setting.place, "storage") {
            return Err(setting.refused(OTHER_DRIVER));
        }
        if !is_known_kind(&setting.place) && is_below(&setting.place, "auth") {
            return Err(setting.refused(OTHER_USERS));
        }
        if setting.value != Yaml::Null {
            let why = "it is no setting of registry:2 that Holdfast knows";
            self.ignore(setting, why);
        }
        Ok(())
    }
}
