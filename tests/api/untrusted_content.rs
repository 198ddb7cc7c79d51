//! Stored content must not run in a browser (stored XSS): the headers of every response, and the media types of
//! manifests.

use std::process::Command;

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::images::push_image_with;
use crate::support::*;

const POLICY: &str = "default-src 'none'; sandbox";
const SCRIPT: &str = "<script>document.title='taken'</script>";

/// Checks that a browser runs nothing in the response: exactly one content security policy, and no active media type.
#[track_caller]
fn expect_confined(answer: &Response) {
    assert_eq!(answer.headers("content-security-policy"), [POLICY], "{answer:?}");
    assert_eq!(answer.headers("x-content-type-options"), ["nosniff"], "{answer:?}");
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(!content_type.contains("html") && !content_type.contains("xml"), "{content_type}");
}

/// Returns a request like that of a browser for a page.
fn browse(daemon: &Daemon, method: &str, path: &str) -> Request {
    daemon.request(method, path).header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
}

/// Returns a manifest that is a script to a browser which sniffs HTML.
fn active_manifest() -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "annotations": {"a": SCRIPT}})).unwrap()
}

#[test]
fn manifests_of_media_types_that_browsers_run_are_refused() {
    let daemon = Daemon::start();
    for media_type in [
        "text/html",
        "Text/HTML; charset=utf-8",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/xml",
        "application/vnd.x+xml",
        "multipart/x-mixed-replace;boundary=x",
        "text/javascript",
        "application/javascript",
        "application/pdf",
        "application/octet-stream",
        "application/vnd.x",
        "application/.x+json",
        "application/vnd.x+json, text/html",
    ] {
        let answer = daemon.put_manifest("a", "1", media_type, &active_manifest()).expect(400);
        assert_eq!(answer.error_code(), "MANIFEST_INVALID", "{media_type}");
        expect_confined(&answer);
        let inside = serde_json::json!({"schemaVersion": 2, "mediaType": media_type});
        let request = daemon.request("PUT", "/v2/a/manifests/1").body(inside.to_string().as_bytes());
        assert_eq!(request.send().expect(400).error_code(), "MANIFEST_INVALID", "{media_type}");
    }
    let twice = daemon.request("PUT", "/v2/a/manifests/1").header("Content-Type", OCI_MANIFEST);
    twice.header("Content-Type", "text/html").body(&active_manifest()).send().expect(400);
    daemon.get("/v2/a/manifests/1").expect(404);
}

#[test]
fn a_media_type_that_differs_from_the_manifest_is_refused_and_the_error_has_both() {
    let daemon = Daemon::start();
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    let answer = daemon.put_manifest("a", "1", OCI_MANIFEST, manifest.as_bytes()).expect(400);
    assert_eq!(answer.error_code(), "MANIFEST_INVALID");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains(OCI_INDEX) && text.contains(OCI_MANIFEST), "{text}");
}

