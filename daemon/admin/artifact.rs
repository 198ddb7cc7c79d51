//! Prepares the content of a manifest for its page: layers with their states, build steps, settings, labels,
//! annotations. All texts are untrusted and are cut to a fixed length.

use std::collections::BTreeSet;

use super::format::short_digest;
use super::limits::{NAME, TEXT, shorten};
use super::section::{List, Section, View};
use crate::base::human::size;
use crate::oci::{self, Attachment, DescriptorView, ImageConfig, ManifestView};
use crate::store::ContentState;

/// The annotations of a referrer that are shown.
const NOTES: usize = 2;

/// A layer, or a file of an artifact.
pub(super) struct Layer {
    pub(super) number: usize,
    pub(super) digest: String,
    pub(super) short: String,
    pub(super) size: String,
    /// The name of the file; the media type if it has none.
    pub(super) origin: String,
    /// The state of content that cannot be pulled.
    pub(super) fault: Option<&'static str>,
    /// True if a page shows what is in it: an SBOM, a statement or a signature.
    pub(super) is_document: bool,
}

/// A build step of an image.
pub(super) struct Step {
    pub(super) number: usize,
    /// The line of a Dockerfile.
    pub(super) line: String,
    /// The length of its layer, if it made one.
    pub(super) size: Option<String>,
}

/// The badges of an image for its attachments.
pub(super) struct Badges {
    pub(super) is_signed: bool,
    /// The kinds of the other attachments, in words.
    pub(super) attached: String,
    /// True if content of the image is missing or corrupt.
    pub(super) is_damaged: bool,
}

impl Badges {
    pub(super) fn of(attached: &BTreeSet<Attachment>, is_damaged: bool) -> Self {
        let others = attached.iter().filter(|kind| !kind.is_signature()).map(|kind| kind.word());
        Badges {
            is_signed: attached.iter().any(|kind| kind.is_signature()),
            attached: others.collect::<Vec<_>>().join(", "),
            is_damaged,
        }
    }
}

/// A setting of an image, a label or an annotation.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

/// Returns the layers, each with its state.
pub(super) fn layers(view: View, contents: &ManifestView, states: &[ContentState]) -> Section<Layer> {
    let all = contents.layers.items.iter().chain(&contents.blobs.items);
    let states = states.iter().copied().chain(std::iter::repeat(ContentState::Here));
    let rows = all.zip(states).enumerate().map(|(at, (part, state))| (at + 1, part, state));
    let section = view.section(List::Layers, rows.collect(), contents.layers.more + contents.blobs.more);
    section.map(|(number, part, state)| layer(view, number, part, state))
}

/// Returns the word for content that cannot be pulled.
pub(super) fn fault(state: ContentState) -> Option<&'static str> {
    match state {
        ContentState::Here => None,
        ContentState::Missing => Some("not here"),
        ContentState::Damaged => Some("damaged"),
    }
}

fn layer(view: View, number: usize, part: &DescriptorView, state: ContentState) -> Layer {
    let media_type = part.media_type.as_deref().unwrap_or("unknown");
    let (title, longest) = (part.title(), if view.is_overview() { NAME } else { TEXT });
    Layer {
        number,
        digest: part.digest.to_string(),
        short: short_digest(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        origin: shorten(title.unwrap_or(media_type), longest),
        fault: fault(state),
        is_document: [Some(media_type), title].into_iter().flatten().any(is_document),
    }
}

/// Returns true for the media type or the file name of a document that a page shows.
fn is_document(text: &str) -> bool {
    Attachment::of_type(text).is_some() && !text.ends_with("+xml")
}

/// Returns true if the history has one step for each layer, so that steps can be matched to layers.
fn is_complete(contents: &ManifestView, config: &ImageConfig) -> bool {
    let is_whole = contents.layers.more == 0 && config.history.more == 0;
    is_whole && config.layer_history().count() == contents.layers.items.len()
}

/// Returns the lines of the Dockerfile with the lengths of their layers, before they are cut.
pub(super) fn steps(contents: &ManifestView, config: &ImageConfig) -> Vec<(String, Option<u64>)> {
    let is_complete = is_complete(contents, config);
    let mut layers = contents.layers.items.iter();
    let steps = config.history.items.iter().map(|step| {
        let layer = if is_complete && step.creates_layer() { layers.next() } else { None };
        let text = step.created_by.as_deref().or(step.comment.as_deref());
        (oci::dockerfile_step(text.unwrap_or_default()), layer.and_then(|layer| layer.size))
    });
    steps.collect()
}

/// Returns the history of an image.
pub(super) fn history(view: View, contents: &ManifestView, config: &ImageConfig) -> Section<Step> {
    let steps = steps(contents, config).into_iter().enumerate().collect();
    let section = view.section(List::History, steps, config.history.more);
    section.map(|(at, (line, length))| Step {
        number: at + 1,
        line: shorten(&line, view.text_length()),
        size: length.map(size),
    })
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
        let history = |config: ImageConfig| history(View::overview(), &contents, &config).rows;
        let (step, setting) = (
            r#"{"created_by":"/bin/sh -c #(nop) COPY x"}"#,
            r#"{"created_by":"ENV A=b","empty_layer":true}"#,
        );
        let complete = history(config(&[step, setting, step].join(",")));
        assert_eq!(complete[0].line, "COPY x");
        let sizes: Vec<_> = complete.iter().map(|step| step.size.as_deref()).collect();
        assert_eq!(sizes, [Some("1 B"), None, Some("2 B")]);
        assert!(history(config(step))[0].size.is_none());
    }

    #[test]
    fn content_that_is_not_here_has_a_fault() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let layer = |media_type| format!(r#"{{"digest":"{digest}","size":1,"mediaType":"{media_type}"}}"#);
        let list = [layer("application/spdx+json"), layer("application/x"), layer("text/spdx+xml")].join(",");
        let contents = ManifestView::parse(format!(r#"{{"layers":[{list}]}}"#).as_bytes());
        let states = [ContentState::Damaged, ContentState::Missing];
        let rows = layers(View::overview(), &contents, &states).rows;
        let faults: Vec<_> = rows.iter().map(|row| row.fault).collect();
        assert_eq!(faults, [Some("damaged"), Some("not here"), None]);
        assert_eq!(rows.iter().map(|row| row.is_document).collect::<Vec<_>>(), [true, false, false]);
    }
}
