//! A manifest as a page shows it: layers with what made them, settings, labels, annotations. All of it is the text of
//! strangers, and shown as far as it fits.

use super::budget::{self, Budget, Row, Section};
use super::words::{self, size};
use crate::oci::{self, Contents, ImageConfig, Part};

/// A layer, or a file of an artifact.
pub(super) struct Layer {
    pub(super) number: usize,
    pub(super) digest: String,
    pub(super) short: String,
    pub(super) size: String,
    /// The command that made it, or the name of the file; its media type, where neither is known.
    pub(super) what: String,
    /// Whether that is known.
    pub(super) is_told: bool,
}

/// A setting of an image, with its values.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

/// A name and one of its values.
struct Pair {
    name: String,
    value: String,
}

/// A step of a history.
pub(super) struct Step(pub(super) String);

impl Row for Layer {
    fn fixed(&self) -> usize {
        230 + self.digest.len() + self.size.len()
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.what]
    }
}

impl Row for Pair {
    fn fixed(&self) -> usize {
        "<dt></dt><dd><code></code><br></dd>\n".len()
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.name, &mut self.value]
    }
}

impl Row for Step {
    fn fixed(&self) -> usize {
        "<li><code></code>".len()
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.0]
    }
}

/// The layers, each with the step that made it where the history tells.
pub(super) fn layers(contents: &Contents, config: &ImageConfig) -> (Vec<Layer>, usize) {
    let told = is_told(contents, config);
    let mut steps = config.layer_steps().map(|step| command(step.created_by.as_deref()));
    let all = contents.layers.items.iter().chain(&contents.blobs.items);
    let layers = all.enumerate().map(|(at, part)| {
        let step = if told { steps.next() } else { None };
        layer(at + 1, part, step.unwrap_or_default())
    });
    (layers.collect(), contents.layers.more + contents.blobs.more)
}

/// Whether the history says as many steps as there are layers.
fn is_told(contents: &Contents, config: &ImageConfig) -> bool {
    let is_whole = contents.layers.more == 0 && config.history.more == 0;
    is_whole && config.layer_steps().count() == contents.layers.items.len()
}

fn layer(number: usize, part: &Part, step: String) -> Layer {
    let told = part.title().map_or(step, str::to_owned);
    let is_told = !told.is_empty();
    let media_type = || part.media_type.clone().unwrap_or_else(|| "unknown".into());
    Layer {
        number,
        digest: part.digest.to_string(),
        short: words::short(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        what: if is_told { told } else { media_type() },
        is_told,
    }
}

/// The steps that do not stand beside a layer already.
pub(super) fn history(contents: &Contents, config: &ImageConfig) -> (Vec<Step>, usize) {
    let told = is_told(contents, config);
    let steps = config.history.items.iter().filter(|step| !told || !step.made_layer());
    let steps = steps.map(|step| Step(command(step.created_by.as_deref().or(step.comment.as_deref()))));
    (steps.collect(), config.history.more)
}

/// The command of a step without what Docker puts in front of it.
fn command(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text).trim().to_owned()
}

/// Settings of an image.
pub(super) fn settings(budget: &mut Budget, bytes: usize, config: &ImageConfig) -> Section<Setting> {
    let all = config.settings();
    let more = all.iter().map(|one| one.more).sum();
    let pairs = all.into_iter().flat_map(|oci::Setting { name, values, .. }| {
        values.into_iter().map(move |value| Pair { name: name.to_owned(), value })
    });
    let Section { rows, more } = budget.show(bytes, pairs.collect(), more);
    let mut settings: Vec<Setting> = Vec::new();
    for Pair { name, value } in rows {
        match settings.last_mut() {
            Some(last) if last.name == name => last.values.push(value),
            _ => settings.push(Setting { name, values: vec![value] }),
        }
    }
    Section { rows: settings, more }
}

/// Labels or annotations.
pub(super) fn pairs(
    budget: &mut Budget,
    bytes: usize,
    (all, more): (&[(String, String)], usize),
) -> Section<Setting> {
    let rows = all.iter().map(|(name, value)| Pair { name: name.clone(), value: value.clone() });
    let Section { rows, more } = budget.show(bytes, rows.collect(), more);
    let rows = rows.into_iter().map(|Pair { name, value }| Setting { name, values: vec![value] });
    Section { rows: rows.collect(), more }
}

/// The first annotations of something that refers to an image, in a line each.
pub(super) fn notes(part: &Part) -> Vec<String> {
    let first = part.annotations.pairs.iter().take(4);
    first.map(|(name, value)| budget::fit(&format!("{name}: {value}"), 300)).collect()
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
        let whole = config(&[step, step].join(","));
        let (told, _) = layers(&contents, &whole);
        assert_eq!((told[0].what.as_str(), told.len()), ("COPY x", 2));
        assert!(history(&contents, &whole).0.is_empty(), "no step is there twice");
        assert!(!layers(&contents, &config(step)).0[0].is_told);
        assert_eq!(history(&contents, &config(step)).0.len(), 1);
    }
}
