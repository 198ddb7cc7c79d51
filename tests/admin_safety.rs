//! The admin page against those who may not, and against those who mean no good.

use std::process::Command;

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::images::{PAGES, config, push_with, tags, with_images, with_images_and};
use crate::support::*;

#[test]
fn cookies_are_for_tls_where_a_trusted_proxy_says_so() {
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
fn cookies_are_for_tls_where_the_address_of_the_registry_is() {
    let url = [("HOLDFAST_HTTP_EXTERNAL_URL", "https://registry/behind/")];
    let daemon = Daemon::with_user("alice", "secret", &url);
    let mut browser = Browser::new(&daemon);
    browser.get("/login").expect(200);
    let token = browser.token.clone();
    // A kind of content is called the same in large letters.
    let body = format!("name=alice&password=secret&token={token}");
    let form = browser.request("POST", "/login").header("Origin", "https://registry");
    let form = form.header("Content-Type", "Application/X-WWW-Form-URLEncoded; charset=UTF-8");
    let cookies = form.body(body.as_bytes()).send().expect(303).headers("set-cookie");
    let cookie = cookies.iter().find(|one| one.starts_with("__Host-holdfast=") && one.len() > 80).unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{cookies:?}");
    // Who calls it by another name, without TLS, can log in as well.
    let answer = daemon.request("GET", "/login").by_name("127.0.0.1").header("Accept", "text/html").send();
    assert!(answer.expect(200).named("set-cookie").starts_with("holdfast-visit="));
}

#[test]
fn whoever_may_only_pull_without_a_name_may_only_look() {
    let daemon = with_images_and(&[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    let mut daemon = daemon;
    daemon.stop();
    daemon.restart_with(&[("HOLDFAST_AUTH_ANONYMOUS", "pull")]);
    let mut browser = Browser::new(&daemon);
    assert!(!browser.page("/repository/team/app").contains("delete-selected"));
    browser.page("/image/team/app:1.9");
    for path in ["/activity", "/upkeep", "/users", "/account", "/delete?name=team/app&tag=1.9"] {
        assert!(browser.get(path).expect(303).named("location").starts_with("/login?next="), "{path}");
    }
    browser.page("/login");
    browser.post("/delete", &[("name", "team/app"), ("tag", "1.9")]).expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
}

#[test]
fn everybody_changes_their_own_password_with_the_old_one() {
    let daemon = with_images();
    let (mut here, mut there) =
        (Browser::of(&daemon, "alice", "secret"), Browser::of(&daemon, "alice", "secret"));
    let mut change = |old: &str, new: &str, again: &str| {
        here.post("/account", &[("old", old), ("new", new), ("again", again)])
    };
    assert!(text(&change("wrong", "new", "new").expect(422)).contains("The old password is wrong"));
    change("secret", "new", "other").expect(422);
    change("secret", "", "").expect(422);
    change("secret", "new", "new").expect(303);
    assert!(here.page("/account?done=own-password").contains("Your password is changed"));
    there.get("/").expect(303);
    daemon.request("GET", "/v2/").login("alice", "new").send().expect(200);
}

#[test]
fn whoever_looks_after_users_changes_the_own_password_with_the_old_one_too() {
    let daemon = with_images();
    add_user(&daemon.data, "bob", "secret");
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let users = alice.page("/users");
    assert!(users.contains("/users/password?name=bob") && !users.contains("/users/password?name=alice"));
    let form = alice.page("/users/password?name=alice");
    assert!(form.contains("href=\"/account\">Your password") && !form.contains("name=\"new\""), "{form}");
    let taken = alice.post("/users/password", &[("name", "alice"), ("new", "x"), ("again", "x")]);
    let page = text(&taken.expect(422));
    assert!(page.contains("changed with the old one") && page.contains("href=\"/account\">Your password"));
    daemon.request("GET", "/v2/").login("alice", "secret").send().expect(200);
}

#[test]
fn who_changes_which_password_is_in_the_log() {
    let mut daemon = with_images();
    daemon.stop();
    let log = daemon.restart_with_log(&[("HOLDFAST_LOG_LEVEL", "info")]);
    add_user(&daemon.data, "bob", "secret");
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice.post("/users/password", &[("name", "bob"), ("new", "x"), ("again", "x")]).expect(303);
    alice.post("/account", &[("old", "secret"), ("new", "y"), ("again", "y")]).expect(303);
    daemon.stop();
    let text = std::fs::read_to_string(log.path()).unwrap();
    for line in ["changed the password of bob", "alice has changed the own password"] {
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }
}

#[test]
fn a_session_ends_with_its_user_and_after_its_time() {
    let mut daemon = with_images();
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice.post("/users/add", &[("name", "bob"), ("new", "x"), ("again", "x")]).expect(303);
    let mut bob = Browser::of(&daemon, "bob", "x");
    bob.page("/");
    alice.post("/users/remove", &[("name", "bob")]).expect(303);
    bob.get("/").expect(303);
    bob.post("/delete", &[("name", "team/app"), ("tag", "1.9")]).expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
    daemon.stop();
    daemon.restart_with(&[("HOLDFAST_ADMIN_SESSION", "1500ms")]);
    alice.get("/").expect(303);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(400));
        alice.get("/").expect(200);
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    alice.get("/").expect(303);
}

const READ_ONLY: &str = r#"
    [[auth.rule]]
    users = ["reader"]
    repositories = ["team/*"]
    allow = ["pull"]
    [[auth.rule]]
    users = ["alice"]
    repositories = ["*"]
    allow = ["pull", "push", "delete", "catalog"]
"#;

/// A registry with rules, whose images were pushed before them.
fn with_rules(rules: &str) -> Daemon {
    let daemon = Daemon::with_file(rules);
    for name in ["alice", "reader"] {
        add_user(&daemon.data, name, "secret");
    }
    let layer = digest(b"layer");
    for name in ["team/app", "private"] {
        let alice = |method: &str, path: String| daemon.request(method, &path).login("alice", "secret");
        let upload = alice("POST", format!("/v2/{name}/blobs/uploads/?digest={layer}"));
        upload.body(b"layer").send().expect(201);
        let put = alice("PUT", format!("/v2/{name}/manifests/1")).header("Content-Type", OCI_MANIFEST);
        put.body(&image(&layer, &layer, None)).send().expect(201);
    }
    daemon
}

#[test]
fn a_user_who_may_only_read_can_push_no_button() {
    let daemon = with_rules(READ_ONLY);
    let mut reader = Browser::of(&daemon, "reader", "secret");
    let page = reader.page("/repository/team/app");
    assert!(
        !page.contains("type=\"checkbox\"") && !page.contains("/users") && !page.contains("/upkeep"),
        "{page}"
    );
    for path in ["/", "/repositories", "/activity"] {
        let page = reader.page(path);
        assert!(!page.contains("private"), "{path}: {page}");
    }
    for path in ["/repository/private", "/image/private:1", "/users", "/upkeep", "/users/remove?name=alice"] {
        reader.get(path).expect(403);
    }
    let layer = digest(&image(&digest(b"layer"), &digest(b"layer"), None));
    reader.get(&format!("/raw/private@{layer}")).expect(403);
    // What is not there and what may not be seen look the same.
    reader.get("/repository/nothing").expect(403);
    let forms: [(&str, &[(&str, &str)]); 7] = [
        ("/delete", &[("name", "team/app"), ("tag", "1")]),
        ("/delete", &[("name", "private"), ("tag", "1")]),
        ("/users/add", &[("name", "eve"), ("new", "x"), ("again", "x")]),
        ("/users/password", &[("name", "alice"), ("new", "x"), ("again", "x")]),
        ("/users/remove", &[("name", "alice")]),
        ("/upkeep/collect", &[]),
        ("/upkeep/check", &[]),
    ];
    for (path, fields) in forms {
        reader.post(path, fields).expect(403);
    }
    reader.get("/delete?name=team/app&tag=1").expect(403);
    assert_eq!(tags(&daemon, "team/app"), ["1"]);
    Browser::of(&daemon, "alice", "secret").page("/users");
}

#[test]
fn the_last_who_may_do_everything_stays() {
    let daemon = with_rules(READ_ONLY);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let users = alice.page("/users");
    assert!(
        users.contains("nobody else may do everything") && !users.contains("remove?name=alice"),
        "{users}"
    );
    let refused = alice.post("/users/remove", &[("name", "alice")]).expect(422);
    assert!(text(&refused).contains("Alice is the last user with full rights and cannot be removed."));
    alice.post("/users/remove", &[("name", "reader")]).expect(303);
}

/// Deleting everywhere is for janitors, who are not masters.
#[test]
fn whoever_may_pull_and_delete_everywhere_makes_no_users() {
    let rules = READ_ONLY.replace(
        "[[auth.rule]]\n    users = [\"reader\"]\n    repositories = [\"team/*\"]\n    allow = [\"pull\"]",
        "[[auth.rule]]\n    users = [\"reader\"]\n    repositories = [\"*\"]\n    allow = [\"pull\", \"delete\"]",
    );
    let daemon = with_rules(&rules);
    let mut janitor = Browser::of(&daemon, "reader", "secret");
    for path in ["/users", "/upkeep", "/users/password?name=alice"] {
        janitor.get(path).expect(403);
    }
    janitor.post("/users/add", &[("name", "eve"), ("new", "x"), ("again", "x")]).expect(403);
    janitor.delete("private", &["1"]).expect(303);
}

#[test]
fn a_limited_user_sees_the_sums_of_what_may_be_seen() {
    let daemon = with_rules(READ_ONLY);
    let begin = daemon.request("POST", "/v2/private/blobs/uploads/").login("alice", "secret").body(b"");
    let place = begin.send().expect(202).named("location");
    let path = place.strip_prefix("http://registry").unwrap_or(&place).to_owned();
    let patch = daemon.request("PATCH", &path).login("alice", "secret");
    patch.header("Content-Type", "application/octet-stream").body(&[7; 100_000]).send().expect(202);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice.page("/upkeep");
    alice.post("/upkeep/collect", &[]).expect(303);
    while !alice.page("/upkeep").contains("id=\"outcome\"") {}
    let sum = |page: &str, name: &str| {
        let rest = page.split(&format!("<dt>{name}</dt>")).nth(1).unwrap();
        rest.split("</div>").next().unwrap().contains(">2<")
    };
    let all = alice.page("/");
    assert!(["Repositories", "Tags", "Images"].iter().all(|name| sum(&all, name)), "{all}");
    assert!(
        all.contains("97.7 KiB") && all.contains("Last collection") && all.contains("This registry"),
        "{all}"
    );
    let mut reader = Browser::of(&daemon, "reader", "secret");
    let some = reader.page("/");
    assert!(["Repositories", "Tags", "Images"].iter().all(|name| !sum(&some, name)), "{some}");
    for hidden in ["97.7 KiB", "another repository", "Last collection", "This registry"] {
        assert!(!some.contains(hidden), "{hidden} is in {some}");
    }
    let failing = crate::support::failing::Failing::begin(daemon.process(), "fdatasync", None);
    let content = b"another layer";
    let path = format!("/v2/private/blobs/uploads/?digest={}", digest(content));
    assert!(daemon.request("POST", &path).login("alice", "secret").body(content).send().status >= 500);
    drop(failing);
    assert!(!alice.page("/").contains("takes no more pushes: its disk failed."));
    assert!(reader.page("/").contains("takes no more pushes: its disk failed."));
}

#[test]
fn a_forged_form_does_nothing() {
    let daemon = with_images();
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let mut other = Browser::of(&daemon, "alice", "secret");
    let (own, foreign) = (alice.token.clone(), other.token.clone());
    assert_ne!(own, foreign);
    let doomed = other.doomed("team/app", &["1.9"]);
    let with = |token: Option<&str>| {
        let token = token.map(|token| ("token", token.to_owned()));
        doomed.iter().cloned().chain(token).collect::<Vec<(&str, String)>>()
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
    // An old browser that sends no Origin says where it comes from.
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
    // A form in another shape is none.
    let json = alice.request("POST", "/delete").header("Origin", "http://registry");
    json.header("Content-Type", "text/plain").body(b"name=team/app").send().expect(415);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
    send(&mut alice, &own, "http://registry").expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 2);
    other.page("/");
}

#[test]
fn what_strangers_write_is_text() {
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
    let subject = push_with(&daemon, "a", &["_tag"], &config, &more);
    push_with(
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
        assert!(!page.contains("<script>") && !page.contains("<img"), "{path}: {page}");
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
fn the_page_can_be_for_some_and_can_be_off() {
    let daemon = with_images_and(&[("HOLDFAST_ADMIN_USERS", "alice"), ("HOLDFAST_ADMIN_TITLE", "Our <Hub>")]);
    add_user(&daemon.data, "bob", "secret");
    assert!(Browser::of(&daemon, "alice", "secret").page("/").contains("Our &#60;Hub&#62;"));
    let mut bob = Browser::new(&daemon);
    bob.get("/login");
    bob.post("/login", &[("name", "bob"), ("password", "secret")]).expect(303);
    for path in PAGES {
        bob.get(path).expect(403);
    }
    let off = with_images_and(&[("HOLDFAST_ADMIN_ENABLED", "false")]);
    let mut browser = Browser::new(&off);
    assert_eq!(browser.get("/").expect(200).named("content-type"), "text/plain; charset=utf-8");
    browser.get("/login").expect(404);
    browser.post("/login", &[("name", "alice"), ("password", "secret")]).expect(404);
}

#[test]
fn over_tls_cookies_are_for_tls_and_the_fingerprint_is_that_of_the_authority() {
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
    let print = ["x509", "-noout", "-fingerprint", "-sha256", "-in", &path("ca")];
    let print = run(Command::new("openssl").args(print));
    let fingerprint = print.trim().split('=').nth(1).unwrap();
    let push = curl(&[], "/push");
    assert!(push.contains(fingerprint), "{fingerprint} is not in {push}");
    assert!(push.contains(&format!("docker login localhost:{}", daemon.address.port())));
    assert!(curl(&[], "/").contains("renewed by itself"));
    // A form over plain HTTP is sent to TLS and is not looked at.
    daemon.request("POST", "/login").body(form.as_bytes()).send().expect(308);
}

#[test]
fn a_certificate_of_ones_own_that_ends_soon_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=localhost"])
        .args(["-newkey", "rsa:2048", "-keyout", &path("key"), "-out", &path("certificate")]));
    let daemon = Daemon::with(&[
        ("HOLDFAST_AUTH_ANONYMOUS", "full"),
        ("HOLDFAST_TLS_CERTIFICATE", &path("certificate")),
        ("HOLDFAST_TLS_KEY", &path("key")),
    ]);
    let url = format!("https://localhost:{}/", daemon.address.port());
    let page = run(Command::new("curl").args(["-sSk", "-H", "Accept: text/html", &url]));
    let warned = page.contains("expires in 8 days") || page.contains("expires in 9 days");
    assert!(warned, "{page}");
}
