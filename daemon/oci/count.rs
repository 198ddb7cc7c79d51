//! Counting of the descriptors and annotations of a manifest without allocating them.
//!
//! A list item of two bytes of JSON takes many times that in memory, so the items of a pushed manifest are counted
//! before it is parsed.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The numbers of descriptors and annotations in a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) descriptors: usize,
    pub(super) annotations: usize,
}

/// The number of items of a list or a map; 0 for any other value.
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

/// Counts the descriptors and annotations of a manifest; bytes that are not a manifest have none.
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
            json.deserialize_map(LengthVisitor)
        } else {
            json.deserialize_seq(LengthVisitor)
        };
        Ok(Length(length.unwrap_or(0)))
    }
}

struct LengthVisitor;

impl<'de> Visitor<'de> for LengthVisitor {
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

/// True for a list of strings with at least one item. The strings are validated and not kept.
pub(super) struct IsNonEmpty(pub(super) bool);

impl<'de> Deserialize<'de> for IsNonEmpty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StringsVisitor)
    }
}

struct StringsVisitor;

impl<'de> Visitor<'de> for StringsVisitor {
    type Value = IsNonEmpty;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<IsNonEmpty, A::Error> {
        let mut is_non_empty = false;
        while all.next_element::<String>()?.is_some() {
            is_non_empty = true;
        }
        Ok(IsNonEmpty(is_non_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_annotations_are_counted() {
        let counts =
            count(br#"{"layers":[1,{"a":[2]}],"blobs":[3],"manifests":[[],[]],"annotations":{"a":"b"}}"#);
        assert_eq!(counts, Counts { descriptors: 5, annotations: 1 });
        assert_eq!(count(br#"{"layers":null,"manifests":7,"annotations":[]}"#), Counts::default());
        assert_eq!(count(b"nonsense"), Counts::default());
    }

    #[test]
    fn a_list_with_an_item_that_is_not_a_string_is_refused() {
        let parse = |text| serde_json::from_str::<IsNonEmpty>(text).map(|list| list.0).ok();
        assert_eq!((parse("[]"), parse(r#"["a"]"#), parse("[1]")), (Some(false), Some(true), None));
    }
}
