//! A manifest as a page shows it: layers with what made them, settings, labels, annotations. All of it is the text of
//! strangers, cut off where it is long.

use super::words::{self, clip, size};
use crate::oci::{Contents, ImageConfig, Part};

/// The longest text that is shown whole, in characters.
const LONGEST: usize = 1000;
/// How many layers, labels, or whatever there is in a list, are shown.
pub(super) const MOST: usize = 100;
/// The annotation with the name of a file.
const TITLE: &str = "org.opencontainers.image.title";

/// A layer, or a file of an artifact.
pub(super) struct Layer {
    pub(super) number: usize,
    pub(super) digest: String,
    pub(super) short: String,
    pub(super) size: String,
    pub(super) media_type: String,
    /// The command that made it, or the name of the file.
    pub(super) made_by: String,
}

/// A setting of an image, with its values.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

/// The layers, each with the step that made it where the history says as many as there are.
pub(super) fn layers(contents: &Contents, config: &ImageConfig) -> Vec<Layer> {
    let steps: Vec<String> = config.layer_steps().map(|step| command(step.created_by.as_deref())).collect();
    let all = contents.layers.iter().chain(&contents.blobs);
    let is_told = steps.len() == contents.layers.len();
    let layers = all.take(MOST).enumerate().map(|(at, part)| {
        let step = steps.get(at).filter(|_| is_told).cloned().unwrap_or_default();
        layer(at + 1, part, step)
    });
    layers.collect()
}

fn layer(number: usize, part: &Part, step: String) -> Layer {
    let title = part.annotations.iter().find_map(|annotations| annotations.get(TITLE));
    Layer {
        number,
        digest: part.digest.to_string(),
        short: words::short(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        media_type: clip(part.media_type.as_deref().unwrap_or("unknown"), 128),
        made_by: title.map_or(step, |title| clip(title, LONGEST)),
    }
}

/// Steps that made no layer and were more than a setting, for those who want the whole history.
pub(super) fn history(config: &ImageConfig) -> Vec<String> {
    let steps = config.history.iter().take(MOST);
    steps.map(|step| command(step.created_by.as_deref().or(step.comment.as_deref()))).collect()
}

/// The command of a step without what Docker puts in front of it.
fn command(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    let text = text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text).trim();
    clip(text, LONGEST)
}

/// Settings of an image.
pub(super) fn settings(config: &ImageConfig) -> Vec<Setting> {
    let all = config.settings().into_iter();
    all.map(|(name, values)| Setting { name: name.to_owned(), values: clipped(values) }).collect()
}

/// Labels or annotations.
pub(super) fn pairs(all: impl IntoIterator<Item = (String, String)>) -> Vec<Setting> {
    let shown = all.into_iter().take(MOST);
    shown
        .map(|(name, value)| Setting { name: clip(&name, 256), values: vec![clip(&value, LONGEST)] })
        .collect()
}

fn clipped(values: Vec<String>) -> Vec<String> {
    values.into_iter().take(MOST).map(|value| clip(&value, LONGEST)).collect()
}

/// What an artifact is, in words where it is one of those that people know.
pub(super) fn name_of(kind: &str) -> Option<&'static str> {
    let known = [
        ("application/vnd.cncf.helm.config", "Helm chart"),
        ("application/vnd.wasm.config", "WebAssembly module"),
        ("application/vnd.module.wasm", "WebAssembly module"),
        ("application/vnd.dev.cosign", "Cosign signature"),
        ("application/vnd.cncf.notary.signature", "Notation signature"),
        ("application/vnd.dev.sigstore.bundle", "Sigstore bundle"),
        ("application/spdx+json", "SBOM (SPDX)"),
        ("text/spdx", "SBOM (SPDX)"),
        ("application/vnd.cyclonedx", "SBOM (CycloneDX)"),
        ("application/vnd.in-toto", "Attestation (in-toto)"),
        ("application/vnd.oci.empty", "Artifact"),
    ];
    known.into_iter().find(|(start, _)| kind.starts_with(start)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_does_not_fit_names_no_layer() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text =
            format!(r#"{{"layers":[{{"digest":"{digest}","size":1}},{{"digest":"{digest}","size":2}}]}}"#);
        let contents = Contents::parse(text.as_bytes());
        let config = |history: &str| ImageConfig::parse(format!(r#"{{"history":[{history}]}}"#).as_bytes());
        let step = r#"{"created_by":"/bin/sh -c #(nop) COPY x"}"#;
        let told = layers(&contents, &config(&[step, step].join(",")));
        assert_eq!((told[0].made_by.as_str(), told.len()), ("COPY x", 2));
        assert!(layers(&contents, &config(step))[0].made_by.is_empty());
    }
}
