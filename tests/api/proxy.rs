//! Headers of a proxy: the target origin, the client in the log, and the warning about an unnamed proxy.

use crate::support::browser::Browser;
use crate::support::*;

/// Starts an upload with headers of a proxy, and returns its `Location`.
fn location(daemon: &Daemon) -> String {
    daemon
        .request("POST", "/v2/a/blobs/uploads/")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "hub.lan")
        .header("X-Forwarded-For", "192.168.7.7")
        .body(b"")
        .send()
        .expect(202)
        .required_header("location")
}

#[test]
fn location_is_relative_without_an_external_url() {
    assert!(location(&Daemon::start()).starts_with("/v2/a/blobs/uploads/"));
    let open = ("HOLDFAST_AUTH_ANONYMOUS", "full");
    let trusting = Daemon::with_env(&[open, ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    // A proxy may forward a host or a port that clients cannot reach.
    assert!(location(&trusting).starts_with("/v2/a/blobs/uploads/"));
    let external = Daemon::with_env(&[open, ("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example/")]);
    assert!(location(&external).starts_with("https://registry.example/v2/a/blobs/uploads/"));
}

#[test]
fn the_scheme_of_a_page_has_to_be_the_one_that_the_browser_called() {
    let open = ("HOLDFAST_AUTH_ANONYMOUS", "full");
    let push = |daemon: &Daemon, proto: &str, origin: &str| {
        let request = daemon.request("POST", "/v2/a/blobs/uploads/").header("Origin", origin).body(b"");
        let request = if proto.is_empty() { request } else { request.header("X-Forwarded-Proto", proto) };
        request.send().status
    };
    let trusting = Daemon::with_env(&[open, ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    for (proto, origin, status) in [
        ("https", "https://registry", 202),
        ("https", "http://registry", 403),
        ("http", "http://registry", 202),
    ] {
        assert_eq!(push(&trusting, proto, origin), status, "{proto} {origin}");
    }
    let external = Daemon::with_env(&[open, ("HOLDFAST_HTTP_EXTERNAL_URL", "https://hub.lan/")]);
    for (origin, status) in [("https://hub.lan", 202), ("http://hub.lan", 403), ("http://registry", 202)] {
        assert_eq!(push(&external, "", origin), status, "{origin}");
    }
    // A proxy that the configuration does not name may do the TLS.
    let daemon = Daemon::with_env(&[open]);
    for origin in ["https://registry", "http://registry"] {
        assert_eq!(push(&daemon, "https", origin), 202, "{origin}");
    }
}

#[test]
fn forwarding_headers_of_every_form_count_from_trusted_proxies_only() {
    let open = ("HOLDFAST_AUTH_ANONYMOUS", "full");
    let push = |daemon: &Daemon, origin: &str, headers: &[(&str, &str)]| {
        let request = daemon.request("POST", "/v2/a/blobs/uploads/").header("Origin", origin).body(b"");
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().status
    };
    let trusting = Daemon::with_env(&[open, ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    let distrusting = Daemon::with_env(&[open]);
    let origin = "https://hub.lan:8443";
    for headers in [
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "hub.lan:8443")][..],
        &[("X-Forwarded-Proto", "https,http"), ("X-Forwarded-Host", "\"hub.lan:8443\", 10.0.0.1")],
        &[("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "hub.lan"), ("X-Forwarded-Port", "8443")],
        &[("Forwarded", "for=192.0.2.1;proto=https;host=\"hub.lan:8443\"")],
        &[("Forwarded", "Host=hub.lan:8443 ; Proto=\"https\", for=10.0.0.1;proto=http")],
    ] {
        assert_eq!(push(&trusting, origin, headers), 202, "{headers:?}");
        assert_eq!(push(&trusting, "https://evil.example", headers), 403, "{headers:?}");
        assert_eq!(push(&distrusting, origin, headers), 403, "{headers:?}");
    }
    for headers in [
        &[("Forwarded", "proto=https;host=\"hub.lan:8443")][..],
        &[("X-Forwarded-Proto", "https"), ("Forwarded", "host=\"hub.lan:8443\"")],
    ] {
        assert_eq!(push(&trusting, origin, headers), 403, "{headers:?}");
    }
}

#[test]
fn the_log_has_the_client_address_of_forwarded() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let settings = [("HOLDFAST_LOG_LEVEL", "info"), ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.0/8")];
    let log = daemon.start_again_with_log(&settings);
    let sent = "for=198.51.100.9, for=\"[2001:db8::7]:4711\";proto=https, for=127.0.0.5";
    daemon.request("GET", "/v2/").header("Forwarded", sent).send().expect(401);
    daemon.stop();
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("GET /v2/ client=2001:db8::7 "), "{log}");
}

#[test]
fn an_open_registry_behind_an_unnamed_proxy_warns_once() {
    let warned = |settings: &[(&str, &str)]| {
        let mut daemon = Daemon::start();
        daemon.stop();
        let log = daemon.start_again_with_log(settings);
        assert!(!Browser::new(&daemon).page("/").contains("the proxy on this machine"));
        for (name, value) in
            [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("X-Forwarded-Proto", "https")]
        {
            daemon.request("GET", "/v2/").header(name, value).send().expect(200);
        }
        let page = Browser::new(&daemon).page("/").contains("the proxy on this machine");
        // The log has a thread of its own, which writes its last lines at the end.
        daemon.stop();
        let count = std::fs::read_to_string(log.path()).unwrap().matches("name the proxy").count();
        assert_eq!(count, usize::from(page));
        page
    };
    assert!(warned(&[]));
    // A registry that the configuration opens needs no warning.
    assert!(!warned(&[("HOLDFAST_AUTH_ANONYMOUS", "full")]));
}

#[test]
fn a_registry_on_loopback_for_a_proxy_is_closed_until_it_has_a_user() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("htpasswd");
    for setting in [
        ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
        ("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry.example/"),
        ("HOLDFAST_AUTH_HTPASSWD", users.to_str().unwrap()),
    ] {
        let daemon = Daemon::with_env(&[setting]);
        let answer = daemon.get("/v2/").expect(401);
        assert!(String::from_utf8_lossy(&answer.body).contains("holdfast user add"), "{setting:?}");
        assert!(Browser::new(&daemon).page("/login").contains("sudo holdfast user add NAME"), "{setting:?}");
    }
}
