//! Manifests (image specification, "Image Manifest" and "Image Index"): validation, and the content that they
//! reference.
//!
//! The bytes of a manifest are stored as they were pushed. Only the fields that a registry needs are parsed; unknown
//! fields are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::count::{self, IsNonEmpty};
use super::digest::Digest;
use super::json_text;
use super::manifest_error::ManifestError;
use super::media_type::MediaType;

/// The maximum length of a manifest, in bytes: the size that the standard asks registries to accept at least.
pub const MAX_MANIFEST: usize = 4 << 20;
/// The maximum length of a wrong `mediaType` in an error message, in bytes.
const MAX_TYPE_IN_ERROR: usize = 255;
/// The length of the shortest list item with its comma, in bytes.
const SHORTEST_ITEM: usize = 2;

/// A descriptor: media type, digest and size of content (image specification, "OCI Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    #[serde(with = "media_type_text")]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// The artifact type, if the content is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

mod media_type_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::MediaType;

    pub(super) fn serialize<S: Serializer>(value: &MediaType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Content that a manifest references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencedContent {
    /// The digest of the content.
    pub digest: Digest,
    /// The kind of reference, which decides whether the content has to be in the repository.
    pub kind: ReferenceKind,
    /// Its length in bytes, if the manifest has it.
    pub size: Option<u64>,
}

/// The kind of a reference. Where a manifest references a digest in several ways, the strictest kind applies, which is
/// the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A config or layer, which has to be in the repository when the manifest is pushed.
    Blob,
    /// A manifest in an index. It may be missing: air-gapped sites copy single platforms of an index.
    Manifest,
    /// A foreign (non-distributable) layer, which clients fetch from elsewhere. It may be missing.
    Foreign,
}

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    media_type: MediaType,
    references: Vec<ReferencedContent>,
    subject: Option<Digest>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<i64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    /// Files of an artifact in the withdrawn artifact manifest format.
    blobs: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: Digest,
    /// A value that is not a length is refused, because clients would fail on it.
    size: Option<u64>,
    urls: Option<IsNonEmpty>,
}

impl Manifest {
    /// Parses a manifest from its bytes and its `Content-Type`, if there is one.
    ///
    /// # Errors
    /// Returns [`ManifestError`] if the bytes are not a manifest of this type.
    pub fn parse(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, ManifestError> {
        if content_type.is_some_and(MediaType::is_schema1) {
            return Err(ManifestError::Schema1);
        }
        // serde would read an array as the fields in their order.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
            return Err(ManifestError::NotAnObject);
        }
        let raw: Raw = serde_json::from_slice(bytes)?;
        match raw.schema_version {
            Some(1) => return Err(ManifestError::Schema1),
            Some(2) | None => {}
            Some(other) => return Err(ManifestError::SchemaVersion(other)),
        }
        let media_type = raw.media_type(content_type)?;
        Ok(Manifest {
            references: raw.references(),
            subject: raw.subject.map(|subject| subject.digest),
            artifact_type: artifact_type(raw.artifact_type, raw.config, &media_type),
            annotations: raw.annotations.unwrap_or_default(),
            media_type,
        })
    }

