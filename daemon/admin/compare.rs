//! The comparison of two images of a repository: layers, size, settings, labels and history.

mod difference;

use askama::Template;

use self::difference::{Change, Line, changed_values, diff, without_unchanged};
use super::artifact::steps;
use super::error::AdminError;
use super::format::short_digest;
use super::limits::{NAME, TEXT, shorten};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::base::human::{count, size};
use crate::oci::{DescriptorView, ImageConfig, ManifestView, Platform, Reference, RepositoryName};
use crate::wire::Response;

/// The rows of each list of layers.
const LAYERS: usize = 12;
/// The settings and labels that differ.
const SETTINGS: usize = 20;
/// The lines of the history.
const LINES: usize = 36;
/// The platforms that the page offers.
const PLATFORMS: usize = 12;

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    frame: Frame,
    name: String,
    sides: [Side; 2],
    /// The platform that is compared, if one of them is an index, and those that both indexes have.
    platform: Option<String>,
    platforms: Vec<(String, String)>,
    shared: String,
    settings: Vec<SettingRow>,
    more_settings: usize,
    history: Vec<Line>,
    more_history: usize,
    is_equal: bool,
}

struct Side {
    /// The tag, or the beginning of the digest.
    label: String,
    /// The reference in an address: `:TAG` or `@DIGEST`.
    reference: String,
    size: String,
    layers: usize,
    /// The layers that only this side has.
    only: Vec<LayerRow>,
    more: usize,
}

struct LayerRow {
    short: String,
    size: String,
}

struct SettingRow {
    name: String,
    a: Option<String>,
    b: Option<String>,
}

/// The documents of one image.
struct Image {
    reference: Reference,
    contents: ManifestView,
    config: ImageConfig,
}

/// Compares the images `a` and `b` of the repository `name`.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let field = |name| request.query.get(name).unwrap_or_default().trim();
    let name = field("name").parse::<RepositoryName>();
    let name = name.map_err(|error| AdminError::Invalid(format!("Invalid repository name: {error}.")))?;
    request.check_source(&name)?;
    let reference = |name| {
        let parsed = field(name).parse::<Reference>();
        parsed.map_err(|error| AdminError::Invalid(format!("Invalid tag or digest: {error}.")))
    };
    let (first, second) = (reference("a")?, reference("b")?);
    // Bounds the memory of documents that are read at once.
    let _permit = request.admin.store.acquire_read_permit().await?;
    let (first, second) = (manifest(request, &name, first).await?, manifest(request, &name, second).await?);
    let common = common_platforms(&first.1, &second.1);
    let named: Vec<String> = common.iter().map(ToString::to_string).collect();
    let (a, b, platform) = match (is_index(&first.1), is_index(&second.1)) {
        (true, false) => {
            let b = image(request, &name, second, None).await?;
            let platform = known_platform(&b);
            (image(request, &name, first, platform.as_ref()).await?, b, platform)
        }
        (false, true) => {
            let a = image(request, &name, first, None).await?;
            let platform = known_platform(&a);
            let b = image(request, &name, second, platform.as_ref()).await?;
            (a, b, platform)
        }
        (true, true) | (false, false) => {
            let wanted = request.query.get("platform");
            let wanted = common.iter().find(|platform| Some(platform.to_string().as_str()) == wanted);
            // Without a platform in common, the second image is named that lacks the first one's.
            let platform = wanted.or(common.first()).cloned().or_else(|| platforms(&first.1).next().cloned());
            let a = image(request, &name, first, platform.as_ref()).await?;
            (a, image(request, &name, second, platform.as_ref()).await?, platform)
        }
    };
    let platform = platform.map(|platform| platform.to_string());
    let frame = Frame::new(request, "repositories");
    render(OK, &page(frame, &name, &a, &b, (platform, named)))
}

fn is_index(contents: &ManifestView) -> bool {
    !contents.manifests.items.is_empty()
}

/// Returns the platform of an image by its configuration.
fn known_platform(image: &Image) -> Option<Platform> {
    Some(image.config.platform()).filter(|platform| !platform.is_unknown())
}

/// Reads the manifest of a tag or a digest.
async fn manifest(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    reference: Reference,
) -> Result<(Reference, ManifestView), AdminError> {
    let store = &request.admin.store;
    let entry = store.manifest(name, &reference)?;
    let bytes = store.read_manifest_for_page(&entry).await?.ok_or_else(|| too_large("manifest"))?;
    Ok((reference, ManifestView::parse(&bytes)))
}

fn too_large(what: &str) -> AdminError {
    AdminError::Invalid(format!("A {what} is missing, or too large to be compared here."))
}

/// Returns the platforms that both indexes have.
fn common_platforms(a: &ManifestView, b: &ManifestView) -> Vec<Platform> {
    let mut common: Vec<Platform> = Vec::new();
    for platform in platforms(a) {
        if platforms(b).any(|other| other == platform) && !common.contains(platform) {
            common.push(platform.clone());
        }
    }
    common
}

