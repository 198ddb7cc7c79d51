//! Lookups in untrusted JSON, which stays text: a lookup holds one member in memory at a time, however large or deeply
//! nested the document is.

use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient::BoundedText;

/// Returns the JSON of a member of an object; `None` if the text is not an object with this member.
pub(super) fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    // The visitor ends at the member, which serde reports as an error.
    let _ =
        serde_json::Deserializer::from_str(json).deserialize_map(MemberVisitor { name, found: &mut found });
    found
}

/// Returns the JSON of a member of a member.
pub(super) fn at<'a>(json: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(json, |json, name| member(json, name))
}

/// Returns a string at a path, truncated where it is too long; `None` for an empty one.
pub(super) fn text_at(json: &str, path: &[&str]) -> Option<String> {
    text(at(json, path)?)
}

/// Returns the value of a JSON string; `None` for an empty one.
pub(super) fn text(json: &str) -> Option<String> {
    let text = serde_json::from_str::<BoundedText>(json).ok()?.0;
    Some(text).filter(|text| !text.trim().is_empty())
}

/// Visits the JSON of each item of a list, until `visit` returns false. Text that is not a list has no items.
pub(super) fn items<'a>(json: &'a str, mut visit: impl FnMut(&'a str) -> bool) {
    let _ = serde_json::Deserializer::from_str(json).deserialize_seq(ItemsVisitor { visit: &mut visit });
}

/// Visits the name and the JSON of each member of an object, until `visit` returns false.
pub(super) fn members<'a>(json: &'a str, mut visit: impl FnMut(String, &'a str) -> bool) {
    let _ = serde_json::Deserializer::from_str(json).deserialize_map(MembersVisitor { visit: &mut visit });
}

struct MemberVisitor<'n, 'f, 'de> {
    name: &'n str,
    found: &'f mut Option<&'de str>,
}

impl<'de> Visitor<'de> for MemberVisitor<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some((BoundedText(name), value)) = all.next_entry::<BoundedText, &RawValue>()? {
            if name == self.name {
                *self.found = Some(value.get());
                break;
            }
        }
        Ok(())
    }
}

struct ItemsVisitor<'v, 'de> {
    visit: &'v mut dyn FnMut(&'de str) -> bool,
}

impl<'de> Visitor<'de> for ItemsVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(item) = all.next_element::<&RawValue>()? {
            if !(self.visit)(item.get()) {
                break;
            }
        }
        Ok(())
    }
}

struct MembersVisitor<'v, 'de> {
    visit: &'v mut dyn FnMut(String, &'de str) -> bool,
}

impl<'de> Visitor<'de> for MembersVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some((BoundedText(name), value)) = all.next_entry::<BoundedText, &RawValue>()? {
            if !(self.visit)(name, value.get()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_items_are_found_and_other_types_skipped() {
        let json = r#"{"a":{"b":[1,"x",{"c":"d"}]},"e":7,"":""}"#;
        let mut seen = Vec::new();
        items(at(json, &["a", "b"]).unwrap(), |item| {
            seen.push(item);
            seen.len() < 2
        });
        assert_eq!(seen, ["1", "\"x\""]);
        assert_eq!(
            (text_at(json, &["e"]), text_at(json, &["a", "z"]), text_at(json, &[""])),
            (None, None, None)
        );
        assert_eq!((member("[1]", "a"), member("{\"a\":", "a"), member("", "a")), (None, None, None));
        let deep = format!("{{\"x\":{}{},\"a\":\"b\"}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(text_at(&deep, &["a"]), Some("b".into()));
    }
}
