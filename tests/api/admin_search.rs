//! The search over all names, the delete of a whole repository, and the theme of the pages.

use std::process::Command;

use serde_json::Value;

use crate::support::browser::{Browser, text};
use crate::support::*;

#[test]
fn search_finds_repositories_and_tags_and_pages_through_them() {
    let daemon = Daemon::start();
    for number in 0..25 {
        daemon.push_image("team/app", &format!("2.{number}"), b"layer");
    }
    daemon.push_image("team/web", "latest", b"layer");
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/search?q=TEAM");
    assert!(
        page.contains("2 repositories, 0 tags.") && page.contains("href=\"/repository/team/web\""),
        "{page}"
    );
    let page = browser.page("/search?q=app:2.");
    assert!(page.contains("0 repositories, 25 tags.") && page.contains("Page 1 of 2"), "{page}");
    let next = browser.page("/search?q=app:2.&page=2");
    assert_eq!(next.matches("href=\"/image/team/app:").count(), 5, "{next}");
    assert!(browser.page("/search?q=web:2.").contains("Nothing matches."));
    let page = browser.page("/search?q=%22%3E%3Cscript%3E");
    assert!(!page.contains("<script>") && page.contains("Nothing matches."), "{page}");
    assert!(browser.page("/search").contains("REPOSITORY:TAG"));
}

