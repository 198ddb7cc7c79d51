//! Manifests: what they are, and what they point at.
//!
//! The bytes of a manifest are stored as they came; this reads only what the registry needs to know. Fields
//! that nobody here has heard of are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::count::{self, IsFilled};
use super::digest::Digest;
use super::json_text::{self, JsonTextError};
use super::media_type::MediaType;

/// How much of a wrong `mediaType` an error repeats, in bytes.
const LONGEST_SHOWN: usize = 255;
/// The shortest item of a list, with its comma, in bytes.
const SHORTEST_ITEM: usize = 2;

/// Why bytes are not a manifest that can be taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field has the wrong shape.
    #[error("the manifest is not valid JSON of its kind: {0}")]
    Json(#[from] serde_json::Error),
    /// Its text is not valid.
    #[error("the manifest is not valid JSON: {0}")]
    Text(#[from] JsonTextError),
    /// JSON, but a list or a number.
    #[error("a manifest is a JSON object")]
    NotAnObject,
    /// Docker schema 1, signed or not.
    #[error(
        "Docker schema 1 manifests are not accepted; push again with Docker 1.10 or later, which makes schema 2"
    )]
    Schema1,
    /// `mediaType` inside and `Content-Type` outside disagree.
    #[error("the manifest says its media type is {inside}, but it was sent as {outside}")]
    MediaType {
        /// What the manifest's own field says.
        inside: String,
        /// What the request's header said.
        outside: String,
    },
    /// The media type is not one for manifests.
    #[error(
        "a manifest cannot have the media type {0}; it has to be one of JSON, such as \
         application/vnd.oci.image.manifest.v1+json or application/vnd.NAME+json"
    )]
    NoManifestType(MediaType),
    /// Neither the header nor the manifest says what it is.
    #[error("the media type of the manifest is unknown; send it as Content-Type or in the field mediaType")]
    Untyped,
    /// It lists more than the registry takes.
    #[error("the manifest has {count} {what}, and this registry takes {limit} (limits.manifest_descriptors)")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// `schemaVersion` is there and not 2.
    #[error("schemaVersion {0} is not supported; only 2 is")]
    SchemaVersion(i64),
}

/// A pointer to content: type, digest, size, and what the standard lets be said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(with = "media_type_text")]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content, in bytes.
    pub size: u64,
    /// The kind of artifact, where the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free annotations.
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

/// What a manifest points at, and how much it matters that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The content pointed at.
    pub digest: Digest,
    /// Whether it has to be in the repository.
    pub kind: LinkKind,
}

/// How much it matters that linked content is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A config or layer: without it the manifest is refused.
    Blob,
    /// A manifest in an index: may be missing, since copies of single platforms are what air-gapped sites carry.
    Manifest,
    /// A layer that is fetched from elsewhere: may be missing.
    Foreign,
}

/// What the registry knows of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    media_type: MediaType,
    links: Vec<Link>,
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
    #[expect(
        dead_code,
        reason = "read only so that what is no length is refused before a client trips over it"
    )]
    size: Option<u64>,
    urls: Option<IsFilled>,
}

