use std::path::Path;

use proptest::prelude::*;

use super::settings::SETTINGS;
use super::*;
use crate::config::{Anonymous, Config, LogFormat, MinimumTls, Overrides, TlsMode, from_sources, load};

const FILE: &str = "/etc/docker/registry/config.yml";

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(Some(Path::new("/dev/null")), environment(pairs), &Overrides::default())
}

fn with_file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    from_sources(("", ""), Some((FILE, text)), environment(pairs), &Overrides::default())
}

/// The file that comes with registry:2.
const EXAMPLE: &str = "version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

#[test]
fn values_of_the_environment_are_yaml() {
    let config = with(&[
        ("REGISTRY_AUTH", "{htpasswd: {realm: r, path: /p}}"),
        ("REGISTRY_HTTP_HEADERS", "{X-Frame-Options: [DENY], access-control-allow-origin: 'http://ui.lan'}"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "False"),
        ("REGISTRY_LOG", "{level: warn, accesslog: {disabled: \"true\"}}"),
        ("REGISTRY_HTTP_TLS", "{\"certificate\": \"/c\", \"key\": /k, clientcas: [/a.pem, '/b.pem']}"),
        ("REGISTRY_HTTP_ADDR", "\"[::]:443\""),
    ])
    .unwrap();
    assert_eq!((config.auth.realm.as_str(), config.auth.htpasswd.to_str()), ("r", Some("/p")));
    assert_eq!(config.auth.anonymous, Some(Anonymous::None));
    assert!(!config.open_because_registry_environment && !config.storage.delete && !config.log.access);
    assert_eq!(config.http.headers["X-Frame-Options"], ["DENY"]);
    assert_eq!(config.http.headers["Access-Control-Allow-Origin"], ["http://ui.lan"]);
    assert_eq!(config.tls.mode, TlsMode::Files { certificate: "/c".into(), key: "/k".into() });
    assert_eq!(config.tls.client_ca, [Path::new("/a.pem"), Path::new("/b.pem")]);
    assert_eq!(config.listen[0].to_string(), "[::]:443");
    assert_eq!(config.warnings, [] as [&str; 0]);
    for (value, expected) in [
        ("True", true),
        ("\"true\"", true),
        ("'yes'", true),
        ("on", true),
        ("{enabled: true}", true),
        ("n", false),
        ("FALSE", false),
    ] {
        let name = if value.starts_with('{') {
            "REGISTRY_STORAGE_DELETE"
        } else {
            "REGISTRY_STORAGE_DELETE_ENABLED"
        };
        assert_eq!(with(&[(name, value)]).unwrap().storage.delete, expected, "{value}");
    }
}

#[test]
fn a_detail_of_users_leaves_what_the_file_says_of_the_others() {
    let read = |pairs: &[(&str, &str)]| {
        let text = "[auth]\nanonymous = \"pull\"\n";
        let config = from_sources(("file", text), None, environment(pairs), &Overrides::default()).unwrap();
        config.auth.anonymous
    };
    let path = ("REGISTRY_AUTH_HTPASSWD_PATH", "/p");
    assert_eq!(read(&[("REGISTRY_AUTH_HTPASSWD_REALM", "r"), path]), Some(Anonymous::Pull));
    for pair in [
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH", "{htpasswd: {realm: r, path: /p}}"),
        ("REGISTRY_AUTH_HTPASSWD", "{path: /p}"),
    ] {
        assert_eq!(read(&[pair]), Some(Anonymous::None), "{pair:?}");
    }
    let alone = with(&[("REGISTRY_AUTH_HTPASSWD_PATH", "/p")]).unwrap();
    assert_eq!(alone.auth.anonymous, Some(Anonymous::None));
}

#[test]
fn text_stays_as_it_is_where_yaml_would_read_something_else() {
    for realm in ["Registry Realm", "a: b", "x #1", "#1", "*", "{", "@home", "50%", "- x"] {
        let config = with(&[
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", realm),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
        ]);
        match realm {
            "a: b" | "- x" => {
                assert!(config.unwrap_err().to_string().contains("REGISTRY_AUTH_HTPASSWD_REALM"));
            }
            _ => assert_eq!(config.unwrap().auth.realm, realm),
        }
    }
    let headers = with(&[("REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN", "*")]).unwrap();
    assert_eq!(headers.http.headers["Access-Control-Allow-Origin"], ["*"]);
}

