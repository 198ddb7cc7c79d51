//! Web pages of other origins in a browser on this machine or its network: DNS rebinding and CSRF.

use crate::support::browser::Browser;
use crate::support::*;

/// Names that any web page could point at this machine.
const PUBLIC_NAMES: [&str; 3] = ["evil.example", "evil.example:5000", "127.0.0.1.evil.example"];

fn page(daemon: &Daemon, path: &str, host: &str) -> Response {
    daemon.request("GET", path).host(host).header("Accept", "text/html").send()
}

#[test]
fn implicitly_open_registry_refuses_public_names() {
    let daemon = Daemon::start();
    for host in PUBLIC_NAMES {
        for (method, path) in [("GET", "/v2/"), ("GET", "/v2/_catalog"), ("POST", "/v2/a/blobs/uploads/")] {
            let answer = daemon.request(method, path).host(host).body(b"").send().expect(421);
            assert_eq!(answer.error_code(), "DENIED", "{host} {path}");
            let why = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(why.contains("holdfast user add") && why.contains("auth.anonymous"), "{why}");
        }
        for path in ["/", "/repositories", "/login", "/nothing"] {
            let answer = page(&daemon, path, host).expect(421);
            assert!(String::from_utf8_lossy(&answer.body).contains("run `holdfast user add NAME`"));
            assert_eq!(answer.required_header("cache-control"), "no-store");
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    let port = daemon.address.port();
    for host in
        [&format!("127.0.0.1:{port}"), "[::1]:5000", "localhost", "registry.localhost:1", "pi", "pi.lan"]
    {
        daemon.request("GET", "/v2/").host(host).send().expect(200);
        page(&daemon, "/", host).expect(200);
    }
}

#[test]
fn registry_with_users_or_explicit_access_answers_to_every_name() {
    let users = Daemon::with_user("alice", "secret", &[]);
    let open = Daemon::with_env(&[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    for host in PUBLIC_NAMES {
        users.request("GET", "/v2/").host(host).login("alice", "secret").send().expect(200);
        users.request("GET", "/v2/").host(host).send().expect(401);
        page(&users, "/login", host).expect(200);
        open.request("GET", "/v2/").host(host).send().expect(200);
        page(&open, "/", host).expect(200);
    }
}

#[test]
fn registry_with_users_stays_closed_while_their_file_is_rewritten_in_place() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let log = daemon.start_again_with_log(&[("HOLDFAST_LOG_LEVEL", "info")]);
    daemon.get("/v2/").expect(200);
    add_user(&daemon.data, "alice", "secret");
    daemon.get("/v2/").expect(401);
    let path = daemon.data.join("htpasswd");
    let users = std::fs::read(&path).unwrap();
    // The file is checked every ten milliseconds; earlier requests may see the old users.
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(&path, b"").unwrap();
    pause();
    daemon.get("/v2/").expect(401);
    push(&daemon, &[]).expect(401);
    page(&daemon, "/", "registry").expect(303);
    std::fs::remove_file(&path).unwrap();
    pause();
    daemon.get("/v2/").expect(401);
    run(std::process::Command::new("kill").args(["-HUP", &daemon.pid().to_string()]));
    let begun = std::time::Instant::now();
    let logged = || std::fs::read_to_string(log.path()).unwrap();
    while !logged().contains("configuration reloaded") {
        assert!(begun.elapsed().as_secs() < 10, "{}", logged());
        pause();
    }
    daemon.get("/v2/").expect(401);
    assert_eq!(logged().matches("the htpasswd file is empty or missing").count(), 1, "{}", logged());
    std::fs::write(&path, users).unwrap();
    pause();
    daemon.request("GET", "/v2/").login("alice", "secret").send().expect(200);
}

/// Starts an upload with these headers, as a browser sends it for a page.
fn push(daemon: &Daemon, headers: &[(&str, &str)]) -> Response {
    let request = daemon.request("POST", "/v2/a/blobs/uploads/").body(b"");
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
}

#[test]
fn page_of_another_origin_cannot_push() {
    let daemon = Daemon::start();
    for headers in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "http://registry:81"), ("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "http://evil.example"), ("Sec-Fetch-Site", "none")],
        &[("Origin", "http://registry"), ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", "ftp://registry")],
    ] {
        let answer = push(&daemon, headers).expect(403);
        assert_eq!(answer.error_code(), "DENIED", "{headers:?}");
        let why = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(why.contains("http.headers") && why.contains("Access-Control-Allow-Origin"), "{why}");
        assert!(why.contains("Host with its port") && why.contains("http.external_url"), "{why}");
    }
    // `same-origin` is the browser's own judgement, which no page can forge: a proxy has changed the host.
    push(&daemon, &[("Origin", "https://hub.example"), ("Sec-Fetch-Site", "same-origin")]).expect(202);
    // Programs send no such headers, and pages of this host may push.
    push(&daemon, &[]).expect(202);
    push(&daemon, &[("Origin", "http://registry"), ("Sec-Fetch-Site", "same-origin")]).expect(202);
    push(&daemon, &[("Sec-Fetch-Site", "none")]).expect(202);
    // Reads are allowed: browsers hide the response from pages of other origins.
    daemon.request("GET", "/v2/").header("Origin", "http://evil.example").send().expect(200);
}

#[test]
fn page_of_an_allowed_origin_may_push() {
    let name = "REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN";
    let daemon = Daemon::with_env(&[(name, "['http://ui.lan']")]);
    push(&daemon, &[("Origin", "http://ui.lan"), ("Sec-Fetch-Site", "cross-site")]).expect(202);
    push(&daemon, &[("Origin", "http://evil.example")]).expect(403);
    push(&daemon, &[("Sec-Fetch-Site", "cross-site")]).expect(403);
    let every = Daemon::with_env(&[(name, "['*']")]);
    push(&every, &[("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]).expect(202);
}

#[test]
fn wildcard_origin_does_not_allow_pushes_with_credentials() {
    let name = "REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN";
    let credentials = ("Authorization", "Basic YWxpY2U6c2VjcmV0");
    let closed = ("HOLDFAST_AUTH_ANONYMOUS", "none");
    let daemon = Daemon::with_user("alice", "secret", &[(name, "['*', 'http://ui.lan']"), closed]);
    // Browsers send a form of any page with the stored credentials.
    for origin in ["http://evil.example", "null", "http://ui.lan.evil.example"] {
        let form = [("Origin", origin), ("Sec-Fetch-Site", "cross-site"), credentials];
        assert_eq!(push(&daemon, &form).expect(403).error_code(), "DENIED", "{origin}");
        push(&daemon, &form[..2]).expect(401);
    }
    push(&daemon, &[("Origin", "http://ui.lan"), ("Sec-Fetch-Site", "cross-site"), credentials]).expect(202);
    push(&daemon, &[("Origin", "http://registry"), ("Sec-Fetch-Site", "same-origin"), credentials])
        .expect(202);
    push(&daemon, &[credentials]).expect(202);
    // Without credentials, a page can do no more than any client.
    let open = Daemon::with_env(&[(name, "['*']"), ("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    push(&open, &[("Origin", "http://evil.example")]).expect(202);
    push(&open, &[("Origin", "http://evil.example"), credentials]).expect(403);
}

#[test]
fn plain_http_page_cannot_push_to_a_registry_with_tls() {
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &daemon.get("/ca.crt").expect(200).body).unwrap();
    let host = format!("localhost:{}", daemon.address.port());
    let push = |origin: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--cacert"]).arg(&ca);
        curl.args(["-H", &format!("Origin: {origin}"), &format!("https://{host}/v2/a/blobs/uploads/")]);
        run(&mut curl)
    };
    assert_eq!(push(&format!("http://{host}")), "403");
    assert_eq!(push("http://localhost"), "403");
    assert_eq!(push(&format!("https://{host}")), "202");
}

#[test]
fn configured_headers_cannot_override_the_security_headers_of_pages() {
    let file = r#"
        [http.headers]
        Content-Security-Policy = ["default-src *"]
        Cache-Control = ["public"]
        Set-Cookie = ["a=b"]
        X-Content-Type-Options = ["off"]
        X-Frame-Options = ["SAMEORIGIN"]
        Referrer-Policy = ["no-referrer"]
        Strict-Transport-Security = ["max-age=63072000"]
    "#;
    let daemon = Daemon::with_config(file);
    let mut browser = Browser::new(&daemon);
    let page = browser.get("/").expect(200);
    assert!(page.required_header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.required_header("set-cookie").starts_with("holdfast-form="));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("strict-transport-security", "max-age=63072000"),
    ] {
        assert_eq!(page.headers(name), [value]);
    }
    let missing = browser.get("/assets/style-0123456789abcdef.css").expect(404);
    assert_eq!(
        (missing.required_header("cache-control"), missing.required_header("x-content-type-options")),
        ("no-store".into(), "nosniff".into())
    );
}
