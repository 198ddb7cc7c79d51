//! Loads the settings from their sources. All sources are read before anything is refused, so that one run shows all
//! mistakes.

use std::path::{Path, PathBuf};

use super::definitions::{SECTIONS, finish, key};
use super::effective::places_of;
use super::environment::Variables;
use super::file;
use super::given::Given;
use super::item::{Item, Named, Place, Value};
use super::key::{Initial, Key};
use super::problem::{ConfigError, Problem};
use super::registry2;
use super::settings::{Config, DataSource};

/// The file that is read if no other is named.
const DEFAULT_FILE: &str = "/etc/holdfast/holdfast.toml";

/// Options of the command line that override keys.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--data`: the data directory, `storage.path`.
    pub data: Option<PathBuf>,
    /// `--listen`: the addresses, `listen`; empty for those of the other sources.
    pub listen: Vec<String>,
}

/// Reads the configuration from its sources.
///
/// # Errors
/// Returns [`ConfigError`] with all mistakes.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let (default, is_named) = (Path::new(DEFAULT_FILE), file.is_some());
    let file = file.or_else(|| default.exists().then_some(default));
    let mut variables = Variables::sort(environment);
    let named = variables.take_registry(registry2::PATH).map(PathBuf::from);
    let main = file.filter(|path| registry2::is_one(path)).map(Path::to_owned);
    let own = match file {
        Some(path) if main.is_none() => read_named(path, read_file),
        Some(_) | None => Ok((String::new(), String::new())),
    };
    let own = own.as_ref().map(as_named).map_err(Problem::clone);
    let compatible = main.or(named).or_else(|| compatible_file(own.as_ref().ok(), &variables));
    let compatible = compatible.map(|path| read_named(&path, registry2::read_file)).transpose();
    let compatible = compatible.as_ref().map(|file| file.as_ref().map(as_named)).map_err(Problem::clone);
    let mut config = from_sources(own, compatible, &variables, overrides)?;
    if is_named && config.data_source == DataSource::UsualFile {
        config.data_source = DataSource::Named;
    }
    Ok(config)
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let failed =
        |error: std::io::Error| Problem::Read { file: path.display().to_string(), reason: error.to_string() };
    std::fs::read_to_string(path).map_err(failed)
}

/// Reads a file; returns its name and its text.
fn read_named(path: &Path, read: fn(&Path) -> Result<String, Problem>) -> Result<(String, String), Problem> {
    read(path).map(|text| (path.display().to_string(), text))
}

fn as_named((name, text): &(String, String)) -> Named<'_> {
    (name, text)
}

/// Returns the first file that exists of `registry.compatible_files`. Ignores mistakes, which [`from_sources`] reports.
fn compatible_file(own: Option<&Named>, variables: &Variables) -> Option<PathBuf> {
    const KEY: &str = "registry.compatible_files";
    let mut given = Given::default();
    if let Some((name, text)) = own {
        file::read(name, text, &mut given, &mut Vec::new());
    }
    let item = variables.own(KEY).or_else(|| given.get(KEY).cloned())?;
    let mut config = Config::default();
    (key(KEY)?.read)(&mut config, KEY, &item).ok()?;
    config.registry.compatible_files.into_iter().find(|path| path.exists())
}

/// Reads the configuration from the text of the file `name`, and the other sources.
///
/// # Errors
/// Returns the errors of [`load`].
pub fn from_text(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let config = from_sources(Ok((name, text)), Ok(None), &Variables::sort(environment), overrides)?;
    // A text is not the file at its usual place.
    Ok(Config { data_source: DataSource::default(), ..config })
}

/// Reads the configuration from the text of the file, of a file of registry:2, if there is one, and the other sources.
/// A file that cannot be read is one problem among those of the other sources.
pub(super) fn from_sources(
    own: Result<Named, Problem>,
    compatible: Result<Option<Named>, Problem>,
    variables: &Variables,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let (mut given, mut problems) = (Given::default(), Vec::new());
    let mut effects = registry2::Effects::default();
    match own {
        Ok((name, text)) => file::read(name, text, &mut given, &mut problems),
        Err(problem) => problems.push(problem),
    }
    variables.apply_interface(&mut given, &mut effects.sources);
    let compatible = match compatible {
        Ok(compatible) => {
            registry2::apply(compatible, &variables.registry, &mut given, &mut effects, &mut problems);
            compatible
        }
        // The variables change details of the file, and would be misread without it.
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    variables.apply_own(&mut given, &mut effects.sources, &mut problems);
    if let Some(data) = &overrides.data {
        given.set("storage.path", Item::text(data.display().to_string(), Place::Name("--data".into())));
    }
    if !overrides.listen.is_empty() {
        let place = Place::Name("--listen".into());
        let text = |address: &String| Item::text(address.clone(), place.clone());
        let value = Value::List(overrides.listen.iter().map(text).collect());
        given.set("listen", Item { value, place: place.clone() });
    }
    let mut config = assemble(&given, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    let is_for_users = config.auth.htpasswd_is_set || !config.auth.settings.rules.is_empty();
    config.open_because_registry_environment =
        effects.registry && !effects.users && config.auth.settings.anonymous.is_none() && !is_for_users;
    config.data_source = match given.place("storage.path") {
        None => DataSource::Default,
        Some(Place::File { .. }) => DataSource::UsualFile,
        Some(Place::Name(_)) => DataSource::Named,
    };
    config.places = places_of(&given);
    config.warnings = effects.warnings;
    config.sources = effects.sources;
    if config.open_because_registry_environment {
        let setting =
            compatible.map_or_else(|| "REGISTRY_AUTH".to_owned(), |(name, _)| format!("auth in {name}"));
        config.warnings.push(format!(
            "{setting} is not set: the registry is open to everyone who can reach it until it has a user; set \
             REGISTRY_AUTH=htpasswd, or run: holdfast user add NAME"
        ));
    }
    Ok(config)
}

/// Makes settings of the given values and the defaults of the other keys.
fn assemble(given: &Given, problems: &mut Vec<Problem>) -> Config {
    let (mut config, before) = (Config::default(), problems.len());
    let is_complete = !problems.iter().any(|problem| matches!(problem, Problem::Read { .. }));
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        let Some(item) = given.get(key.name).cloned().or_else(|| default_of(key)) else { continue };
        problems.extend((key.read)(&mut config, key.name, &item).err().into_iter().flatten());
    }
    // Checks of several keys together need each of them to be known and valid.
    if is_complete && problems.len() == before {
        finish(&mut config, given, problems);
    }
    config
}

/// Returns the value of a key that no source sets.
pub(super) fn default_of<T>(key: &Key<T>) -> Option<Item> {
    match key.initial {
        Initial::Value(text) | Initial::Machine(text, _) => file::value(text),
        Initial::Unset(_) | Initial::Required(_) => None,
    }
}
