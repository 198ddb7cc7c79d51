//! The admin page against users without the right, forged forms, and untrusted content.

use std::process::Command;

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::images::{PAGES, config, push_image_with, tags, with_images, with_images_and_env};
use crate::support::*;

#[test]
fn cookies_are_secure_behind_a_trusted_tls_proxy() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    let mut browser =
        Browser::new(&daemon).with("X-Forwarded-Proto", "https").with("X-Forwarded-Host", "hub.lan");
    browser.get("/login").expect(200);
    let token = browser.token.clone();
    let fields = [("name", "alice"), ("password", "secret"), ("token", token.as_str())];
    browser.post_as("/login", &fields, "http://registry").expect(403);
    let answer = browser.post_as("/login", &fields, "https://hub.lan").expect(303);
    let cookies = answer.headers("set-cookie");
    let cookie = cookies.iter().find(|one| one.starts_with("__Host-holdfast=") && one.len() > 80).unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    assert!(browser.page("/push").contains("docker push hub.lan/hello:1"));
}

#[test]
fn cookies_are_secure_with_an_external_url_over_tls() {
    let url = [("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry/behind/")];
    let daemon = Daemon::with_user("alice", "secret", &url);
    let mut browser = Browser::new(&daemon);
    browser.get("/login").expect(200);
    let token = browser.token.clone();
    // Media types are case-insensitive.
    let body = format!("name=alice&password=secret&token={token}");
    let form = browser.request("POST", "/login").header("Origin", "https://registry");
    let form = form.header("Content-Type", "Application/X-WWW-Form-URLEncoded; charset=UTF-8");
    let cookies = form.body(body.as_bytes()).send().expect(303).headers("set-cookie");
    let cookie = cookies.iter().find(|one| one.starts_with("__Host-holdfast=") && one.len() > 80).unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookies:?}");
    // A client that uses another name, without TLS, can log in, too.
    let answer = daemon.request("GET", "/login").host("127.0.0.1").header("Accept", "text/html").send();
    assert!(answer.expect(200).required_header("set-cookie").starts_with("holdfast-form="));
}

#[test]
fn own_password_is_changed_with_the_old_one_and_ends_other_sessions() {
    let daemon = with_images();
    let (mut here, mut there) =
        (Browser::of(&daemon, "alice", "secret"), Browser::of(&daemon, "alice", "secret"));
    let mut change = |old: &str, new: &str, again: &str| {
        here.post("/account", &[("old", old), ("new", new), ("again", again)])
    };
    assert!(
        text(&change("wrong", "a new one", "a new one").expect(422)).contains("The old password is wrong")
    );
    change("secret", "a new one", "other").expect(422);
    change("secret", "", "").expect(422);
    let to = change("secret", "a new one", "a new one").expect(303).required_header("location");
    assert!(here.page(&to).contains("Your password is changed"));
    there.get("/").expect(303);
    daemon.request("GET", "/v2/").login("alice", "a new one").send().expect(200);
}

#[test]
fn administrators_cannot_set_their_own_password_without_the_old_one() {
    let daemon = with_images();
    add_user(&daemon.data, "bob", "secret");
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let users = alice.page("/users");
    assert!(users.contains("/users/password?name=bob") && !users.contains("/users/password?name=alice"));
    let form = alice.page("/users/password?name=alice");
    assert!(form.contains("href=\"/account\">Your password") && !form.contains("name=\"new\""), "{form}");
    let taken =
        alice.post("/users/password", &[("name", "alice"), ("new", "password x"), ("again", "password x")]);
    let page = text(&taken.expect(422));
    assert!(page.contains("changed with the old one") && page.contains("href=\"/account\">Your password"));
    daemon.request("GET", "/v2/").login("alice", "secret").send().expect(200);
}

#[test]
fn password_changes_are_logged_with_their_user() {
    let mut daemon = with_images();
    daemon.stop();
    let log = daemon.start_again_with_log(&[("HOLDFAST_LOG_LEVEL", "info")]);
    add_user(&daemon.data, "bob", "secret");
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice
        .post("/users/password", &[("name", "bob"), ("new", "password x"), ("again", "password x")])
        .expect(303);
    alice.post("/account", &[("old", "secret"), ("new", "password y"), ("again", "password y")]).expect(303);
    daemon.stop();
    let text = std::fs::read_to_string(log.path()).unwrap();
    for line in ["changed the password of bob", "alice changed their own password"] {
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }
}

#[test]
fn session_ends_with_its_user_and_after_its_timeout() {
    let mut daemon = with_images();
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice.post("/users/add", &[("name", "bob"), ("new", "password x"), ("again", "password x")]).expect(303);
    let mut bob = Browser::of(&daemon, "bob", "password x");
    bob.page("/");
    alice.post("/users/remove", &[("name", "bob")]).expect(303);
    bob.get("/").expect(303);
    bob.post("/delete", &[("name", "team/app"), ("tag", "1.9")]).expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_ADMIN_SESSION", "1500ms")]);
    alice.get("/").expect(303);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(400));
        alice.get("/").expect(200);
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    alice.get("/").expect(303);
}

