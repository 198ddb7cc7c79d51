//! The part of YAML that configurations of registry:2 use, read within bounds: the length of the text, its depth, and
//! the size to which aliases expand it.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The longest text, in bytes.
pub(super) const LONGEST: usize = 256 << 10;
/// The deepest nesting of lists and maps.
const DEEPEST: usize = 32;
/// The largest number of values, including those that aliases repeat.
const MOST_VALUES: usize = 10_000;
/// The largest total length of texts in bytes, including those that aliases repeat.
const MOST_BYTES: usize = 1 << 20;

/// A value. Scalars stay texts, since the setting that they belong to decides their type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    /// No value.
    Null,
    /// A scalar.
    Text {
        /// The text.
        text: String,
        /// True if it is written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Yaml>),
    /// A map, in the order of the text.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Makes a scalar without quotes.
    pub(super) fn plain(text: &str) -> Self {
        Yaml::Text { text: text.to_owned(), plain: true }
    }

    /// Returns true for a value that switches its setting off: none, false, or an empty text, list or map.
    pub(super) fn asks_for_nothing(&self) -> bool {
        match self {
            Yaml::Null => true,
            Yaml::Text { text, .. } => {
                matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "off" | "n")
            }
            Yaml::List(items) => items.is_empty(),
            Yaml::Map(entries) => entries.is_empty(),
        }
    }

    /// Returns the number of values in this one, and of bytes in its texts.
    fn size(&self) -> (usize, usize) {
        let add =
            |(values, bytes): (usize, usize), (more, longer): (usize, usize)| (values + more, bytes + longer);
        match self {
            Yaml::Null => (1, 0),
            Yaml::Text { text, .. } => (1, text.len()),
            Yaml::List(items) => items.iter().map(Yaml::size).fold((1, 0), add),
            Yaml::Map(entries) => {
                entries.iter().map(|(key, value)| add((0, key.len()), value.size())).fold((1, 0), add)
            }
        }
    }
}

/// Reads a text of one document; an empty one is [`Yaml::Null`].
///
/// # Errors
/// Returns a sentence that names the mistake and its line.
pub(super) fn read(text: &str) -> Result<Yaml, String> {
    if text.len() > LONGEST {
        return Err(format!("the file is longer than {LONGEST} bytes"));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| format!("not YAML: line {}, {}", error.marker().line(), error.info()))?;
        builder.take(event).map_err(|why| format!("line {}: {why}", span.start.line()))?;
    }
    Ok(builder.document.unwrap_or(Yaml::Null))
}

/// A list or map whose end has not been read.
enum Open {
    List(Vec<Yaml>),
    Map {
        entries: Vec<(String, Yaml)>,
        /// The keys of the map itself, which override merged entries.
        written: BTreeSet<String>,
        /// The key whose value comes next.
        key: Option<String>,
    },
}

#[derive(Default)]
struct Builder {
    /// The lists and maps whose end has not been read, each with the number of its anchor.
    open: Vec<(Open, usize)>,
    anchors: BTreeMap<usize, Yaml>,
    document: Option<Yaml>,
    values: usize,
    bytes: usize,
}

impl Builder {
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) if self.document.is_some() => {
                Err("there is more than one document".into())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let is_null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Yaml::Null } else { Yaml::Text { text: text.into_owned(), plain } };
                self.add(value, anchor)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).ok_or("an alias is inside its own anchor")?;
                let ((values, bytes), value) = (value.size(), value.clone());
                self.spend(values, bytes)?;
                self.place(value)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => {
                let (entries, written) = (Vec::new(), BTreeSet::new());
                self.begin(Open::Map { entries, written, key: None }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::List(items), anchor)) => self.end(Yaml::List(items), anchor),
                Some((Open::Map { entries, .. }, anchor)) => self.end(Yaml::Map(entries), anchor),
                None => Err("a list or map ends that did not begin".into()),
            },
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn spend(&mut self, values: usize, bytes: usize) -> Result<(), String> {
        self.values += values;
        self.bytes += bytes;
        if self.values > MOST_VALUES || self.bytes > MOST_BYTES {
            return Err("there are too many values".into());
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), String> {
        self.spend(1, 0)?;
        if self.open.len() >= DEEPEST {
            return Err(format!("lists and maps are nested more than {DEEPEST} deep"));
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn add(&mut self, value: Yaml, anchor: usize) -> Result<(), String> {
        let (values, bytes) = value.size();
        self.spend(values, bytes)?;
        self.end(value, anchor)
    }

    fn end(&mut self, value: Yaml, anchor: usize) -> Result<(), String> {
        // The parser numbers anchors from 1; 0 is a value without one.
        if anchor > 0 {
            // The copy counts, too: every value may have an anchor.
            let (values, bytes) = value.size();
            self.spend(values, bytes)?;
            self.anchors.insert(anchor, value.clone());
        }
        self.place(value)
    }

    fn place(&mut self, value: Yaml) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some((Open::List(items), _)) => items.push(value),
            Some((Open::Map { entries, written, key }, _)) => match (key.take(), value) {
                (Some(name), value) if name == "<<" => merge(entries, value)?,
                (Some(name), value) => {
                    if !written.insert(name.clone()) {
                        return Err(format!("the key {name:?} occurs twice"));
                    }
                    entries.retain(|(known, _)| *known != name);
                    entries.push((name, value));
                }
                (None, Yaml::Text { text, .. }) => *key = Some(text),
                (None, Yaml::Null) => *key = Some(String::new()),
                (None, Yaml::List(_) | Yaml::Map(_)) => {
                    return Err("a key must not be a list or a map".into());
                }
            },
        }
        Ok(())
    }
}

