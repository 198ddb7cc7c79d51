//! The page of a manifest: an image, an index of images, or an artifact.

use askama::Template;
use bytes::Bytes;

use super::artifact::{self, Badges, Layer, Setting, Step};
use super::error::AdminError;
use super::format::{When, short_digest, whole_size};
use super::limits::{NAME, TEXT, shorten};
use super::manifest_excerpt::manifest_excerpt;
use super::pages::{Frame, render};
use super::pull_command::{PullCommand, Pulled, pull_commands};
use super::request::AdminRequest;
use super::response::OK;
use super::section::{List, Section, View};
use super::state::Copies;
use super::{document, file};
use crate::access::{Action, Identity};
use crate::base::human::{count, size};
use crate::oci::{self, Digest, ImageConfig, ManifestView, Reference, RepositoryName, Tag};
use crate::store::{ContentState, ManifestEntry, Presence, StoreError};
use crate::wire::{Response, confine, with_bytes};

/// The tags of an image that are read for their own list; the page of the repository has all.
const TAGS: usize = 4000;
/// The referrers that are read; the API has all. Each may take 64 KiB of memory.
const REFERRERS: usize = List::Referrers.rows();
/// The length of the excerpt of the manifest, in bytes of HTML.
const EXCERPT: usize = 1100;

#[derive(Template)]
#[template(path = "image.html")]
#[expect(clippy::struct_excessive_bools, reason = "each switches one part of the template")]
struct Page {
    frame: Frame,
    is_overview: bool,
    name: String,
    digest: String,
    short: String,
    /// The repository with `:TAG`, or with the beginning of the digest.
    title: String,
    badges: Badges,
    pulls: Vec<PullCommand>,
    /// The reference of the download: `:TAG` or `@DIGEST`.
    download: String,
    media_type: String,
    kind: String,
    artifact: Option<String>,
    platform: Option<String>,
    size: String,
    /// The part of a sparse manifest that is here.
    presence: Option<String>,
    /// The warning that content of the image is damaged.
    damage: Option<String>,
    pushed: When,
    created: Option<When>,
    tags: Section<String>,
    /// The number of all tags of this manifest.
    all_tags: usize,
    platforms: Section<Child>,
    layers: Section<Layer>,
    settings: Section<Setting>,
    history: Section<Step>,
    labels: Section<Setting>,
    annotations: Section<Setting>,
    subject: Option<(String, String)>,
    /// The tags that attach content to this manifest.
    attached: Vec<String>,
    referrers: Section<Referrer>,
    /// True if the referrers of the fallback tag are left out, because its index is too large.
    referrers_incomplete: bool,
    excerpt: String,
    /// The document that is too large to be shown.
    too_large: Option<&'static str>,
    /// The digest of the image's configuration.
    config: Option<String>,
    may_delete: bool,
    /// True if the page has the form that copies the image.
    may_copy: bool,
}

/// A manifest of an index.
struct Child {
    platform: String,
    digest: String,
    short: String,
    /// Its size with everything it references; none if the repository does not have it.
    size: Option<String>,
    /// The state of a manifest that cannot be pulled.
    fault: Option<&'static str>,
}

/// An artifact whose subject is this manifest.
struct Referrer {
    kind: String,
    artifact_type: String,
    digest: String,
    short: String,
    size: String,
    annotations: Vec<String>,
}

/// The documents that the page is made of.
struct Documents {
    manifest: Bytes,
    contents: ManifestView,
    /// The artifact type; none for an image.
    artifact_type: Option<String>,
    config: ImageConfig,
    /// The digest of the configuration, if it is small enough to be shown.
    config_digest: Option<Digest>,
    too_large: Option<&'static str>,
}

