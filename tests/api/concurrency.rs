//! Concurrent clients: every acknowledged push lasts.

use crate::support::*;

#[test]
fn concurrent_pushes_all_survive_a_kill() {
    let mut daemon = Daemon::start();
    let image = |thread: usize, number: usize| format!("layer {number} of {thread}").into_bytes();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                for number in 0..10 {
                    daemon.push_image(
                        &format!("r{}", thread % 3),
                        &format!("{thread}-{number}"),
                        &image(thread, number),
                    );
                }
            });
        }
    });
    daemon.kill_and_restart();
    for thread in 0..8 {
        let repository = format!("r{}", thread % 3);
        for number in 0..10 {
            let manifest = daemon.get(&format!("/v2/{repository}/manifests/{thread}-{number}")).expect(200);
            let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
            let blob = daemon.get(&format!("/v2/{repository}/blobs/{layer}")).expect(200);
            assert_eq!(blob.body, image(thread, number));
        }
    }
}

#[test]
fn several_clients_push_the_same_blob() {
    let daemon = Daemon::start();
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 249) as u8).collect();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (daemon, content) = (&daemon, &content);
            scope.spawn(move || daemon.push_blob(&format!("r{}", thread % 2), content));
        }
    });
    for repository in ["r0", "r1"] {
        assert_eq!(
            daemon.get(&format!("/v2/{repository}/blobs/{}", digest(&content))).expect(200).body,
            content
        );
    }
    assert_eq!(std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_tag_moved_by_several_clients_names_one_of_their_manifests() {
    let daemon = Daemon::start();
    let digests: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let daemon = &daemon;
                scope.spawn(move || daemon.push_image("a", "latest", format!("{thread}").as_bytes()).0)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let tagged = daemon
        .request("HEAD", "/v2/a/manifests/latest")
        .send()
        .expect(200)
        .required_header("docker-content-digest");
    assert!(digests.contains(&tagged));
    for digest in &digests {
        daemon.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    }
    daemon.request("DELETE", &format!("/v2/a/manifests/{tagged}")).send().expect(202);
    daemon.get("/v2/a/manifests/latest").expect(404);
}

#[test]
fn a_late_patch_never_writes_to_a_blob() {
    let daemon = Daemon::start();
    for round in 0..150 {
        let content = format!("content of round {round}").into_bytes();
        let location = daemon.start_upload("a");
        daemon.request("PATCH", &location).body(&content).send().expect(202);
        let put = format!("{location}?digest={}", digest(&content));
        let (put, patch) = std::thread::scope(|scope| {
            let put = scope.spawn(|| daemon.request("PUT", &put).body(b"").send().status);
            let patch = scope.spawn(|| daemon.request("PATCH", &location).body(b"more").send().status);
            (put.join().unwrap(), patch.join().unwrap())
        });
        assert!(matches!((put, patch), (201, 404 | 409) | (400..=416, _)), "{put} {patch}");
        if put == 201 {
            let file = daemon.data.join("blobs/sha256").join(&digest(&content)["sha256:".len()..]);
            assert_eq!(std::fs::read(file).unwrap(), content, "round {round}: {put} {patch}");
        }
    }
}
