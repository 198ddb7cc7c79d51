//! The admin page for users with limited rights: it shows and changes what the API would allow.

use crate::support::browser::{Browser, text};
use crate::support::images::{tags, with_images_and_env};
use crate::support::*;

#[test]
fn anonymous_readers_see_images_but_no_forms() {
    let daemon = with_images_and_env(&[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    let mut daemon = daemon;
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_AUTH_ANONYMOUS", "pull")]);
    let mut browser = Browser::new(&daemon);
    assert!(!browser.page("/repository/team/app").contains("delete-selected"));
    browser.page("/image/team/app:1.9");
    for path in ["/activity", "/maintenance", "/users", "/account", "/delete?name=team/app&tag=1.9"] {
        assert!(
            browser.get(path).expect(303).required_header("location").starts_with("/login?next="),
            "{path}"
        );
    }
    browser.page("/login");
    browser.post("/delete", &[("name", "team/app"), ("tag", "1.9")]).expect(303);
    assert_eq!(tags(&daemon, "team/app").len(), 3);
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

/// A registry with rules and the images `team/app:1` and `private:1`.
fn with_rules(rules: &str) -> Daemon {
    let daemon = Daemon::with_config(rules);
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
fn read_only_user_deletes_no_repository_and_finds_only_what_they_may_pull() {
    let daemon = with_rules(READ_ONLY);
    let mut reader = Browser::of(&daemon, "reader", "secret");
    assert!(reader.page("/search?q=1").contains("/image/team/app:1\""));
    assert!(reader.page("/search?q=private").contains("Nothing matches."));
    for name in ["team/app", "private"] {
        reader.get(&format!("/delete/repository?name={name}")).expect(403);
        reader.page("/push");
        reader.post("/delete/repository", &[("name", name), ("state", "1-1-1-1")]).expect(403);
    }
    let mut alice = Browser::of(&daemon, "alice", "secret");
    for path in ["/image/team/app:1", "/image/private:1"] {
        alice.page(path);
    }
}

#[test]
fn read_only_user_gets_no_forms_and_can_submit_none() {
    let daemon = with_rules(READ_ONLY);
    let mut reader = Browser::of(&daemon, "reader", "secret");
    let page = reader.page("/repository/team/app");
    assert!(
        !page.contains("type=\"checkbox\"") && !page.contains("/users") && !page.contains("/maintenance"),
        "{page}"
    );
    for path in ["/", "/repositories", "/activity", "/search?q=1", "/search?q=a:1"] {
        let page = reader.page(path);
        assert!(!page.contains("private"), "{path}: {page}");
    }
    for path in
        ["/repository/private", "/image/private:1", "/users", "/maintenance", "/users/remove?name=alice"]
    {
        reader.get(path).expect(403);
    }
    let layer = digest(&image(&digest(b"layer"), &digest(b"layer"), None));
    reader.get(&format!("/raw/private@{layer}")).expect(403);
    // A missing repository and a hidden one look the same.
    reader.get("/repository/nothing").expect(403);
    let forms: [(&str, &[(&str, &str)]); 8] = [
        ("/delete", &[("name", "team/app"), ("tag", "1")]),
        ("/delete", &[("name", "private"), ("tag", "1")]),
        ("/users/add", &[("name", "eve"), ("new", "x"), ("again", "x")]),
        ("/users/password", &[("name", "alice"), ("new", "x"), ("again", "x")]),
        ("/users/remove", &[("name", "alice")]),
        ("/maintenance/collect", &[]),
        ("/maintenance/check", &[]),
        ("/maintenance/cancel", &[("job", "gc")]),
    ];
    for (path, fields) in forms {
        reader.post(path, fields).expect(403);
    }
    reader.get("/delete?name=team/app&tag=1").expect(403);
    assert_eq!(tags(&daemon, "team/app"), ["1"]);
    Browser::of(&daemon, "alice", "secret").page("/users");
}

#[test]
fn last_user_with_full_rights_cannot_be_removed() {
    let daemon = with_rules(READ_ONLY);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let users = alice.page("/users");
    assert!(
        users.contains("last user with full rights, cannot be removed")
            && !users.contains("remove?name=alice"),
        "{users}"
    );
    let refused = alice.post("/users/remove", &[("name", "alice")]).expect(422);
    assert!(text(&refused).contains("Alice is the last user with full rights and cannot be removed."));
    alice.post("/users/remove", &[("name", "reader")]).expect(303);
}

#[test]
fn pull_and_delete_everywhere_do_not_suffice_to_manage_users() {
    let rules = READ_ONLY.replace(
        "[[auth.rule]]\n    users = [\"reader\"]\n    repositories = [\"team/*\"]\n    allow = [\"pull\"]",
        "[[auth.rule]]\n    users = [\"reader\"]\n    repositories = [\"*\"]\n    allow = [\"pull\", \"delete\"]",
    );
    let daemon = with_rules(&rules);
    let mut janitor = Browser::of(&daemon, "reader", "secret");
    for path in ["/users", "/maintenance", "/users/password?name=alice"] {
        janitor.get(path).expect(403);
    }
    janitor.post("/users/add", &[("name", "eve"), ("new", "x"), ("again", "x")]).expect(403);
    janitor.delete("private", &["1"]).expect(303);
}

#[test]
fn limited_user_sees_totals_of_visible_repositories_only() {
    let daemon = with_rules(READ_ONLY);
    let begin = daemon.request("POST", "/v2/private/blobs/uploads/").login("alice", "secret").body(b"");
    let place = begin.send().expect(202).required_header("location");
    let path = place.strip_prefix("http://registry").unwrap_or(&place).to_owned();
    let patch = daemon.request("PATCH", &path).login("alice", "secret");
    patch.header("Content-Type", "application/octet-stream").body(&[7; 100_000]).send().expect(202);
    let mut alice = Browser::of(&daemon, "alice", "secret");
    alice.page("/maintenance");
    alice.post("/maintenance/collect", &[]).expect(303);
    while !alice.page("/maintenance").contains("id=\"outcome\"") {}
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
    let failing = crate::support::fault_injection::FaultInjection::fail(daemon.pid(), "fdatasync", None);
    let content = b"another layer";
    let path = format!("/v2/private/blobs/uploads/?digest={}", digest(content));
    assert!(daemon.request("POST", &path).login("alice", "secret").body(content).send().status >= 500);
    drop(failing);
    assert!(!alice.page("/").contains("accepts no more pushes: its disk failed."));
    assert!(reader.page("/").contains("accepts no more pushes: its disk failed."));
}
