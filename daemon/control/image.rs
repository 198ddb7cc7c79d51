//! `GET image?repository=NAME&reference=REFERENCE`: one image with its platforms.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::error::ControlError;
use super::request::Request;
use crate::oci::{Digest, ImageConfig, ManifestView, Reference, RepositoryName};
use crate::store::{ManifestEntry, Store, StoreError};

/// Tags that the answer names; an image may have more.
const TAGS: usize = 100;

/// An image, an index of images, or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDetails {
    /// The repository.
    pub repository: String,
    /// The digest of the manifest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The type of an artifact; `None` for an image.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The tags that name it: the first hundred.
    pub tags: Vec<String>,
    /// The length of the manifest and all content that it references, in bytes.
    pub size: u64,
    /// The time of the push, or that at which the tag was set, in seconds since 1970.
    pub pushed: u64,
    /// The number of layers; `None` for an index.
    #[serde(default)]
    pub layers: Option<usize>,
    /// The images of an index, or the one of an image.
    pub platforms: Vec<PlatformDetails>,
}

/// An image for a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformDetails {
    /// The platform, such as `linux/arm64`; `None` for content without one, such as an attestation.
    #[serde(default)]
    pub platform: Option<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// The length of the manifest and all content that it references, in bytes; `None` if the repository does not have it.
    #[serde(default)]
    pub size: Option<u64>,
}

/// Answers with the details of an image.
pub(super) async fn image(request: Request) -> Result<http::Response<Body>, ControlError> {
    let repository: RepositoryName = parse(&request, "repository")?;
    let reference: Reference = parse(&request, "reference")?;
    let store = request.host.store();
    let entry = store.manifest(&repository, &reference)?;
    // Bounds the manifests that are in memory at a time.
    let _permit = store.acquire_read_permit().await?;
    let bytes = store.read_manifest_for_page(&entry).await?.unwrap_or_default();
    let contents = ManifestView::parse(&bytes);
    let is_index = entry.media_type.is_index();
    let platforms = if is_index {
        platforms_of_index(store, &repository, &contents).await?
    } else {
        platform_of_image(store, &repository, &entry, &contents).await?.into_iter().collect()
    };
    let (tags, _) = store.tags_of(&repository, &entry.digest, TAGS).await?;
    Ok(Body::json(&ImageDetails {
        repository: repository.to_string(),
        digest: entry.digest.to_string(),
        media_type: entry.media_type.to_string(),
        artifact_type: contents.kind(),
        tags: tags.iter().map(ToString::to_string).collect(),
        size: store.total_size(&repository, &entry.digest).await?.bytes,
        pushed: entry.pushed,
        layers: (!is_index).then(|| contents.layers.items.len() + contents.layers.more),
        platforms,
    }))
}

async fn platforms_of_index(
    store: &Store,
    repository: &RepositoryName,
    contents: &ManifestView,
) -> Result<Vec<PlatformDetails>, ControlError> {
    let mut platforms = Vec::with_capacity(contents.manifests.items.len());
    for part in &contents.manifests.items {
        let known = part.platform.as_ref().filter(|platform| !platform.is_unknown());
        platforms.push(PlatformDetails {
            platform: known.map(ToString::to_string),
            digest: part.digest.to_string(),
            size: size_of(store, repository, &part.digest).await?,
        });
    }
    Ok(platforms)
}

/// Returns the length of a manifest with its content; `None` if the repository does not have it.
async fn size_of(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<u64>, ControlError> {
    match store.manifest(repository, &Reference::Digest(digest.clone())) {
        Ok(_) => Ok(Some(store.total_size(repository, digest).await?.bytes)),
        Err(StoreError::ManifestUnknown(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the platform that the config of an image names; `None` for an artifact.
async fn platform_of_image(
    store: &Store,
    repository: &RepositoryName,
    entry: &ManifestEntry,
    contents: &ManifestView,
) -> Result<Option<PlatformDetails>, ControlError> {
    let Some(config) = contents.config.as_ref().filter(|_| contents.kind().is_none()) else {
        return Ok(None);
    };
    let bytes = store.read_config(repository, &config.digest).await?.unwrap_or_default();
    let platform = ImageConfig::parse(&bytes).platform();
    Ok(Some(PlatformDetails {
        platform: (!platform.is_unknown()).then(|| platform.to_string()),
        digest: entry.digest.to_string(),
        size: size_of(store, repository, &entry.digest).await?,
    }))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    request: &Request,
    parameter: &str,
) -> Result<T, ControlError> {
    let text = request.query.get(parameter).unwrap_or_default();
    text.parse()
        .map_err(|error| ControlError::malformed(format!("the parameter {parameter} is invalid: {error}")))
}
