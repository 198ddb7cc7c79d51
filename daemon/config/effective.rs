//! The settings in effect with their sources, for the admin page.

use std::collections::BTreeMap;

use super::definitions::SECTIONS;
use super::given::Given;
use super::item::{Shape, Value};
use super::places::Places;
use super::settings::Config;

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The section; empty for keys outside of sections.
    pub section: &'static str,
    /// The full name of the key.
    pub name: &'static str,
    /// The value as TOML, of a table and of each rule in several lines; `None` if the key is not set.
    pub value: Option<String>,
    /// The place at which it is set: a line of a file, a variable or an option; `None` for the default.
    pub source: Option<String>,
    /// True if a change takes effect only at the next restart.
    pub restart: bool,
    /// The value after a restart, if the configuration was changed since the start.
    pub after_restart: Option<String>,
}

/// Returns the places of the given values.
pub(super) fn places_of(given: &Given) -> Places {
    let mut places = BTreeMap::new();
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        let Some(item) = given.get(key.name) else { continue };
        let all = match (&item.value, (key.shape)()) {
            (Value::List(rules), Shape::Rules) => rules.iter().map(|rule| rule.place.to_string()).collect(),
            (Value::Table(entries), Shape::Table) => {
                entries.first().map(|entry| vec![entry.place.to_string()]).unwrap_or_default()
            }
            (_, _) => vec![item.place.to_string()],
        };
        places.insert(key.name, all);
    }
    Places::new(places)
}

impl Config {
    /// Returns all settings in effect, each rule as one. Credentials in a URL are masked.
    pub fn effective_settings(&self) -> Vec<EffectiveSetting> {
        let mut settings = Vec::new();
        for section in &SECTIONS {
            for key in section.keys {
                let values: Vec<Option<String>> = match ((key.show)(self), (key.shape)()) {
                    (Some(toml::Value::Array(rules)), Shape::Rules) if !rules.is_empty() => {
                        rules.iter().map(|rule| Some(lines(rule))).collect()
                    }
                    (Some(toml::Value::Array(_)), Shape::Rules) => vec![None],
                    (value, _) => vec![value.as_ref().map(lines)],
                };
                settings.extend(values.into_iter().enumerate().map(|(number, value)| EffectiveSetting {
                    section: section.name,
                    name: key.name,
                    value: value.filter(|value| !value.is_empty()).map(|value| without_credentials(&value)),
                    source: self.places.of_key(key.name).get(number).cloned(),
                    restart: key.restart,
                    after_restart: None,
                }));
            }
        }
        settings
    }

    /// Returns the settings in effect after a reload with the configuration `new`, of a daemon that started with this one.
    pub fn effective_after_reload(&self, new: &Config) -> Vec<EffectiveSetting> {
        let changed: Vec<_> = self.keys_changed_until_restart(new).collect();
        let started = self.effective_settings();
        let in_effect = |setting: EffectiveSetting| {
            let old = started.iter().find(|old| old.name == setting.name && changed.contains(&old.name));
            match old {
                None => setting,
                Some(old) => EffectiveSetting {
                    after_restart: Some(setting.value.unwrap_or_else(|| "not set".into())),
                    ..old.clone()
                },
            }
        };
        new.effective_settings().into_iter().map(in_effect).collect()
    }

    /// Returns the places at which the rules of users are set.
    pub fn places_of_user_rules(&self) -> Vec<String> {
        self.places.of_key("auth.rule").to_vec()
    }
}

/// Formats a value: a table in a line for each of its keys.
fn lines(value: &toml::Value) -> String {
    match value.as_table() {
        Some(table) => {
            let rows = table.iter().map(|(key, value)| format!("{key} = {value}"));
            rows.collect::<Vec<_>>().join("\n")
        }
        None => value.to_string(),
    }
}

/// Masks the user information of URLs.
fn without_credentials(text: &str) -> String {
    let Some((before, after)) = text.split_once("://") else { return text.to_owned() };
    let end = after.find(['/', '"', '\'', ',', '\n', ' ']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let shown = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
    format!("{before}://{shown}{}", without_credentials(rest))
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, from_text};
    use super::*;

    #[test]
    fn each_setting_names_its_source() {
        let text = "listen = [\":5000\"]\n\n[[auth.rule]]\nusers = [\"ci\"]\nrepositories = [\"*\"]\nallow = [\"pull\"]\n";
        let environment = [("HOLDFAST_GC_GRACE".to_owned(), "2h".to_owned())];
        let overrides = Overrides { data: Some("/data".into()), ..Overrides::default() };
        let config = from_text("holdfast.toml", text, environment, &overrides).unwrap();
        let settings = config.effective_settings();
        let find = |name: &str| settings.iter().find(|one| one.name == name).unwrap();
        assert_eq!(find("listen").source.as_deref(), Some("holdfast.toml:1:10"));
        assert!(find("listen").restart);
        assert_eq!(find("gc.grace").source.as_deref(), Some("HOLDFAST_GC_GRACE"));
        assert_eq!(find("storage.path").source.as_deref(), Some("--data"));
        assert_eq!(find("storage.path").value.as_deref(), Some("\"/data\""));
        assert_eq!(find("log.level").source, None);
        let rule = find("auth.rule");
        assert!(rule.source.as_deref().unwrap().starts_with("holdfast.toml:3:"), "{rule:?}");
        assert!(rule.value.as_deref().unwrap().contains("allow = [\"pull\"]\n"), "{rule:?}");
        assert_eq!(config.places_of_user_rules(), [rule.source.clone().unwrap()]);
    }

    #[test]
    fn settings_that_need_a_restart_keep_their_values_after_a_reload() {
        let config = |text| from_text("holdfast.toml", text, [], &Overrides::default()).unwrap();
        let started = config("listen = [\":5000\"]\nstorage.path = \"/a\"\n");
        let new = config("listen = [\":6000\"]\nstorage.path = \"/a\"\nlog.level = \"debug\"\n");
        let settings = started.effective_after_reload(&new);
        let find = |name: &str| settings.iter().find(|one| one.name == name).unwrap();
        let listen = find("listen");
        assert_eq!(listen.value.as_deref(), Some("[\":5000\"]"));
        assert_eq!(listen.after_restart.as_deref(), Some("[\":6000\"]"));
        assert_eq!(find("log.level").value.as_deref(), Some("\"debug\""));
        assert!(settings.iter().filter(|one| one.after_restart.is_some()).count() == 1);
        assert!(new.effective_after_reload(&new).iter().all(|one| one.after_restart.is_none()));
    }

    #[test]
    fn credentials_in_urls_are_masked() {
        assert_eq!(without_credentials("\"https://u:p@host/x\""), "\"https://***@host/x\"");
        assert_eq!(without_credentials("[\"http://a@b\", \"http://c\"]"), "[\"http://***@b\", \"http://c\"]");
        assert_eq!(without_credentials("plain @ text"), "plain @ text");
    }
}
