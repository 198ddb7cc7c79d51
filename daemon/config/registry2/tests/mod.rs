//! Tests of registry:2's settings: values, precedence, and the errors and warnings of each.

mod document;
mod users;

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::access::Anonymous;
use crate::config::environment::Variables;
use crate::config::load::from_sources;
use crate::config::{Config, ConfigError, Overrides, TlsMode, load};
use crate::service::AccessLog;

const FILE: &str = "/etc/docker/registry/config.yml";

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(Some(Path::new("/dev/null")), environment(pairs), &Overrides::default())
}

fn sources(own: Named, file: Option<Named>, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    from_sources(Ok(own), Ok(file), &Variables::sort(environment(pairs)), &Overrides::default())
}

fn with_file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    sources(("", ""), Some((FILE, text)), pairs)
}

/// The file in the image of registry:2.
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
    assert_eq!((config.auth.realm.as_str(), config.auth.settings.htpasswd.to_str()), ("r", Some("/p")));
    assert_eq!(config.auth.settings.anonymous, Some(Anonymous::None));
    assert!(
        !config.open_because_registry_environment
            && !config.storage.delete
            && config.log.access == AccessLog::Off
    );
    assert_eq!(config.http.headers["X-Frame-Options"], ["DENY"]);
    assert_eq!(config.http.headers["Access-Control-Allow-Origin"], ["http://ui.lan"]);
    assert_eq!(config.tls.mode, TlsMode::Files { certificate: "/c".into(), key: "/k".into() });
    assert_eq!(config.tls.clients.authorities, [Path::new("/a.pem"), Path::new("/b.pem")]);
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
fn plain_text_is_taken_verbatim_even_if_yaml_would_read_it_differently() {
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
fn variables_set_single_items_of_lists() {
    let tls = [("HOLDFAST_TLS_MODE", "auto")];
    for pairs in [
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/a, /b]")][..],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "/a, /b")],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a"), ("REGISTRY_HTTP_TLS_CLIENTCAS_1", "/b")],
        &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/x, /b]"), ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a")],
    ] {
        let config = with(&[pairs, &tls].concat()).unwrap();
        assert_eq!(config.tls.clients.authorities, [Path::new("/a"), Path::new("/b")], "{pairs:?}");
    }
}

#[test]
fn the_file_of_the_image_is_read() {
    let config = with_file(EXAMPLE, &[]).unwrap();
    assert_eq!(config.storage.path, Path::new("/var/lib/registry"));
    assert_eq!(config.listen[0].to_string(), "[::]:5000");
    assert_eq!(config.http.headers["X-Content-Type-Options"], ["nosniff"]);
    assert!(config.open_because_registry_environment);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with(&format!("{FILE}: log.fields has no effect")));
    assert!(config.warnings[1].contains(&format!("auth in {FILE} is not set: the registry is open")));
}

#[test]
fn the_environment_overrides_the_file() {
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
    assert_eq!(config.auth.settings.htpasswd, Path::new("/p"));
    assert_eq!(config.listen[0].port(), 5001);
    assert_eq!(config.storage.path, Path::new("/own"));
    assert!(!config.open_because_registry_environment);
}

#[test]
fn a_file_without_a_directory_uses_the_default_of_registry_2() {
    for storage in
        ["storage: filesystem", "storage: {filesystem: }", "storage: {filesystem: {maxthreads: 9}}"]
    {
        let config = with_file(&format!("version: 0.1\n{storage}\n"), &[]).unwrap();
        assert_eq!(config.storage.path, Path::new(DEFAULT_ROOT), "{storage}");
    }
}

#[test]
fn settings_that_restrict_access_are_never_ignored() {
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
fn settings_that_change_nothing_cause_no_warning() {
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
fn each_unknown_name_causes_one_warning() {
    let config =
        with(&[("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000"), ("REGISTRY_HTTP_ADRR", ":1")]).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(!config.open_because_registry_environment, "no known setting of registry:2 was set");
    let file = "version: 0.1\nstorage: filesystem\nhttp: {adrr: ':1'}\nmore: {a: 1, b: 2}\n";
    let warnings = with_file(file, &[]).unwrap().warnings;
    assert!(
        warnings[0].contains("http.adrr") && warnings[1].contains(": more has no effect"),
        "{warnings:?}"
    );
}

#[test]
fn values_in_other_formats_are_converted() {
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
    assert_eq!((config.log.json, config.log.level), (true, log::LevelFilter::Warn));
    assert_eq!(config.http.addresses.external_url.as_deref(), Some("https://registry.example"));
    assert_eq!((config.tls.clients.only_tls_1_3, config.gc.policy.uploads_expire.as_secs()), (true, 7800));
    assert_eq!(config.limits.list_max, 1000);
    assert!(
        config.warnings[0].contains("REGISTRY_LOG_FORMATTER has no effect: logstash"),
        "{:?}",
        config.warnings
    );
}

proptest! {
    #[test]
    fn every_form_of_a_flag_is_read(
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
        // A scalar alone is taken verbatim, including the text after a #.
        prop_assume!(in_map || !right.contains('#'));
        let (name, value) = if in_map {
            ("REGISTRY_STORAGE_MAINTENANCE", format!("readonly:\n  enabled: {scalar}\n"))
        } else {
            ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", scalar)
        };
        prop_assert_eq!(with(&[(name, value.as_str())]).unwrap().registry.read_only, expected);
    }

    #[test]
    fn no_yaml_opens_the_registry_or_panics(
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
