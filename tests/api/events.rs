//! The event feed, as the activity page shows it: what is recorded, what survives, and who sees it.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::unit::{Process, Unit};
use crate::support::*;

/// A row of the activity: user, action, repository or subject with reference, client.
type Row = [String; 4];

/// Returns the rows of an activity page, newest first.
fn rows_of(page: &str) -> Vec<Row> {
    let body = page.split("<tbody>").nth(1).unwrap_or_default().split("</tbody>").next().unwrap();
    body.split("<tr>").skip(1).map(cells).collect()
}

fn cells(row: &str) -> Row {
    let cell = |label: &str| {
        let cell = row.split(&format!("data-label=\"{label}\">")).nth(1).unwrap();
        let mut text = String::new();
        for part in cell.split("</td>").next().unwrap().split('<') {
            text += part.split_once('>').map_or(part, |(_, text)| text);
        }
        text.trim().to_owned()
    };
    [cell("User"), cell("Action"), cell("Image"), cell("Client")]
}

fn rows(browser: &mut Browser) -> Vec<Row> {
    rows_of(&browser.page("/activity"))
}

/// Returns action and object of each row, oldest first.
fn actions(browser: &mut Browser) -> Vec<String> {
    let rows = rows(browser);
    rows.into_iter().rev().map(|[_, action, image, _]| format!("{action} {image}")).collect()
}

/// Returns a digest as the page shows it.
fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}

#[test]
fn an_acknowledged_push_is_an_event_after_a_kill() {
    let mut daemon = Daemon::start();
    let (digest, _) = daemon.push_image("team/app", "1", b"layer");
    daemon.kill_and_restart();
    let rows = rows(&mut Browser::new(&daemon));
    let row = |action: &str, image: String| ["anonymous", action, &image, "127.0.0.1"].map(str::to_owned);
    let expected =
        [row("tagged", "team/app 1".into()), row("pushed", format!("team/app {}", short(&digest)))];
    assert_eq!(rows, expected);
}

#[test]
fn a_refused_push_and_a_repeated_one_are_no_events() {
    let daemon = Daemon::start();
    let mut browser = Browser::new(&daemon);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "a/b", "digest": digest(b"missing"), "size": 7}, "layers": [],
    });
    daemon.put_manifest("a", "1", OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap()).expect(400);
    assert!(browser.page("/activity").contains("No events."));
    let (first, bytes) = daemon.push_image("a", "1", b"one");
    daemon.put_manifest("a", "1", OCI_MANIFEST, &bytes).expect(201);
    let once = [format!("pushed a {}", short(&first)), "tagged a 1".into()];
    assert_eq!(actions(&mut browser), once);
    let (second, _) = daemon.push_image("a", "1", b"two");
    assert_eq!(actions(&mut browser)[2..], [format!("pushed a {}", short(&second)), "moved tag a 1".into()]);
}

#[test]
fn deletes_are_events_of_each_tag_and_of_the_manifest() {
    let mut daemon = Daemon::start();
    let (image, bytes) = daemon.push_image("a", "1", b"one");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &bytes).expect(201);
    daemon.request("DELETE", "/v2/a/manifests/nothing").send().expect(404);
    daemon.request("DELETE", "/v2/a/manifests/1").send().expect(202);
    daemon.request("DELETE", &format!("/v2/a/manifests/{image}")).send().expect(202);
    daemon.request("DELETE", &format!("/v2/a/blobs/{}", digest(b"one"))).send().expect(202);
    let expected = [
        format!("pushed a {}", short(&image)),
        "tagged a 1".into(),
        "tagged a 2".into(),
        "deleted tag a 1".into(),
        "deleted tag a 2".into(),
        format!("deleted a {}", short(&image)),
        format!("deleted a {}", short(&digest(b"one"))),
    ];
    assert_eq!(actions(&mut Browser::new(&daemon)), expected);
    daemon.stop_and_restart();
    assert_eq!(actions(&mut Browser::new(&daemon)), expected);
}