    /// Parses a manifest that a client pushes. Stricter than [`Manifest::parse`], which also reads manifests that
    /// earlier releases stored: the media type has to be one for manifests, and the text of all fields valid.
    ///
    /// # Errors
    /// Returns the errors of [`Manifest::parse`], [`ManifestError::NoManifestType`] and [`ManifestError::Text`].
    pub fn parse_pushed(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, ManifestError> {
        if let Some(other) = content_type.filter(|media_type| !media_type.is_for_manifests()) {
            return Err(ManifestError::NoManifestType(other.clone()));
        }
        json_text::check(bytes)?;
        let manifest = Self::parse(bytes, content_type)?;
        if manifest.media_type.is_for_manifests() {
            return Ok(manifest);
        }
        Err(ManifestError::NoManifestType(manifest.media_type))
    }

    /// Refuses a manifest with more than `limit` descriptors or more than `limit` annotations, before it is parsed.
    /// Needs no memory for the content of the manifest.
    ///
    /// # Errors
    /// Returns [`ManifestError::TooMany`].
    pub fn check_size(bytes: &[u8], limit: usize) -> Result<(), ManifestError> {
        // Most manifests are too short to have too many items and need not be counted.
        if bytes.len() / SHORTEST_ITEM <= limit {
            return Ok(());
        }
        let counts = count::count(bytes);
        for (what, count) in [("descriptors", counts.descriptors), ("annotations", counts.annotations)] {
            if count > limit {
                return Err(ManifestError::TooMany { what, count, limit });
            }
        }
        Ok(())
    }

    /// Parses only the subject of a manifest.
    ///
    /// # Errors
    /// Returns [`ManifestError::Json`].
    pub fn subject_of(bytes: &[u8]) -> Result<Option<Digest>, ManifestError> {
        #[derive(Deserialize)]
        struct WithSubject {
            subject: Option<RawDescriptor>,
        }
        let manifest: WithSubject = serde_json::from_slice(bytes)?;
        Ok(manifest.subject.map(|subject| subject.digest))
    }

    /// Returns the media type, which is the `Content-Type` of a pull.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the content that the manifest references, each digest once, without its subject.
    pub fn references(&self) -> &[ReferencedContent] {
        &self.references
    }

    /// Returns the subject, the manifest that this one refers to (distribution specification, "Pushing Manifests with
    /// Subject").
    pub fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref()
    }

