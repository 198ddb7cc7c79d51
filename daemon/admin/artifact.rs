//! Prepares the content of a manifest for its page: layers with the commands that made them, settings, labels,
//! annotations. All texts are untrusted and are cut to a fixed length.

use super::format::short_digest;
use super::limits::{NAME, shorten};
use super::section::{List, Section, View};
use crate::base::human::size;
use crate::oci::{self, DescriptorView, ImageConfig, ManifestView};

/// The annotations of a referrer that are shown.
const NOTES: usize = 2;

/// A layer, or a file of an artifact.
pub(super) struct Layer {
    pub(super) number: usize,
    pub(super) digest: String,
    pub(super) short: String,
    pub(super) size: String,
    /// The command that made the layer, or the name of the file; the media type if both are unknown.
    pub(super) origin: String,
    /// True if the command or the name is known.
    pub(super) is_known: bool,
}

/// A setting of an image, a label or an annotation.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

/// Returns the layers, each with its command where the history is complete.
pub(super) fn layers(view: View, contents: &ManifestView, config: &ImageConfig) -> Section<Layer> {
    let is_complete = is_complete(contents, config);
    let mut steps = config.layer_history().map(|step| command(step.created_by.as_deref()));
    let all = contents.layers.items.iter().chain(&contents.blobs.items);
    let rows = all.enumerate().map(|(at, part)| {
        let step = if is_complete { steps.next() } else { None };
        (at + 1, part, step.unwrap_or_default())
    });
    let section = view.section(List::Layers, rows.collect(), contents.layers.more + contents.blobs.more);
    section.map(|(number, part, step)| layer(view, number, part, step))
}

/// Returns true if the history has one step for each layer, so that steps can be matched to layers.
fn is_complete(contents: &ManifestView, config: &ImageConfig) -> bool {
    let is_whole = contents.layers.more == 0 && config.history.more == 0;
    is_whole && config.layer_history().count() == contents.layers.items.len()
}

fn layer(view: View, number: usize, part: &DescriptorView, step: String) -> Layer {
    let origin = part.title().map_or(step, str::to_owned);
    let is_known = !origin.is_empty();
    let media_type = || part.media_type.clone().unwrap_or_else(|| "unknown".into());
    Layer {
        number,
        digest: part.digest.to_string(),
        short: short_digest(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        origin: shorten(&if is_known { origin } else { media_type() }, view.text_length()),
        is_known,
    }
}

/// Returns the steps of the history that are not shown beside a layer.
pub(super) fn history(view: View, contents: &ManifestView, config: &ImageConfig) -> Section<String> {
    let is_complete = is_complete(contents, config);
    let steps = config.history.items.iter().filter(|step| !is_complete || !step.creates_layer());
    let section = view.section(List::History, steps.collect(), config.history.more);
    section.map(|step| {
        let text = step.created_by.as_deref().or(step.comment.as_deref());
        shorten(&command(text), view.text_length())
    })
}

/// Strips the prefix that Docker puts before the command of a step.
fn command(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    text.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(text).trim().to_owned()
}

/// Returns the settings of an image. A row is a value; values of one setting are grouped.
pub(super) fn settings(view: View, config: &ImageConfig) -> Section<Setting> {
    let all = config.settings();
    let not_kept = all.iter().map(|setting| setting.more).sum();
    let values = all.into_iter().flat_map(|oci::RuntimeSetting { name, values, .. }| {
        values.into_iter().map(move |value| (name.to_owned(), value))
    });
    let mut section = view.section(List::Settings, values.collect(), not_kept);
    let mut grouped: Vec<Setting> = Vec::new();
    for (name, value) in std::mem::take(&mut section.rows) {
        let value = shorten(&value, view.text_length());
        match grouped.last_mut() {
            Some(last) if last.name == name => last.values.push(value),
            _ => grouped.push(Setting { name, values: vec![value] }),
        }
    }
    Section { rows: grouped, more: section.more, id: section.id, pager: section.pager }
}

/// Returns labels or annotations.
pub(super) fn pairs(
    view: View,
    list: List,
    (all, not_kept): (&[(String, String)], usize),
) -> Section<Setting> {
    let section = view.section(list, all.iter().collect(), not_kept);
    section.map(|(name, value)| Setting {
        name: shorten(name, NAME),
        values: vec![shorten(value, view.text_length())],
    })
}

/// Returns the first annotations of a referrer, one in each line.
pub(super) fn notes(part: &DescriptorView) -> Vec<String> {
    let first = part.annotations.pairs.iter().take(NOTES);
    first.map(|(name, value)| shorten(&format!("{name}: {value}"), NAME)).collect()
}

/// Returns the common name of an artifact type.
pub(super) fn common_name(artifact_type: &str) -> Option<&'static str> {
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
    known.into_iter().find(|(start, _)| artifact_type.starts_with(start)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_history_is_matched_to_no_layer() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text =
            format!(r#"{{"layers":[{{"digest":"{digest}","size":1}},{{"digest":"{digest}","size":2}}]}}"#);
        let contents = ManifestView::parse(text.as_bytes());
        let config = |history: &str| ImageConfig::parse(format!(r#"{{"history":[{history}]}}"#).as_bytes());
        let layers = |config| layers(View::overview(), &contents, config).rows;
        let history = |config| history(View::overview(), &contents, config).rows;
        let step = r#"{"created_by":"/bin/sh -c #(nop) COPY x"}"#;
        let complete = config(&[step, step].join(","));
        let shown = layers(&complete);
        assert_eq!((shown[0].origin.as_str(), shown.len()), ("COPY x", 2));
        assert!(history(&complete).is_empty(), "no step is shown twice");
        let incomplete = config(step);
        assert!(!layers(&incomplete)[0].is_known);
        assert_eq!(history(&incomplete).len(), 1);
    }
}
