//! The configuration of an image (image specification, "OCI Image Configuration"), as far as people look at it.

use serde::Deserialize;

use super::contents::Platform;
use super::lenient::{List, Pairs, Text, lenient, lenient_text};

/// How many ports, volumes and labels are kept.
const NAMES: usize = 200;

/// What an image is to be run with, and how it was made. A field of another shape is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, as its builder wrote it.
    #[serde(deserialize_with = "lenient_text")]
    pub created: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    os: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    architecture: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    variant: Option<String>,
    /// How it was made, step by step.
    pub history: List<Step>,
    #[serde(deserialize_with = "lenient")]
    config: Option<Running>,
}

/// Something that an image is run with: its name, its values, and how many more values there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is called here.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<String>,
    /// How many are left out.
    pub more: usize,
}

/// A step in which an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The command.
    #[serde(deserialize_with = "lenient_text")]
    pub created_by: Option<String>,
    /// What was said about it.
    #[serde(deserialize_with = "lenient_text")]
    pub comment: Option<String>,
    #[serde(deserialize_with = "lenient")]
    empty_layer: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Running {
    #[serde(deserialize_with = "lenient_text")]
    user: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    working_dir: Option<String>,
    #[serde(deserialize_with = "lenient_text")]
    stop_signal: Option<String>,
    entrypoint: List<Text>,
    cmd: List<Text>,
    env: List<Text>,
    exposed_ports: Pairs<NAMES>,
    volumes: Pairs<NAMES>,
    labels: Pairs<NAMES>,
}

impl ImageConfig {
    /// Reads a configuration; what cannot be read is empty.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        let (os, architecture, variant) = (&self.os, &self.architecture, &self.variant);
        Platform { os: os.clone(), architecture: architecture.clone(), variant: variant.clone() }
    }

    /// What it is run with, by name, in the order in which people look for it; empty ones are left out.
    pub fn settings(&self) -> Vec<Setting> {
        let Some(running) = &self.config else { return Vec::new() };
        let one = |text: &Option<String>| (text.iter().cloned().collect(), 0);
        let names = |map: &Pairs<NAMES>| (map.pairs.iter().map(|(name, _)| name.clone()).collect(), map.more);
        let environment = running.env.items.iter().map(|text| text.0.clone()).collect();
        let settings: [(&'static str, (Vec<String>, usize)); 8] = [
            ("Entrypoint", command(&running.entrypoint)),
            ("Command", command(&running.cmd)),
            ("Working directory", one(&running.working_dir)),
            ("User", one(&running.user)),
            ("Ports", names(&running.exposed_ports)),
            ("Volumes", names(&running.volumes)),
            ("Stop signal", one(&running.stop_signal)),
            ("Environment", (environment, running.env.more)),
        ];
        let settings = settings.into_iter().map(|(name, (values, more))| Setting { name, values, more });
        settings.filter(|one| one.values.iter().any(|value| !value.is_empty())).collect()
    }

    /// The labels, and how many more there are.
    pub fn labels(&self) -> (&[(String, String)], usize) {
        self.config.as_ref().map_or((&[], 0), |running| (&running.labels.pairs, running.labels.more))
    }

    /// The steps that made a layer, in the order of the layers.
    pub fn layer_steps(&self) -> impl Iterator<Item = &Step> {
        self.history.items.iter().filter(|step| step.made_layer())
    }
}

impl Step {
    /// Whether it made a layer, and was no mere setting.
    pub fn made_layer(&self) -> bool {
        self.empty_layer != Some(true)
    }
}

/// A command in one line, as a shell would take it, and how many words of it are left out.
fn command(words: &List<Text>) -> (Vec<String>, usize) {
    let quote = |Text(word): &Text| {
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
    fn reads_what_docker_writes_and_passes_over_the_rest() {
        let text = br#"{"created":"2026-01-02T03:04:05Z","architecture":"arm64","os":"linux","rootfs":{},
            "config":{"Entrypoint":["/run","two words"],"Env":["A=b",7],"ExposedPorts":{"80/tcp":{}},
                "Volumes":null,"User":0,"Labels":{"a":"<b>","n":1}},
            "history":[{"created_by":"COPY x"},{"created_by":"ENV A=b","empty_layer":true},7]}"#;
        let config = ImageConfig::parse(text);
        assert_eq!(config.platform().to_string(), "linux/arm64");
        let settings = config.settings();
        let setting = |name, value: &str| Setting { name, values: vec![value.to_owned()], more: 0 };
        let expected = [("Entrypoint", "/run 'two words'"), ("Ports", "80/tcp"), ("Environment", "A=b")];
        assert_eq!(settings, expected.map(|(name, value)| setting(name, value)));
        assert_eq!(config.labels().0, [("a".to_owned(), "<b>".to_owned()), ("n".to_owned(), "1".to_owned())]);
        assert_eq!((config.layer_steps().count(), config.history.items.len()), (1, 2));
        assert_eq!(ImageConfig::parse(b"[]"), ImageConfig::default());
    }
}
