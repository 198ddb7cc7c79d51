//! Stored content runs no script when an administrator opens it on the origin of the admin page.

use serde_json::{Value, json};

use super::chromium::{Chromium, Script};
use super::registry::Registry;
use super::tasks::log_in;
use crate::support::*;

/// A script that adds a user with the administrator's session. It has no double quotes, which JSON would escape.
const ATTACK: &str = "document.title='taken';fetch('/users').then(r=>r.text()).then(t=>fetch('/users/add',{method:'POST',\
    body:new URLSearchParams({token:t.match(/name=.token. value=.([a-zA-Z0-9_-]+)/)[1],name:'mallory',\
    password:'mallory-secret',new:'mallory-secret',again:'mallory-secret'})}))";
/// An accepted media type, which the test replaces by one that an earlier release accepted.
const ACCEPTED: &str = "application/vnd.taken+json";
/// Media types that browsers render or run, which an earlier release stored.
const ACTIVE: [&str; 6] = [
    "text/html",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "multipart/x-mixed-replace",
    "text/javascript",
];

/// Returns documents of each kind that contain the attack.
fn documents() -> Vec<String> {
    let html = format!("<!doctype html><title>x</title><script>{ATTACK}</script>");
    vec![
        html.clone(),
        format!("<svg xmlns='http://www.w3.org/2000/svg'><script><![CDATA[{ATTACK}]]></script></svg>"),
        format!(
            "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><script><![CDATA[{ATTACK}]]></script></html>"
        ),
        format!("--x\r\nContent-Type: text/html\r\n\r\n{html}\r\n--x--\r\n"),
        format!("GIF89a{html}"),
    ]
}

fn manifest(number: usize) -> Vec<u8> {
    let annotations = json!({"number": number.to_string(), "a": format!("<script>{ATTACK}</script>")});
    serde_json::to_vec(&json!({"schemaVersion": 2, "annotations": annotations})).unwrap()
}

/// Starts a registry with the data of an earlier release, whose manifests have active media types.
fn registry() -> Registry {
    let mut daemon = Daemon::start();
    for number in 0..ACTIVE.len() {
        let media_type = ACCEPTED.replace("taken", &format!("taken{number}"));
        daemon.put_manifest("a", &format!("m{number}"), &media_type, &manifest(number)).expect(201);
    }
    daemon.put_manifest("a", "json", ACCEPTED, &manifest(99)).expect(201);
    for document in documents() {
        daemon.push_blob("a", document.as_bytes());
    }
    add_user(&daemon.data, "alice", "secret");
    daemon.stop();
    let file = daemon.data.join("index.json");
    let mut names = std::fs::read_to_string(&file).unwrap();
    for (number, active) in ACTIVE.iter().enumerate() {
        names = names.replace(&ACCEPTED.replace("taken", &format!("taken{number}")), active);
    }
    std::fs::write(&file, names).unwrap();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    Registry::over_tls(daemon, "pull")
}

#[test]
fn stored_content_runs_no_script_in_an_admin_session() {
    let registry = registry();
    let browser = Chromium::start(&registry, Script::On);
    log_in(&browser);
    let mut paths: Vec<String> =
        (0..ACTIVE.len()).map(|number| format!("/v2/a/manifests/m{number}")).collect();
    paths.extend((0..ACTIVE.len()).map(|number| format!("/v2/a/manifests/{}", digest(&manifest(number)))));
    paths.extend((0..ACTIVE.len()).map(|number| format!("/raw/a@{}", digest(&manifest(number)))));
    paths.push("/v2/a/manifests/json".into());
    paths.extend(documents().iter().map(|document| format!("/v2/a/blobs/{}", digest(document.as_bytes()))));
    let page = documents().remove(0);
    let escaped = percent_encoding::utf8_percent_encode(&page, percent_encoding::NON_ALPHANUMERIC);
    for path in ["/v2/", "/v2/a/manifests/", "/v2/a/blobs/", "/v2/x/tags/list?n=", "/%76%32/"] {
        paths.push(format!("{path}{escaped}"));
    }
    paths.push("/v2/a/manifests/<script>alert(1)</script>".into());
    for path in &paths {
        // A download stays on the previous page.
        let url = format!("{}{path}", browser.origin);
        let _ = browser.session.try_call("POST", "/url", &json!({ "url": url }));
        let title = browser.session.call("GET", "/title", &Value::Null);
        assert_ne!(title, "taken", "{path}");
        browser.open("/users");
        browser.expect("main", "alice");
        assert!(!browser.text("main").contains("mallory"), "{path}");
    }
    assert!(!registry.accepts("mallory", "mallory-secret"));
}
