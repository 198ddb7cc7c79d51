use crate::support::*;

#[test]
fn users_log_in() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_REALM", "Our Realm")]);
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/UPPER/tags/list"] {
        let answer = daemon.get(path).expect(401);
        assert_eq!(answer.code(), "UNAUTHORIZED");
        assert!(answer.named("www-authenticate").starts_with("Basic realm=\"Our Realm\""));
        assert_eq!(answer.named("docker-distribution-api-version"), "registry/2.0");
    }
    let ping = |name: &str, password: &str| daemon.request("GET", "/v2/").login(name, password).send();
    assert_eq!(ping("alice", "secret").expect(200).named("docker-distribution-api-version"), "registry/2.0");
    ping("alice", "wrong").expect(401);
    ping("bob", "secret").expect(401);
    add_user(&daemon.data, "bob", "another");
    ping("bob", "another").expect(200);
}

#[test]
fn guessing_is_slowed_down() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let statuses: Vec<u16> = (0..25)
        .map(|number| daemon.request("GET", "/v2/").login("alice", &format!("x{number}")).send().status)
        .collect();
    assert_eq!(statuses.first(), Some(&401));
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

#[test]
fn anonymous_may_pull_when_told_so() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_ANONYMOUS", "pull")]);
    daemon.get("/v2/").expect(200);
    assert_eq!(daemon.get("/v2/a/tags/list").expect(404).code(), "NAME_UNKNOWN");
    daemon.request("POST", "/v2/a/blobs/uploads/").body(b"").send().expect(401);
    daemon.request("POST", "/v2/a/blobs/uploads/").login("alice", "secret").body(b"").send().expect(202);
}

#[test]
fn a_registry_that_others_reach_is_closed_without_users() {
    let daemon = Daemon::with(&[("HOLDFAST_AUTH_ANONYMOUS", "none")]);
    let answer = daemon.get("/v2/").expect(401);
    assert!(String::from_utf8_lossy(&answer.body).contains("holdfast user add"));
}

#[test]
fn rules_say_who_may_do_what() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.toml");
    std::fs::write(
        &file,
        "[[auth.rule]]\nusers=[\"ci\"]\nrepositories=[\"team/*\"]\nallow=[\"pull\",\"push\"]\n",
    )
    .unwrap();
    let shown =
        run(std::process::Command::new(BINARY).env_clear().args(["config", "show", "--config"]).arg(&file));
    assert!(shown.contains("team/*"), "{shown}");
}