#[test]
fn lists_are_set_item_by_item_as_well() {
    let tls = [("HOLDFAST_TLS_MODE", "auto")];
    for pairs in [
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/a, /b]")][..],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "/a, /b")],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a"), ("REGISTRY_HTTP_TLS_CLIENTCAS_1", "/b")],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/x, /b]"), ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a")],
    ] {
        let config = with(&[pairs, &tls].concat()).unwrap();
        assert_eq!(config.tls.client_ca, [Path::new("/a"), Path::new("/b")], "{pairs:?}");
    }
}

#[test]
fn the_file_of_the_image_is_read() {
    let config = with_file(EXAMPLE, &[]).unwrap();
    assert_eq!(config.storage.path, Path::new("/var/lib/registry"));
    assert_eq!(config.listen[0].to_string(), "0.0.0.0:5000");
    assert_eq!(config.http.headers["X-Content-Type-Options"], ["nosniff"]);
    assert!(config.open_because_registry_environment);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with(&format!("{FILE}: log.fields has no effect")));
    assert!(config.warnings[1].contains(&format!("auth in {FILE} is not set: the registry is open")));
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = format!("{EXAMPLE}auth:\n  token:\n    realm: https://a\n");
    assert!(
        with_file(&file, &[]).unwrap_err().to_string().contains("config.yml: auth.token is not supported")
    );
    let config = with_file(
        &file,
        &[
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
            ("REGISTRY_HTTP_ADDR", ":5001"),
            ("HOLDFAST_STORAGE_PATH", "/own"),
        ],
    )
    .unwrap();
    assert_eq!(config.auth.htpasswd, Path::new("/p"));
    assert_eq!(config.listen[0].port(), 5001);
    assert_eq!(config.storage.path, Path::new("/own"));
    assert!(!config.open_because_registry_environment);
}

#[test]
fn a_file_without_a_directory_has_that_of_registry_2() {
    for storage in
        ["storage: filesystem", "storage: {filesystem: }", "storage: {filesystem: {maxthreads: 9}}"]
    {
        let config = with_file(&format!("version: 0.1\n{storage}\n"), &[]).unwrap();
        assert_eq!(config.storage.path, Path::new(DEFAULT_ROOT), "{storage}");
    }
}

#[test]
fn settings_that_close_a_registry_are_never_only_ignored() {
    for (pairs, expected) in [
        (&[("REGISTRY_AUTH", "token")][..], "REGISTRY_AUTH is not supported"),
        (&[("REGISTRY_AUTH", "ldap")], "REGISTRY_AUTH is not supported"),
        (&[("REGISTRY_AUTH", "")], "REGISTRY_AUTH"),
        (&[("REGISTRY_AUTH", "{htpasswd: {realm: r")], "REGISTRY_AUTH"),
        (&[("REGISTRY_AUTH_LDAP_URL", "ldap://x")], "REGISTRY_AUTH_LDAP_URL is not supported"),
        (&[("REGISTRY_STORAGE", "cos")], "REGISTRY_STORAGE is not supported"),
        (&[("REGISTRY_STORAGE_COS_BUCKET", "b")], "REGISTRY_STORAGE_COS_BUCKET is not supported"),
        (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY", "true")], "a map of settings"),
        (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "maybe")], "true or false"),
        (&[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/ca.pem]")], "tls.client_ca"),
        (
            &[("REGISTRY_HTTP_TLS_CLIENTAUTH", "require-and-verify-client-cert")],
            "REGISTRY_HTTP_TLS_CLIENTCAS",
        ),
        (&[("REGISTRY_HTTP_TLS_CLIENTAUTH", "verify-client-cert-if-given")], "REGISTRY_HTTP_TLS_CLIENTAUTH"),
        (&[("REGISTRY_HTTP_NET", "unix")], "REGISTRY_HTTP_NET"),
        (&[("REGISTRY_HTTP_TLS_MINIMUMTLS", "ssl3")], "REGISTRY_HTTP_TLS_MINIMUMTLS"),
        (&[("REGISTRY_HTTP", "nonsense")], "a map of settings"),
        (&[("REGISTRY_VERSION", "0.2")], "REGISTRY_VERSION"),
    ] {
        let error = with(pairs).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{pairs:?}: {error}");
    }
    for text in
        ["", "version: 0.2\n", "storage: filesystem\n", "- a\n", "version: 0.1\nauth:\nhttpasswd: {}\n", "{"]
    {
        let error = with_file(text, &[]).unwrap_err().to_string();
        assert!(error.contains(FILE) && !error.contains('\n'), "{text:?}: {error}");
    }
}

