//! Lenient view of an image config (image specification, "OCI Image Configuration") for the admin page.
//!
//! The content is untrusted input: fields of another type are left out, lists and maps are bounded.

use serde::Deserialize;

use super::lenient::{BoundedList, BoundedMap, BoundedText, lenient, lenient_text};
use super::manifest_view::Platform;

/// The maximum numbers of ports, of volumes and of labels that are kept.
const NAMES: usize = 200;

/// The runtime settings and the build history of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// The creation time, as its builder wrote it.
    #[serde(deserialize_with = "lenient_text")]
    pub created: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    os: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    architecture: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    variant: Option<String>,
    /// The build steps.
    pub history: BoundedList<HistoryEntry>,
    #[serde(deserialize_with = "lenient")]
    config: Option<RuntimeConfig>,
}

/// A runtime setting of an image with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSetting {
    /// The name that the admin page shows.
    pub name: &'static str,
    /// The values that are kept.
    pub values: Vec<String>,
    /// The number of values that are left out.
    pub more: usize,
}

/// A build step of an image, an entry of `history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// The command.
    #[serde(deserialize_with = "lenient_text")]
    pub created_by: Option<String>,
    /// The comment of the builder.
    #[serde(deserialize_with = "lenient_text")]
    pub comment: Option<String>,
    #[serde(deserialize_with = "lenient")]
    empty_layer: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RuntimeConfig {
    #[serde(deserialize_with = "lenient_text")]
    user: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    working_dir: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    stop_signal: Option<String>,
    entrypoint: BoundedList<BoundedText>,
    cmd: BoundedList<BoundedText>,
    env: BoundedList<BoundedText>,
    exposed_ports: BoundedMap<NAMES>,
    volumes: BoundedMap<NAMES>,
    labels: BoundedMap<NAMES>,
}

impl ImageConfig {
    /// Reads a config; fields that cannot be read are empty.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Returns the platform of the image.
    pub fn platform(&self) -> Platform {
        let (os, architecture, variant) = (&self.os, &self.architecture, &self.variant);
        Platform { os: os.clone(), architecture: architecture.clone(), variant: variant.clone() }
    }

    /// Returns the runtime settings that have a value, the most important first.
    pub fn settings(&self) -> Vec<RuntimeSetting> {
        let Some(config) = &self.config else { return Vec::new() };
        let one = |text: &Option<String>| (text.iter().cloned().collect(), 0);
        let names =
            |map: &BoundedMap<NAMES>| (map.pairs.iter().map(|(name, _)| name.clone()).collect(), map.more);
        let environment = config.env.items.iter().map(|text| text.0.clone()).collect();
        let settings: [(&'static str, (Vec<String>, usize)); 8] = [
            ("Entrypoint", command(&config.entrypoint)),
            ("Command", command(&config.cmd)),
            ("Working directory", one(&config.working_dir)),
            ("User", one(&config.user)),
            ("Ports", names(&config.exposed_ports)),
            ("Volumes", names(&config.volumes)),
            ("Stop signal", one(&config.stop_signal)),
            ("Environment", (environment, config.env.more)),
        ];
        let settings =
            settings.into_iter().map(|(name, (values, more))| RuntimeSetting { name, values, more });
        settings.filter(|one| one.values.iter().any(|value| !value.is_empty())).collect()
    }

    /// Returns the labels that are kept and the number of others.
    pub fn labels(&self) -> (&[(String, String)], usize) {
        self.config.as_ref().map_or((&[], 0), |config| (&config.labels.pairs, config.labels.more))
    }

    /// Returns the build steps that created a layer, in the order of the layers.
    pub fn layer_history(&self) -> impl Iterator<Item = &HistoryEntry> {
        self.history.items.iter().filter(|step| step.creates_layer())
    }
}

impl HistoryEntry {
    /// Returns true if the step created a layer; steps such as `ENV` only change settings.
    pub fn creates_layer(&self) -> bool {
        self.empty_layer != Some(true)
    }
}

/// Formats a command in one line, quoted as for a shell; also returns the number of words that are left out.
fn command(words: &BoundedList<BoundedText>) -> (Vec<String>, usize) {
    let quote = |BoundedText(word): &BoundedText| {
        let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'\\$`".contains(c));
        if plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    if words.items.is_empty() {
        return (Vec::new(), 0);
    }
    (vec![words.items.iter().map(quote).collect::<Vec<_>>().join(" ")], words.more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_docker_config_and_skips_malformed_fields() {
        let text = br#"{"created":"2026-01-02T03:04:05Z","architecture":"arm64","os":"linux","rootfs":{},
            "config":{"Entrypoint":["/run","two words"],"Env":["A=b",7],"ExposedPorts":{"80/tcp":{}},
                "Volumes":null,"User":0,"Labels":{"a":"<b>","n":1}},
            "history":[{"created_by":"COPY x"},{"created_by":"ENV A=b","empty_layer":true},7]}"#;
        let config = ImageConfig::parse(text);
        assert_eq!(config.platform().to_string(), "linux/arm64");
        let settings = config.settings();
        let setting = |name, value: &str| RuntimeSetting { name, values: vec![value.to_owned()], more: 0 };
        let expected = [("Entrypoint", "/run 'two words'"), ("Ports", "80/tcp"), ("Environment", "A=b")];
        assert_eq!(settings, expected.map(|(name, value)| setting(name, value)));
        assert_eq!(config.labels().0, [("a".to_owned(), "<b>".to_owned()), ("n".to_owned(), "1".to_owned())]);
        assert_eq!((config.layer_history().count(), config.history.items.len()), (1, 2));
        assert_eq!(ImageConfig::parse(b"[]"), ImageConfig::default());
    }
}
