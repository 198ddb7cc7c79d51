//! Counts what a manifest lists, before any of it is held: a few bytes of JSON can be many times that in memory.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How many descriptors and annotations a manifest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) descriptors: usize,
    pub(super) annotations: usize,
}

/// The length of a list or a map; anything else has none.
#[derive(Default)]
struct Length(usize);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lists {
    layers: Length,
    blobs: Length,
    manifests: Length,
    annotations: Length,
}

/// Counts what a manifest lists; what is no manifest lists nothing.
pub(super) fn count(bytes: &[u8]) -> Counts {
    let lists: Lists = serde_json::from_slice(bytes).unwrap_or_default();
    Counts {
        descriptors: lists.layers.0 + lists.blobs.0 + lists.manifests.0,
        annotations: lists.annotations.0,
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = serde_json::Deserializer::from_str(text);
        let length = if text.starts_with('{') {
            json.deserialize_map(Counting)
        } else {
            json.deserialize_seq(Counting)
        };
        Ok(Length(length.unwrap_or(0)))
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while all.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Whether a list of texts has any, without holding them.
pub(super) struct IsFilled(pub(super) bool);

impl<'de> Deserialize<'de> for IsFilled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = IsFilled;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<IsFilled, A::Error> {
        let mut filled = false;
        while all.next_element::<String>()?.is_some() {
            filled = true;
        }
        Ok(IsFilled(filled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_manifest_lists_is_counted() {
        let counts =
            count(br#"{"layers":[1,{"a":[2]}],"blobs":[3],"manifests":[[],[]],"annotations":{"a":"b"}}"#);
        assert_eq!(counts, Counts { descriptors: 5, annotations: 1 });
        assert_eq!(count(br#"{"layers":null,"manifests":7,"annotations":[]}"#), Counts::default());
        assert_eq!(count(b"nonsense"), Counts::default());
    }

    #[test]
    fn urls_are_texts() {
        let filled = |text| serde_json::from_str::<IsFilled>(text).map(|filled| filled.0).ok();
        assert_eq!((filled("[]"), filled(r#"["a"]"#), filled("[1]")), (Some(false), Some(true), None));
    }
}