#[test]
fn media_types_of_artifacts_are_accepted_and_lose_their_parameters() {
    let daemon = Daemon::start();
    for (number, sent, served) in [
        (1, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", OCI_MANIFEST),
        (2, "application/vnd.example.thing.v3+json", "application/vnd.example.thing.v3+json"),
        (3, "application/vnd.example.thing.v3+prettyjws", "application/vnd.example.thing.v3+prettyjws"),
        (4, "application/json", "application/json"),
    ] {
        let path = format!("/v2/a/manifests/{number}");
        daemon.put_manifest("a", &number.to_string(), sent, &active_manifest()).expect(201);
        for method in ["GET", "HEAD"] {
            let answer = browse(&daemon, method, &path).send().expect(200);
            assert_eq!(answer.required_header("content-type"), served);
            expect_confined(&answer);
        }
    }
}

#[test]
fn every_response_of_the_api_is_confined() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_HEADER_BYTES", "128KiB")]);
    let (manifest, _) = daemon.push_image("a", "1", SCRIPT.as_bytes());
    let blob = digest(SCRIPT.as_bytes());
    let gone = digest(b"gone");
    for (method, path, status) in [
        ("GET", "/v2", 200),
        ("GET", "/v2/", 200),
        ("GET", "/v2/_catalog", 200),
        ("GET", "/v2/a/tags/list", 200),
        ("GET", "/v2/a/manifests/1", 200),
        ("HEAD", "/v2/a/manifests/1", 200),
        ("GET", &format!("/v2/a/referrers/{manifest}"), 200),
        ("GET", &format!("/v2/a/manifests/{gone}"), 404),
        ("GET", &format!("/v2/a/blobs/{gone}"), 404),
        // A malformed path, and paths that are too long.
        ("GET", "/v2/<script>alert(1)</script>/tags/list", 400),
        ("GET", &format!("/v2/{}", "x".repeat(65_535)), 414),
        ("GET", &format!("/v2/{}", "x".repeat(200_000)), 431),
        ("GET", "/v2/%3Cscript%3Ealert(1)%3C%2Fscript%3E/tags/list", 400),
        ("GET", "/v2/a/manifests/%3Csvg%20onload=alert(1)%3E", 404),
        ("DELETE", "/v2/a/manifests/%3Csvg%20onload=alert(1)%3E", 400),
        ("GET", "/v2/%3Csvg%20onload=alert(1)%3E", 404),
        ("GET", "/v2/../login", 404),
        ("GET", "/v2//", 404),
        ("GET", "/%76%32/", 404),
        ("GET", "/v2%2Flogin", 404),
        ("POST", "/v2/", 405),
        ("OPTIONS", "/v2/", 405),
        ("POST", "/v2/a/blobs/uploads/", 202),
        ("DELETE", &format!("/v2/a/manifests/{gone}"), 404),
    ] {
        let request = browse(&daemon, method, path);
        let request = if method == "POST" { request.body(b"") } else { request };
        let answer = request.send().expect(status);
        expect_confined(&answer);
        let is_json = answer.header("content-type").is_none_or(|kind| kind.ends_with("json"));
        assert!(is_json, "{method} {path} {answer:?}");
    }
    for (method, header, status) in [
        ("GET", ("Range", "bytes=0-3"), 206),
        ("GET", ("Range", "bytes=9999-"), 416),
        ("GET", ("If-None-Match", "*"), 304),
        ("GET", ("X-Other", ""), 200),
        ("HEAD", ("X-Other", ""), 200),
    ] {
        let answer =
            browse(&daemon, method, &format!("/v2/a/blobs/{blob}")).header(header.0, header.1).send();
        expect_confined(&answer);
        assert_eq!(answer.status, status);
        if status < 300 {
            assert_eq!(answer.required_header("content-type"), "application/octet-stream");
            assert_eq!(answer.required_header("content-disposition"), "attachment");
        }
    }
    expect_confined(&daemon.request("GET", "/v2/").header("Host", "other").send().expect(400));
    expect_confined(&daemon.request("GET", "/").header("Accept", "*/*").send().expect(200));
    expect_confined(&daemon.request("GET", "/other").send().expect(404));
}

#[test]
fn responses_without_a_permit_and_over_plain_http_are_confined() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", "auto")]);
    for (path, status) in [("/ca.crt", 200), ("/v2/", 308), ("/", 308), ("/v2/%3Cscript%3E", 308)] {
        expect_confined(&browse(&daemon, "GET", path).send().expect(status));
    }
    let plain = Daemon::with_user("alice", "secret", &[]);
    expect_confined(&browse(&plain, "GET", "/v2/").send().expect(401));
    expect_confined(&browse(&plain, "GET", "/v2/%3Cscript%3E").login("alice", "wrong").send().expect(401));
    let closed = Daemon::start();
    expect_confined(&browse(&closed, "GET", "/v2/").host("evil.example").send().expect(421));
}

#[test]
fn configured_headers_cannot_weaken_the_confinement() {
    let file = r#"
        [http.headers]
        Content-Security-Policy = ["default-src *"]
        X-Content-Type-Options = ["off"]
        Strict-Transport-Security = ["max-age=63072000"]
    "#;
    let daemon = Daemon::with_config(file);
    let answer = browse(&daemon, "GET", "/v2/").send().expect(200);
    expect_confined(&answer);
    assert_eq!(answer.required_header("strict-transport-security"), "max-age=63072000");
    for name in ["Content-Type", "content-disposition", "Transfer-Encoding"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("holdfast.toml");
        std::fs::write(&file, format!("[http.headers]\n{name} = [\"text/html\"]\n")).unwrap();
        let mut command = std::process::Command::new(BINARY);
        let output = command.args(["config", "check", "--config"]).arg(&file).env_clear().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(name), "{text}");
    }
}