/// Adds the entries of a map, or of several maps, whose keys are not set yet (`<<: *defaults`).
fn merge(entries: &mut Vec<(String, Yaml)>, value: Yaml) -> Result<(), String> {
    match value {
        Yaml::Map(more) => {
            for (key, value) in more {
                if !entries.iter().any(|(known, _)| *known == key) {
                    entries.push((key, value));
                }
            }
            Ok(())
        }
        Yaml::List(maps) => maps.into_iter().try_for_each(|map| merge(entries, map)),
        Yaml::Null | Yaml::Text { .. } => Err("the value of << must be a map".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(entries: &[(&str, Yaml)]) -> Yaml {
        Yaml::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn quoted(text: &str) -> Yaml {
        Yaml::Text { text: text.to_owned(), plain: false }
    }

    #[test]
    fn block_and_flow_forms_are_equal() {
        let expected = map(&[
            ("realm", Yaml::plain("r")),
            ("paths", Yaml::List(vec![Yaml::plain("/a"), quoted("b c")])),
            ("none", Yaml::Null),
        ]);
        for text in [
            "{realm: r, paths: [/a, 'b c'], none: }",
            "{\"realm\": r, \"paths\": [/a, \"b c\"], \"none\": null}",
            "realm: r\npaths:\n  - /a\n  - \"b c\"\nnone:\n",
            "realm: r   # as there\npaths:\n- /a\n- 'b c'\nnone: ~\n",
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        assert_eq!(read("").unwrap(), Yaml::Null);
        assert_eq!(read(":5000").unwrap(), Yaml::plain(":5000"));
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let text = "x: &d {a: 1, b: 2}\ny:\n  <<: *d\n  b: 3\nz: *d\n";
        let d = map(&[("a", Yaml::plain("1")), ("b", Yaml::plain("2"))]);
        let merged = map(&[("a", Yaml::plain("1")), ("b", Yaml::plain("3"))]);
        assert_eq!(read(text).unwrap(), map(&[("x", d.clone()), ("y", merged), ("z", d)]));
    }

    #[test]
    fn unbounded_growth_is_refused() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            laughs += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
        }
        assert!(read(&laughs).unwrap_err().contains("too many values"));
        assert!(read(&"[".repeat(10_000)).is_err());
        assert!(read(&"- ".repeat(5_000)).unwrap_err().contains("nested more than"));
        assert!(read(&"a: ".repeat(300_000)).unwrap_err().contains("longer than"));
        assert!(read("a: &a [*a]").is_err());
        assert!(read("a: 1\n---\nb: 2\n").unwrap_err().contains("more than one document"));
        for text in ["{a: 1, a: 2}", "a: 1\nb: 2\n'a': 1\n", "{x: {a: , a: }}"] {
            assert!(read(text).unwrap_err().contains("the key \"a\" occurs twice"), "{text}");
        }
        assert!(read("{a: ").is_err() && read("a: b: c").is_err() && read("? [a]\n: b").is_err());
    }

    /// Values that JSON can express, which is a part of YAML.
    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![Just(serde_json::Value::Null), ".{0,12}".prop_map(serde_json::Value::from)];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn as_yaml(value: &serde_json::Value) -> Yaml {
        match value {
            serde_json::Value::Array(items) => Yaml::List(items.iter().map(as_yaml).collect()),
            serde_json::Value::Object(entries) => {
                Yaml::Map(entries.iter().map(|(key, value)| (key.clone(), as_yaml(value))).collect())
            }
            serde_json::Value::String(text) => quoted(text),
            _ => Yaml::Null,
        }
    }

    proptest! {
        #[test]
        fn json_is_yaml(value in values()) {
            prop_assert_eq!(read(&value.to_string()).unwrap(), as_yaml(&value));
        }

        #[test]
        fn never_panics_and_stays_within_bounds(text in "[-a-z0-9 \\n:,'\"&*<{}\\[\\]?|>#!%@`~.]{0,200}") {
            if let Ok(value) = read(&text) {
                let (values, bytes) = value.size();
                prop_assert!(values <= MOST_VALUES + 1 && bytes <= MOST_BYTES);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = read(&text);
        }
    }
}