#[test]
fn no_second_kind_of_users_opens_a_registry() {
    let closed = "version: 0.1\nauth: {htpasswd: {realm: r, path: /p}}\n";
    let open = "version: 0.1\nauth: none\n";
    let both = |none: &str| format!("version: 0.1\nauth:\n  htpasswd: {{realm: r, path: /p}}\n  {none}\n");
    let file = |text: &str| (text.to_owned(), &[][..]);
    for ((text, pairs), expected) in [
        (file(&both("none: {}")), "auth.none name two kinds"),
        (file(&both("none:")), "auth.none name two kinds"),
        (file(&both("none: deny")), "auth.none name two kinds"),
        (file(&both("none: \"true\"")), "auth.none name two kinds"),
        (file(&both("token: {realm: r}")), "auth.token name two kinds"),
        (file(&both("None: {}")), "lower case"),
        (file(&both("NONE:")), "lower case"),
        (file(&both("HTPASSWD: {path: /q}")), "lower case"),
        (file(&both("<<: {none: }")), "auth.none name two kinds"),
        (file(&both("\"none.x\": {}")), "auth.none.x name two kinds"),
        (file(&format!("{closed}Auth: none\n")), "lower case"),
        (file(&format!("{closed}auth: none\n")), "is there twice"),
        (file(&format!("{closed}auth.none: {{}}\n")), "auth.none name two kinds"),
        (file("version: 0.1\nauth: {none: false}\n"), "auth.none is not supported"),
        (file("version: 0.1\nauth: {none: [a]}\n"), "auth.none is not supported"),
        (file("version: 0.1\nauth: {none: {a: b}}\n"), "auth.none is not supported"),
        (file("version: 0.1\nauth: {\"none.x\": {}}\n"), "auth.none.x is not supported"),
        (file("version: 0.1\nauth: NONE\n"), "lower case"),
        (file("version: 0.1\nauth: {htpasswd: {realm: r}}\n"), "auth.htpasswd.realm is not supported"),
        (file("version: 0.1\nauth: {htpasswd: {realm: r, path: }}\n"), "needs the path"),
        (file("version: 0.1\nauth: {htpasswd: {relm: r}}\n"), "needs the path"),
        ((closed.into(), &[("REGISTRY_AUTH_NONE", "")]), "and REGISTRY_AUTH_NONE name two kinds"),
        ((closed.into(), &[("REGISTRY_AUTH_NONE", "true")]), "and REGISTRY_AUTH_NONE name two kinds"),
        ((closed.into(), &[("REGISTRY_AUTH_NONE_0", "x")]), "and REGISTRY_AUTH_NONE_0 name two kinds"),
        (
            (open.into(), &[("REGISTRY_AUTH_HTPASSWD_PATH", "/p")]),
            "REGISTRY_AUTH_HTPASSWD_PATH name two kinds",
        ),
        (
            (open.into(), &[("REGISTRY_AUTH_HTPASSWD_REALM", "r")]),
            "REGISTRY_AUTH_HTPASSWD_REALM name two kinds",
        ),
        ((closed.into(), &[("REGISTRY_AUTH", "{htpasswd: , none: }")]), "two kinds"),
        ((closed.into(), &[("REGISTRY_AUTH_NONE", ""), ("REGISTRY_AUTH", "htpasswd")]), "two kinds"),
        ((closed.into(), &[("REGISTRY_AUTH", "None")]), "lower case"),
    ] {
        let error = with_file(&text, pairs).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{text:?}, {pairs:?}: {error}");
    }
    for text in [open, "version: 0.1\nauth: {none: }\n", "version: 0.1\nauth: {none: {}}\n"] {
        assert_eq!(with_file(text, &[]).unwrap().auth.anonymous, Some(Anonymous::Full), "{text}");
    }
    // A section that the environment replaces is gone.
    let replaced = with_file(open, &[("REGISTRY_AUTH", "htpasswd"), ("REGISTRY_AUTH_HTPASSWD_PATH", "/p")]);
    assert_eq!(replaced.unwrap().auth.anonymous, Some(Anonymous::None));
}

