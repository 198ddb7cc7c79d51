//! An image, an index of images, or an artifact that is neither.

use askama::Template;
use bytes::Bytes;

use super::OK;
use super::artifact::{self, Layer, MOST, Setting};
use super::error::AdminError;
use super::pages::{Frame, render};
use super::repository::may_delete;
use super::visit::Visit;
use super::words::{When, clip, short, size};
use crate::access::Action;
use crate::oci::{Contents, Descriptor, Digest, ImageConfig, Part, Reference, RepositoryName};
use crate::store::ManifestEntry;
use crate::wire::{Response, with_bytes};

/// How much of the raw manifest is on the page, in characters; the rest has an address of its own.
const RAW: usize = 6000;
/// How many tags are named.
const TAGS: usize = 40;

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
    tags: Vec<String>,
    more_tags: usize,
    platforms: Vec<Child>,
    layers: Vec<Layer>,
    settings: Vec<Setting>,
    history: Vec<String>,
    labels: Vec<Setting>,
    annotations: Vec<Setting>,
    subject: Option<(String, String)>,
    referrers: Vec<Referrer>,
    raw: String,
    raw_is_cut: bool,
    may_delete: bool,
}

/// A manifest in an index.
struct Child {
    platform: String,
    digest: String,
    short: String,
    /// Its size with all that it points at, if it is here.
    size: Option<String>,
}

/// An artifact that is about this manifest.
struct Referrer {
    kind: String,
    artifact_type: String,
    digest: String,
    short: String,
    size: String,
    annotations: Vec<Setting>,
}

pub(super) async fn show(
    visit: &Visit<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let store = &visit.admin.store;
    let entry = store.manifest(name, reference)?;
    let bytes = store.read_manifest(&entry).await?;
    let contents = Contents::parse(&bytes);
    let kind = contents.kind();
    let config = match (&contents.config, &kind) {
        (Some(config), None) => store.read_config(name, &config.digest).await?.unwrap_or_default(),
        _ => Bytes::new(),
    };
    let config = ImageConfig::parse(&config);
    let (tags, all_tags) = store.tags_of(name, &entry.digest, TAGS).await?;
    let pull = match (reference, tags.first()) {
        (Reference::Tag(tag), _) | (_, Some(tag)) => format!("{}/{name}:{tag}", visit.host),
        _ => format!("{}/{name}@{}", visit.host, entry.digest),
    };
    let referrers = store.referrers(name, &entry.digest, None, None).await?;
    let (raw, raw_is_cut) = raw_text(&bytes);
    let page = Page {
        frame: Frame::new(visit, "repositories"),
        name: name.to_string(),
        digest: entry.digest.to_string(),
        short: short(&entry.digest),
        pull,
        media_type: entry.media_type.to_string(),
        kind: kind_of(&entry, kind.as_deref()),
        artifact: kind.map(|kind| clip(&kind, 256)),
        platform: Some(&config.platform)
            .filter(|one| !one.is_unknown())
            .map(|one| clip(&one.to_string(), 128)),
        size: size(store.whole_size(name, &entry.digest).await?),
        pushed: When::at(entry.pushed),
        created: config.created.as_deref().and_then(When::parse),
        more_tags: all_tags.saturating_sub(tags.len()),
        tags: tags.iter().map(ToString::to_string).collect(),
        platforms: children(visit, name, &contents).await?,
        layers: artifact::layers(&contents, &config),
        settings: artifact::settings(&config),
        history: artifact::history(&config),
        labels: artifact::pairs(config.labels()),
        annotations: artifact::pairs(contents.annotations.clone().unwrap_or_default()),
        subject: contents.subject.map(|part| (part.digest.to_string(), short(&part.digest))),
        referrers: referrers.items.into_iter().take(MOST).map(referrer).collect(),
        raw,
        raw_is_cut,
        may_delete: may_delete(visit, name),
    };
    render(OK, &page)
}

/// The manifest as it was pushed.
pub(super) async fn raw(
    visit: &Visit<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let entry = visit.admin.store.manifest(name, &Reference::Digest(digest.clone()))?;
    let bytes = visit.admin.store.read_manifest(&entry).await?;
    Ok(with_bytes(OK, "text/plain; charset=utf-8", bytes))
}

fn kind_of(entry: &ManifestEntry, kind: Option<&str>) -> String {
    match kind {
        Some(kind) => artifact::name_of(kind).unwrap_or("Artifact").to_owned(),
        None if entry.media_type.is_index() => "Image for several platforms".into(),
        None => "Image".into(),
    }
}

async fn children(
    visit: &Visit<'_>,
    name: &RepositoryName,
    contents: &Contents,
) -> Result<Vec<Child>, AdminError> {
    let mut children = Vec::new();
    for part in contents.manifests.iter().take(MOST) {
        let is_here = visit.admin.store.manifest(name, &Reference::Digest(part.digest.clone())).is_ok();
        let whole =
            if is_here { Some(visit.admin.store.whole_size(name, &part.digest).await?) } else { None };
        children.push(Child {
            platform: platform(part),
            digest: part.digest.to_string(),
            short: short(&part.digest),
            size: whole.map(size),
        });
    }
    Ok(children)
}

fn platform(part: &Part) -> String {
    match &part.platform {
        Some(platform) if !platform.is_unknown() => clip(&platform.to_string(), 128),
        _ => {
            let kind = part.annotations.iter().find_map(|one| one.get("vnd.docker.reference.type"));
            kind.or(part.artifact_type.as_ref()).map_or_else(|| "no platform".into(), |kind| clip(kind, 128))
        }
    }
}

fn referrer(one: Descriptor) -> Referrer {
    let artifact_type = clip(one.artifact_type.as_deref().unwrap_or("unknown"), 256);
    Referrer {
        kind: artifact::name_of(&artifact_type).unwrap_or("Artifact").to_owned(),
        artifact_type,
        short: short(&one.digest),
        digest: one.digest.to_string(),
        size: size(one.size),
        annotations: artifact::pairs(one.annotations.into_iter().take(4)),
    }
}

/// The manifest as far as it fits on the page, and whether that is not all of it. One that was pushed in a single line
/// gets line breaks; its order stays.
fn raw_text(bytes: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let text = if text.trim().contains('\n') { text.into_owned() } else { in_lines(&clip(&text, RAW)) };
    let cut = clip(&text, RAW);
    let is_cut = cut.len() < text.len() || cut.ends_with('…');
    (cut, is_cut)
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
        let (text, cut) = raw_text(br#"{"b":[1,"a,\"{"],"a":{}}"#);
        assert_eq!(text, "{\n  \"b\": [\n    1,\n    \"a,\\\"{\"\n  ],\n  \"a\": {\n    \n  }\n}");
        assert!(!cut);
        assert!(raw_text(format!("\"{}\"", "x".repeat(RAW)).as_bytes()).1);
        let as_it_is = "{\n\"a\":1}";
        assert_eq!(raw_text(as_it_is.as_bytes()), (as_it_is.to_owned(), false));
    }
}
