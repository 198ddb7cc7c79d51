//! The configuration of registry:2: its YAML file and its `REGISTRY_*` variables, which are one tree of settings.
//!
//! Both become a list of settings, each with its place in the tree; a variable replaces what the file sets at its place
//! and below. [`settings`] lists the effect of each setting here. A setting without an effect is named in a warning,
//! unless its value asks for the behaviour that Holdfast has anyway; a setting that would be dangerous to ignore is an
//! error.

mod overlay;
mod place;
mod readers;
mod reading;
mod settings;
#[cfg(test)]
mod tests;
mod users;
mod yaml;

use std::io::Read;
use std::path::Path;

use self::overlay::{overlay, read};
use self::place::is_below;
pub(super) use self::reading::Effects;
use self::reading::{Reading, Setting};
use self::settings::{Effect, OTHER_DRIVER, OTHER_USERS, effect, is_known_kind, is_section};
use self::yaml::Yaml;
use super::given::Given;
use super::item::{Item, Named, Place};
use super::problem::Problem;

/// The directory that registry:2 stores content in if its file names no other.
const DEFAULT_ROOT: &str = "/var/lib/registry";
/// The directory below it in which registry:2 keeps everything.
pub const DATA: &str = "docker/registry/v2";
/// The variable that names the file that registry:2 reads.
pub(super) const PATH: &str = "REGISTRY_CONFIGURATION_PATH";

/// Returns true if a configuration file is one of registry:2, by its name.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// Reads a file, up to one byte more than the longest one that is accepted.
pub(super) fn read_file(path: &Path) -> Result<String, Problem> {
    let failed =
        |error: std::io::Error| Problem::Read { file: path.display().to_string(), reason: error.to_string() };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(yaml::LONGEST as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Sets the values that a file of registry:2 and the variables give, and notes their other effects.
pub(super) fn apply(
    file: Option<Named>,
    environment: &[(String, String)],
    given: &mut Given,
    effects: &mut Effects,
    problems: &mut Vec<Problem>,
) {
    let (settings, are_details) = match settings_of(file, environment) {
        Ok(settings) => settings,
        // The other settings of an incomplete tree would be misread, so that only its first mistake is reported.
        Err(problem) => return problems.push(problem),
    };
    effects.registry |= file.is_some();
    if let Some((name, _)) = file.filter(|_| needs_root(&settings) && !given.has("storage.path")) {
        given.set("storage.path", Item::text(DEFAULT_ROOT, Place::Name(name.to_owned())));
    }
    let keeps_anonymous = are_details && given.has("auth.anonymous");
    let has_value = |setting: &&Setting| !setting.value.asks_for_nothing();
    let places = settings.iter().filter(has_value).map(|setting| setting.place.clone()).collect();
    let mut reading = Reading { given, effects, places, keeps_anonymous };
    problems.extend(settings.iter().filter_map(|setting| reading.read(setting).err()));
}

/// Returns the settings of the file with those of the environment laid over them, and whether these change only details
/// of users.
fn settings_of(
    file: Option<Named>,
    environment: &[(String, String)],
) -> Result<(Vec<Setting>, bool), Problem> {
    let mut settings = file.map_or_else(|| Ok(Vec::new()), |(name, text)| read(name, text))?;
    let are_details = users::are_details(&settings, environment);
    for (name, value) in environment {
        overlay(&mut settings, name, value)?;
    }
    users::check(&settings)?;
    Ok((settings, are_details))
}

/// Returns true if the driver is named without its directory, which then has the default of registry:2.
fn needs_root(settings: &[Setting]) -> bool {
    !settings.iter().any(|setting| setting.place == "storage.filesystem.rootdirectory")
        && settings.iter().any(|setting| setting.place.starts_with("storage.filesystem"))
}

impl Reading<'_> {
    fn read(&mut self, setting: &Setting) -> Result<(), Problem> {
        // Any setting below `auth` shows that the registry is meant for users, so that it is not left open.
        self.effects.users |= setting.place.starts_with("auth");
        let Some(effect) = effect(&setting.place) else { return self.unknown(setting) };
        // A driver or a kind of users has its effect even without settings below it.
        let is_kind = is_below(&setting.place, "auth") || is_below(&setting.place, "storage");
        match effect {
            Effect::Sets(_) if setting.value == Yaml::Null => {}
            Effect::Sets(key) => self.set_value(key, setting)?,
            Effect::Read(read) | Effect::IgnoredUnless(read) | Effect::RefusedUnless(read) => {
                read(self, setting)?;
            }
            Effect::NotNeeded => {}
            Effect::Ignored(_) if setting.value.asks_for_nothing() => {}
            Effect::Ignored(why) => self.ignore(setting, why),
            Effect::Refused(_) if setting.value.asks_for_nothing() && !is_kind => {}
            Effect::Refused(why) => return Err(setting.unsupported(why)),
        }
        Ok(())
    }

    fn unknown(&mut self, setting: &Setting) -> Result<(), Problem> {
        let is_kind = matches!(setting.place.as_str(), "auth" | "storage");
        if is_section(&setting.place) && (is_kind || setting.value != Yaml::Null) {
            return Err(setting.wrong("a map of settings in YAML"));
        }
        if !is_known_kind(&setting.place) && is_below(&setting.place, "storage") {
            return Err(setting.unsupported(OTHER_DRIVER));
        }
        if !is_known_kind(&setting.place) && is_below(&setting.place, "auth") {
            return Err(setting.unsupported(OTHER_USERS));
        }
        if setting.value != Yaml::Null {
            self.ignore(setting, "Holdfast knows no such setting of registry:2");
        }
        Ok(())
    }
}
