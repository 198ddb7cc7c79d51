//! CORS: pages of other origins that the configuration allows.

use crate::support::*;

#[test]
fn a_page_of_an_allowed_origin_may_use_the_registry() {
    let daemon = Daemon::with_user(
        "alice",
        "secret",
        &[
            ("REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN", "['http://ui.lan']"),
            ("REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__CREDENTIALS", "[true]"),
            ("REGISTRY_AUTH", "htpasswd"),
        ],
    );
    let preflight = daemon
        .request("OPTIONS", "/v2/a/manifests/1")
        .header("Origin", "http://ui.lan")
        .header("Access-Control-Request-Method", "DELETE")
        .send()
        .expect(204);
    assert_eq!(preflight.required_header("access-control-allow-origin"), "http://ui.lan");
    assert_eq!(preflight.required_header("access-control-allow-credentials"), "true");
    assert!(preflight.required_header("access-control-allow-methods").contains("DELETE"));
    let answer = daemon
        .request("GET", "/v2/")
        .header("Origin", "http://ui.lan")
        .login("alice", "secret")
        .send()
        .expect(200);
    assert_eq!(answer.required_header("access-control-expose-headers"), "Docker-Content-Digest");
    let other = daemon.request("GET", "/v2/").header("Origin", "http://evil").send().expect(401);
    assert_eq!(other.header("access-control-allow-origin"), None);
}