    /// Returns the descriptor of this manifest in a list of referrers (distribution specification, "Listing
    /// Referrers").
    pub fn descriptor(&self, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest,
            size,
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

impl Raw {
    fn media_type(&self, content_type: Option<&MediaType>) -> Result<MediaType, ManifestError> {
        let inside = self.media_type.as_deref().filter(|text| !text.is_empty());
        match (inside, content_type) {
            (Some(inside), Some(outside)) if inside != outside.as_str() => {
                // The client decides its length: it must not decide that of the response.
                let inside = inside[..inside.floor_char_boundary(MAX_TYPE_IN_ERROR)].to_owned();
                Err(ManifestError::MediaType { inside, outside: outside.to_string() })
            }
            (_, Some(outside)) => Ok(outside.clone()),
            (Some(inside), None) => inside.parse().map_err(|_| ManifestError::Untyped),
            (None, None) => Err(ManifestError::Untyped),
        }
    }

    fn references(&self) -> Vec<ReferencedContent> {
        let mut links: BTreeMap<&Digest, (ReferenceKind, Option<u64>)> = BTreeMap::new();
        let blobs = self.config.iter().chain(self.layers.iter().flatten()).chain(self.blobs.iter().flatten());
        let blobs = blobs.map(|descriptor| (descriptor, descriptor.kind()));
        let manifests =
            self.manifests.iter().flatten().map(|descriptor| (descriptor, ReferenceKind::Manifest));
        for (descriptor, kind) in blobs.chain(manifests) {
            let (known, size) = links.entry(&descriptor.digest).or_insert((kind, descriptor.size));
            *known = kind.min(*known);
            *size = size.or(descriptor.size);
        }
        let links = links.into_iter();
        links.map(|(digest, (kind, size))| ReferencedContent { digest: digest.clone(), kind, size }).collect()
    }
}

impl RawDescriptor {
    fn kind(&self) -> ReferenceKind {
        let media_type: Option<MediaType> = self.media_type.as_deref().and_then(|text| text.parse().ok());
        let has_urls = self.urls.as_ref().is_some_and(|urls| urls.0);
        if has_urls || media_type.is_some_and(|media_type| media_type.is_foreign_layer()) {
            ReferenceKind::Foreign
        } else {
            ReferenceKind::Blob
        }
    }
}

/// Returns the `artifactType` of a manifest in a list of referrers: its own, else the media type of its config (for
/// an index there is no such fallback).
fn artifact_type(
    own: Option<String>,
    config: Option<RawDescriptor>,
    media_type: &MediaType,
) -> Option<String> {
    let config = config.and_then(|config| config.media_type).filter(|_| !media_type.is_index());
    own.filter(|own| !own.is_empty()).or(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(fill: char) -> String {
        format!("sha256:{}", fill.to_string().repeat(64))
    }

    fn oci() -> MediaType {
        MediaType::OCI_MANIFEST.parse().unwrap()
    }

    #[test]
    fn references_of_an_image_have_their_kinds() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c/d","digest":"{}","size":1}},
               "layers":[{{"digest":"{}","size":2}},
                 {{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{}","size":3}}],
               "subject":{{"digest":"{}","size":1}},"somethingNew":[1]}}"#,
            digest('a'),
            digest('b'),
            digest('c'),
            digest('d')
        );
        let manifest = Manifest::parse(text.as_bytes(), Some(&oci())).unwrap();
        let kinds: Vec<_> = manifest.references().iter().map(|link| link.kind).collect();
        assert_eq!(kinds, [ReferenceKind::Blob, ReferenceKind::Blob, ReferenceKind::Foreign]);
        assert_eq!(manifest.subject().unwrap().to_string(), digest('d'));
        let descriptor = manifest.descriptor(digest('e').parse().unwrap(), 9);
        assert_eq!(descriptor.artifact_type.as_deref(), Some("c/d"));
    }

    #[test]
    fn an_index_has_no_artifact_type_from_a_config() {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, digest('a'));
        let manifest = Manifest::parse(text.as_bytes(), Some(&MediaType::oci_index())).unwrap();
        assert_eq!(manifest.references()[0].kind, ReferenceKind::Manifest);
        assert_eq!(manifest.descriptor(digest('b').parse().unwrap(), 1).artifact_type, None);
    }

    #[test]
    fn schema_1_and_contradicting_media_types_are_refused() {
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Manifest::parse(schema1, Some(&oci())), Err(ManifestError::Schema1)));
        let other = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        assert!(matches!(Manifest::parse(other, Some(&oci())), Err(ManifestError::MediaType { .. })));
        assert!(matches!(Manifest::parse(b"{}", None), Err(ManifestError::Untyped)));
        assert!(matches!(Manifest::parse(b"{", Some(&oci())), Err(ManifestError::Json(_))));
        assert!(matches!(Manifest::parse(b"[]", Some(&oci())), Err(ManifestError::NotAnObject)));
    }

    #[test]
    fn only_a_push_requires_a_media_type_for_manifests() {
        let html: MediaType = "text/html".parse().unwrap();
        assert!(Manifest::parse(b"{}", Some(&html)).is_ok());
        let pushed = |bytes: &[u8], media_type: Option<&MediaType>| Manifest::parse_pushed(bytes, media_type);
        assert!(matches!(pushed(b"{}", Some(&html)), Err(ManifestError::NoManifestType(_))));
        let inside = br#"{"mediaType":"text/html"}"#;
        assert!(matches!(pushed(inside, None), Err(ManifestError::NoManifestType(_))));
        let error = pushed(inside, Some(&oci())).unwrap_err().to_string();
        assert!(error.contains("text/html") && error.contains(MediaType::OCI_MANIFEST), "{error}");
        assert!(pushed(b"{}", Some(&oci())).is_ok());
    }

    #[test]
    fn more_items_than_the_limit_are_refused() {
        let layers = vec![format!(r#"{{"digest":"{}"}}"#, digest('a')); 3].join(",");
        let text = format!(r#"{{"layers":[{layers}]}}"#);
        assert!(Manifest::check_size(text.as_bytes(), 3).is_ok());
        let error = Manifest::check_size(text.as_bytes(), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the manifest has 3 descriptors, and this registry takes 2 (limits.manifest_descriptors)"
        );
        let annotations = br#"{"annotations":{"a":"","b":""}}"#;
        assert!(
            Manifest::check_size(annotations, 1).is_err() && Manifest::check_size(annotations, 2).is_ok()
        );
    }

    #[test]
    fn the_subject_is_parsed_without_the_other_fields() {
        let text = format!(r#"{{"layers":7,"subject":{{"digest":"{}"}}}}"#, digest('d'));
        assert_eq!(Manifest::subject_of(text.as_bytes()).unwrap().unwrap().to_string(), digest('d'));
        assert_eq!(Manifest::subject_of(b"{}").unwrap(), None);
        assert!(Manifest::subject_of(b"{").is_err());
    }

    #[test]
    fn a_size_that_is_not_a_length_is_refused() {
        for size in ["-1", "1.5", "18446744073709551616", r#""7""#] {
            let text =
                format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{}","size":{size}}}]}}"#, digest('a'));
            assert!(matches!(Manifest::parse(text.as_bytes(), Some(&oci())), Err(ManifestError::Json(_))));
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes, Some(&oci()));
        }
    }
}
