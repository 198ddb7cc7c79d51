//! An image, an index of images, or an artifact that is neither.

use askama::Template;
use bytes::Bytes;

use super::OK;
use super::artifact::{self, Layer, Setting, Step};
use super::budget::{self, Budget, Row, Section};
use super::error::AdminError;
use super::pages::{Frame, render};
use super::repository::may_delete;
use super::visit::Visit;
use super::words::{When, shell, short, size, whole_size};
use crate::access::Action;
use crate::oci::{self, Contents, Digest, ImageConfig, Reference, RepositoryName};
use crate::store::{ManifestEntry, StoreError};
use crate::wire::{Response, confine, with_bytes};

/// How many tags are named, so many that one question about deleting them has room for them.
const TAGS: usize = super::delete::MOST;
/// How many artifacts that refer to it are looked at.
const REFERRERS: usize = 20;
/// How much of the raw manifest is on the page at the most, in bytes; the rest has an address of its own.
const RAW: usize = 8000;

/// The longest word of a stranger among the facts, in bytes.
const WORD: usize = 300;

/// What there is for each section of the page, in bytes of HTML, in the order in which they matter.
mod room {
    pub(super) const TAGS: usize = 2500;
    pub(super) const LAYERS: usize = 14_000;
    pub(super) const PLATFORMS: usize = 2000;
    pub(super) const SETTINGS: usize = 3500;
    pub(super) const LABELS: usize = 3000;
    pub(super) const ANNOTATIONS: usize = 2000;
    pub(super) const REFERRERS: usize = 2000;
    pub(super) const HISTORY: usize = 1500;
    pub(super) const RAW: usize = 1500;
}

#[derive(Template)]
#[template(path = "image.html")]
struct Page {
    frame: Frame,
    name: String,
    digest: String,
    short: String,
    /// What is pulled, by tag where there is one.
    pull: String,
    media_type: String,
    kind: String,
    artifact: Option<String>,
    platform: Option<String>,
    size: String,
    pushed: When,
    created: Option<When>,
    tags: Section<Tag>,
    platforms: Section<Child>,
    layers: Section<Layer>,
    settings: Section<Setting>,
    history: Section<Step>,
    labels: Section<Setting>,
    annotations: Section<Setting>,
    subject: Option<(String, String)>,
    referrers: Section<Referrer>,
    /// There is a list of referrers that is too long for the page.
    list_is_too_long: bool,
    raw: String,
    /// What is too long to be shown here.
    too_long: Option<&'static str>,
    /// The digest of the configuration of an image.
    config: Option<String>,
    may_delete: bool,
}

/// A tag of this manifest.
struct Tag {
    tag: String,
    fixed: usize,
}

/// A manifest in an index.
struct Child {
    platform: String,
    digest: String,
    short: String,
    /// Its size with all that it points at, if it is here.
    size: Option<String>,
    fixed: usize,
}

/// An artifact that is about this manifest.
struct Referrer {
    kind: String,
    artifact_type: String,
    digest: String,
    short: String,
    size: String,
    annotations: Vec<String>,
    fixed: usize,
}

impl Row for Tag {
    fn fixed(&self) -> usize {
        self.fixed
    }

    fn texts(&mut self) -> Vec<&mut String> {
        Vec::new()
    }
}

impl Row for Child {
    fn fixed(&self) -> usize {
        self.fixed
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.platform]
    }
}

impl Row for Referrer {
    fn fixed(&self) -> usize {
        self.fixed
    }

    fn texts(&mut self) -> Vec<&mut String> {
        std::iter::once(&mut self.artifact_type).chain(&mut self.annotations).collect()
    }
}

/// What was read to make the page.
struct Read {
    bytes: Bytes,
    contents: Contents,
    /// The kind of an artifact.
    kind: Option<String>,
    config: ImageConfig,
    /// The digest of the configuration, where it is not too long.
    config_digest: Option<Digest>,
    too_long: Option<&'static str>,
}

pub(super) async fn show(
    visit: &Visit<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let _turn = visit.admin.store.turn_to_read().await?;
    let entry = visit.admin.store.manifest(name, reference)?;
    let read = read(visit, name, &entry).await?;
    let page = page(visit, name, reference, &entry, read).await?;
    render(OK, &page)
}

