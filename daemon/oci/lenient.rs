//! Reading what strangers wrote, in memory that does not depend on what they wrote.
//!
//! What has another shape than it should is passed over without being held as a value: each piece is a part of the
//! text until its shape is known. Of lists and maps the first items are kept and the others counted, and a long text
//! is cut off, so that what is read is never much larger than what was sent, however it is nested.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How many items of a list are kept: more than an image can have layers.
const ITEMS: usize = 500;
/// The longest text that is kept, in bytes.
const LONGEST: usize = 4096;

/// The items of a list that have the right shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T> {
    /// The first of them.
    pub items: Vec<T>,
    /// How many come after those.
    pub more: usize,
}

/// The pairs of a map, in the order of their names, `MOST` of them at the most, and those that somebody asks for by
/// name. A value that is no text is shown as its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs<const MOST: usize> {
    /// The pairs.
    pub pairs: Vec<(String, String)>,
    /// How many there are beside.
    pub more: usize,
}

/// A text, cut off where it is long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

/// A value of the right shape, or none.
pub(super) fn lenient<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_str(<&RawValue>::deserialize(deserializer)?.get()).ok())
}

/// A text, or none.
pub(super) fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(lenient::<Text, D>(deserializer)?.map(|text| text.0))
}

impl<const MOST: usize> Pairs<MOST> {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { items: Vec::new(), more: 0 }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push('…');
            text.shrink_to_fit();
        }
        Ok(Text(text))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = serde_json::Deserializer::from_str(text);
        Ok(json.deserialize_seq(Items(PhantomData)).unwrap_or_default())
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Pairs<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = serde_json::Deserializer::from_str(text);
        Ok(json.deserialize_map(Members).unwrap_or_default())
    }
}

struct Items<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<List<T>, A::Error> {
        let mut list = List::default();
        while let Some(item) = all.next_element::<&RawValue>()? {
            if list.items.len() < ITEMS {
                list.items.extend(serde_json::from_str(item.get()).ok());
            } else {
                list.more += 1;
            }
        }
        Ok(list)
    }
}

struct Members<const MOST: usize>;

impl<'de, const MOST: usize> Visitor<'de> for Members<MOST> {
    type Value = Pairs<MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Pairs<MOST>, A::Error> {
        let mut kept = Pairs::default();
        while let Some((Text(name), value)) = all.next_entry::<Text, &RawValue>()? {
            let is_asked_for =
                super::contents::ASKED_FOR.contains(&name.as_str()) && kept.get(&name).is_none();
            if kept.pairs.len() < MOST || is_asked_for {
                kept.pairs.push((name, shown(value)));
            } else {
                kept.more += 1;
            }
        }
        kept.pairs.sort();
        Ok(kept)
    }
}

fn shown(value: &RawValue) -> String {
    let json = || value.get()[..value.get().floor_char_boundary(LONGEST)].to_owned();
    serde_json::from_str::<Text>(value.get()).map_or_else(|_| json(), |text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let list: List<u8> = serde_json::from_str(&format!("[{}\"x\",[[]],7]", "1,".repeat(600))).unwrap();
        assert_eq!((list.items.len(), list.more), (ITEMS, 103));
        let map: String = (0..9).map(|number| format!("\"{number}\":[{number}],")).collect();
        let pairs: Pairs<2> =
            serde_json::from_str(&format!("{{{map}\"{}\":\"t\"}}", super::super::contents::TITLE)).unwrap();
        assert_eq!((pairs.pairs[1].1.as_str(), pairs.more), ("[1]", 7));
        assert_eq!(pairs.get(super::super::contents::TITLE), Some("t"));
        assert_eq!(serde_json::from_str::<List<u8>>("{}").unwrap(), List::default());
        assert_eq!(serde_json::from_str::<Pairs<2>>("[1]").unwrap(), Pairs::default());
    }

    #[test]
    fn long_texts_are_cut_and_deep_ones_passed_over() {
        let text: Text = serde_json::from_str(&format!("\"{}\"", "ä".repeat(9000))).unwrap();
        assert_eq!(text.0.len(), LONGEST + "…".len());
        let deep = format!("[{}{},8]", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(serde_json::from_str::<List<u8>>(&deep).unwrap().items, [8]);
    }
}