/// Returns the known platforms of an index.
fn platforms(contents: &ManifestView) -> impl Iterator<Item = &Platform> {
    contents.manifests.items.iter().filter_map(platform_of)
}

fn platform_of(part: &DescriptorView) -> Option<&Platform> {
    part.platform.as_ref().filter(|platform| !platform.is_unknown())
}

/// Returns the manifest of a platform in an index: the same one, or one that differs only in a variant that is not given. An
/// index without platforms, or a platform that is not known, gives the first manifest.
fn child<'a>(
    reference: &Reference,
    contents: &'a ManifestView,
    wanted: Option<&Platform>,
) -> Result<Option<&'a DescriptorView>, AdminError> {
    let children = &contents.manifests.items;
    let named = platforms(contents).next().is_some();
    let Some(wanted) = wanted.filter(|_| named) else { return Ok(children.first()) };
    let with = |is_wanted: &dyn Fn(&Platform) -> bool| {
        children.iter().find(|part| platform_of(part).is_some_and(is_wanted))
    };
    let found = with(&|platform| platform == wanted).or_else(|| with(&|platform| platform.is_like(wanted)));
    let missing = || {
        let has: Vec<_> = platforms(contents).take(PLATFORMS).map(ToString::to_string).collect();
        let (label, has) = (label(reference), has.join(", "));
        AdminError::Invalid(format!(
            "The index {label} has no image for {wanted}, so they cannot be compared. It has {has}."
        ))
    };
    found.ok_or_else(missing).map(Some)
}

/// Reads the image of a manifest: of an index, that of the platform.
async fn image(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    (reference, mut contents): (Reference, ManifestView),
    platform: Option<&Platform>,
) -> Result<Image, AdminError> {
    let store = &request.admin.store;
    if let Some(child) = child(&reference, &contents, platform)? {
        contents = manifest(request, name, Reference::Digest(child.digest.clone())).await?.1;
    }
    let config = match &contents.config {
        Some(config) => {
            store.read_config(name, &config.digest).await?.ok_or_else(|| too_large("configuration"))?
        }
        None => bytes::Bytes::new(),
    };
    Ok(Image { reference, contents, config: ImageConfig::parse(&config) })
}

fn page(
    frame: Frame,
    name: &RepositoryName,
    a: &Image,
    b: &Image,
    (platform, common): (Option<String>, Vec<String>),
) -> Page {
    let has = |image: &Image, layer: &DescriptorView| {
        image.contents.layers.items.iter().any(|other| other.digest == layer.digest)
    };
    let (both, only_a): (Vec<_>, Vec<_>) = a.contents.layers.items.iter().partition(|layer| has(b, layer));
    let only_b: Vec<_> = b.contents.layers.items.iter().filter(|layer| !has(a, layer)).collect();
    let settings = changed_values(&values(&a.config), &values(&b.config));
    let lines =
        |image: &Image| steps(&image.contents, &image.config).into_iter().map(|step| step.0).collect();
    let (lines_a, lines_b): (Vec<String>, Vec<String>) = (lines(a), lines(b));
    let history = diff(&lines_a, &lines_b);
    let history = if history.iter().any(|line| line.change != Change::Same) {
        without_unchanged(history)
    } else {
        Vec::new()
    };
    let has_more = a.contents.layers.more > 0 || b.contents.layers.more > 0;
    let is_equal =
        !has_more && only_a.is_empty() && only_b.is_empty() && settings.is_empty() && history.is_empty();
    let shared: u64 = both.iter().filter_map(|layer| layer.size).fold(0, u64::saturating_add);
    let shown = platform.map(|text| shorten(&text, NAME));
    let link = |text: String| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("name", name.as_str());
        query.append_pair("a", &a.reference.to_string()).append_pair("b", &b.reference.to_string());
        query.append_pair("platform", &text);
        (shorten(&text, NAME / 2), format!("?{}", query.finish()))
    };
    let short_enough = common.into_iter().filter(|text| text.len() <= NAME / 2);
    Page {
        frame,
        name: name.to_string(),
        sides: [side(a, only_a), side(b, only_b)],
        platform: shown,
        platforms: short_enough.take(PLATFORMS).map(link).collect(),
        shared: format!("{}, {}", count(both.len(), "layer"), size(shared)),
        more_settings: settings.len().saturating_sub(SETTINGS),
        settings: settings.into_iter().take(SETTINGS).map(setting).collect(),
        more_history: history.len().saturating_sub(LINES),
        history: history.into_iter().take(LINES).map(shown_line).collect(),
        is_equal,
    }
}

