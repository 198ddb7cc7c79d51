//! The configuration of an image (image specification, "OCI Image Configuration"), as far as people look at it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::contents::{Platform, lenient, lenient_list};

/// What an image is to be run with, and how it was made. A field of another shape is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, as its builder wrote it.
    #[serde(deserialize_with = "lenient")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(deserialize_with = "lenient")]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// How it was made, step by step.
    #[serde(deserialize_with = "lenient_list")]
    pub history: Vec<Step>,
    #[serde(deserialize_with = "lenient")]
    config: Option<Running>,
}

/// A step in which an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The command.
    #[serde(deserialize_with = "lenient")]
    pub created_by: Option<String>,
    /// What was said about it.
    #[serde(deserialize_with = "lenient")]
    pub comment: Option<String>,
    #[serde(deserialize_with = "lenient")]
    empty_layer: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Running {
    #[serde(deserialize_with = "lenient")]
    user: Option<String>,
    #[serde(deserialize_with = "lenient")]
    working_dir: Option<String>,
    #[serde(deserialize_with = "lenient")]
    stop_signal: Option<String>,
    #[serde(deserialize_with = "lenient_list")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "lenient_list")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "lenient_list")]
    env: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    exposed_ports: Option<BTreeMap<String, Value>>,
    #[serde(deserialize_with = "lenient")]
    volumes: Option<BTreeMap<String, Value>>,
    #[serde(deserialize_with = "lenient")]
    labels: Option<BTreeMap<String, Value>>,
}

impl ImageConfig {
    /// Reads a configuration; what cannot be read is empty.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What it is run with, by name, in the order in which people look for it; empty ones are left out.
    pub fn settings(&self) -> Vec<(&'static str, Vec<String>)> {
        let Some(running) = &self.config else { return Vec::new() };
        let one = |text: &Option<String>| text.iter().filter(|text| !text.is_empty()).cloned().collect();
        let keys = |map: &Option<BTreeMap<String, Value>>| {
            map.iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let settings = [
            ("Entrypoint", command(&running.entrypoint)),
            ("Command", command(&running.cmd)),
            ("Working directory", one(&running.working_dir)),
            ("User", one(&running.user)),
            ("Ports", keys(&running.exposed_ports)),
            ("Volumes", keys(&running.volumes)),
            ("Stop signal", one(&running.stop_signal)),
            ("Environment", running.env.clone()),
        ];
        settings.into_iter().filter(|(_, values): &(_, Vec<String>)| !values.is_empty()).collect()
    }

    /// The labels.
    pub fn labels(&self) -> Vec<(String, String)> {
        let labels = self.config.iter().flat_map(|running| running.labels.iter().flatten());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        labels.map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// The steps that made a layer, in the order of the layers.
    pub fn layer_steps(&self) -> impl Iterator<Item = &Step> {
        self.history.iter().filter(|step| step.empty_layer != Some(true))
    }
}

/// A command in one line, as a shell would take it.
fn command(words: &[String]) -> Vec<String> {
    let quote = |word: &String| {
        let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"'\\$`".contains(c));
        if plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    if words.is_empty() { Vec::new() } else { vec![words.iter().map(quote).collect::<Vec<_>>().join(" ")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes_and_passes_over_the_rest() {
        let text = br#"{"created":"2026-01-02T03:04:05Z","architecture":"arm64","os":"linux","rootfs":{},
            "config":{"Entrypoint":["/run","two words"],"Env":["A=b",7],"ExposedPorts":{"80/tcp":{}},
                "Volumes":null,"User":0,"Labels":{"a":"<b>","n":1}},
            "history":[{"created_by":"COPY x"},{"created_by":"ENV A=b","empty_layer":true},7]}"#;
        let config = ImageConfig::parse(text);
        assert_eq!(config.platform.to_string(), "linux/arm64");
        let settings = config.settings();
        assert_eq!(settings[0], ("Entrypoint", vec!["/run 'two words'".to_owned()]));
        assert_eq!(
            settings[1..],
            [("Ports", vec!["80/tcp".to_owned()]), ("Environment", vec!["A=b".to_owned()])]
        );
        assert_eq!(config.labels(), [("a".to_owned(), "<b>".to_owned()), ("n".to_owned(), "1".to_owned())]);
        assert_eq!((config.layer_steps().count(), config.history.len()), (1, 2));
        assert_eq!(ImageConfig::parse(b"[]"), ImageConfig::default());
    }
}
