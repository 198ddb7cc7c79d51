//! The environment: `HOLDFAST_*` for every key that is not a table. The `REGISTRY_*` names of compose files are kept
//! for the reader of registry:2's settings.

use super::definitions::{key, keys};
use super::given::Given;
use super::item::{Item, Place};
use super::key::{ENVIRONMENT_PREFIX as PREFIX, Key};
use super::problem::Problem;
use super::suggest::suggest;

/// The variables of the user interface that is often run beside registry:2. They do not configure the registry itself.
const INTERFACE: [(&str, &str); 2] = [("REGISTRY_TITLE", "admin.title"), ("DELETE_IMAGES", "admin.delete")];

/// The variables of the environment, sorted by the program they are for.
#[derive(Default)]
pub(super) struct Variables {
    /// `HOLDFAST_*`
    own: Vec<(String, String)>,
    /// Variables of [`INTERFACE`], each with its key.
    interface: Vec<(String, &'static str, String)>,
    /// `REGISTRY_*`, sorted: the variable of a section comes before those of its settings, and does not replace them.
    pub(super) registry: Vec<(String, String)>,
}

impl Variables {
    pub(super) fn sort(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables = Variables::default();
        let mut pairs: Vec<_> = environment.into_iter().collect();
        pairs.sort();
        for (name, value) in pairs {
            if name.starts_with(PREFIX) {
                variables.own.push((name, value));
            } else if let Some((_, key)) = INTERFACE.into_iter().find(|(known, _)| *known == name) {
                variables.interface.push((name, key, value));
            } else if name.starts_with("REGISTRY_") && !is_of_other_programs(&name) {
                variables.registry.push((name, value));
            }
        }
        variables
    }

    /// Takes a variable of registry:2 away; returns its value if that is not empty.
    pub(super) fn take_registry(&mut self, name: &str) -> Option<String> {
        let at = self.registry.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.registry.remove(at);
        (!value.is_empty()).then_some(value)
    }

    /// Returns the value that a variable gives a key.
    pub(super) fn own(&self, key_name: &str) -> Option<Item> {
        let key = key(key_name)?;
        let name = key.environment_name()?;
        let (_, value) = self.own.iter().find(|(known, _)| *known == name)?;
        Some(Item::of_text((key.shape)(), value, Place::Name(name)))
    }

    /// Sets the values of the user interface's variables; adds the names that had an effect to `sources`.
    pub(super) fn apply_interface(&self, given: &mut Given, sources: &mut Vec<String>) {
        for (name, key_name, value) in &self.interface {
            let Some(key) = key(key_name) else { continue };
            given.set(key.name, Item::of_text((key.shape)(), value, Place::Name(name.clone())));
            sources.push(name.clone());
        }
    }

    /// Sets the values of `HOLDFAST_*`; adds the names that had an effect to `sources`.
    pub(super) fn apply_own(
        &self,
        given: &mut Given,
        sources: &mut Vec<String>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in &self.own {
            match keys().find(|key| key.environment_name().as_ref() == Some(name)) {
                Some(key) => {
                    given.set(key.name, Item::of_text((key.shape)(), value, Place::Name(name.clone())));
                    sources.push(name.clone());
                }
                None => problems.push(unknown(name)),
            }
        }
    }
}

fn unknown(name: &str) -> Problem {
    // The prefix is the same for all, and would make any two names similar.
    let short = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let known: Vec<String> = keys().filter_map(Key::environment_name).map(|name| short(&name)).collect();
    let suggestion = suggest(&short(name), known.iter().map(String::as_str));
    let suggestion = suggestion.map(|name| format!("{PREFIX}{name}"));
    Problem::Unknown { place: Place::Name(name.to_owned()), name: name.to_owned(), suggestion }
}

/// Returns true for names that look like settings of registry:2 but belong to other programs: podman and skopeo keep
/// their credentials in `REGISTRY_AUTH_FILE`, and Kubernetes sets such names for services called `registry-auth` and
/// `registry-storage`.
fn is_of_other_programs(name: &str) -> bool {
    let rest = name.strip_prefix("REGISTRY_AUTH_").or_else(|| name.strip_prefix("REGISTRY_STORAGE_"));
    name == "REGISTRY_AUTH_FILE"
        || rest
            .is_some_and(|rest| rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_"))
}
