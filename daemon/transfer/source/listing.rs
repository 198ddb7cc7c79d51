//! Lists in documents from a medium, with a bounded number of elements in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::limits;
use crate::oci::annotations::{BASE_NAME, CONTAINERD_NAME, PUSHED, REF_NAME, REPOSITORY};

/// The annotation in which hauler tells the kind of a descriptor.
pub const HAULER_KIND: &str = "kind";
/// The annotation in which hauler tells the manifest that a signature is about.
pub const HAULER_SUBJECT: &str = "hauler.dev/subject-digest";

/// The first [`limits::LISTED`] elements of a list.
#[derive(Clone, Debug)]
pub struct Capped<T> {
    /// The elements.
    pub items: Vec<T>,
    /// True if the list has more elements.
    pub is_cut: bool,
}

impl<T> Default for Capped<T> {
    fn default() -> Self {
        Capped { items: Vec::new(), is_cut: false }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Capped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Capped<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut list = Capped::default();
        while list.items.len() < limits::LISTED {
            match all.next_element()? {
                Some(item) => list.items.push(item),
                None => return Ok(list),
            }
        }
        while all.next_element::<IgnoredAny>()?.is_some() {
            list.is_cut = true;
        }
        Ok(list)
    }
}

/// The annotations that a format asks for.
const READ: [&str; 7] =
    [BASE_NAME, CONTAINERD_NAME, PUSHED, REF_NAME, REPOSITORY, HAULER_KIND, HAULER_SUBJECT];

/// The annotations of a descriptor that a format asks for, each cut to [`limits::ANNOTATION`] bytes. The others are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<(&'static str, Box<str>)>);

impl Annotations {
    /// Returns an annotation that is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut annotations = Vec::new();
        while let Some(key) = all.next_key_seed(TextSeed(known))? {
            let Some(key) = key else {
                all.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: Box<str> = all.next_value_seed(TextSeed(cut))?;
            // The last one of several counts.
            annotations.retain(|(known, _)| *known != key);
            annotations.push((key, value));
        }
        Ok(Annotations(annotations))
    }
}

/// Returns the key of an annotation, if a format asks for it.
fn known(key: &str) -> Option<&'static str> {
    READ.into_iter().find(|known| *known == key)
}

fn cut(value: &str) -> Box<str> {
    value[..value.floor_char_boundary(limits::ANNOTATION)].into()
}

/// Converts a string while it is read.
struct TextSeed<T>(fn(&str) -> T);

impl<'de, T> DeserializeSeed<'de> for TextSeed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for TextSeed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let list = |count: usize| -> Capped<u8> {
            serde_json::from_str(&format!("[{}]", vec!["1"; count].join(","))).unwrap()
        };
        assert!(!list(limits::LISTED).is_cut);
        let cut = list(limits::LISTED + 5);
        assert_eq!((cut.items.len(), cut.is_cut), (limits::LISTED, true));
    }

    #[test]
    fn only_annotations_that_are_read_are_kept() {
        let mut all: Vec<String> = (0..2000).map(|at| format!(r#""{at:05}":"x""#)).collect();
        all.push(format!(r#""{REF_NAME}":"a:1""#));
        all.push(format!(r#""{PUSHED}":"{}""#, "ä".repeat(limits::ANNOTATION)));
        let annotations: Annotations = serde_json::from_str(&format!("{{{}}}", all.join(","))).unwrap();
        assert_eq!(annotations.0.len(), 2);
        assert_eq!((annotations.get("00000"), annotations.get(REF_NAME)), (None, Some("a:1")));
        assert_eq!(annotations.get(PUSHED).unwrap().len(), limits::ANNOTATION);
        let twice = format!(r#"{{"{REF_NAME}":"a:1","{REF_NAME}":"a:2"}}"#);
        let twice: Annotations = serde_json::from_str(&twice).unwrap();
        assert_eq!(twice.get(REF_NAME), Some("a:2"));
        assert!(serde_json::from_str::<Annotations>(&format!(r#"{{"{REF_NAME}":1}}"#)).is_err());
    }
}