#[test]
fn a_pull_writes_nothing_and_is_kept_in_memory_only() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"one");
    daemon.stop_and_restart();
    let index = || std::fs::read(daemon.data.join("index/data.mdb")).unwrap();
    let before = index();
    daemon.get("/v2/a/manifests/1").expect(200);
    daemon.request("HEAD", "/v2/a/manifests/1").send().expect(200);
    let mut browser = Browser::new(&daemon);
    assert_eq!(actions(&mut browser)[2..], ["pulled a 1"], "a HEAD is no pull");
    assert!(index() == before, "a pull has changed the index");
    daemon.stop_and_restart();
    assert_eq!(actions(&mut Browser::new(&daemon)).len(), 2);
}

#[test]
fn activity_survives_the_idle_exit() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n[auth]\nanonymous = \"full\"\n");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let config = b"{}";
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(config));
    Request::new(unit.address, "POST", &path).body(config).send().expect(201);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "a/b", "digest": digest(config), "size": 2}, "layers": [],
    });
    let put = Request::new(unit.address, "PUT", "/v2/a/manifests/1").header("Content-Type", OCI_MANIFEST);
    put.body(&serde_json::to_vec(&manifest).unwrap()).send().expect(201);
    child.expect_exit();
    let _child = Process(unit.start(&[]));
    assert_eq!(actions(&mut Browser::at(unit.address)).last().unwrap(), "tagged a 1");
}

#[test]
fn failed_log_ins_are_few_rows_and_survive_a_restart() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    let attempt = |from: Ipv4Addr, name: &str, password: &str| {
        daemon.request("GET", "/v2/").from(from).login(name, password).send().status
    };
    for number in 0..12 {
        let name = format!("user{number}");
        assert_ne!(attempt(Ipv4Addr::new(127, 0, 1, number), &name, "wrong"), 200);
    }
    assert_eq!(attempt(Ipv4Addr::new(127, 0, 2, 1), "alice", "wrong"), 401);
    let mut browser = Browser::of(&daemon, "alice", "secret");
    let failed = rows(&mut browser);
    assert!(failed.len() <= 9, "{failed:?}");
    let counted = |rows: &[Row]| -> u32 {
        let texts = rows.iter().filter(|[_, action, ..]| action.contains("log-in"));
        texts.map(|[_, action, ..]| action.split(' ').next().unwrap().parse::<u32>().unwrap()).sum()
    };
    assert_eq!(counted(&failed), 13, "{failed:?}");
    let page = browser.page("/activity");
    assert!(page.contains("unknown user") && !page.contains("user7"), "{page}");
    daemon.stop_and_restart();
    assert_eq!(counted(&rows(&mut Browser::of(&daemon, "alice", "secret"))), 13);
}

#[test]
fn changes_of_users_are_events() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let mut browser = Browser::of(&daemon, "alice", "secret");
    browser.page("/users");
    let bob = [("name", "bob"), ("new", "password"), ("again", "password")];
    browser.post("/users/add", &bob).expect(303);
    add_user(&daemon.data, "carol", "secret");
    let passwd = ["user", "remove", "bob", "--data", daemon.data.to_str().unwrap()];
    run(Command::new(BINARY).env_clear().args(passwd));
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen = rows(&mut browser);
        seen.reverse();
        if seen.iter().any(|[.., image, _]| image == "bob removed") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(seen[0], ["alice", "changed user", "bob added", "127.0.0.1"]);
    let others: Vec<&str> = seen[1..].iter().map(|[.., image, _]| image.as_str()).collect();
    assert_eq!(others.len(), 2, "{seen:?}");
    assert!(others.contains(&"carol added") && others.contains(&"bob removed"), "{seen:?}");
    assert_eq!([&seen[1][0], &seen[1][3]], ["the registry", "in the htpasswd file"]);
}