#[test]
fn forged_forms_change_nothing() {
    let daemon = with_images();
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let mut other = Browser::of(&daemon, "alice", "secret");
    let (own, foreign) = (alice.token.clone(), other.token.clone());
    assert_ne!(own, foreign);
    let confirmation = other.confirmation("team/app", &["1.9"]);
    let with = |token: Option<&str>| {
        let token = token.map(|token| ("token", token.to_owned()));
        confirmation.iter().cloned().chain(token).collect::<Vec<(&str, String)>>()
    };
    let send = |browser: &mut Browser, token: &str, origin: &str| {
        let fields = with(Some(token).filter(|token| *token != "none"));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post_as("/delete", &fields, origin)
    };
    for token in ["", "none", foreign.as_str()] {
        send(&mut alice, token, "http://registry").expect(403);
    }
    for origin in ["http://evil.example", "http://registry:81", "null", "", "http://registry.evil.example"] {
        send(&mut alice, &own, origin).expect(403);
    }
    // Old browsers send Referer instead of Origin.
    let referred = |referer: &str| {
        let request = alice.request("POST", "/logout").header("Referer", referer);
        request.header("Content-Type", "application/x-www-form-urlencoded").body(b"token=x").send().status
    };
    assert_eq!((referred("http://evil.example/"), referred("http://registry/push")), (403, 403));
    // A Basic header authorises neither a form nor a page.
    let basic =
        daemon.request("POST", "/delete").login("alice", "secret").header("Origin", "http://registry");
    let basic = basic.header("Content-Type", "application/x-www-form-urlencoded");
    basic.body(b"name=team/app&tag=1.9").send().expect(303);
    let page = daemon.request("GET", "/repositories").login("alice", "secret").header("Accept", "text/html");
    page.send().expect(303);
    // Only the media type of HTML forms is accepted: browsers send others to other sites without asking.
    let json = alice.request("POST", "/delete").header("Origin", "http://registry");
    json.header("Content-Type", "text/plain").body(b"name=team/app").send().expect(415);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
    send(&mut alice, &own, "http://registry").expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 2);
    other.page("/");
}

#[test]
fn markup_in_untrusted_content_is_escaped() {
    let daemon = Daemon::start();
    let evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";
    let long = "x".repeat(100_000);
    let mut config = config();
    config["config"]["Labels"] = json!({evil: evil, "long": long});
    config["config"]["Env"] = json!([evil]);
    config["config"]["Entrypoint"] = json!([evil, "a b"]);
    config["os"] = json!(evil);
    config["created"] = json!(evil);
    config["history"] = json!([{"created_by": evil}]);
    let more = json!({"annotations": {evil: evil, "org.opencontainers.image.title": evil}});
    let subject = push_image_with(&daemon, "a", &["_tag"], &config, &more);
    push_image_with(
        &daemon,
        "a",
        &["artifact"],
        &config,
        &json!({
            "artifactType": evil, "annotations": {"x": evil},
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
        }),
    );
    let mut browser = Browser::new(&daemon);
    for path in ["/", "/repositories", "/repository/a", "/image/a:_tag", "/image/a:artifact", "/activity"] {
        let page = browser.page(path);
        assert!(!page.contains("<script>") && !page.contains("<img src"), "{path}: {page}");
        assert!(page.len() < 44 << 10, "{path} has {} bytes", page.len());
    }
    assert!(browser.page("/image/a:_tag").contains("&#60;script&#62;"));
    let paths = [
        "/repositories?q=%3Cscript%3E&sort=%22%3E%3Cb%3E",
        "/repository/a?q=%22%3E%3Cscript%3E",
        "/activity?q=%3Cscript%3E",
        "/login?next=%22%3E%3Cscript%3E",
        "/?done=%3Cscript%3E",
        "/nothing/%3Cscript%3E",
    ];
    for path in paths {
        assert!(!text(&browser.get(path)).contains("<script>"), "{path}");
    }
}

#[test]
fn page_can_be_limited_to_users_and_turned_off() {
    let daemon =
        with_images_and_env(&[("HOLDFAST_ADMIN_USERS", "alice"), ("HOLDFAST_ADMIN_TITLE", "Our <Hub>")]);
    add_user(&daemon.data, "bob", "secret");
    assert!(Browser::of(&daemon, "alice", "secret").page("/").contains("Our &#60;Hub&#62;"));
    let mut bob = Browser::new(&daemon);
    bob.get("/login");
    bob.post("/login", &[("name", "bob"), ("password", "secret")]).expect(303);
    for path in PAGES {
        bob.get(path).expect(403);
    }
    let off = with_images_and_env(&[("HOLDFAST_ADMIN_ENABLED", "false")]);
    let mut browser = Browser::new(&off);
    assert_eq!(browser.get("/").expect(200).required_header("content-type"), "text/plain; charset=utf-8");
    browser.get("/login").expect(404);
    browser.post("/login", &[("name", "alice"), ("password", "secret")]).expect(404);
}

