//! Deletes in repositories with very many tags, referrers or blobs are complete, and run in short transactions.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::bulk::Bulk;
use crate::support::*;

fn command(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

/// Starts a daemon with a repository `many` of `tags` tags: every third names the first image, the others the second.
fn with_tags(tags: usize) -> (Daemon, [Vec<u8>; 2]) {
    with_tags_and_config(tags, "")
}

/// As [`with_tags`], with this configuration.
fn with_tags_and_config(tags: usize, config: &str) -> (Daemon, [Vec<u8>; 2]) {
    let mut daemon = Daemon::with_config(config);
    daemon.stop();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    let mut bulk = Bulk::new(&daemon.data);
    let images = [bulk.image(0, None), bulk.image(1, None)];
    for number in 0..tags {
        bulk.name("many", Some(&format!("t{number}")), &images[usize::from(number % 3 > 0)]);
    }
    bulk.write();
    daemon.start_again();
    (daemon, images)
}

fn delete(daemon: &Daemon, path: &str) -> Response {
    daemon.request("DELETE", path).send()
}

#[test]
fn manifest_delete_removes_exactly_its_tags() {
    let (daemon, [first, second]) = with_tags(3000);
    let path = |image: &[u8]| format!("/v2/many/manifests/{}", digest(image));
    delete(&daemon, &path(&first)).expect(202);
    for number in 0..30 {
        let expected = if number % 3 == 0 { 404 } else { 200 };
        assert_eq!(daemon.get(&format!("/v2/many/manifests/t{number}")).status, expected, "t{number}");
    }
    daemon.get(&path(&first)).expect(404);
    daemon.get(&path(&second)).expect(200);
    assert_eq!(delete(&daemon, &path(&first)).expect(404).error_code(), "MANIFEST_UNKNOWN");
    command(&daemon, &["check"]);
    delete(&daemon, &path(&second)).expect(202);
    daemon.get("/v2/many/tags/list").expect(404);
    command(&daemon, &["check"]);
}

#[test]
fn an_immutable_tag_among_very_many_keeps_all_of_them() {
    let rule = "[[immutable]]\nrepositories = [\"many\"]\ntags = [\"t999\"]\n";
    let (daemon, [first, second]) = with_tags_and_config(3000, rule);
    let path = |image: &[u8]| format!("/v2/many/manifests/{}", digest(image));
    assert_eq!(delete(&daemon, &path(&first)).expect(403).error_code(), "DENIED");
    for number in (0..3000).step_by(300) {
        daemon.get(&format!("/v2/many/manifests/t{number}")).expect(200);
    }
    delete(&daemon, &path(&second)).expect(202);
    command(&daemon, &["check"]);
}

#[test]
fn tags_set_during_a_delete_never_dangle() {
    let (daemon, [first, _]) = with_tags(6000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (daemon, ended, first) = (&daemon, &ended, &first);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                    let tag = format!("a{thread}-{}", number % 50);
                    daemon.put_manifest("many", &tag, OCI_MANIFEST, first).expect(201);
                }
            });
        }
        let path = format!("/v2/many/manifests/{}", digest(&first));
        let deleted: Vec<u16> = (0..10).map(|_| delete(&daemon, &path).status).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(deleted.iter().all(|status| matches!(status, 202 | 404)), "{deleted:?}");
    });
    let path = format!("/v2/many/manifests/{}", digest(&first));
    delete(&daemon, &path);
    daemon.get(&path).expect(404);
    let tags = daemon.get("/v2/many/tags/list?n=1000").expect(200).json();
    assert!(!tags.to_string().contains("\"a0-"), "{tags}");
    command(&daemon, &["check"]);
}

#[test]
fn many_referrers_are_collected_with_their_subject() {
    let mut daemon = Daemon::start();
    daemon.stop();
    std::fs::remove_dir_all(daemon.data.join("index")).unwrap();
    let mut bulk = Bulk::new(&daemon.data);
    let subject = bulk.image(0, None);
    let name = bulk.name("a", Some("subject"), &subject);
    let referrers: Vec<Vec<u8>> = (1..=700).map(|number| bulk.image(number, Some(&name))).collect();
    referrers.iter().for_each(|referrer| drop(bulk.name("a", None, referrer)));
    bulk.name("a", Some("other"), &bulk.image(1000, None));
    bulk.write();
    daemon.start_again();
    command(&daemon, &["gc", "--grace", "0s"]);
    daemon.get(&format!("/v2/a/manifests/{}", digest(&referrers[699]))).expect(200);
    delete(&daemon, &format!("/v2/a/manifests/{name}")).expect(202);
    command(&daemon, &["gc", "--grace", "0s"]);
    for referrer in &referrers {
        daemon.get(&format!("/v2/a/manifests/{}", digest(referrer))).expect(404);
    }
    daemon.get("/v2/a/manifests/other").expect(200);
    command(&daemon, &["check"]);
}

#[test]
fn blob_of_many_repositories_is_collected() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
    let blob = daemon.push_blob("from", b"everywhere");
    for number in 0..150 {
        let path = format!("/v2/r{number}/blobs/uploads/?mount={blob}&from=from");
        daemon.request("POST", &path).body(b"").send().expect(201);
    }
    command(&daemon, &["check"]);
    let file = daemon.data.join("blobs/sha256").join(blob.trim_start_matches("sha256:"));
    // The first collection removes the links of the repositories.
    command(&daemon, &["gc", "--grace", "0s"]);
    command(&daemon, &["gc", "--grace", "0s"]);
    assert!(!file.exists());
    daemon.get(&format!("/v2/r149/blobs/{blob}")).expect(404);
    command(&daemon, &["check"]);
}

/// The tags of a corrupt manifest in a large repository are removed in several transactions.
#[test]
fn corrupt_manifest_with_many_tags_is_moved_aside() {
    let (daemon, [first, second]) = with_tags(3000);
    let file = daemon.data.join("blobs/sha256").join(digest(&first).trim_start_matches("sha256:"));
    std::fs::write(&file, vec![b' '; first.len()]).unwrap();
    let repair = ["check", "--repair", "--data"];
    let output = Command::new(BINARY).env_clear().args(repair).arg(&daemon.data).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!file.exists());
    daemon.get("/v2/many/manifests/t0").expect(404);
    assert_eq!(daemon.get("/v2/many/manifests/t1").expect(200).body, second);
    command(&daemon, &["check"]);
    daemon.put_manifest("many", "t0", OCI_MANIFEST, &first).expect(201);
}