#[test]
fn repository_without_tags_says_that_it_is_empty_or_untagged() {
    let daemon = Daemon::start();
    daemon.push_image("app", "1", b"layer");
    daemon.push_image("app", "2", b"layer");
    let (_, manifest) = daemon.push_image("lone", "1", b"layer");
    // In another repository, by its digest.
    let blobs: Value = serde_json::from_slice(&manifest).unwrap();
    for part in [&blobs["config"], &blobs["layers"][0]] {
        let mount =
            format!("/v2/team/part/blobs/uploads/?mount={}&from=lone", part["digest"].as_str().unwrap());
        daemon.request("POST", &mount).body(b"").send().expect(201);
    }
    daemon.put_manifest("team/part", &digest(&manifest), OCI_MANIFEST, &manifest).expect(201);
    let mut browser = Browser::new(&daemon);
    for tag in ["1", "2"] {
        assert!(!browser.page("/repository/app").contains("removed on"));
        daemon.request("DELETE", &format!("/v2/app/manifests/{tag}")).send().expect(202);
    }
    let ls = |arguments: &[&str]| {
        run(Command::new(BINARY).env_clear().arg("ls").args(arguments).arg("--data").arg(&daemon.data))
    };
    let today = run(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let empty = format!("empty, removed on {}", today.trim());
    for page in ["/repositories", "/repositories?sort=size", "/search?q=a", "/delete/repository?name=app"] {
        let page = browser.page(page);
        assert!(!page.contains("0 tags<") && !page.contains("<b>0 tags"), "{page}");
        assert!(
            page.contains("<b>1 manifest</b>") || page.contains(&format!("<span>{empty}</span>")),
            "{page}"
        );
        assert!(!page.contains("team/part") || page.contains("<span>1 untagged</span>"), "{page}");
    }
    let page = browser.page("/repository/app");
    assert!(page.contains(&format!("Empty, removed on {}", today.trim())), "{page}");
    assert!(browser.page("/repository/team/part").contains("This repository has no tags."));
    let list = ls(&[]);
    assert!(
        list.contains(&format!("app         {empty}")) && list.contains("team/part   1 untagged"),
        "{list}"
    );
    assert_eq!(ls(&["app"]), format!("app is {empty}; 1 manifest waits for a collection\n"));
    assert_eq!(ls(&["team/part"]), "team/part has no tags: 1 untagged\n");
    let json: Value = serde_json::from_str(&ls(&["--json"])).unwrap();
    assert!(json["repositories"][0]["emptied"].is_u64() && json["repositories"][1].get("emptied").is_none());
    // A push fills it again.
    daemon.push_image("app", "3", b"layer");
    assert!(ls(&[]).contains("app         1     "), "{}", ls(&[]));
}

#[test]
fn repository_is_deleted_after_a_question_about_its_present_content() {
    let daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"layer");
    daemon.push_image("team/app", "2", b"other");
    daemon.push_image("team/web", "1", b"layer");
    let mut browser = Browser::new(&daemon);
    let state = |page: &str| {
        page.split("name=\"state\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let page = browser.page("/delete/repository?name=team/app");
    assert!(page.contains("<b>2 tags</b> and <b>2 manifests</b>"), "{page}");
    let old = state(&page);
    daemon.push_image("team/app", "3", b"third");
    let answer = browser.post("/delete/repository", &[("name", "team/app"), ("state", &old)]).expect(200);
    let page = text(&answer);
    assert!(page.contains("The repository has changed") && page.contains("<b>3 tags</b>"), "{page}");
    assert_eq!(daemon.get("/v2/team/app/manifests/1").status, 200);
    let answer =
        browser.post("/delete/repository", &[("name", "team/app"), ("state", &state(&page))]).expect(303);
    let location = answer.required_header("location");
    assert!(location.starts_with("/repositories?done=repository-deleted&manifests="), "{location}");
    daemon.get("/v2/team/app/tags/list").expect(404);
    daemon.get("/v2/team/web/manifests/1").expect(200);
    browser.get("/delete/repository?name=team/app").expect(404);
    browser.post_as("/delete/repository", &[("name", "team/web")], "http://registry").expect(403);
    daemon.get("/v2/team/web/manifests/1").expect(200);
}

#[test]
fn theme_is_remembered_and_returns_to_the_page() {
    let daemon = Daemon::start();
    let mut browser = Browser::new(&daemon);
    assert!(browser.page("/repositories").contains("data-theme=\"system\""));
    for (referer, place) in [
        ("http://registry/repositories?q=a", "/repositories?q=a"),
        ("http://registry//evil.example/", "/"),
        ("http://registry/users/add", "/"),
        ("nonsense", "/"),
    ] {
        browser.page("/repositories");
        let mut from = Browser::at(daemon.address).with("Referer", referer);
        (from.cookies, from.token) = (browser.cookies.clone(), browser.token.clone());
        let answer = from.post("/theme", &[("theme", "dark")]).expect(303);
        assert_eq!(answer.required_header("location"), place);
        browser.cookies = from.cookies;
        assert!(browser.page("/repositories").contains("data-theme=\"dark\""));
    }
    browser.post("/theme", &[("theme", "system")]).expect(303);
    assert!(browser.page("/repositories").contains("data-theme=\"system\""));
    browser.post_as("/theme", &[("theme", "dark")], "http://registry").expect(403);
    browser.cookies.insert("holdfast-theme".into(), "\"><script>".into());
    assert!(browser.page("/repositories").contains("data-theme=\"system\""));
}

#[test]
fn files_are_compressed_for_browsers_that_accept_it() {
    let daemon = Daemon::start();
    let mut browser = Browser::new(&daemon);
    let page = browser.page("/");
    let style = page.split("href=\"/assets/style-").nth(1).unwrap().split('"').next().unwrap();
    let path = format!("/assets/style-{style}");
    let plain = browser.get(&path).expect(200);
    let compressed = browser.request("GET", &path).header("Accept-Encoding", "gzip, br").send().expect(200);
    assert_eq!(compressed.required_header("content-encoding"), "gzip");
    assert!(plain.headers("content-encoding").is_empty() && plain.body.len() > 2 * compressed.body.len());
    assert_eq!(plain.required_header("vary"), "Accept-Encoding");
    let sprite = page.split("/assets/icons-").nth(1).unwrap().split('#').next().unwrap();
    let sprite = browser.get(&format!("/assets/icons-{sprite}")).expect(200);
    assert_eq!(sprite.required_header("content-type"), "image/svg+xml");
}