#[test]
fn over_tls_cookies_are_secure_and_the_authoritys_fingerprint_is_shown() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", "auto")]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("ca"), daemon.get("/ca.crt").expect(200).body).unwrap();
    let url = format!("https://localhost:{}", daemon.address.port());
    let curl = |arguments: &[&str], page: &str| {
        let files = [
            "-sS",
            "--cacert",
            &path("ca"),
            "-c",
            &path("jar"),
            "-b",
            &path("jar"),
            "-H",
            "Accept: text/html",
        ];
        run(Command::new("curl").args(files).args(arguments).arg(format!("{url}{page}")))
    };
    let login = curl(&[], "/login");
    let token = login.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("name=alice&password=secret&token={token}");
    let answer = curl(&["-i", "-H", &format!("Origin: {url}"), "-d", &form], "/login");
    let cookie = answer.lines().find(|line| line.contains("__Host-holdfast=") && !line.contains("Max-Age"));
    assert!(cookie.unwrap().ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{answer}");
    let (_, session) = cookie.unwrap().split_once(": ").unwrap();
    let cookie = format!("Cookie: {}", session.split(';').next().unwrap());
    let print = ["x509", "-noout", "-fingerprint", "-sha256", "-in", &path("ca")];
    let print = run(Command::new("openssl").args(print));
    let fingerprint = print.trim().split('=').nth(1).unwrap();
    let push = curl(&[], "/push");
    assert!(push.contains(fingerprint), "{fingerprint} is not in {push}");
    assert!(push.contains(&format!("docker login localhost:{}", daemon.address.port())));
    assert!(curl(&[], "/").contains("renewed automatically"));
    assert!(!push.contains("missing-name"), "{push}");
    let other = curl(&["-H", &format!("Host: hub.lan:{}", daemon.address.port()), "-H", &cookie], "/push");
    assert!(
        other.contains("does not name hub.lan") && other.contains("<button class=\"main\">Add hub.lan"),
        "{other}"
    );
    // A form over plain HTTP is redirected to TLS without being processed.
    daemon.request("POST", "/login").body(form.as_bytes()).send().expect(308);
}

#[test]
fn certificate_from_files_that_expires_soon_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=localhost"])
        .args(["-newkey", "rsa:2048", "-keyout", &path("key"), "-out", &path("certificate")]));
    let daemon = Daemon::with_env(&[
        ("HOLDFAST_AUTH_ANONYMOUS", "full"),
        ("HOLDFAST_TLS_CERTIFICATE", &path("certificate")),
        ("HOLDFAST_TLS_KEY", &path("key")),
    ]);
    let url = format!("https://localhost:{}/", daemon.address.port());
    let page = run(Command::new("curl").args(["-sSk", "-H", "Accept: text/html", &url]));
    let warned = page.contains("expires in 8 days") || page.contains("expires in 9 days");
    assert!(warned, "{page}");
}

#[test]
fn links_cannot_make_a_page_claim_the_result_of_a_form() {
    let daemon = with_images();
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let claims = [
        "/repositories?done=deleted&count=7",
        "/repositories?done=repository-deleted&manifests=1&blobs=2&bytes=3&until=1764102667",
        "/delete/repository?name=team/app&done=partly-deleted&count=9",
        "/repository/team/app?tab=untagged&done=deleted-manifests&count=7&moved=0",
        "/image/team/app:1.9?done=copied",
        "/users?done=added",
        "/users?done=password",
        "/users?done=removed",
        "/account?done=own-password",
        "/maintenance?done=started",
        "/maintenance?done=cancelled",
        "/?done=logged-out",
    ];
    for claim in claims {
        for seal in ["", "&seal=", "&seal=00", &format!("&seal={}", "0".repeat(64))] {
            let page = alice.page(&format!("{claim}{seal}"));
            assert!(
                !page.contains("id=\"notice\"") && !page.contains("Free it now"),
                "{claim}{seal}: {page}"
            );
        }
    }
    let to = alice.delete("team/app", &["1.9"]).expect(303).required_header("location");
    assert!(alice.page(&to).contains("1 tag deleted."));
    // The seal is for these parameters on this page, and for this session.
    let (target, seal) = to.split_once("&seal=").unwrap();
    for changed in [
        format!("{}&seal={seal}", target.replace("count=1", "count=2")),
        format!("{}&seal={seal}", target.replace("/repository/team/app", "/repositories")),
        format!("{to}&count=2"),
        target.to_owned(),
    ] {
        assert!(!alice.page(&changed).contains("id=\"notice\""), "{changed}");
    }
    let mut again = Browser::of(&daemon, "alice", "secret");
    assert!(!again.page(&to).contains("id=\"notice\""));
    // A log-in redirects to a link, and seals nothing.
    let mut other = Browser::new(&daemon);
    other.get("/login");
    let next = "/repositories?done=deleted&count=7";
    let fields = [("name", "alice"), ("password", "secret"), ("next", next)];
    let to = other.post("/login", &fields).expect(303).required_header("location");
    assert!(!other.page(&to).contains("id=\"notice\""), "{to}");
    let to = alice.post("/logout", &[]).expect(303).required_header("location");
    assert!(alice.page(&to).contains("You are logged out."));
}
