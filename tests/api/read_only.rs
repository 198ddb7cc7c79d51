//! A registry that its configuration makes read-only, and settings of the log in the format of registry:2.

use crate::support::browser::{Browser, text};
use crate::support::*;

#[test]
fn read_only_registry_refuses_pushes_and_deletes_and_serves_pulls() {
    let mut daemon = Daemon::start();
    let (digest, manifest) = daemon.push_image("a", "1", b"layer");
    let upload = daemon.start_upload("a");
    let name = "REGISTRY_STORAGE_MAINTENANCE_READONLY";
    daemon.stop();
    daemon.start_again_with_env(&[(name, "{\"enabled\": true}"), ("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    let blob = crate::support::digest(b"layer");
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", upload.as_str()),
        ("PUT", &format!("{upload}?digest={blob}")),
        ("DELETE", &upload),
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", "/v2/a/manifests/1"),
        ("DELETE", &format!("/v2/a/manifests/{digest}")),
        ("DELETE", &format!("/v2/a/blobs/{blob}")),
    ] {
        let answer = daemon.request(method, path).body(&manifest).send().expect(405);
        assert_eq!(answer.error_code(), "UNSUPPORTED", "{method} {path}");
        assert!(String::from_utf8_lossy(&answer.body).contains("registry.read_only"));
        assert_eq!(answer.required_header("allow"), "GET, HEAD");
    }
    assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, manifest);
    assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, b"layer");
    let mut browser = Browser::new(&daemon);
    browser.page("/repository/a");
    let page = text(&browser.get("/delete?name=a&tag=1").expect(403));
    assert!(page.contains("registry.read_only"), "{page}");
    browser.post("/delete", &[("name", "a"), ("tag", &format!("1@{digest}"))]).expect(403);
    daemon.get("/v2/a/manifests/1").expect(200);
    daemon.stop();
    daemon.start_again_with_env(&[]);
    daemon.push_image("a", "2", b"more");
}

#[test]
fn log_is_json_without_requests_if_configured_so() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let log = daemon.start_again_with_log(&[
        ("REGISTRY_LOG", "{formatter: json, level: info, accesslog: {disabled: true}}"),
        ("REGISTRY_REDIS_ADDR", "redis:6379"),
        ("HOLDFAST_LOG_LEVEL", "info"),
    ]);
    daemon.push_image("a", "1", b"layer");
    daemon.put_manifest("a", "1", OCI_MANIFEST, b"{").expect(400);
    daemon.stop();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let has = |level: &str, message: &str| {
        lines.iter().any(|line| line["level"] == level && line["msg"].as_str().unwrap().contains(message))
    };
    assert!(has("warning", "REGISTRY_REDIS_ADDR has no effect"), "{text}");
    assert!(has("info", "pushed 1 of a") && has("warning", "push refused"), "{text}");
    assert!(!has("info", "PUT /v2/"), "{text}");
    let refused = lines.iter().find(|line| line["msg"] == "push refused").unwrap();
    assert_eq!((&refused["status"], &refused["repository"]), (&400.into(), &"a".into()));
    assert!(refused["time"].as_str().unwrap().ends_with('Z'));
}
