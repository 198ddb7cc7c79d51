//! Tests of the configuration as a whole: sources, precedence, errors, and that the shown configuration reads back.

mod lists;

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::access::Anonymous;

fn with(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    load(Some(Path::new("/dev/null")), environment, &Overrides::default())
}

fn from_text(text: &str) -> Result<Config, ConfigError> {
    super::from_text("file", text, [], &Overrides::default())
}

fn lines(text: &str) -> Vec<String> {
    from_text(text).unwrap_err().lines().collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test writes the file that the daemon reads")]
fn a_variable_names_the_file_of_registry_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r2.yml");
    std::fs::write(&path, "version: 0.1\nauth: {htpasswd: {realm: r, path: /users}}\n").unwrap();
    let named = ("REGISTRY_CONFIGURATION_PATH".to_owned(), path.to_str().unwrap().to_owned());
    let podman = ("REGISTRY_AUTH_FILE".to_owned(), "/run/auth.json".to_owned());
    let level = ("REGISTRY_LOG_LEVEL".to_owned(), "info".to_owned());
    let config = load(None, [named, podman, level], &Overrides::default()).unwrap();
    assert_eq!(config.auth.settings.htpasswd, Path::new("/users"));
    assert!(!config.open_because_registry_environment && config.warnings.is_empty(), "{config:?}");
    let missing = ("REGISTRY_CONFIGURATION_PATH".to_owned(), "/nothing/here.yml".to_owned());
    let error = load(None, [missing], &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("/nothing/here.yml"), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test writes the file that the daemon reads")]
fn a_file_that_cannot_be_read_hides_no_other_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast.toml");
    std::fs::write(&path, "[limits]\nnames = 0\n[tls]\nclient_ca = [\"/ca\"]\n").unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let lines = |file: &Path, pairs: &[(String, String)]| {
        let error = load(Some(file), pairs.iter().cloned(), &Overrides::default()).unwrap_err();
        error.lines().collect::<Vec<_>>()
    };
    // The file of registry:2 may enable TLS, and name the htpasswd file of the realm.
    let compatible = pair("REGISTRY_CONFIGURATION_PATH", "/nothing/here.yml");
    let realm = pair("REGISTRY_AUTH_HTPASSWD_REALM", "r");
    let found = lines(&path, &[compatible.clone(), realm, pair("HOLDFAST_LISTEN", "example")]);
    assert!(found.len() == 3 && found[0].contains("holdfast.toml:2:9: limits.names is 0"), "{found:?}");
    let has = |found: &[String], start: &str| found.iter().any(|line| line.starts_with(start));
    assert!(
        has(&found, "cannot read /nothing/here.yml") && has(&found, "HOLDFAST_LISTEN (listen)"),
        "{found:?}"
    );
    let found = lines(&directory.path().join("missing.toml"), &[compatible, pair("HOLDFAST_LISTNE", "x")]);
    assert!(found.len() == 3 && has(&found, "cannot read /nothing/here.yml"), "{found:?}");
    assert!(
        has(&found, "HOLDFAST_LISTNE") && found.iter().any(|line| line.contains("missing.toml")),
        "{found:?}"
    );
}

#[test]
fn the_documented_file_has_the_defaults() {
    let text = include_str!("../../config/holdfast.toml");
    assert_eq!(from_text(text).unwrap(), with(&[]).unwrap());
    for key in definitions::keys().filter(|key| key.environment_name().is_some()) {
        assert!(text.contains(&format!("{} = ", key.short_name())), "{} is not documented", key.name);
    }
}

#[test]
fn every_example_of_the_documented_file_is_valid() {
    // Without the explanations the comments of the file are the examples.
    let text = include_str!("../../config/holdfast.toml");
    let (mut file, mut seen) = (String::new(), 0);
    for line in text.lines() {
        let content = line.strip_prefix("# ").unwrap_or(line);
        let is_sample = content.starts_with('[')
            || content.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            });
        if is_sample {
            file += &format!("{content}\n");
            seen += usize::from(line.starts_with('#'));
        }
    }
    assert!(seen > 20, "{seen}");
    let config = from_text(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    assert_eq!(
        (config.auth.settings.rules.len(), config.gc.policy.retention.len(), config.immutable.len()),
        (1, 1, 1)
    );
}