/// Shows the overview of a manifest or one of its lists, a document in it, or sends one of its files.
pub(super) async fn show(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, AdminError> {
    request.check(Action::Pull, name)?;
    for (parameter, is_file) in [("file", true), ("document", false)] {
        let Some(blob) = request.query.get(parameter) else { continue };
        let unknown = |_| AdminError::NotFound("There is no such file.".into());
        let (blob, manifest) =
            (blob.parse().map_err(unknown)?, request.admin.store.manifest(name, reference)?.digest);
        return if is_file {
            file::send(request, name, &manifest, &blob).await
        } else {
            document::show(request, name, &manifest, &blob).await
        };
    }
    // Bounds the memory of manifests that are read at once.
    let _permit = request.admin.store.acquire_read_permit().await?;
    let entry = request.admin.store.manifest(name, reference)?;
    let documents = read(request, name, &entry).await?;
    let page = page(request, name, reference, &entry, documents).await?;
    render(OK, &page)
}

/// Serves a manifest, or the configuration of an image, as it was pushed.
pub(super) async fn raw(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, AdminError> {
    request.check(Action::Pull, name)?;
    let store = &request.admin.store;
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

async fn read(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    entry: &ManifestEntry,
) -> Result<Documents, AdminError> {
    let store = &request.admin.store;
    let manifest = store.read_manifest_for_page(entry).await?;
    let manifest_is_large = manifest.is_none();
    let manifest = manifest.unwrap_or_default();
    let contents = ManifestView::parse(&manifest);
    let artifact_type = contents.kind();
    let config = contents.config.as_ref().filter(|_| artifact_type.is_none());
    let config = config.map(|config| config.digest.clone());
    let config_bytes = match &config {
        Some(config) => store.read_config(name, config).await?,
        None => None,
    };
    let has_config = config.as_ref().is_some_and(|config| store.blob(name, config).is_ok());
    let config_is_large = has_config && config_bytes.is_none();
    Ok(Documents {
        manifest,
        contents,
        artifact_type,
        config: ImageConfig::parse(&config_bytes.unwrap_or_default()),
        config_digest: config.filter(|_| has_config && !config_is_large),
        too_large: manifest_is_large.then_some("manifest").or(config_is_large.then_some("configuration")),
    })
}

async fn page(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    reference: &Reference,
    entry: &ManifestEntry,
    documents: Documents,
) -> Result<Page, AdminError> {
    let (store, view) = (&request.admin.store, View::new(&request.query));
    let Documents { manifest, contents, artifact_type, config, config_digest, too_large } = documents;
    let shown_tags = if view.shows_alone(List::Tags) { TAGS } else { List::Tags.overview_rows() };
    let (tags, all_tags) = store.tags_of(name, &entry.digest, shown_tags).await?;
    let named = named(reference, entry, tags.first());
    let more_tags = all_tags.saturating_sub(tags.len());
    let (states, damage) = damage(request, name, entry, &contents).await?;
    let (mut platforms, layers) = platforms_or_layers(view, entry, &contents, &states);
    measure(request, name, &mut platforms.rows).await?;
    let annotations = (contents.annotations.pairs.as_slice(), contents.annotations.more);
    let referrers = store.referrers_overview(name, &entry.digest, REFERRERS).await?;
    let attached = store.attachment_tags(name, &entry.digest).await?;
    let presence = presence(request, name, entry, &contents).await?;
    let platform = Some(config.platform()).filter(|platform| !platform.is_unknown());
    let host = request.display_host();
    let pulled = Pulled::of(artifact_type.as_deref());
    let attachments = store.attachments_of(name, entry).await?;
    let badges = Badges::of(&attachments, damage.is_some());
    Ok(Page {
        frame: Frame::new(request, "repositories"),
        title: title(name, reference, entry),
        pulls: pull_commands(&format!("{host}/{name}"), &named, pulled, &attachments),
        badges,
        damage,
        attached: attached.iter().map(Tag::to_string).collect(),
        may_copy: may_copy(request, name),
        is_overview: view.is_overview(),
        name: name.to_string(),
        digest: entry.digest.to_string(),
        short: short_digest(&entry.digest),
        download: named,
        media_type: entry.media_type.to_string(),
        kind: kind(entry, artifact_type.as_deref()),
        artifact: artifact_type.map(|artifact_type| shorten(&artifact_type, TEXT)),
        platform: platform.map(|platform| shorten(&platform.to_string(), TEXT)),
        size: whole_size(store.total_size(name, &entry.digest).await?),
        presence,
        pushed: When::at(entry.pushed),
        created: config.created.as_deref().and_then(When::parse),
        tags: view.section(List::Tags, tags, more_tags).map(|tag| tag.to_string()),
        all_tags,
        platforms,
        layers,
        settings: artifact::settings(view, &config),
        history: artifact::history(view, &contents, &config),
        labels: artifact::pairs(view, List::Labels, config.labels()),
        annotations: artifact::pairs(view, List::Annotations, annotations),
        subject: contents.subject.map(|part| (part.digest.to_string(), short_digest(&part.digest))),
        referrers: view.section(List::Referrers, referrers.items, referrers.more).map(|part| referrer(&part)),
        referrers_incomplete: referrers.list_is_too_long,
        excerpt: manifest_excerpt(&manifest, EXCERPT),
        too_large,
        config: config_digest.map(|digest| digest.to_string()),
        may_delete: request.may_delete(name),
    })
}

/// Returns the heading: the repository with the tag, or with the beginning of the digest.
fn title(name: &RepositoryName, reference: &Reference, entry: &ManifestEntry) -> String {
    match reference {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(_) => format!("{name}@{}", short_digest(&entry.digest)),
    }
}

/// Returns true if the user may push to this repository, or may have that right elsewhere.
fn may_copy(request: &AdminRequest, name: &RepositoryName) -> bool {
    let is_user = matches!(request.identity, Identity::User(_));
    request.admin.settings.copies != Copies::Refused && (is_user || request.check(Action::Push, name).is_ok())
}

/// Returns the states of the layers, files or platforms of a manifest, and the warning if some of its content is damaged.
async fn damage(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    entry: &ManifestEntry,
    contents: &ManifestView,
) -> Result<(Vec<ContentState>, Option<String>), AdminError> {
    let parts = contents.layers.items.iter().chain(&contents.blobs.items).chain(&contents.manifests.items);
    let config = contents.config.as_ref().map_or(&entry.digest, |config| &config.digest);
    let all = [config, &entry.digest].into_iter().chain(parts.map(|part| &part.digest));
    let mut states = request.admin.store.content_states(name, all.cloned().collect()).await?;
    let damaged = states.iter().filter(|state| **state == ContentState::Damaged).count();
    let warning = format!(
        "{} of this image {} missing or corrupt on the disk. Push the image again to repair it.",
        count(damaged, "file"),
        if damaged == 1 { "is" } else { "are" }
    );
    states.drain(..2);
    Ok((states, (damaged > 0).then_some(warning)))
}

/// Returns the part of a sparse manifest that is here.
async fn presence(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    entry: &ManifestEntry,
    contents: &ManifestView,
) -> Result<Option<String>, AdminError> {
    let store = &request.admin.store;
    let config = contents.config.as_ref().map(|config| &config.digest);
    let Some(Presence { present, all }) = store.presence(name, &entry.digest, config).await? else {
        return Ok(None);
    };
    let parts = if entry.media_type.is_index() { "platforms" } else { "layers" };
    let lacks_config = config.is_some_and(|config| store.blob(name, config).is_err());
    let config = if lacks_config { ", without the configuration" } else { "" };
    Ok(Some(format!("{present} of {all} {parts} here{config}")))
}

/// Returns the reference that names the manifest: the requested tag, any other tag, or the digest.
fn named(reference: &Reference, entry: &ManifestEntry, tag: Option<&Tag>) -> String {
    match (reference, tag) {
        (Reference::Tag(tag), _) | (Reference::Digest(_), Some(tag)) => format!(":{tag}"),
        (Reference::Digest(_), None) => format!("@{}", entry.digest),
    }
}

fn kind(entry: &ManifestEntry, artifact_type: Option<&str>) -> String {
    match artifact_type {
        Some(artifact_type) => artifact::common_name(artifact_type).unwrap_or("Artifact").to_owned(),
        None if entry.media_type.is_index() => "Multi-platform image".into(),
        None => "Image".into(),
    }
}

/// Returns the platforms of an index, or the layers of everything else. A page never has both, which its size relies on.
fn platforms_or_layers(
    view: View,
    entry: &ManifestEntry,
    contents: &ManifestView,
    states: &[ContentState],
) -> (Section<Child>, Section<Layer>) {
    let (none, number) = (ManifestView::default(), contents.layers.items.len() + contents.blobs.items.len());
    let has_platforms = entry.media_type.is_index() || number == 0;
    let (platforms, layers) = if has_platforms { (contents, &none) } else { (&none, contents) };
    let manifests = &platforms.manifests;
    let states_of_children = states.iter().copied().chain(std::iter::repeat(ContentState::Here));
    let children = manifests.items.iter().zip(states_of_children).collect();
    let children = view.section(List::Platforms, children, manifests.more);
    (children.map(child), artifact::layers(view, layers, states))
}

fn child((part, state): (&oci::DescriptorView, ContentState)) -> Child {
    Child {
        platform: shorten(&platform(part), NAME),
        short: short_digest(&part.digest),
        size: None,
        fault: artifact::fault(state),
        digest: part.digest.to_string(),
    }
}

fn platform(part: &oci::DescriptorView) -> String {
    match &part.platform {
        Some(platform) if !platform.is_unknown() => platform.to_string(),
        Some(_) | None => match part.reference_type() {
            Some("attestation-manifest") => "Attestation".to_owned(),
            other => other.or(part.artifact_type.as_deref()).unwrap_or("no platform").to_owned(),
        },
    }
}

/// Adds up the sizes of the manifests that are on the page and in the repository.
async fn measure(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    children: &mut [Child],
) -> Result<(), AdminError> {
    let store = &request.admin.store;
    for child in children {
        let Ok(digest) = child.digest.parse::<Digest>() else { continue };
        if store.manifest(name, &Reference::Digest(digest.clone())).is_ok() {
            child.size = Some(whole_size(store.total_size(name, &digest).await?));
        }
    }
    Ok(())
}

fn referrer(part: &oci::DescriptorView) -> Referrer {
    let artifact_type = part.artifact_type.as_deref().unwrap_or("unknown");
    Referrer {
        kind: artifact::common_name(artifact_type).unwrap_or("Artifact").to_owned(),
        artifact_type: shorten(artifact_type, TEXT),
        short: short_digest(&part.digest),
        size: part.size.map_or_else(|| "unknown".into(), size),
        digest: part.digest.to_string(),
        annotations: artifact::notes(part),
    }
}

#[cfg(test)]
mod tests;
