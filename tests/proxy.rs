//! Behind a proxy: where answers say that things are.

use crate::support::browser::Browser;
use crate::support::*;

fn location(daemon: &Daemon) -> String {
    daemon
        .request("POST", "/v2/a/blobs/uploads/")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "hub.lan")
        .header("X-Forwarded-For", "192.168.7.7")
        .body(b"")
        .send()
        .expect(202)
        .named("location")
}

#[test]
fn locations_are_relative_unless_a_trusted_proxy_or_the_configuration_says_otherwise() {
    assert!(location(&Daemon::start()).starts_with("/v2/a/blobs/uploads/"));
    let open = ("HOLDFAST_AUTH_ANONYMOUS", "full");
    let trusting = Daemon::with(&[open, ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    assert!(location(&trusting).starts_with("https://hub.lan/v2/a/blobs/uploads/"));
    let told = Daemon::with(&[open, ("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example/")]);
    assert!(location(&told).starts_with("https://registry.example/v2/a/blobs/uploads/"));
}

#[test]
fn a_page_is_own_by_the_scheme_that_the_browser_sees() {
    let open = ("HOLDFAST_AUTH_ANONYMOUS", "full");
    let push = |daemon: &Daemon, proto: &str, origin: &str| {
        let request = daemon.request("POST", "/v2/a/blobs/uploads/").header("Origin", origin).body(b"");
        let request = if proto.is_empty() { request } else { request.header("X-Forwarded-Proto", proto) };
        request.send().status
    };
    let trusting = Daemon::with(&[open, ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    for (proto, origin, status) in [
        ("https", "https://registry", 202),
        ("https", "http://registry", 403),
        ("http", "http://registry", 202),
    ] {
        assert_eq!(push(&trusting, proto, origin), status, "{proto} {origin}");
    }
    let told = Daemon::with(&[open, ("HOLDFAST_HTTP_EXTERNAL_URL", "https://hub.lan/")]);
    for (origin, status) in [("https://hub.lan", 202), ("http://hub.lan", 403), ("http://registry", 202)] {
        assert_eq!(push(&told, "", origin), status, "{origin}");
    }
    // A proxy that is not named may be the one that speaks TLS.
    let daemon = Daemon::with(&[open]);
    for origin in ["https://registry", "http://registry"] {
        assert_eq!(push(&daemon, "https", origin), 202, "{origin}");
    }
}

#[test]
fn a_registry_that_is_on_loopback_only_for_its_proxy_is_closed_without_users() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("htpasswd");
    for setting in [
        ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
        ("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example/"),
        ("HOLDFAST_AUTH_HTPASSWD", users.to_str().unwrap()),
    ] {
        let daemon = Daemon::with(&[setting]);
        let answer = daemon.get("/v2/").expect(401);
        assert!(String::from_utf8_lossy(&answer.body).contains("holdfast user add"), "{setting:?}");
        assert!(Browser::new(&daemon).page("/login").contains("sudo holdfast user add NAME"), "{setting:?}");
    }
}