impl Manifest {
    /// Reads a manifest as it was sent: its bytes and its `Content-Type`, if there was one.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong with it, in words for the person who pushed it.
    pub fn parse(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, ManifestError> {
        if content_type.is_some_and(MediaType::is_schema1) {
            return Err(ManifestError::Schema1);
        }
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
            links: raw.links(),
            subject: raw.subject.map(|subject| subject.digest),
            artifact_type: artifact_type(raw.artifact_type, raw.config, &media_type),
            annotations: raw.annotations.unwrap_or_default(),
            media_type,
        })
    }

    /// Reads a manifest that a client pushes: as [`Manifest::parse`], and only with a media type for manifests and with
    /// valid text in all its fields. What is stored already may be otherwise, from an earlier release, and is still read.
    ///
    /// # Errors
    /// As [`Manifest::parse`], [`ManifestError::NoManifestType`] and [`ManifestError::Text`].
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

    /// Refuses a manifest that lists more than `limit` descriptors, or has more annotations than that. It holds nothing
    /// of the manifest meanwhile.
    ///
    /// # Errors
    /// [`ManifestError::TooMany`].
    pub fn check_size(bytes: &[u8], limit: usize) -> Result<(), ManifestError> {
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

    /// Reads from the bytes of a manifest only what it is about.
    ///
    /// # Errors
    /// [`ManifestError::Json`].
    pub fn subject_of(bytes: &[u8]) -> Result<Option<Digest>, ManifestError> {
        #[derive(Deserialize)]
        struct About {
            subject: Option<RawDescriptor>,
        }
        let about: About = serde_json::from_slice(bytes)?;
        Ok(about.subject.map(|subject| subject.digest))
    }

    /// What the manifest is, to be sent as `Content-Type` when it is pulled.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Everything the manifest points at, each digest once, its subject not among it.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The manifest that this one says something about.
    pub fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref()
    }

    /// The descriptor under which a list of referrers shows this manifest ("Listing Referrers").
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
                let inside = inside[..inside.floor_char_boundary(LONGEST_SHOWN)].to_owned();
                Err(ManifestError::MediaType { inside, outside: outside.to_string() })
            }
            (_, Some(outside)) => Ok(outside.clone()),
            (Some(inside), None) => inside.parse().map_err(|_| ManifestError::Untyped),
            (None, None) => Err(ManifestError::Untyped),
        }
    }

    fn links(&self) -> Vec<Link> {
        let mut links: BTreeMap<&Digest, LinkKind> = BTreeMap::new();
        let blobs = self.config.iter().chain(self.layers.iter().flatten()).chain(self.blobs.iter().flatten());
        let blobs = blobs.map(|descriptor| (descriptor, descriptor.kind()));
        let manifests = self.manifests.iter().flatten().map(|descriptor| (descriptor, LinkKind::Manifest));
        for (descriptor, kind) in blobs.chain(manifests) {
            let known = links.entry(&descriptor.digest).or_insert(kind);
            *known = kind.min(*known);
        }
        links.into_iter().map(|(digest, kind)| Link { digest: digest.clone(), kind }).collect()
    }
}

impl RawDescriptor {
    fn kind(&self) -> LinkKind {
        let media_type: Option<MediaType> = self.media_type.as_deref().and_then(|text| text.parse().ok());
        let elsewhere = self.urls.as_ref().is_some_and(|urls| urls.0);
        if elsewhere || media_type.is_some_and(|media_type| media_type.is_foreign_layer()) {
            LinkKind::Foreign
        } else {
            LinkKind::Blob
        }
    }
}

/// The `artifactType` that referrers are listed with: the manifest's own, else its config's media type; an
/// index without one has none.
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
    fn reads_what_an_image_points_at() {
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
        let kinds: Vec<_> = manifest.links().iter().map(|link| link.kind).collect();
        assert_eq!(kinds, [LinkKind::Blob, LinkKind::Blob, LinkKind::Foreign]);
        assert_eq!(manifest.subject().unwrap().to_string(), digest('d'));
        let descriptor = manifest.descriptor(digest('e').parse().unwrap(), 9);
        assert_eq!(descriptor.artifact_type.as_deref(), Some("c/d"));
    }

    #[test]
    fn an_index_has_no_artifact_type_of_its_config() {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, digest('a'));
        let manifest = Manifest::parse(text.as_bytes(), Some(&MediaType::oci_index())).unwrap();
        assert_eq!(manifest.links()[0].kind, LinkKind::Manifest);
        assert_eq!(manifest.descriptor(digest('b').parse().unwrap(), 1).artifact_type, None);
    }

    #[test]
    fn refuses_schema_1_and_disagreeing_types() {
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Manifest::parse(schema1, Some(&oci())), Err(ManifestError::Schema1)));
        let other = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
        assert!(matches!(Manifest::parse(other, Some(&oci())), Err(ManifestError::MediaType { .. })));
        assert!(matches!(Manifest::parse(b"{}", None), Err(ManifestError::Untyped)));
        assert!(matches!(Manifest::parse(b"{", Some(&oci())), Err(ManifestError::Json(_))));
        assert!(matches!(Manifest::parse(b"[]", Some(&oci())), Err(ManifestError::NotAnObject)));
    }

    #[test]
    fn only_a_push_asks_for_a_media_type_for_manifests() {
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
    fn refuses_more_descriptors_than_the_limit() {
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
    fn the_subject_is_read_by_itself() {
        let text = format!(r#"{{"layers":7,"subject":{{"digest":"{}"}}}}"#, digest('d'));
        assert_eq!(Manifest::subject_of(text.as_bytes()).unwrap().unwrap().to_string(), digest('d'));
        assert_eq!(Manifest::subject_of(b"{}").unwrap(), None);
        assert!(Manifest::subject_of(b"{").is_err());
    }

    #[test]
    fn refuses_a_size_that_is_no_length() {
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