#[test]
fn raw_views_of_the_admin_page_are_confined() {
    let daemon = Daemon::start();
    daemon.put_manifest("a", "1", "application/vnd.x+json", &active_manifest()).expect(201);
    let mut browser = Browser::new(&daemon);
    let raw = browser.get(&format!("/raw/a@{}", digest(&active_manifest()))).expect(200);
    assert_eq!(raw.headers("content-security-policy"), [POLICY]);
    assert_eq!(raw.headers("x-content-type-options"), ["nosniff"]);
    assert_eq!(raw.required_header("content-type"), "text/plain; charset=utf-8");
    // Pages keep their own policy, which allows their style and script.
    let page = browser.get("/repository/a").expect(200);
    assert!(page.required_header("content-security-policy").contains("script-src 'self'"));
    assert_eq!(page.required_header("x-content-type-options"), "nosniff");
}

/// Opens a data directory of a release that did not check media types: `index.json` with an active one, and no index.
#[test]
fn a_media_type_stored_by_an_earlier_release_is_served_as_bytes() {
    let mut daemon = Daemon::start();
    daemon.put_manifest("a", "1", "application/vnd.x+json", &active_manifest()).expect(201);
    daemon.stop();
    let file = daemon.data.join("index.json");
    let names = std::fs::read_to_string(&file).unwrap();
    assert!(names.contains("application/vnd.x+json"), "{names}");
    std::fs::write(&file, names.replace("application/vnd.x+json", "text/html")).unwrap();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    daemon.start_again();
    // First after the rebuild from index.json, then from the index.
    for _ in 0..2 {
        assert_eq!(daemon.get("/v2/a/tags/list").expect(200).json()["tags"][0], "1");
        for method in ["GET", "HEAD"] {
            let answer = browse(&daemon, method, "/v2/a/manifests/1").send().expect(200);
            expect_confined(&answer);
            assert_eq!(answer.required_header("content-type"), "application/octet-stream");
            assert_eq!(answer.required_header("content-disposition"), "attachment");
            assert!(method == "HEAD" || answer.body == active_manifest());
        }
        daemon.stop_and_restart();
    }
    let names = std::fs::read_to_string(&file).unwrap();
    assert!(names.contains("text/html"), "the media type is lost: {names}");
}

/// Text with characters that hide, reorder or control: bidirectional, of zero width, C0, C1, a tag.
const HIDDEN: &str = "a\u{202e}b\u{200b}c\u{1b}[31m\u{9b}31m\u{2066}d\u{e0041}\u{7f}e";

/// Returns the hidden characters of a text.
fn hidden(text: &str) -> Vec<char> {
    let is_hidden = |c: &char| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
            || matches!(c, '\u{200b}' | '\u{202e}' | '\u{2066}' | '\u{e0041}')
    };
    text.chars().filter(is_hidden).collect()
}

/// Pushes an image that has hidden characters in every text, with attachments that have them, too.
fn push_hidden(daemon: &Daemon) {
    let pair = || json!({ HIDDEN: HIDDEN });
    let config = json!({
        "architecture": HIDDEN, "os": HIDDEN, "variant": HIDDEN, "os.version": HIDDEN, "author": HIDDEN,
        "created": HIDDEN,
        "config": {"Entrypoint": [HIDDEN], "Cmd": [HIDDEN], "Env": [format!("A={HIDDEN}")], "User": HIDDEN,
            "WorkingDir": HIDDEN, "StopSignal": HIDDEN, "ExposedPorts": pair(), "Volumes": pair(),
            "Labels": pair()},
        "history": [{"created_by": HIDDEN, "comment": HIDDEN, "author": HIDDEN}],
    });
    let mut annotations = pair();
    for key in ["title", "description", "licenses", "source", "documentation"] {
        annotations[format!("org.opencontainers.image.{key}")] = HIDDEN.into();
    }
    let image = push_image_with(daemon, "app", &["1", "2"], &config, &json!({ "annotations": annotations }));
    let platform = json!({"os": HIDDEN, "architecture": HIDDEN, "variant": HIDDEN});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": annotations, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": image, "size": 1, "platform": platform, "annotations": annotations}]});
    daemon.put_manifest("app", "index", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": image, "size": 1});
    let packages = [json!({"name": HIDDEN, "versionInfo": HIDDEN, "licenseConcluded": HIDDEN})];
    let sbom = json!({"spdxVersion": format!("SPDX-2.3{HIDDEN}"), "name": HIDDEN, "packages": packages,
        "creationInfo": {"created": HIDDEN, "creators": [format!("Tool: {HIDDEN}")]}});
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": HIDDEN,
        "digest": {"sha256": HIDDEN}}], "predicateType": format!("https://slsa.dev/provenance/v1{HIDDEN}"),
        "predicate": {"buildDefinition": {"buildType": HIDDEN, "externalParameters": {"source": HIDDEN},
            "resolvedDependencies": [{"uri": HIDDEN, "digest": {"sha1": HIDDEN}}]},
            "runDetails": {"builder": {"id": HIDDEN}, "metadata": {"startedOn": HIDDEN, "finishedOn": HIDDEN}}}});
    let signature = json!({"critical": {"identity": {"docker-reference": HIDDEN}, "image":
        {"docker-manifest-digest": HIDDEN}, "type": HIDDEN}, "optional": pair()});
    for (media_type, document) in [
        ("application/spdx+json", sbom),
        ("application/vnd.in-toto+json", statement),
        ("application/vnd.dev.cosign.simplesigning.v1+json", signature),
    ] {
        let content = serde_json::to_vec(&document).unwrap();
        let layer = json!({"mediaType": media_type, "digest": daemon.push_blob("app", &content), "size": content.len(),
            "annotations": annotations});
        let other = json!({"mediaType": "application/x", "digest": layer["digest"], "size": content.len(),
            "annotations": {"org.opencontainers.image.title": HIDDEN}});
        let fields = json!({"artifactType": format!("application/x{HIDDEN}"), "layers": [layer, other],
            "subject": subject, "annotations": annotations});
        push_image_with(daemon, "app", &[], &config, &fields);
    }
}

