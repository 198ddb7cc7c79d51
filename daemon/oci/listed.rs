//! Descriptors in a list of referrers (distribution specification, "Listing Referrers"), parsed in two steps.
//!
//! Clients decide the size of annotations, so that these are parsed only for the descriptors of the requested page.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::manifest::Descriptor;
use super::media_type::MediaType;

/// The maximum length of a descriptor, in bytes of JSON, whose annotations are listed.
const MAX_WITH_ANNOTATIONS: usize = 64 << 10;

/// The maximum length of an artifact type that is listed, in bytes; media types are shorter.
const MAX_TYPE: usize = 1024;

/// A descriptor in a list, parsed without its annotations, and its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDescriptor<'a> {
    descriptor: Descriptor,
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithoutAnnotations {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl<'a> ListedDescriptor<'a> {
    /// Parses a descriptor; `None` if the text is not a descriptor.
    pub fn parse(text: &'a str) -> Option<Self> {
        let WithoutAnnotations { media_type, digest, size, artifact_type } =
            serde_json::from_str(text).ok()?;
        let media_type: MediaType = media_type.parse().ok()?;
        let artifact_type = artifact_type.filter(|text| text.len() <= MAX_TYPE);
        let annotations = BTreeMap::new();
        Some(ListedDescriptor {
            descriptor: Descriptor { media_type, digest, size, artifact_type, annotations },
            text,
        })
    }

    /// Returns the digest of the content.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Returns the artifact type, if there is one.
    pub fn artifact_type(&self) -> Option<&str> {
        self.descriptor.artifact_type.as_deref()
    }

    /// Returns an upper bound for the length of the descriptor in a response, in bytes.
    pub fn length(&self) -> usize {
        self.text.len().min(MAX_WITH_ANNOTATIONS)
    }

    /// Returns the descriptor with its annotations, unless they are longer than a list shows.
    pub fn into_descriptor(self) -> Descriptor {
        let ListedDescriptor { mut descriptor, text } = self;
        if text.len() <= MAX_WITH_ANNOTATIONS {
            descriptor.annotations =
                serde_json::from_str::<Annotations>(text).unwrap_or_default().annotations;
        }
        descriptor
    }
}

/// The most referrers of one manifest that exports follow.
pub const MAX_REFERRERS: usize = 10_000;

/// Parses the referrers in an index that a client pushed under the fallback tag (distribution specification, "Referrers
/// Tag Schema"): each digest once, sorted by digest. Stops after `limit` digests. Bytes that are not an index have no
/// referrers.
pub fn referrers_of_index(bytes: &[u8], limit: usize) -> BTreeMap<Digest, ListedDescriptor<'_>> {
    #[derive(Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        manifests: &'a RawValue,
    }
    let Ok(Index { manifests }) = serde_json::from_slice(bytes) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    // A list that is malformed further on keeps the entries before that.
    let _ = EntriesVisitor { found: &mut found, limit }
        .deserialize(&mut serde_json::Deserializer::from_str(manifests.get()));
    found
}

struct EntriesVisitor<'a, 'de> {
    found: &'a mut BTreeMap<Digest, ListedDescriptor<'de>>,
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for EntriesVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(entry) = all.next_element::<&RawValue>()? {
            if self.found.len() >= self.limit {
                break;
            }
            if let Some(listed) = ListedDescriptor::parse(entry.get()) {
                self.found.entry(listed.digest().clone()).or_insert(listed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(fill: char, more: &str) -> String {
        let digest = fill.to_string().repeat(64);
        format!(r#"{{"mediaType":"a/b","digest":"sha256:{digest}","size":1{more}}}"#)
    }

    #[test]
    fn each_digest_is_read_once_up_to_the_limit() {
        let list = [entry('b', ""), "7".into(), entry('a', ""), entry('b', ""), entry('c', "")].join(",");
        let index = format!(r#"{{"manifests":[{list}]}}"#);
        let digests = |limit| {
            let found = referrers_of_index(index.as_bytes(), limit);
            found.keys().map(|digest| digest.to_string().chars().nth(7).unwrap()).collect::<String>()
        };
        assert_eq!((digests(10), digests(2)), ("abc".into(), "ab".into()));
        assert!(referrers_of_index(b"{}", 10).is_empty());
        assert!(referrers_of_index(br#"{"manifests":{}}"#, 10).is_empty());
    }

    #[test]
    fn annotations_are_listed_unless_they_are_too_long() {
        let annotated =
            |value: &str| entry('a', &format!(r#","annotations":{{"k":"{value}"}},"artifactType":"t""#));
        let text = annotated("v");
        let listed = ListedDescriptor::parse(&text).unwrap();
        assert_eq!(listed.artifact_type(), Some("t"));
        assert_eq!(listed.into_descriptor().annotations["k"], "v");
        let text = annotated(&"v".repeat(MAX_WITH_ANNOTATIONS));
        let listed = ListedDescriptor::parse(&text).unwrap();
        assert_eq!(listed.length(), MAX_WITH_ANNOTATIONS);
        assert!(listed.into_descriptor().annotations.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = referrers_of_index(&bytes, 10);
        }
    }
}