fn side(image: &Image, only: Vec<&DescriptorView>) -> Side {
    let layers = &image.contents.layers;
    let total = layers.items.iter().filter_map(|layer| layer.size).fold(0, u64::saturating_add);
    Side {
        label: label(&image.reference),
        reference: match &image.reference {
            Reference::Tag(tag) => format!(":{tag}"),
            Reference::Digest(digest) => format!("@{digest}"),
        },
        size: size(total),
        layers: layers.items.len() + layers.more,
        more: only.len().saturating_sub(LAYERS),
        only: only.into_iter().take(LAYERS).map(layer).collect(),
    }
}

/// Returns the tag, or the beginning of the digest.
fn label(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => tag.to_string(),
        Reference::Digest(digest) => short_digest(digest),
    }
}

fn layer(layer: &DescriptorView) -> LayerRow {
    LayerRow { short: short_digest(&layer.digest), size: layer.size.map_or_else(|| "unknown".into(), size) }
}

fn setting((name, a, b): (String, Option<String>, Option<String>)) -> SettingRow {
    let short = |value: String| shorten(&value, TEXT);
    SettingRow { name: shorten(&name, NAME), a: a.map(short), b: b.map(short) }
}

fn shown_line(Line { change, text }: Line) -> Line {
    Line { change, text: shorten(&text, TEXT) }
}

/// Returns the settings and labels of an image: names and values. Each variable of the environment is one of its own.
fn values(config: &ImageConfig) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for setting in config.settings() {
        if setting.name == "Environment" {
            let pairs = setting.values.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            values.extend(pairs.map(|(name, value)| (format!("Variable {name}"), value.to_owned())));
        } else {
            values.push((setting.name.to_owned(), setting.values.join(" ")));
        }
    }
    values.extend(config.labels().0.iter().map(|(name, value)| (format!("Label {name}"), value.clone())));
    values
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    fn image(text: &str, number: usize) -> Image {
        let digest = |at: usize| format!("sha512:{number:02}{at:03}{}", "a".repeat(123));
        let layers: Vec<_> = (0..60)
            .map(|at| serde_json::json!({"digest": digest(at), "size": 1_098_437_885_952_u64}))
            .collect();
        let steps: Vec<_> =
            (0..60).map(|at| serde_json::json!({"created_by": format!("{number}{at}{text}")})).collect();
        let env: Vec<_> = (0..60).map(|at| format!("{text}{at}={number}{text}")).collect();
        let config = serde_json::json!({"history": steps, "config": {"Env": env}}).to_string();
        let manifest = serde_json::json!({"layers": layers}).to_string();
        Image {
            reference: Reference::Digest(worst_case::digest()),
            contents: ManifestView::parse(manifest.as_bytes()),
            config: ImageConfig::parse(config.as_bytes()),
        }
    }

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let (a, b) = (image(&text, 1), image(&text, 2));
            let platforms = (0..60).map(|at| format!("{at}{}", "\"".repeat(40))).collect();
            let page =
                page(worst_case::frame(), &worst_case::name(0), &a, &b, (Some(text.clone()), platforms));
            assert_eq!(
                (page.history.len(), page.settings.len(), page.sides[0].only.len()),
                (LINES, SETTINGS, LAYERS)
            );
            worst_case::assert_small(&page);
        }
    }

    #[test]
    fn layers_settings_and_history_are_compared() {
        let image = |layers: &[&str], env: &str, steps: &[&str]| {
            let layers: Vec<_> = layers
                .iter()
                .map(|one| serde_json::json!({"digest": format!("sha256:{}", one.repeat(64)), "size": 5}))
                .collect();
            let steps: Vec<_> = steps.iter().map(|step| serde_json::json!({"created_by": step})).collect();
            let config = serde_json::json!({"history": steps, "config": {"Env": [env]}}).to_string();
            Image {
                reference: "1".parse().unwrap(),
                contents: ManifestView::parse(serde_json::json!({"layers": layers}).to_string().as_bytes()),
                config: ImageConfig::parse(config.as_bytes()),
            }
        };
        let a = image(&["a", "b"], "V=1", &["FROM x", "COPY one /"]);
        let b = image(&["a", "c"], "V=2", &["FROM x", "COPY two /"]);
        let name = worst_case::name(0);
        let compared = page(worst_case::frame(), &name, &a, &b, (None, Vec::new()));
        assert_eq!(
            (compared.shared.as_str(), compared.sides[0].only[0].short.as_str()),
            ("1 layer, 5 B", "bbbbbbbbbbbb")
        );
        assert_eq!(compared.settings[0].a.as_deref(), Some("1"));
        let changes: Vec<_> = compared.history.iter().map(|line| line.change).collect();
        assert_eq!(changes, [Change::Same, Change::Removed, Change::Added]);
        let same = page(worst_case::frame(), &name, &a, &a, (None, Vec::new()));
        assert!(same.is_equal && same.settings.is_empty());
    }
}
