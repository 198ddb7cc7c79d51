//! Tests of the settings below `auth`: no combination opens the registry by accident.

use super::*;

#[test]
fn a_detail_of_users_keeps_the_configured_rights_of_anonymous_clients() {
    let read = |pairs: &[(&str, &str)]| {
        let text = "[auth]\nanonymous = \"pull\"\n";
        let config = sources(("file", text), None, pairs).unwrap();
        config.auth.settings.anonymous
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
    assert_eq!(alone.auth.settings.anonymous, Some(Anonymous::None));
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
        (file(&format!("{closed}auth: none\n")), "occurs twice"),
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
        assert_eq!(with_file(text, &[]).unwrap().auth.settings.anonymous, Some(Anonymous::Full), "{text}");
    }
    // A variable of the section replaces it as a whole.
    let replaced = with_file(open, &[("REGISTRY_AUTH", "htpasswd"), ("REGISTRY_AUTH_HTPASSWD_PATH", "/p")]);
    assert_eq!(replaced.unwrap().auth.settings.anonymous, Some(Anonymous::None));
}

#[test]
fn a_file_with_users_overrides_anonymous_rights_of_the_own_configuration() {
    let own = ("holdfast.toml", "[auth]\nanonymous = \"full\"\n");
    let file = (FILE, "version: 0.1\nauth: {htpasswd: {path: /p}}\n");
    for pairs in [&[][..], &[("REGISTRY_AUTH_HTPASSWD_PATH", "/q")]] {
        let config = sources(own, Some(file), pairs).unwrap();
        assert_eq!(config.auth.settings.anonymous, Some(Anonymous::None), "{pairs:?}");
    }
}