/// Follows the links of pages from these ones on; returns the pages.
fn crawl(browser: &mut Browser, starts: &[String]) -> Vec<(String, String)> {
    let (mut open, mut pages) = (starts.to_vec(), Vec::<(String, String)>::new());
    while let Some(path) = open.pop() {
        if pages.iter().any(|(known, _)| *known == path) || pages.len() > 150 {
            continue;
        }
        let answer = browser.get(&path);
        // Downloads have the bytes that were pushed.
        if !answer.header("content-type").is_some_and(|media_type| media_type.starts_with("text/html")) {
            continue;
        }
        let page = text(&answer);
        let base = path.split(['?', '#']).next().unwrap_or_default().to_owned();
        for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let link = link.split('#').next().unwrap_or_default().replace("&#38;", "&");
            match link.chars().next() {
                Some('/') => open.push(link),
                Some('?') => open.push(format!("{base}{link}")),
                _ => {}
            }
        }
        pages.push((path, page));
    }
    pages
}

#[test]
fn pages_and_commands_show_no_hidden_character() {
    let daemon = Daemon::start();
    push_hidden(&daemon);
    let query: String = percent_encode(HIDDEN);
    let mut browser = Browser::new(&daemon);
    let starts = [
        "/".to_owned(),
        "/image/app:1".to_owned(),
        "/compare?name=app&a=1&b=index".to_owned(),
        format!("/search?q={query}"),
        format!("/repositories?q={query}"),
        format!("/activity?q={query}"),
        format!("/repository/{query}"),
        format!("/image/app:{query}"),
        format!("/compare?name={query}&a={query}&b={query}"),
        format!("/{query}"),
    ];
    let pages = crawl(&mut browser, &starts);
    for (path, page) in &pages {
        let found = hidden(page);
        assert!(found.is_empty(), "{path}: {found:?} in {page}");
    }
    let is_seen =
        |word: &str| pages.iter().any(|(path, page)| path.contains(word) && page.contains('\u{fffd}'));
    for word in ["/repository/app", "/image/app:index", "document=", "/image/app@", "/search", "/compare"] {
        assert!(is_seen(word), "no text of a client on {word}");
    }
    let data = daemon.data.to_str().unwrap();
    for arguments in [
        &["ls"][..],
        &["ls", "app"],
        &["ls", "app:1"],
        &["ls", "app:index"],
        &["ls", "app", "--json"],
        &["ls", "app:index", "--json"],
        &["ls", HIDDEN],
        &["rm", "--yes", &format!("app:{HIDDEN}")],
        &["jobs", "run", HIDDEN],
        &["gc", "--json"],
        &["status", "--json"],
    ] {
        let output =
            Command::new(BINARY).env_clear().args(arguments).args(["--data", data]).output().unwrap();
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let found = hidden(&shown);
        assert!(found.is_empty(), "{arguments:?}: {found:?} in {shown:?}");
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