#[test]
fn a_file_with_users_closes_what_the_own_configuration_opens() {
    let own = ("holdfast.toml", "[auth]\nanonymous = \"full\"\n");
    let file = (FILE, "version: 0.1\nauth: {htpasswd: {path: /p}}\n");
    for pairs in [&[][..], &[("REGISTRY_AUTH_HTPASSWD_PATH", "/q")]] {
        let config = from_sources(own, Some(file), environment(pairs), &Overrides::default()).unwrap();
        assert_eq!(config.auth.anonymous, Some(Anonymous::None), "{pairs:?}");
    }
}

#[test]
fn settings_that_ask_for_nothing_are_not_named() {
    let config = with(&[
        ("REGISTRY_REDIS", "{}"),
        ("REGISTRY_LOG_HOOKS", "[]"),
        ("REGISTRY_COMPATIBILITY_SCHEMA1_ENABLED", "false"),
        ("REGISTRY_PROXY_REMOTEURL", ""),
        ("REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL", ""),
        ("REGISTRY_HTTP_DRAINTIMEOUT", "30s"),
        ("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED", "true"),
    ]);
    assert_eq!(config.unwrap().warnings, [] as [&str; 0]);
}

#[test]
fn unknown_names_are_warned_about_once() {
    let config =
        with(&[("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000"), ("REGISTRY_HTTP_ADRR", ":1")]).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(!config.open_because_registry_environment, "no setting of registry:2 was there");
    let file = "version: 0.1\nstorage: filesystem\nhttp: {adrr: ':1'}\nmore: {a: 1, b: 2}\n";
    let warnings = with_file(file, &[]).unwrap().warnings;
    assert!(
        warnings[0].contains("http.adrr") && warnings[1].contains(": more has no effect"),
        "{warnings:?}"
    );
}

/// What the document says of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Honoured,
    Moot,
    Ignored,
    Refused,
}

impl Meaning {
    fn effect(&self) -> Effect {
        match self {
            Meaning::Sets(_) | Meaning::Read(_) => Effect::Honoured,
            Meaning::Moot => Effect::Moot,
            Meaning::Ignored(_) | Meaning::IgnoredUnless(_) => Effect::Ignored,
            Meaning::Refused(_) | Meaning::RefusedUnless(_) => Effect::Refused,
        }
    }
}

