//! Lists in documents from a medium, with a bounded number of elements in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::limits;

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

/// The first [`limits::ANNOTATIONS`] annotations of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(BTreeMap<String, String>);

impl Annotations {
    /// Returns an annotation that is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
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
        let mut annotations = BTreeMap::new();
        while annotations.len() < limits::ANNOTATIONS {
            match all.next_entry()? {
                Some((key, value)) => drop(annotations.insert(key, value)),
                None => return Ok(Annotations(annotations)),
            }
        }
        while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Annotations(annotations))
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
    fn annotations_beyond_the_limit_are_ignored() {
        let all: Vec<String> = (0..2 * limits::ANNOTATIONS).map(|at| format!(r#""{at:05}":"x""#)).collect();
        let annotations: Annotations = serde_json::from_str(&format!("{{{}}}", all.join(","))).unwrap();
        assert_eq!(annotations.0.len(), limits::ANNOTATIONS);
        assert_eq!((annotations.get("00000"), annotations.get("none")), (Some("x"), None));
    }
}