async fn read(visit: &Visit<'_>, name: &RepositoryName, entry: &ManifestEntry) -> Result<Read, AdminError> {
    let store = &visit.admin.store;
    let bytes = store.read_manifest_shown(entry).await?;
    let is_long = bytes.is_none();
    let bytes = bytes.unwrap_or_default();
    let contents = Contents::parse(&bytes);
    let kind = contents.kind();
    let config = contents.config.as_ref().filter(|_| kind.is_none()).map(|config| config.digest.clone());
    let config_bytes = match &config {
        Some(config) => store.read_config(name, config).await?,
        None => None,
    };
    let config_is_long = config.is_some() && config_bytes.is_none();
    Ok(Read {
        bytes,
        contents,
        kind,
        config: ImageConfig::parse(&config_bytes.unwrap_or_default()),
        config_digest: config.filter(|_| !config_is_long),
        too_long: is_long.then_some("manifest").or(config_is_long.then_some("configuration")),
    })
}

/// The page with as much of each section as fits. They are asked in the order in which they matter.
async fn page(
    visit: &Visit<'_>,
    name: &RepositoryName,
    reference: &Reference,
    entry: &ManifestEntry,
    read: Read,
) -> Result<Page, AdminError> {
    let (store, mut budget) = (&visit.admin.store, Budget::default());
    let Read { bytes, contents, kind, config, config_digest, too_long } = read;
    let tags = tags(visit, name, entry, &mut budget).await?;
    let (layers, more) = artifact::layers(&contents, &config);
    let layers = budget.show(room::LAYERS, layers, more);
    let mut platforms = budget.show(room::PLATFORMS, children(name, &contents), contents.manifests.more);
    measure(visit, name, &mut platforms.rows, &contents).await?;
    let settings = artifact::settings(&mut budget, room::SETTINGS, &config);
    let labels = artifact::pairs(&mut budget, room::LABELS, config.labels());
    let annotations = (contents.annotations.pairs.as_slice(), contents.annotations.more);
    let annotations = artifact::pairs(&mut budget, room::ANNOTATIONS, annotations);
    let referring = store.referrers_overview(name, &entry.digest, REFERRERS).await?;
    let referrers = referring.items.iter().map(|part| referrer(name, part)).collect();
    let referrers = budget.show(room::REFERRERS, referrers, referring.more);
    let (history, more) = artifact::history(&contents, &config);
    let history = budget.show(room::HISTORY, history, more);
    let platform = Some(config.platform()).filter(|platform| !platform.is_unknown());
    Ok(Page {
        frame: Frame::new(visit, "repositories"),
        name: name.to_string(),
        digest: entry.digest.to_string(),
        short: short(&entry.digest),
        pull: pull(visit, name, reference, entry, tags.rows.first()),
        media_type: entry.media_type.to_string(),
        kind: kind_of(entry, kind.as_deref()),
        artifact: kind.map(|kind| budget::fit(&kind, WORD)),
        platform: platform.map(|platform| budget::fit(&platform.to_string(), WORD)),
        size: whole_size(store.whole_size(name, &entry.digest).await?),
        pushed: When::at(entry.pushed),
        created: config.created.as_deref().and_then(When::parse),
        tags,
        platforms,
        layers,
        settings,
        history,
        labels,
        annotations,
        subject: contents.subject.map(|part| (part.digest.to_string(), short(&part.digest))),
        referrers,
        list_is_too_long: referring.list_is_too_long,
        raw: raw_text(&bytes, budget.rest(room::RAW).min(RAW)),
        too_long,
        config: config_digest.map(|digest| digest.to_string()),
        may_delete: may_delete(visit, name),
    })
}

/// The line that pulls it: by the tag that was asked for, any other, or its digest.
fn pull(
    visit: &Visit,
    name: &RepositoryName,
    reference: &Reference,
    entry: &ManifestEntry,
    tag: Option<&Tag>,
) -> String {
    shell(&match (reference, tag) {
        (Reference::Tag(tag), _) => format!("{}/{name}:{tag}", visit.host),
        (_, Some(Tag { tag, .. })) => format!("{}/{name}:{tag}", visit.host),
        _ => format!("{}/{name}@{}", visit.host, entry.digest),
    })
}

async fn tags(
    visit: &Visit<'_>,
    name: &RepositoryName,
    entry: &ManifestEntry,
    budget: &mut Budget,
) -> Result<Section<Tag>, AdminError> {
    let (tags, all) = visit.admin.store.tags_of(name, &entry.digest, TAGS).await?;
    let more = all.saturating_sub(tags.len());
    let tags = tags.into_iter().map(|tag| {
        let tag = tag.to_string();
        // In the list, its link, and the form.
        Tag { fixed: 90 + name.as_str().len() + 3 * tag.len(), tag }
    });
    Ok(budget.show(room::TAGS, tags.collect(), more))
}