#[test]
fn shown_configuration_reads_back() {
    let config = with(&[
        ("HOLDFAST_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("HOLDFAST_TLS_MODE", "auto"),
        ("HOLDFAST_LIMITS_CONNECTIONS", "7"),
        ("HOLDFAST_AUTH_ANONYMOUS", "pull"),
        ("HOLDFAST_AUTH_CHALLENGE", "basic"),
        ("HOLDFAST_AUTH_TOKEN", "1d"),
        ("HOLDFAST_METRICS_ACCESS", "users"),
        ("HOLDFAST_METRICS_FILE", "/run/holdfast.prom"),
        ("REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN", "['http://ui.lan', \"http://x\"]"),
    ])
    .unwrap();
    assert_eq!(config.http.headers["Access-Control-Allow-Origin"], ["http://ui.lan", "http://x"]);
    assert_eq!((config.limits.connections, config.listen.len()), (7, 2));
    let shown = from_text(&config.show()).unwrap();
    assert_eq!(Config { sources: Vec::new(), ..config }, shown);
    assert!(with(&[("HOLDFAST_REGISTRY_COMPATIBLE_FILES", "/a.yml,/b.yml")]).is_ok());
    let users = with(&[("HOLDFAST_AUTH_HTPASSWD", "./holdfast-data/htpasswd")]).unwrap();
    assert!(users.auth.htpasswd_is_set && from_text(&users.show()).unwrap().auth == users.auth);
}

#[test]
fn rules_read_back() {
    let text = "[[auth.rule]]\nusers = [\"-\"]\nrepositories = [\"public/*\"]\nallow = [\"pull\", \"catalog\"]\n\
        [[retention]]\nrepositories = [\"ci/*\"]\nkeep_newest = 3\nkeep_younger = \"90m\"\nkeep_tags = [\"v*\"]\n\
        [[retention]]\nrepositories = [\"*\"]\nremove_untagged = \"7d\"\n\
        [[immutable]]\nrepositories = [\"prod/*\"]\ntags = [\"v*\"]\ndelete = true\n";
    let config = from_text(text).unwrap();
    assert!(config.immutable[0].delete && config.gc.policy.retention.len() == 2);
    assert_eq!(from_text(&config.show()).unwrap(), config);
}

#[test]
fn variables_of_compose_files_are_honoured() {
    let config = with(&[
        ("REGISTRY_HTTP_ADDR", ":443"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
        ("REGISTRY_HTTP_TLS_KEY", "/k"),
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Realm"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth"),
        ("REGISTRY_HTTP_SECRET", "x"),
        ("REGISTRY_REDIS_ADDR", "x"),
        ("HOLDFAST_STORAGE_PATH", "/own"),
    ])
    .unwrap();
    assert_eq!(config.listen[0].to_string(), "[::]:443");
    assert_eq!(config.storage.path, Path::new("/own"));
    assert_eq!(config.tls.mode, TlsMode::Files { certificate: "/c".into(), key: "/k".into() });
    assert_eq!(
        (config.auth.realm.as_str(), config.auth.settings.anonymous),
        ("Realm", Some(Anonymous::None))
    );
    assert!(!config.open_because_registry_environment);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(with(&[("REGISTRY_HTTP_ADDR", ":5000")]).unwrap().open_because_registry_environment);
}

#[test]
fn variables_of_the_user_interface_of_registry_2_are_honoured() {
    let config = with(&[("REGISTRY_TITLE", "Our Hub"), ("DELETE_IMAGES", "false")]).unwrap();
    assert_eq!((config.admin.title.as_str(), config.admin.delete), ("Our Hub", false));
    assert!(!config.open_because_registry_environment, "a title does not open the registry");
    let own = with(&[("REGISTRY_TITLE", "Our Hub"), ("HOLDFAST_ADMIN_TITLE", "Mine")]).unwrap();
    assert_eq!(own.admin.title, "Mine");
}

#[test]
fn errors_name_the_key() {
    for (name, value, expected) in [
        ("HOLDFAST_LISTNE", "x", "HOLDFAST_LISTNE"),
        ("HOLDFAST_LISTEN", "example", "listen"),
        ("HOLDFAST_STORAGE_DELETE", "maybe", "HOLDFAST_STORAGE_DELETE"),
        ("HOLDFAST_TLS_MODE", "x", "tls.mode"),
        ("HOLDFAST_TLS_MODE", "files", "tls.certificate"),
        ("HOLDFAST_LIMITS_BODY_STALL", "soon", "limits.body_stall"),
        ("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "100", "storage.index_map_size"),
        ("REGISTRY_AUTH", "token", "REGISTRY_AUTH"),
        ("HOLDFAST_ADMIN_SESSION", "0s", "admin.session"),
        ("HOLDFAST_AUTH_CHALLENGE", "digest", "auth.challenge"),
        ("HOLDFAST_AUTH_TOKEN", "59s", "auth.token"),
        ("HOLDFAST_AUTH_TOKEN", "25h", "auth.token"),
        ("HOLDFAST_METRICS_ACCESS", "everyone", "metrics.access"),
        ("HOLDFAST_METRICS_FILE", "holdfast.prom", "metrics.file"),
        ("DELETE_IMAGES", "perhaps", "DELETE_IMAGES"),
    ] {
        let error = with(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    for name in ["m\u{fc}ller.lan", "pi.lan:5000", "", "*"] {
        let text = format!("[tls]\nmode = \"auto\"\nnames = [\"pi.lan\", \"{name}\"]");
        let error = from_text(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("tls.names is {name:?}")), "{error}");
        assert!(from_text(&text.replace("auto", "off")).is_ok(), "no certificate has the name");
    }
    let names = "pi,pi.lan,*.lan,my_pi.local,192.0.2.7,fe80::1,xn--mller-kva.lan";
    assert_eq!(
        with(&[("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", names)]).unwrap().tls.names.len(),
        7
    );
    assert!(from_text("[storage]\npaht = \"x\"").is_err());
    let star = "[http.headers]\nAccess-Control-Allow-Origin = [\"*\"]\nAccess-Control-Allow-Credentials = [\"true\"]";
    assert!(from_text(star).is_err());
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    let text = "listen = \"example\"\n\
        colour = 1\n\
        [storage]\n\
        paht = \"/x\"\n\
        delete = \"true\"\n\
        [limits]\n\
        connections = 0\n\
        \x20 header_bytes = 65536\n\
        idle = \"5m\"\n\
        [[retention]]\n\
        keep_newest = 1.5\n\
        keep_tgas = [\"v*\"]\n\
        [http.headers]\n\
        Content-Type = [\"a\"]\n";
    let mut expected = vec![
        "file:1:10: listen is \"example\", but must be ADDRESS:PORT like 127.0.0.1:5000, or :5000 for all addresses, IPv4 and IPv6",
        "file:2:1: unknown key colour; `holdfast man holdfast.toml` explains all keys",
        "file:4:1: unknown key storage.paht; did you mean storage.path?",
        "file:5:10: storage.delete is \"true\", but must be true or false, without quotes",
        "file:7:15: limits.connections is 0, but must be a number from 1 to 1000000",
        "file:8:18: limits.header_bytes is 65536, but must be a size from 8KiB to 1MiB, in quotes",
        "file:9:1: unknown key limits.idle; did you mean service.idle?",
        "file:10:1: retention.repositories is missing; it must be a list of one or more items, each a pattern like \
         team/*, where * matches any text",
        "file:11:15: retention.keep_newest is 1.5, but must be a number of at least 0",
        "file:12:1: unknown key retention.keep_tgas; did you mean retention.keep_tags?",
        "file:14:1: http.headers is \"Content-Type\", but must be a header that is the same for every response",
    ];
    assert_eq!(lines(text), expected);
    let environment = [("HOLDFAST_LISTNE".to_owned(), ":1".to_owned())];
    let error = super::from_text("file", text, environment, &Overrides::default()).unwrap_err();
    expected.push("HOLDFAST_LISTNE is not a setting of Holdfast; did you mean HOLDFAST_LISTEN?");
    assert_eq!(error.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_change_of_a_key_that_needs_a_restart_is_found() {
    let before = from_text("").unwrap();
    for (text, key) in [
        ("listen = [\":1\"]", "listen"),
        ("[storage]\npath = \"/x\"", "storage.path"),
        ("[storage]\nindex_map_size = \"64MiB\"", "storage.index_map_size"),
        ("[limits]\nconnections = 7", "limits.connections"),
        ("[limits]\nuploads = 7", "limits.uploads"),
        ("[log]\nlines_per_address = 7", "log.lines_per_address"),
        ("[log]\nformat = \"json\"", "log.format"),
        ("[log]\naccess = false", "log.access"),
    ] {
        let after = from_text(text).unwrap();
        assert_eq!(before.keys_changed_until_restart(&after).collect::<Vec<_>>(), [key]);
        let key = definitions::key(key).unwrap();
        assert!(key.documentation().ends_with(". Takes effect at the next restart."), "{}", key.name);
    }
    let after = from_text("[storage]\ndelete = false\n[limits]\nnames = 7\n[log]\nlevel = \"warn\"").unwrap();
    assert_eq!(before.keys_changed_until_restart(&after).count(), 0);
    assert_eq!(before.keys_changed_until_restart(&before).count(), 0);
    let documented = definitions::keys().filter(|key| key.doc.contains("next restart"));
    assert_eq!(documented.count(), 0, "the documentation follows from the definition");
}

#[test]
fn errors_do_not_name_types_of_the_program() {
    for text in [
        "storage = 5",
        "listen = { a = 1 }",
        "retention = 5",
        "retention = [1]",
        "auth = { rule = 2 }",
        "[limits]\nnames = -1",
        "[limits]\nnames = 99999999999999999999",
        "[http]\nheaders = 1",
        "[http.headers]\nX-A = 5",
        "[auth]\ntoken = 1979-05-27",
        "[[storage]]\npath = \"x\"",
    ] {
        for line in lines(text) {
            let words =
                ["u32", "u64", "usize", "i64", "struct", "enum", "sequence", "variant", "invalid type"];
            assert!(line.starts_with("file:") && line.contains(" but must be "), "{text}: {line}");
            assert!(!words.iter().any(|word| line.contains(word)), "{text}: {line}");
        }
    }
}

#[test]
fn a_syntax_error_hides_no_other_mistake() {
    let found = lines("[storage]\npath = \ndelete = 5\n[limits]\nnames = 0\n");
    assert!(found[0].starts_with("file:2:"), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("file:3:10: storage.delete is 5")), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("file:5:9: limits.names is 0")), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn settings_that_contradict_each_other_are_refused_at_their_place() {
    for (text, expected) in [
        ("[tls]\nmode = \"files\"\n", "file:2:8: tls.certificate is missing"),
        ("[tls]\nkey = \"/k\"\n", "file:2:7: tls.certificate is missing"),
        ("[tls]\ncertificate = \"/c\"\n", "file:2:15: tls.key is missing"),
        ("[tls]\nclient_ca = [\"/ca\"]\n", "file:2:13: tls.client_ca requires"),
    ] {
        let found = lines(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
    let off = from_text("[tls]\nmode = \"off\"\ncertificate = \"/c\"\n").unwrap();
    assert_eq!((&off.tls.mode, from_text(&off.show()).unwrap().tls), (&TlsMode::Off, off.tls.clone()));
}

#[test]
fn a_rule_that_keeps_no_tag_is_refused() {
    let rule = |keys: &str| from_text(&format!("[[retention]]\nrepositories = [\"ci/*\"]\n{keys}"));
    for keys in ["keep_newest = 0", "keep_younger = \"0s\"", "keep_newest = 0\nkeep_younger = \"0s\""] {
        assert!(rule(keys).unwrap_err().to_string().contains("keep no tag at all"), "{keys}");
    }
    for keys in [
        "",
        "keep_newest = 1",
        "keep_newest = 0\nkeep_younger = \"1d\"",
        "keep_newest = 0\nkeep_tags = [\"v*\"]",
        "remove_untagged = \"0s\"",
    ] {
        assert!(rule(keys).is_ok(), "{keys}");
    }
    for (text, key) in [
        ("[[immutable]]\ntags = [\"v*\"]", "immutable.repositories"),
        ("[[immutable]]\nrepositories = [\"*\"]", "immutable.tags"),
        ("[[immutable]]\nrepositories = [\"*\"]\ntags = []", "immutable.tags"),
    ] {
        assert!(from_text(text).unwrap_err().to_string().contains(key));
    }
}

#[test]
fn each_key_is_defined_once_and_below_its_section() {
    let mut names: Vec<_> = definitions::keys().map(|key| key.name).collect();
    for section in &definitions::SECTIONS {
        for key in section.keys {
            let expected = key.name.rsplit_once('.').map_or("", |(section, _)| section);
            assert_eq!(section.name, expected, "{}", key.name);
        }
    }
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,100}", name in "(HOLDFAST|REGISTRY)_[A-Z_]{0,40}") {
        let _ = from_text(&text);
        let _ = with(&[(name.as_str(), text.as_str())]);
    }

    #[test]
    fn any_value_is_accepted_or_refused_in_one_line(
        key in prop::sample::select(definitions::keys().map(|key| key.name).collect::<Vec<_>>()),
        value in prop::sample::select(&["1", "-1", "0.5", "true", "\"\"", "\"1d\"", "[]", "[1]", "[[]]", "{}", "{a = 1}", "[{}]"][..]),
    ) {
        match from_text(&format!("{key} = {value}\n")) {
            Ok(config) => prop_assert_eq!(from_text(&config.show()).unwrap(), config),
            Err(error) => prop_assert!(error.lines().all(|line| !line.contains('\n'))),
        }
    }
}
