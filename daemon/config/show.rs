//! `holdfast config show`: the settings in effect, as a file that reads back as the same settings.

use std::fmt::Write;

use super::definitions::SECTIONS;
use super::item::Shape;
use super::settings::Config;

impl Config {
    /// Returns the configuration in effect as TOML, with the names of the variables that had an effect in comments.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for name in &self.sources {
            text += &format!("# set by {name}\n");
        }
        if !self.auth.htpasswd_is_set {
            // As a key it would close an implicitly open registry.
            let path = self.auth.settings.htpasswd.display().to_string();
            text += &format!("# auth.htpasswd = {path:?} unless it is set\n");
        }
        let rules = &self.auth.settings.page_rules;
        if rules.exists() {
            text += &format!("# rules of the admin page: {}\n", rules.display());
        }
        let names = self.added_names_file();
        if names.exists() {
            text += &format!("# names of the certificate that the admin page added: {}\n", names.display());
        }
        for section in &SECTIONS {
            if !section.name.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n[{}]\n", section.name);
            }
            for key in section.keys {
                let Some(value) = (key.show)(self) else { continue };
                match (key.shape)() {
                    Shape::Table => text += &table(&format!("[{}]", key.name), &value),
                    Shape::Rules => text += &rule_tables(key.name, &value),
                    Shape::Text | Shape::Number | Shape::Flag | Shape::List => {
                        let _ = writeln!(text, "{} = {value}", key.short_name());
                    }
                }
            }
        }
        text
    }
}

/// Writes a list of rules, each as a table.
pub(super) fn rule_tables(name: &str, rules: &toml::Value) -> String {
    let rules = rules.as_array().into_iter().flatten();
    rules.map(|rule| table(&format!("[[{name}]]"), rule)).collect()
}

/// Writes a table with its heading.
fn table(heading: &str, value: &toml::Value) -> String {
    let rows = value.as_table().map(toml::to_string).and_then(Result::ok).unwrap_or_default();
    format!("\n{heading}\n{rows}")
}
