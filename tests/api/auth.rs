//! Users, passwords, anonymous access and rules.

use crate::support::browser::{Browser, text};
use crate::support::*;

#[test]
fn users_log_in_with_their_passwords() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_REALM", "Our Realm")]);
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/UPPER/tags/list"] {
        let answer = daemon.get(path).expect(401);
        assert_eq!(answer.error_code(), "UNAUTHORIZED");
        assert!(answer.required_header("www-authenticate").starts_with("Basic realm=\"Our Realm\""));
        assert_eq!(answer.required_header("docker-distribution-api-version"), "registry/2.0");
    }
    let ping = |name: &str, password: &str| daemon.request("GET", "/v2/").login(name, password).send();
    assert_eq!(
        ping("alice", "secret").expect(200).required_header("docker-distribution-api-version"),
        "registry/2.0"
    );
    ping("alice", "wrong").expect(401);
    ping("bob", "secret").expect(401);
    add_user(&daemon.data, "bob", "another");
    ping("bob", "another").expect(200);
}

#[test]
fn password_longer_than_bcrypt_reads_is_wrong() {
    let longest = "x".repeat(72);
    let daemon = Daemon::with_user("alice", &longest, &[]);
    let ping = |password: &str| daemon.request("GET", "/v2/").login("alice", password).send();
    ping(&longest).expect(200);
    for wrong in [format!("{longest}x"), format!("{longest}\0"), format!("{longest}\0{longest}")] {
        assert_eq!(ping(&wrong).expect(401).error_code(), "UNAUTHORIZED");
    }
    // The admin page refuses to set such a password, and names the reason.
    let mut alice = Browser::of(&daemon, "alice", &longest);
    for long in [format!("{longest}x"), "a\0b".into()] {
        let answer = alice.post("/users/add", &[("name", "bob"), ("new", &long), ("again", &long)]);
        assert!(text(&answer.expect(422)).contains("72 bytes"));
    }
}

#[test]
fn anonymous_pull_can_be_enabled() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_ANONYMOUS", "pull")]);
    // `/v2/` challenges although the anonymous user may pull: clients learn there that a log-in is possible.
    daemon.get("/v2/").expect(401);
    assert_eq!(daemon.get("/v2/a/tags/list").expect(404).error_code(), "NAME_UNKNOWN");
    daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(401);
    daemon.request("POST", "/v2/a/blobs/uploads/").login("alice", "secret").body(b"").send().expect(202);
}

#[test]
fn startup_banner_reports_a_partly_open_registry() {
    let said = startup_line(&[("HOLDFAST_AUTH_ANONYMOUS", "pull")], "  access ");
    assert!(said.contains("partly open") && said.contains("holdfast user add NAME"), "{said}");
}

#[test]
fn registry_without_users_or_anonymous_access_is_closed() {
    let daemon = Daemon::with_env(&[("HOLDFAST_AUTH_ANONYMOUS", "none")]);
    let answer = daemon.get("/v2/").expect(401);
    assert!(String::from_utf8_lossy(&answer.body).contains("holdfast user add"));
}

#[test]
fn rules_restrict_users_to_actions_in_repositories() {
    let rules = r#"
        [[auth.rule]]
        users = ["ci"]
        repositories = ["team/*"]
        allow = ["pull", "push"]
        [[auth.rule]]
        users = ["boss"]
        repositories = ["*"]
        allow = ["pull", "push", "delete", "catalog"]
    "#;
    let daemon = Daemon::with_config(rules);
    add_user(&daemon.data, "boss", "secret");
    add_user(&daemon.data, "ci", "secret");
    add_user(&daemon.data, "eve", "secret");
    let ask = |user: &str, method: &str, path: &str| {
        daemon.request(method, path).login(user, "secret").body(b"").send()
    };
    let layer = digest(b"layer");
    for repository in ["team/app", "private"] {
        let push = format!("/v2/{repository}/blobs/uploads/?digest={layer}");
        daemon.request("POST", &push).login("boss", "secret").body(b"layer").send().expect(201);
        let path = format!("/v2/{repository}/manifests/1");
        let put = daemon.request("PUT", &path).login("boss", "secret").header("Content-Type", OCI_MANIFEST);
        put.body(&image(&layer, &layer, None)).send().expect(201);
    }
    ask("ci", "GET", "/v2/team/app/manifests/1").expect(200);
    ask("ci", "POST", "/v2/team/app/blobs/uploads/").expect(202);
    assert_eq!(ask("ci", "DELETE", "/v2/team/app/manifests/1").expect(403).error_code(), "DENIED");
    ask("ci", "GET", "/v2/private/manifests/1").expect(403);
    // A missing repository looks the same as a forbidden one.
    ask("ci", "GET", "/v2/nothing/manifests/1").expect(403);
    // A blob that may not be pulled cannot be mounted, and the response does not reveal whether it exists.
    ask("ci", "POST", &format!("/v2/team/new/blobs/uploads/?mount={layer}&from=private")).expect(202);
    ask("ci", "POST", &format!("/v2/team/new/blobs/uploads/?mount={layer}&from=team/app")).expect(201);
    assert_eq!(
        ask("ci", "GET", "/v2/_catalog").expect(200).json()["repositories"],
        serde_json::json!(["team/app"])
    );
    ask("eve", "GET", "/v2/").expect(200);
    ask("eve", "GET", "/v2/team/app/manifests/1").expect(403);
    ask("boss", "DELETE", "/v2/team/app/manifests/1").expect(202);
}
