//! Distribution specification, "Listing Tags".

use super::*;

fn with_tags(tags: &[&str]) -> Daemon {
    let daemon = Daemon::start();
    let (_, bytes) = daemon.push_image("a", tags[0], b"layer");
    for tag in tags {
        daemon.put_manifest("a", tag, OCI_MANIFEST, &bytes).expect(201);
    }
    daemon
}

fn list(daemon: &Daemon, query: &str) -> (Vec<String>, Option<String>) {
    let answer = daemon.get(&format!("/v2/a/tags/list{query}")).expect(200);
    let body = answer.json();
    assert_eq!(body["name"], "a");
    let tags = body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    (tags, answer.header("link").map(str::to_owned))
}

#[test]
fn tags_are_200_and_in_order() {
    let daemon = with_tags(&["b", "a", "1.10", "1.9", "Z"]);
    assert_eq!(list(&daemon, "").0, ["1.10", "1.9", "Z", "a", "b"]);
}

#[test]
fn repository_without_tags_has_an_empty_list() {
    let daemon = with_tags(&["1"]);
    daemon.request("DELETE", "/v2/a/manifests/1").send().expect(202);
    let answer = daemon.get("/v2/a/tags/list");
    assert!(answer.status == 404 || answer.json()["tags"] == json!([]), "{}", answer.status);
}

#[test]
fn n_gives_as_many_and_a_link_to_the_next() {
    let daemon = with_tags(&["1", "2", "3"]);
    let (tags, link) = list(&daemon, "?n=2");
    assert_eq!(tags, ["1", "2"]);
    let link = link.unwrap();
    let (path, relation) = link.split_once(';').unwrap();
    assert_eq!(relation.trim(), "rel=\"next\"");
    let next = daemon.get(path.trim().trim_start_matches('<').trim_end_matches('>')).expect(200);
    assert_eq!(next.json()["tags"], json!(["3"]));
    assert_eq!(next.header("link"), None);
    assert_eq!(list(&daemon, "?n=3"), (vec!["1".into(), "2".into(), "3".into()], None));
}

#[test]
fn n_of_zero_is_an_empty_list_without_a_link() {
    let daemon = with_tags(&["1", "2"]);
    assert_eq!(list(&daemon, "?n=0"), (vec![], None));
}

#[test]
fn last_begins_after_the_tag_in_order() {
    let daemon = with_tags(&["1", "2", "3", "4"]);
    assert_eq!(list(&daemon, "?n=2&last=1").0, ["2", "3"]);
    assert_eq!(list(&daemon, "?last=2").0, ["3", "4"]);
    // A tag that does not exist has its place in the order, too.
    assert_eq!(list(&daemon, "?last=25").0, ["3", "4"]);
}
