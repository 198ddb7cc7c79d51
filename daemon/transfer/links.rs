//! The links of a manifest, in the order of its text.
//!
//! Imports and exports follow these links; whether a manifest is valid is for the registry that stores it to judge. A field of
//! an unexpected type that is no link counts as absent.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::image_set::Item;
use crate::oci::{Digest, MediaType, Platform, lenient};

/// The media types of the config of an image, from which containers are made.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The links of a manifest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Links {
    pub(super) media_type: Option<String>,
    pub(super) schema_version: Option<i64>,
    pub(super) artifact_type: Option<String>,
    /// The config; absent in an index.
    pub(super) config: Option<Link>,
    pub(super) layers: Option<Vec<Link>>,
    /// Files of an artifact in the withdrawn artifact manifest format.
    blobs: Option<Vec<Link>>,
    /// The manifests of an index.
    pub(super) manifests: Option<Vec<Link>>,
    /// The subject of a referrer.
    pub(super) subject: Option<Link>,
    pub(super) annotations: Option<IgnoredAny>,
}

/// A descriptor.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) media_type: Option<String>,
    pub(super) digest: Digest,
    size: Option<u64>,
    urls: Option<Vec<IgnoredAny>>,
    #[serde(default, deserialize_with = "lenient")]
    platform: Option<Platform>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: Option<Annotations>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    #[serde(default, rename = "vnd.docker.reference.digest", deserialize_with = "lenient")]
    attached_to: Option<Digest>,
}

/// A manifest of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) item: Item,
    pub(super) media_type: Option<MediaType>,
    pub(super) platform: Option<Platform>,
    /// The manifest of the same index to which this one is attached, such as an attestation of a builder.
    pub(super) attached_to: Option<Digest>,
}

impl Links {
    /// Parses a manifest.
    ///
    /// # Errors
    /// Fails if the bytes are no JSON object, or a link is not valid.
    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// Returns the layers, or the files of an artifact.
    pub(super) fn files(&self) -> impl Iterator<Item = &Link> {
        self.layers.iter().flatten().chain(self.blobs.iter().flatten())
    }

    /// Returns the manifests of an index.
    pub(super) fn children(&self) -> Vec<Child> {
        let child = |link: &Link| Child {
            item: link.item(),
            media_type: link.parsed_type(),
            // That of an attestation is `unknown/unknown`.
            platform: link.platform.clone().filter(|platform| !platform.is_unknown()),
            attached_to: link.annotations.as_ref().and_then(|all| all.attached_to.clone()),
        };
        self.manifests.iter().flatten().map(child).collect()
    }

    /// Returns true if the config is that of an image.
    pub(super) fn has_image_config(&self) -> bool {
        let config = self.config.as_ref().and_then(|config| config.media_type.as_deref());
        config.is_some_and(|text| IMAGE_CONFIGS.contains(&text))
    }
}

impl Link {
    /// Returns the media type, if it is valid.
    pub(super) fn parsed_type(&self) -> Option<MediaType> {
        self.media_type.as_deref().and_then(|text| text.parse().ok())
    }

    /// Returns true if the content is not expected in a registry.
    pub(super) fn is_foreign(&self) -> bool {
        let has_urls = self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        has_urls || self.parsed_type().is_some_and(|kind| kind.is_foreign_layer())
    }

    /// Returns digest and size.
    pub(super) fn item(&self) -> Item {
        Item { digest: self.digest.clone(), size: self.size }
    }
}
