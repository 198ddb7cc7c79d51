//! Lenient view of a manifest for the admin page: descriptors with their sizes, platforms and annotations.
//!
//! The content is untrusted input. A field whose type is not that of the specification is left out and is no error:
//! [`Manifest`](super::Manifest) has validated the manifest when it was pushed.

use std::fmt;

use serde::Deserialize;

use super::annotations::{REFERENCE_TYPE, TITLE};
use super::digest::Digest;
use super::lenient::{BoundedList, BoundedMap, lenient, lenient_text};

/// Media types of the config of an image. A manifest with another one, or with an artifact type, is an artifact.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The fields of a manifest that the admin page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestView {
    /// The artifact type, if the manifest has one.
    #[serde(deserialize_with = "lenient_text")]
    pub artifact_type: Option<String>,
    /// The descriptor of the config.
    #[serde(deserialize_with = "lenient")]
    pub config: Option<DescriptorView>,
    /// The layers of an image, or the files of an artifact.
    pub layers: BoundedList<DescriptorView>,
    /// The files of an artifact in the withdrawn artifact manifest format.
    pub blobs: BoundedList<DescriptorView>,
    /// The manifests of an index.
    pub manifests: BoundedList<DescriptorView>,
    /// The subject of a referrer.
    #[serde(deserialize_with = "lenient")]
    pub subject: Option<DescriptorView>,
    /// The annotations of the manifest.
    pub annotations: BoundedMap<200>,
}

/// The fields of a descriptor that the admin page shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescriptorView {
    /// The media type of the content.
    #[serde(default, deserialize_with = "lenient_text")]
    pub media_type: Option<String>,
    /// The digest of the content.
    pub digest: Digest,
    /// The length in bytes that the manifest states.
    #[serde(default, deserialize_with = "lenient")]
    pub size: Option<u64>,
    /// The platform of an image.
    #[serde(default, deserialize_with = "lenient")]
    pub platform: Option<Platform>,
    /// The artifact type.
    #[serde(default, deserialize_with = "lenient_text")]
    pub artifact_type: Option<String>,
    /// The annotations of the descriptor.
    #[serde(default)]
    pub annotations: BoundedMap<8>,
}

/// The platform of an image, such as `linux/arm/v7` (image specification, "Image Index Property Descriptions").
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// The operating system.
    #[serde(deserialize_with = "lenient_text")]
    pub os: Option<String>,
    /// The CPU architecture.
    #[serde(deserialize_with = "lenient_text")]
    pub architecture: Option<String>,
    /// The variant of the architecture.
    #[serde(deserialize_with = "lenient_text")]
    pub variant: Option<String>,
}

impl ManifestView {
    /// Reads a stored manifest; fields that cannot be read are empty.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Returns the artifact type, or the media type of the config of an artifact; `None` for an image.
    pub fn kind(&self) -> Option<String> {
        let config = self.config.as_ref().and_then(|config| config.media_type.as_ref());
        let config = config.filter(|config| !IMAGE_CONFIGS.contains(&config.as_str()));
        self.artifact_type.as_ref().filter(|kind| !kind.is_empty()).or(config).cloned()
    }
}

impl DescriptorView {
    /// Returns the file name, if there is one.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE)
    }

    /// Returns the kind of an index entry that is not an image, such as `attestation-manifest`.
    pub fn reference_type(&self) -> Option<&str> {
        self.annotations.get(REFERENCE_TYPE)
    }
}

impl Platform {
    /// Returns true if neither the operating system nor the architecture is known. Builders write `unknown` for entries
    /// that are not images, such as attestations.
    pub fn is_unknown(&self) -> bool {
        let is_known =
            |text: &Option<String>| text.as_deref().is_some_and(|text| !matches!(text, "" | "unknown"));
        !is_known(&self.os) && !is_known(&self.architecture)
    }

    /// Returns true if both are the same platform as far as they say: a variant that one of them leaves out may be any.
    pub fn is_like(&self, other: &Self) -> bool {
        let variant = |one: &Self| one.variant.clone().filter(|variant| !variant.is_empty());
        let is_same_variant = match (variant(self), variant(other)) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => true,
        };
        self.os == other.os && self.architecture == other.architecture && is_same_variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.os.as_deref().unwrap_or("unknown"))?;
        for part in [&self.architecture, &self.variant].into_iter().flatten().filter(|part| !part.is_empty())
        {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_the_wrong_type_are_left_out() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!(
            r#"{{"artifactType":7,"layers":[{{"digest":"{digest}","size":"x","annotations":[1]}},"x",{{"digest":"y"}}],
               "manifests":{{}},"annotations":{{"a":"b"}},
               "config":{{"digest":"{digest}","size":3,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}}}"#
        );
        let contents = ManifestView::parse(text.as_bytes());
        assert_eq!((contents.layers.items.len(), contents.layers.items[0].size), (1, None));
        assert_eq!(contents.config.unwrap().platform.unwrap().to_string(), "linux/arm/v7");
        assert_eq!(contents.annotations.get("a"), Some("b"));
        assert_eq!((contents.artifact_type, contents.manifests), (None, BoundedList::default()));
        assert_eq!(ManifestView::parse(b"nonsense"), ManifestView::default());
    }

    #[test]
    fn the_platform_of_an_attestation_is_unknown() {
        let unknown =
            Platform { os: Some("unknown".into()), architecture: Some("unknown".into()), variant: None };
        assert!(unknown.is_unknown() && Platform::default().is_unknown());
        assert!(!Platform { os: Some("linux".into()), ..Platform::default() }.is_unknown());
    }

    #[test]
    fn a_variant_that_is_left_out_may_be_any() {
        let arm = |variant: &str| Platform {
            os: Some("linux".into()),
            architecture: Some("arm".into()),
            variant: Some(variant.to_owned()),
        };
        let plain = Platform { variant: None, ..arm("") };
        assert!(arm("v7").is_like(&arm("v7")) && arm("v7").is_like(&plain) && arm("").is_like(&arm("v6")));
        assert!(!arm("v7").is_like(&arm("v6")) && !arm("v7").is_like(&Platform { os: None, ..arm("v7") }));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ManifestView::parse(&bytes);
        }
    }
}