/// A row of the table in the document.
struct Row<'a> {
    name: &'a str,
    example: (&'a str, &'a str),
    effect: Effect,
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let lines = document.lines().filter(|line| line.starts_with("| `REGISTRY_"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let effect = match cells[3] {
                "honoured" => Effect::Honoured,
                "not needed" => Effect::Moot,
                "ignored" => Effect::Ignored,
                "refused" => Effect::Refused,
                other => panic!("{line}: {other}"),
            };
            Row { name: cells[1], example: cells[2].split_once('=').unwrap(), effect }
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
fn the_document_says_what_the_code_does() {
    let document = include_str!("../../../docs/from-registry-2.md");
    let rows = rows(document);
    for (known, meaning) in SETTINGS {
        let row = rows.iter().find(|row| entry_of(row.name) == *known);
        let row = row.unwrap_or_else(|| panic!("{known} is not in the document"));
        assert_eq!(row.effect, meaning.effect(), "{known}");
    }
    assert_eq!(rows.len(), SETTINGS.len(), "each setting has one row");
    let default = with(&[]).unwrap();
    for Row { name, example, effect } in rows {
        // What a setting needs beside it.
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
        if effect == Effect::Refused {
            let error = read.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is not supported: ", example.0)), "{name}: {error}");
            continue;
        }
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (open, warnings): (Vec<&String>, Vec<&String>) =
            read.warnings.iter().partition(|warning| warning.contains("the registry is open"));
        let named = warnings.iter().filter(|warning| warning.starts_with(&format!("{} has no", example.0)));
        let expected = usize::from(effect == Effect::Ignored);
        assert_eq!((named.count(), warnings.len()), (expected, expected), "{name}: {:?}", read.warnings);
        let has_effect = Config {
            warnings: Vec::new(),
            sources: Vec::new(),
            open_because_registry_environment: false,
            ..read
        } != default;
        let says_only_what_is_so =
            matches!(name, "REGISTRY_VERSION" | "REGISTRY_HTTP_NET" | "REGISTRY_STORAGE_FILESYSTEM");
        assert_eq!(has_effect, effect == Effect::Honoured && !says_only_what_is_so, "{name}");
        assert_eq!(
            open.is_empty(),
            effect != Effect::Honoured
                || name.starts_with("REGISTRY_AUTH")
                || matches!(name, "REGISTRY_VERSION" | "REGISTRY_HTTP_NET"),
            "{name}"
        );
    }
}

#[test]
fn the_rest_of_the_values() {
    let config = with(&[
        ("REGISTRY_LOG_FORMATTER", "logstash"),
        ("REGISTRY_LOG_LEVEL", "WARN"),
        ("REGISTRY_LOGLEVEL", "debug"),
        ("REGISTRY_HTTP_HOST", "https://registry.example/"),
        ("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3"),
        ("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE", "2h10m"),
        ("REGISTRY_CATALOG_MAXENTRIES", "-1"),
    ])
    .unwrap();
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, log::LevelFilter::Warn));
    assert_eq!(config.http.external_url.as_deref(), Some("https://registry.example"));
    assert_eq!((config.tls.minimum, config.gc.uploads_expire.as_secs()), (MinimumTls::V1_3, 7800));
    assert_eq!(config.limits.list_max, 1000);
    assert!(
        config.warnings[0].contains("REGISTRY_LOG_FORMATTER has no effect: logstash"),
        "{:?}",
        config.warnings
    );
}

proptest! {
    #[test]
    fn no_form_of_a_flag_is_misread(
        (text, expected) in prop_oneof![
            prop::sample::select(&["true", "True", "TRUE", "yes", "Yes", "on", "On", "y", "1"][..])
                .prop_map(|text| (text, true)),
            prop::sample::select(&["false", "False", "FALSE", "no", "No", "off", "Off", "n", "0"][..])
                .prop_map(|text| (text, false)),
        ],
        (left, right) in prop::sample::select(&[("", ""), ("\"", "\""), ("'", "'"), (" ", " "), ("", " # note")][..]),
        in_map in any::<bool>(),
    ) {
        let scalar = format!("{left}{text}{right}");
        // A comment is one only in a document of more than a scalar.
        prop_assume!(in_map || !right.contains('#'));
        let (name, value) = if in_map {
            ("REGISTRY_STORAGE_MAINTENANCE", format!("readonly:\n  enabled: {scalar}\n"))
        } else {
            ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", scalar)
        };
        prop_assert_eq!(with(&[(name, value.as_str())]).unwrap().registry.read_only, expected);
    }

    #[test]
    fn no_yaml_opens_or_panics(
        section in prop::sample::select(&["AUTH", "AUTH_HTPASSWD", "AUTH_TOKEN", "STORAGE", "HTTP", "HTTP_TLS", "PROXY"][..]),
        text in "[a-z0-9 \\n:,'\"&*{}\\[\\]-]{0,60}",
    ) {
        let name = format!("REGISTRY_{section}");
        if let Ok(config) = with(&[(name.as_str(), text.as_str())]) && section.starts_with("AUTH") {
            prop_assert!(!config.open_because_registry_environment);
        }
        let _ = with_file(&text, &[]);
        let _ = with_file(&format!("version: 0.1\n{text}"), &[]);
    }
}