#[test]
fn events_are_shown_by_the_rights_of_the_reader() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["alice", "bob"] {
        add_user(directory.path(), name, "secret");
    }
    let rules = "[[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n\
                 [[auth.rule]]\nusers = [\"bob\"]\nrepositories = [\"team/*\"]\nallow = [\"pull\"]\n";
    let daemon = Daemon::with_config_at(directory.path(), rules);
    for repository in ["team/app", "private/app"] {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(b"{}"));
        daemon.request("POST", &path).login("alice", "secret").body(b"{}").send().expect(201);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "a/b", "digest": digest(b"{}"), "size": 2}, "layers": [],
        });
        let put = daemon.request("PUT", &format!("/v2/{repository}/manifests/1")).login("alice", "secret");
        let put = put.header("Content-Type", OCI_MANIFEST).body(&serde_json::to_vec(&manifest).unwrap());
        put.send().expect(201);
    }
    daemon.request("GET", "/v2/").login("eve", "wrong").send().expect(401);
    let page = Browser::of(&daemon, "bob", "secret").page("/activity");
    let seen: Vec<String> =
        rows_of(&page).into_iter().map(|[_, action, image, _]| action + " " + &image).collect();
    assert!(seen.len() == 2 && seen[0] == "tagged team/app 1", "{seen:?}");
    let all = rows(&mut Browser::of(&daemon, "alice", "secret"));
    assert!(all.len() == 5 && all.iter().any(|[_, action, ..]| action == "1 log-in failed"), "{all:?}");
}

#[test]
fn committed_events_are_counted() {
    let daemon = Daemon::with_env(&[("HOLDFAST_METRICS_ENABLED", "true")]);
    let (_, bytes) = daemon.push_image("a", "1", b"one");
    daemon.put_manifest("a", "2", OCI_MANIFEST, &bytes).expect(201);
    daemon.get("/v2/a/manifests/1").expect(200);
    let metrics = daemon.request("GET", "/metrics").host("localhost").send().expect(200).body;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in ["{kind=\"push\"} 1", "{kind=\"tag\"} 2", "{kind=\"pull\"} 1", "{kind=\"delete\"} 0"] {
        assert!(metrics.contains(&format!("holdfast_events_total{line}\n")), "{line}: {metrics}");
    }
}

#[test]
fn the_feed_is_bounded_and_a_rebuilt_index_says_so() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_EVENTS_KEEP", "100")]);
    let (_, bytes) = daemon.push_image("a", "0", b"one");
    for tag in 1..150 {
        daemon.put_manifest("a", &format!("t{tag}"), OCI_MANIFEST, &bytes).expect(201);
    }
    let page = Browser::new(&daemon).page("/activity");
    assert!(page.contains("<p>100 events."), "{page}");
    daemon.stop();
    std::fs::remove_file(daemon.data.join("index/data.mdb")).unwrap();
    daemon.start_again();
    let rows = rows(&mut Browser::new(&daemon));
    assert_eq!(rows.len(), 1, "restored names are no events: {rows:?}");
    assert_eq!(rows[0][1..3], ["changed state", "index rebuilt with 150 of 150 names"]);
}

#[test]
fn changes_of_users_while_the_daemon_sleeps_are_events() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    add_user(&daemon.data, "bob", "secret");
    let users = |daemon: &Daemon| {
        let rows = rows(&mut Browser::of(daemon, "alice", "secret"));
        let of_users = rows.into_iter().filter(|[_, action, ..]| action == "changed user");
        let mut subjects: Vec<String> = of_users.map(|[_, _, subject, _]| subject).collect();
        subjects.sort();
        subjects
    };
    await_rows(&daemon, &users, 1);
    daemon.stop();
    add_user(&daemon.data, "carol", "secret");
    run(Command::new(BINARY).env_clear().args(["user", "remove", "bob", "--data"]).arg(&daemon.data));
    daemon.start_again();
    let seen = await_rows(&daemon, &users, 3);
    assert_eq!(seen, ["bob added", "bob removed", "carol added"]);
    // Once: neither after another end, nor after a crash, which leaves an older file.
    daemon.stop_and_restart();
    daemon.kill_and_restart();
    assert_eq!(users(&daemon), seen);
}

/// Waits until there are so many rows.
fn await_rows(daemon: &Daemon, rows: &dyn Fn(&Daemon) -> Vec<String>, count: usize) -> Vec<String> {
    for _ in 0..200 {
        let found = rows(daemon);
        if found.len() >= count {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("there are no {count} rows: {:?}", rows(daemon));
}
