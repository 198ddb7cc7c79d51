//! `holdfast ls` and the local API's list of tags: long lists, and their order.

use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// More than two pages of the store.
const TAGS: usize = 1100;

#[test]
fn long_list_of_tags_is_complete_and_newest_first() {
    let daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("team/app", "first", b"layer");
    let put = |tag: &str| {
        daemon
            .request("PUT", &format!("/v2/team/app/manifests/{tag}"))
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .body(&manifest)
            .send()
            .expect(201)
    };
    // Names that sort in another order than the pushes, of which many have the same second.
    let pushed: Vec<String> = (0..TAGS).map(|number| format!("t{}", number * 7 % TAGS)).collect();
    pushed.iter().for_each(|tag| drop(put(tag)));
    let list = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().arg("ls").args(arguments).arg("--data").arg(&daemon.data);
        run(&mut command)
    };
    let json: Value = serde_json::from_str(&list(&["team/app", "--json"])).unwrap();
    let listed: Vec<&str> =
        json["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap()).collect();
    let newest_first: Vec<&str> = pushed.iter().rev().map(String::as_str).chain(["first"]).collect();
    assert_eq!(listed, newest_first);
    assert!(json["tags"][0]["shared"].is_null());
    // A tag that moves is the newest one.
    put("t7");
    assert_eq!(list(&["team/app"]).lines().nth(1).unwrap().split(' ').next(), Some("t7"));
}
