//! The data of the admin page: daily totals, rights in words, settings with their sources, the API page, filters of the
//! activity, and what waits for a collection.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::images::with_images;
use crate::support::*;

const RULES: &str = "[[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n\n\
                     [[auth.rule]]\nusers = [\"bob\"]\nrepositories = [\"team/*\"]\nallow = [\"pull\"]\n";

/// Starts a daemon with two users: alice has full rights, bob may pull from `team/*`.
fn with_rules() -> Daemon {
    let daemon = Daemon::with_config(RULES);
    for name in ["alice", "bob"] {
        add_user(&daemon.data, name, "secret");
    }
    daemon
}

/// Returns the cells of the newest day.
fn today(page: &str) -> Vec<String> {
    let row = page.split("id=\"days\"").nth(1).unwrap().split("<tbody>").nth(1).unwrap();
    let row = row.split("</tr>").next().unwrap_or_default().split('\n').next().unwrap();
    row.split("<td>").skip(1).map(|cell| cell.split('<').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn daily_totals_count_and_survive_a_restart() {
    let mut daemon = Daemon::start();
    daemon.push_image("team/app", "1", &[7; 5000]);
    for _ in 0..3 {
        daemon.get("/v2/team/app/manifests/1").expect(200);
        daemon.get(&format!("/v2/team/app/blobs/{}", digest(&[7; 5000]))).expect(200);
    }
    let mut browser = Browser::new(&daemon);
    let seen = today(&browser.page("/"));
    assert_eq!((seen[1].as_str(), seen[2].as_str()), ("3", "1"), "pulls and pushes: {seen:?}");
    daemon.stop_and_restart();
    let mut browser = Browser::new(&daemon);
    let kept = today(&browser.page("/?days=90"));
    assert_eq!((kept[1].as_str(), kept[2].as_str()), ("3", "1"), "{kept:?}");
    assert_eq!(kept[0], seen[0], "stored");
    assert!(kept[3].ends_with(" KiB"), "served: {kept:?}");
    let page = browser.page("/?days=90");
    assert!(page.contains("Last 90 days") && page.matches("<tr><th scope=\"row\">20").count() == 90);
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 4);
}

#[test]
fn limited_user_sees_only_his_part() {
    let daemon = with_rules();
    let push = |name: &str| {
        let layer = digest(b"layer");
        let upload = daemon.request("POST", &format!("/v2/{name}/blobs/uploads/?digest={layer}"));
        upload.login("alice", "secret").body(b"layer").send().expect(201);
    };
    push("team/app");
    push("other");
    let mut bob = Browser::of(&daemon, "bob", "secret");
    let overview = bob.page("/");
    assert!(!overview.contains("id=\"plots\"") && !overview.contains("id=\"held\""));
    assert!(overview.contains("Only repositories that you may pull from are counted."));
    for path in ["/users", "/settings", "/maintenance"] {
        bob.get(path).expect(403);
    }
    bob.post("/maintenance/free", &[]).expect(403);
    assert!(bob.page("/docs").contains("MANIFEST_UNKNOWN"));
    let mut alice = Browser::of(&daemon, "alice", "secret");
    let overview = alice.page("/");
    assert!(overview.contains("id=\"plots\"") && overview.contains("Stored counts each layer once"));
    let users = alice.page("/users");
    assert!(users.contains("full rights</span>") && users.contains(">pull in team/*</td>"), "{users}");
    let rights = alice.page("/users/rights");
    assert!(rights.contains(".toml:"), "the places of the rules: {rights}");
    assert!(users.matches("<td data-label=\"Last log-in\"><time").count() == 2, "{users}");
}

#[test]
fn settings_name_their_sources_and_are_for_administrators() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_GC_GRACE", "2h")]);
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let page = browser.page("/settings");
    assert!(page.contains("<code>gc.grace</code>") && page.contains("HOLDFAST_GC_GRACE"), "{page}");
    assert!(!page.contains("<code>log.level</code>") || page.contains("HOLDFAST_LOG_LEVEL"));
    let all = browser.page("/settings?section=gc");
    assert!(all.contains("<code>gc.interval</code>") && all.contains("default"), "{all}");
    assert!(!all.contains("<code>storage.path</code>"));
    Browser::new(&daemon).get("/settings").expect(303);
}

#[test]
fn api_page_has_commands_for_this_host() {
    let daemon = with_images();
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let page = browser.page("/docs");
    for expected in ["curl -fsS -u USER", "/v2/NAME/tags/list", "TOOMANYREQUESTS", "/v2/_catalog"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn activity_is_filtered_by_kind_and_time() {
    let daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"layer");
    daemon.get("/v2/team/app/manifests/1").expect(200);
    let mut browser = Browser::new(&daemon);
    let rows = |page: &str| page.matches("data-label=\"Action\"").count();
    assert_eq!(rows(&browser.page("/activity?kind=pull")), 1);
    assert_eq!(rows(&browser.page("/activity?kind=push&since=1h&q=team")), 2);
    assert_eq!(rows(&browser.page("/activity?kind=delete")), 0);
    assert!(browser.page("/activity?kind=pull").contains("<option value=\"pull\" selected>"));
}

#[test]
fn deletion_says_what_waits_in_the_words_of_gc_and_frees_it_now() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", &[1; 4096]);
    daemon.push_image("a", "2", &[2; 4096]);
    let mut browser = Browser::new(&daemon);
    let to = browser.delete("a", &["1"]).expect(303).required_header("location");
    let page = browser.page(&to);
    let sentence = "1 image, 2 blobs (4.4 KiB) wait until ";
    assert!(page.contains(sentence) && page.contains("Free it now"), "{page}");
    for arguments in [&["gc", "--dry-run"][..], &["gc"]] {
        let mut command = Command::new(BINARY);
        let output = run(command.env_clear().args(arguments).arg("--data").arg(&daemon.data));
        assert!(output.contains(sentence), "{output}");
    }
    assert!(browser.page("/maintenance").contains(&format!("nothing due yet; {sentence}")));
    assert!(!browser.page("/").contains("nothing to free"));
    let freed = browser.post("/maintenance/free", &[]).expect(303);
    assert!(freed.required_header("location").contains("done=started"), "{}", text(&freed));
    let began = Instant::now();
    while !browser.page("/maintenance").contains("4.4 KiB freed") {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(daemon.get("/v2/a/tags/list").expect(200).json()["tags"], json!(["2"]));
}