/// A manifest as it was pushed, or the configuration of an image.
pub(super) async fn raw(
    visit: &Visit<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let store = &visit.admin.store;
    let bytes = match store.manifest(name, &Reference::Digest(digest.clone())) {
        Ok(entry) => store.read_manifest(&entry).await?,
        Err(unknown @ StoreError::ManifestUnknown(_)) => {
            store.read_config(name, digest).await?.ok_or(unknown)?
        }
        Err(error) => return Err(error.into()),
    };
    let mut response = with_bytes(OK, "text/plain; charset=utf-8", bytes);
    confine(response.headers_mut());
    Ok(response)
}

fn kind_of(entry: &ManifestEntry, kind: Option<&str>) -> String {
    match kind {
        Some(kind) => artifact::name_of(kind).unwrap_or("Artifact").to_owned(),
        None if entry.media_type.is_index() => "Image for several platforms".into(),
        None => "Image".into(),
    }
}

/// The manifests of an index; what is here of them is found out for those that are shown.
fn children(name: &RepositoryName, contents: &Contents) -> Vec<Child> {
    let all = contents.manifests.items.iter().map(|part| {
        let digest = part.digest.to_string();
        Child {
            platform: platform(part),
            short: short(&part.digest),
            size: None,
            fixed: 190 + name.as_str().len() + digest.len(),
            digest,
        }
    });
    all.collect()
}

async fn measure(
    visit: &Visit<'_>,
    name: &RepositoryName,
    children: &mut [Child],
    contents: &Contents,
) -> Result<(), AdminError> {
    for (child, part) in children.iter_mut().zip(&contents.manifests.items) {
        if visit.admin.store.manifest(name, &Reference::Digest(part.digest.clone())).is_ok() {
            child.size = Some(whole_size(visit.admin.store.whole_size(name, &part.digest).await?));
        }
    }
    Ok(())
}

fn platform(part: &oci::Part) -> String {
    match &part.platform {
        Some(platform) if !platform.is_unknown() => platform.to_string(),
        _ => part.reference_type().or(part.artifact_type.as_deref()).unwrap_or("no platform").to_owned(),
    }
}

fn referrer(name: &RepositoryName, part: &oci::Part) -> Referrer {
    let artifact_type = budget::fit(part.artifact_type.as_deref().unwrap_or("unknown"), WORD);
    let (digest, annotations) = (part.digest.to_string(), artifact::notes(part));
    Referrer {
        kind: artifact::name_of(&artifact_type).unwrap_or("Artifact").to_owned(),
        artifact_type,
        short: short(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        fixed: 270 + name.as_str().len() + 2 * digest.len() + 20 * annotations.len(),
        digest,
        annotations,
    }
}

/// The manifest as far as it fits on the page. One that was pushed in a single line gets line breaks; its order stays.
fn raw_text(bytes: &[u8], longest: usize) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(longest.saturating_mul(4))]);
    let text = if start.trim().contains('\n') { start.into_owned() } else { in_lines(&start) };
    budget::fit(&text, longest)
}

/// JSON with a line for each item.
fn in_lines(text: &str) -> String {
    let (mut lines, mut depth, mut quoted, mut escaped) = (String::new(), 0usize, false, false);
    let new_line = |lines: &mut String, depth: usize| {
        lines.push('\n');
        lines.extend(std::iter::repeat_n("  ", depth.min(20)));
    };
    for c in text.chars() {
        if quoted {
            lines.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut lines, depth);
                lines.push(c);
            }
            '{' | '[' => {
                depth += 1;
                lines.push(c);
                new_line(&mut lines, depth);
            }
            ',' => {
                lines.push(c);
                new_line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            c => {
                quoted = c == '"';
                lines.push(c);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_in_one_line_gets_more_of_them() {
        let text = raw_text(br#"{"b":[1,"a,\"{"],"a":{}}"#, RAW);
        assert_eq!(text, "{\n  \"b\": [\n    1,\n    \"a,\\\"{\"\n  ],\n  \"a\": {\n    \n  }\n}");
        let cut = raw_text(format!("\"{}\"", "x".repeat(RAW)).as_bytes(), RAW);
        assert!(cut.ends_with('…') && budget::length(&cut) <= RAW);
        let as_it_is = "{\n\"a\":1}";
        assert_eq!(raw_text(as_it_is.as_bytes(), RAW), as_it_is);
    }
}
