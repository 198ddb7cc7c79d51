//! What a manifest says to people: its parts with their sizes, platforms and annotations.
//!
//! All of it was written by strangers. A field of another shape than the standard's is left out, and nothing fails
//! for it: [`Manifest`](super::Manifest) has decided already what is taken.

use std::fmt;

use serde::Deserialize;

use super::digest::Digest;
use super::lenient::{List, Pairs, lenient, lenient_text};

/// The configurations of images; any other one, or an artifact type, makes an artifact.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The annotation with the name of a file.
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation of what builders add to an index that is no image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Annotations that are kept, however many there are.
pub(super) const ASKED_FOR: [&str; 2] = [TITLE, REFERENCE_TYPE];

/// A manifest as people look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Contents {
    /// The kind of artifact, where it says one.
    #[serde(deserialize_with = "lenient_text")]
    pub artifact_type: Option<String>,
    /// The configuration.
    #[serde(deserialize_with = "lenient")]
    pub config: Option<Part>,
    /// The layers, or whatever an artifact has in their place.
    pub layers: List<Part>,
    /// What an artifact of an older form has.
    pub blobs: List<Part>,
    /// The manifests of an index.
    pub manifests: List<Part>,
    /// What it is about.
    #[serde(deserialize_with = "lenient")]
    pub subject: Option<Part>,
    /// Free annotations.
    pub annotations: Pairs<200>,
}

/// A descriptor as people look at it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// What it is.
    #[serde(default, deserialize_with = "lenient_text")]
    pub media_type: Option<String>,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, as the manifest has it.
    #[serde(default, deserialize_with = "lenient")]
    pub size: Option<u64>,
    /// What it runs on.
    #[serde(default, deserialize_with = "lenient")]
    pub platform: Option<Platform>,
    /// The kind of artifact.
    #[serde(default, deserialize_with = "lenient_text")]
    pub artifact_type: Option<String>,
    /// Free annotations.
    #[serde(default)]
    pub annotations: Pairs<8>,
}

/// What an image runs on, such as `linux/arm/v7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// The operating system.
    #[serde(deserialize_with = "lenient_text")]
    pub os: Option<String>,
    /// The processor.
    #[serde(deserialize_with = "lenient_text")]
    pub architecture: Option<String>,
    /// Which one of its kind.
    #[serde(deserialize_with = "lenient_text")]
    pub variant: Option<String>,
}

impl Contents {
    /// Reads a manifest that the registry has taken; what cannot be read is empty.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What kind of artifact it is; nothing for an image.
    pub fn kind(&self) -> Option<String> {
        let config = self.config.as_ref().and_then(|config| config.media_type.as_ref());
        let config = config.filter(|config| !IMAGE_CONFIGS.contains(&config.as_str()));
        self.artifact_type.as_ref().filter(|kind| !kind.is_empty()).or(config).cloned()
    }
}

impl Part {
    /// The name of the file that it is, where it has one.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE)
    }

    /// What it is beside the images of an index, where builders say so.
    pub fn reference_type(&self) -> Option<&str> {
        self.annotations.get(REFERENCE_TYPE)
    }
}

impl Platform {
    /// Whether it says nothing; builders write `unknown` for what is no image, such as an attestation.
    pub fn is_unknown(&self) -> bool {
        let says =
            |text: &Option<String>| text.as_deref().is_some_and(|text| !matches!(text, "" | "unknown"));
        !says(&self.os) && !says(&self.architecture)
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
    fn what_has_another_shape_is_left_out() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!(
            r#"{{"artifactType":7,"layers":[{{"digest":"{digest}","size":"x","annotations":[1]}},"x",{{"digest":"y"}}],
               "manifests":{{}},"annotations":{{"a":"b"}},
               "config":{{"digest":"{digest}","size":3,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}}}"#
        );
        let contents = Contents::parse(text.as_bytes());
        assert_eq!((contents.layers.items.len(), contents.layers.items[0].size), (1, None));
        assert_eq!(contents.config.unwrap().platform.unwrap().to_string(), "linux/arm/v7");
        assert_eq!(contents.annotations.get("a"), Some("b"));
        assert_eq!((contents.artifact_type, contents.manifests), (None, List::default()));
        assert_eq!(Contents::parse(b"nonsense"), Contents::default());
    }

    #[test]
    fn an_attestation_has_no_platform() {
        let unknown =
            Platform { os: Some("unknown".into()), architecture: Some("unknown".into()), variant: None };
        assert!(unknown.is_unknown() && Platform::default().is_unknown());
        assert!(!Platform { os: Some("linux".into()), ..Platform::default() }.is_unknown());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Contents::parse(&bytes);
        }
    }
}
