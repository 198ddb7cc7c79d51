//! The descriptors in a list of referrers, read without holding more than a page of them.
//!
//! Annotations are the part whose size a client decides: they are read only for the descriptors that are shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::manifest::Descriptor;
use super::media_type::MediaType;

/// The longest text of a descriptor whose annotations are listed, in bytes.
const LONGEST: usize = 64 << 10;

/// The longest artifact type that is listed, in bytes; one that is a media type is shorter.
const LONGEST_TYPE: usize = 1024;

/// A descriptor in a list: its text, and all of it but its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    descriptor: Descriptor,
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bare {
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

impl<'a> Listed<'a> {
    /// Reads a descriptor; `None` if the text is not a descriptor.
    pub fn parse(text: &'a str) -> Option<Self> {
        let Bare { media_type, digest, size, artifact_type } = serde_json::from_str(text).ok()?;
        let media_type: MediaType = media_type.parse().ok()?;
        let artifact_type = artifact_type.filter(|text| text.len() <= LONGEST_TYPE);
        let annotations = BTreeMap::new();
        Some(Listed { descriptor: Descriptor { media_type, digest, size, artifact_type, annotations }, text })
    }

    /// The digest of the content.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The kind of artifact, where the content is one.
    pub fn artifact_type(&self) -> Option<&str> {
        self.descriptor.artifact_type.as_deref()
    }

    /// How many bytes the descriptor takes in an answer, at most.
    pub fn length(&self) -> usize {
        self.text.len().min(LONGEST)
    }

    /// The descriptor with its annotations, unless these are longer than a list shows.
    pub fn complete(self) -> Descriptor {
        let Listed { mut descriptor, text } = self;
        if text.len() <= LONGEST {
            descriptor.annotations =
                serde_json::from_str::<Annotations>(text).unwrap_or_default().annotations;
        }
        descriptor
    }
}

/// Reads the referrers in an index that a client pushed under the referrers tag: each digest once, in the order of the
/// digests. Of more than `limit` digests the first in the list are read. Bytes that are not an index have no referrers.
pub fn referrers_of_index(bytes: &[u8], limit: usize) -> BTreeMap<Digest, Listed<'_>> {
    #[derive(Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        manifests: &'a RawValue,
    }
    let Ok(Index { manifests }) = serde_json::from_slice(bytes) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    // What was read before the list breaks off is kept.
    let _ = Entries { found: &mut found, limit }
        .deserialize(&mut serde_json::Deserializer::from_str(manifests.get()));
    found
}

struct Entries<'a, 'de> {
    found: &'a mut BTreeMap<Digest, Listed<'de>>,
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Entries<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(entry) = all.next_element::<&RawValue>()? {
            if self.found.len() >= self.limit {
                break;
            }
            if let Some(listed) = Listed::parse(entry.get()) {
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
    fn each_digest_is_read_once_and_no_more_than_the_limit() {
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
    fn annotations_are_listed_unless_they_are_very_long() {
        let annotated =
            |value: &str| entry('a', &format!(r#","annotations":{{"k":"{value}"}},"artifactType":"t""#));
        let text = annotated("v");
        let listed = Listed::parse(&text).unwrap();
        assert_eq!(listed.artifact_type(), Some("t"));
        assert_eq!(listed.complete().annotations["k"], "v");
        let text = annotated(&"v".repeat(LONGEST));
        let listed = Listed::parse(&text).unwrap();
        assert_eq!(listed.length(), LONGEST);
        assert!(listed.complete().annotations.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = referrers_of_index(&bytes, 10);
        }
    }
}
