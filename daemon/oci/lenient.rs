//! Deserialization of untrusted JSON in memory that its content does not decide.
//!
//! A value of an unexpected type is skipped and is no error: it stays a slice of the input until its type is known.
//! Lists and maps keep their first items and count the others, and long strings are truncated, so that a result is
//! never much larger than the input, however deeply the input is nested.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::annotations::ALWAYS_KEPT;

/// The maximum number of list items that are kept: more than an image can have layers.
const MAX_ITEMS: usize = 500;
/// The maximum length of a string that is kept, in bytes.
const MAX_TEXT: usize = 4096;

/// The first items of a list; items of another type are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundedList<T> {
    /// The items that are kept.
    pub items: Vec<T>,
    /// The number of items after them.
    pub more: usize,
}

/// The pairs of a map, sorted by name: the first `MAX` of the input, and the annotations that the daemon itself reads.
/// A value that is not a string is kept as its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundedMap<const MAX: usize> {
    /// The pairs that are kept.
    pub pairs: Vec<(String, String)>,
    /// The number of other pairs.
    pub more: usize,
}

/// A string that is truncated where it is too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BoundedText(pub(super) String);

/// Deserializes a value; `None` if it has another type.
///
/// # Errors
/// Fails if the input is no JSON, or is not in memory as a whole.
pub fn lenient<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_str(<&RawValue>::deserialize(deserializer)?.get()).ok())
}

/// Deserializes a string; `None` if the value is not a string.
pub(super) fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(lenient::<BoundedText, D>(deserializer)?.map(|text| text.0))
}

impl<const MAX: usize> BoundedMap<MAX> {
    /// Returns the value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<T> Default for BoundedList<T> {
    fn default() -> Self {
        BoundedList { items: Vec::new(), more: 0 }
    }
}

impl<'de> Deserialize<'de> for BoundedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push('…');
            text.shrink_to_fit();
        }
        Ok(BoundedText(text))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for BoundedList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = serde_json::Deserializer::from_str(text);
        Ok(json.deserialize_seq(ListVisitor(PhantomData)).unwrap_or_default())
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for BoundedMap<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = serde_json::Deserializer::from_str(text);
        Ok(json.deserialize_map(MapVisitor).unwrap_or_default())
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = BoundedList<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<BoundedList<T>, A::Error> {
        let mut list = BoundedList::default();
        while let Some(item) = all.next_element::<&RawValue>()? {
            // Only the items that are kept are parsed.
            if list.items.len() < MAX_ITEMS {
                list.items.extend(serde_json::from_str(item.get()).ok());
            } else {
                list.more += 1;
            }
        }
        Ok(list)
    }
}

struct MapVisitor<const MAX: usize>;

impl<'de, const MAX: usize> Visitor<'de> for MapVisitor<MAX> {
    type Value = BoundedMap<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<BoundedMap<MAX>, A::Error> {
        let mut kept = BoundedMap::default();
        while let Some((BoundedText(name), value)) = all.next_entry::<BoundedText, &RawValue>()? {
            // Once only: a repeated name must not grow the map.
            let is_always_kept = ALWAYS_KEPT.contains(&name.as_str()) && kept.get(&name).is_none();
            if kept.pairs.len() < MAX || is_always_kept {
                kept.pairs.push((name, text_or_json(value)));
            } else {
                kept.more += 1;
            }
        }
        kept.pairs.sort();
        Ok(kept)
    }
}

fn text_or_json(value: &RawValue) -> String {
    let json = || value.get()[..value.get().floor_char_boundary(MAX_TEXT)].to_owned();
    serde_json::from_str::<BoundedText>(value.get()).map_or_else(|_| json(), |text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::annotations::TITLE;

    #[test]
    fn items_beyond_the_limit_are_counted() {
        let list: BoundedList<u8> =
            serde_json::from_str(&format!("[{}\"x\",[[]],7]", "1,".repeat(600))).unwrap();
        assert_eq!((list.items.len(), list.more), (MAX_ITEMS, 103));
        let map: String = (0..9).map(|number| format!("\"{number}\":[{number}],")).collect();
        let pairs: BoundedMap<2> = serde_json::from_str(&format!("{{{map}\"{TITLE}\":\"t\"}}")).unwrap();
        assert_eq!((pairs.pairs[1].1.as_str(), pairs.more), ("[1]", 7));
        assert_eq!(pairs.get(TITLE), Some("t"));
        assert_eq!(serde_json::from_str::<BoundedList<u8>>("{}").unwrap(), BoundedList::default());
        assert_eq!(serde_json::from_str::<BoundedMap<2>>("[1]").unwrap(), BoundedMap::default());
    }

    #[test]
    fn long_strings_are_truncated_and_deep_nesting_is_skipped() {
        let text: BoundedText = serde_json::from_str(&format!("\"{}\"", "ä".repeat(9000))).unwrap();
        assert_eq!(text.0.len(), MAX_TEXT + "…".len());
        let deep = format!("[{}{},8]", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(serde_json::from_str::<BoundedList<u8>>(&deep).unwrap().items, [8]);
    }
}
