//! The files of programs that cannot run here, on the Set up page and in the documents, against the formats that those programs
//! document.

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

use crate::documents::{pages, source};

/// Paths that a format has; `*` is any key, `[]` an item of a list.
type Format = &'static [&'static [&'static str]];

/// `registries.yaml` of k3s and RKE2: <https://docs.k3s.io/installation/private-registry>.
pub const REGISTRIES_YAML: Format = &[
    &["mirrors", "*", "endpoint", "[]"],
    &["mirrors", "*", "rewrite", "*"],
    &["configs", "*", "auth", "username"],
    &["configs", "*", "auth", "password"],
    &["configs", "*", "auth", "auth"],
    &["configs", "*", "auth", "token"],
    &["configs", "*", "tls", "cert_file"],
    &["configs", "*", "tls", "key_file"],
    &["configs", "*", "tls", "ca_file"],
    &["configs", "*", "tls", "insecure_skip_verify"],
];

/// `buildkitd.toml`: <https://docs.docker.com/build/buildkit/toml-configuration/>.
pub const BUILDKITD_TOML: Format = &[
    &["registry", "*", "mirrors", "[]"],
    &["registry", "*", "http"],
    &["registry", "*", "insecure"],
    &["registry", "*", "ca", "[]"],
];

/// Reads YAML without anchors; scalars become texts.
pub fn yaml(text: &str) -> Value {
    let events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let mut events = events.filter(|event| {
        !matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd)
    });
    let first = events.next().expect("an empty document");
    value(first, &mut events)
}

fn value<'t>(event: Event<'t>, rest: &mut dyn Iterator<Item = Event<'t>>) -> Value {
    match event {
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match rest.next().unwrap() {
                    Event::SequenceEnd => return Value::Array(items),
                    item => items.push(value(item, rest)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                match rest.next().unwrap() {
                    Event::MappingEnd => return Value::Object(map),
                    Event::Scalar(key, ..) => {
                        let item = rest.next().unwrap();
                        assert!(
                            map.insert(key.to_string(), value(item, rest)).is_none(),
                            "{key} stands twice"
                        );
                    }
                    other => panic!("a key is {other:?}"),
                }
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Adds the path of each scalar.
fn leaves<'v>(value: &'v Value, path: &mut Vec<&'v str>, found: &mut Vec<Vec<&'v str>>) {
    let items: Vec<(&str, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        Value::Array(items) => items.iter().map(|item| ("[]", item)).collect(),
        _ => return found.push(path.clone()),
    };
    for (key, value) in items {
        path.push(key);
        leaves(value, path, found);
        path.pop();
    }
}

/// Asserts that a file has only paths of its format, and at least one.
#[track_caller]
pub fn assert_format(value: &Value, format: Format, place: &str) {
    let mut found = Vec::new();
    leaves(value, &mut Vec::new(), &mut found);
    assert!(!found.is_empty(), "{place} is empty");
    for path in found {
        let fits = |known: &&&[&str]| {
            known.len() == path.len()
                && known.iter().zip(&path).all(|(known, key)| *known == "*" || known == key)
        };
        assert!(format.iter().find(fits).is_some(), "{place}: the format has no {path:?}");
    }
}

#[test]
fn configurations_of_k3s_and_buildkit_in_the_documents_have_their_format() {
    let (mut of_k3s, mut of_buildkit) = (0, 0);
    for page in pages() {
        for block in &page.blocks {
            let place = format!("{}:{}", page.name, block.line);
            if block.language == "yaml"
                && (block.text.starts_with("mirrors:") || block.text.starts_with("configs:"))
            {
                assert_format(&yaml(&block.text), REGISTRIES_YAML, &place);
                of_k3s += 1;
            } else if block.language == "toml" && block.text.starts_with("[registry.") {
                let table: Value = toml::from_str(&block.text).unwrap();
                assert_format(&table, BUILDKITD_TOML, &place);
                of_buildkit += 1;
            }
        }
    }
    assert!(of_k3s >= 2 && of_buildkit >= 1, "{}", source().display());
}

#[test]
#[should_panic(expected = "the format has no")]
fn unknown_key_is_found() {
    assert_format(
        &yaml("mirrors:\n  docker.io:\n    endpoints: [\"https://pi.local\"]\n"),
        REGISTRIES_YAML,
        "here",
    );
}
