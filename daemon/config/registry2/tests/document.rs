//! Compares `docs/how-to/from-registry-2.md` with the table of settings, and each of its examples with its effect.

use super::*;
use crate::config::registry2::place::place_of;
use crate::config::registry2::settings::SETTINGS;

/// The effect of a setting, as the document names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Documented {
    Honoured,
    NotNeeded,
    Ignored,
    Refused,
}

impl Effect {
    fn documented(&self) -> Documented {
        match self {
            Effect::Sets(_) | Effect::Read(_) => Documented::Honoured,
            Effect::NotNeeded => Documented::NotNeeded,
            Effect::Ignored(_) | Effect::IgnoredUnless(_) => Documented::Ignored,
            Effect::Refused(_) | Effect::RefusedUnless(_) => Documented::Refused,
        }
    }
}

/// A row of the table in the document.
struct Row<'a> {
    name: &'a str,
    example: (&'a str, &'a str),
    documented: Documented,
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let lines = document.lines().filter(|line| line.starts_with("| `REGISTRY_"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let documented = match cells[3] {
                "honoured" => Documented::Honoured,
                "not needed" => Documented::NotNeeded,
                "ignored" => Documented::Ignored,
                "refused" => Documented::Refused,
                other => panic!("{line}: {other}"),
            };
            Row { name: cells[1], example: cells[2].split_once('=').unwrap(), documented }
        })
        .collect()
}

fn entry_of(name: &str) -> String {
    let (name, below) = name.strip_suffix("_*").map_or((name, ""), |section| (section, ".*"));
    if name == "REGISTRY_HTTP_HEADERS" {
        return format!("http.headers{below}");
    }
    format!("{}{below}", place_of(name))
}

#[test]
fn the_document_lists_every_setting_with_its_effect() {
    let document = include_str!("../../../../docs/how-to/from-registry-2.md");
    let rows = rows(document);
    for (known, effect) in SETTINGS {
        let row = rows.iter().find(|row| entry_of(row.name) == *known);
        let row = row.unwrap_or_else(|| panic!("{known} is not in the document"));
        assert_eq!(row.documented, effect.documented(), "{known}");
    }
    assert_eq!(rows.len(), SETTINGS.len(), "each setting has one row");
    let default = with(&[]).unwrap();
    for Row { name, example, documented } in rows {
        // Some settings are valid only beside another one.
        let mut pairs = vec![example];
        match example.0 {
            "REGISTRY_AUTH_HTPASSWD_REALM" => pairs.push(("REGISTRY_AUTH_HTPASSWD_PATH", "/p")),
            "REGISTRY_HTTP_TLS_CERTIFICATE" => pairs.push(("REGISTRY_HTTP_TLS_KEY", "/k")),
            "REGISTRY_HTTP_TLS_KEY" => pairs.push(("REGISTRY_HTTP_TLS_CERTIFICATE", "/c")),
            "REGISTRY_HTTP_TLS_CLIENTCAS" => pairs.push(("HOLDFAST_TLS_MODE", "auto")),
            "REGISTRY_HTTP_TLS_CLIENTAUTH" => {
                pairs.extend([("HOLDFAST_TLS_MODE", "auto"), ("REGISTRY_HTTP_TLS_CLIENTCAS", "/ca")]);
            }
            _ => {}
        }
        let read = with(&pairs);
        if documented == Documented::Refused {
            let error = read.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is not supported: ", example.0)), "{name}: {error}");
            continue;
        }
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (open, warnings): (Vec<&String>, Vec<&String>) =
            read.warnings.iter().partition(|warning| warning.contains("the registry is open"));
        let named = warnings.iter().filter(|warning| warning.starts_with(&format!("{} has no", example.0)));
        let expected = usize::from(documented == Documented::Ignored);
        assert_eq!((named.count(), warnings.len()), (expected, expected), "{name}: {:?}", read.warnings);
        let has_effect = Config {
            warnings: Vec::new(),
            sources: Vec::new(),
            open_because_registry_environment: false,
            ..read
        } != default;
        let asks_for_the_default =
            matches!(name, "REGISTRY_VERSION" | "REGISTRY_HTTP_NET" | "REGISTRY_STORAGE_FILESYSTEM");
        assert_eq!(has_effect, documented == Documented::Honoured && !asks_for_the_default, "{name}");
        assert_eq!(
            open.is_empty(),
            documented != Documented::Honoured
                || name.starts_with("REGISTRY_AUTH")
                || matches!(name, "REGISTRY_VERSION" | "REGISTRY_HTTP_NET"),
            "{name}"
        );
    }
}
