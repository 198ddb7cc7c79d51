//! Export and import, from one registry to another.

use super::*;

fn import(daemon: &Daemon, arguments: &[&str], source: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("import").args(arguments).arg(source).arg("--data").arg(&daemon.data);
    command
}

/// Asserts that a registry serves the image with the digests and bytes of another.
fn assert_same(from: &Daemon, to: &Daemon, repository: &str, tag: &str) {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let (sent, received) = (from.get(&path).expect(200), to.get(&path).expect(200));
    assert_eq!(received.body, sent.body, "{path}");
    assert_eq!(received.header("content-type"), sent.header("content-type"));
    let manifest: Value = serde_json::from_slice(&sent.body).unwrap();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for digest in layers.chain([&manifest["config"]]).filter_map(|one| one["digest"].as_str()) {
        let blob = format!("/v2/{repository}/blobs/{digest}");
        assert!(to.get(&blob).expect(200).body == from.get(&blob).expect(200).body, "{blob}");
    }
}

#[test]
fn stick_goes_back_and_forth_with_the_differences() {
    let (home, site) = (Daemon::start(), Daemon::start());
    let directory = tempfile::tempdir().unwrap();
    let stick = directory.path();
    let first = push(&home, "team/app", "1", &noise(1, 200_000));
    push(&home, "other", "1", &noise(2, 200_000));
    let layer = home.push_blob("team/app", b"signature");
    let config = home.push_blob("team/app", b"{}");
    let signature = image(&config, &layer, Some(&first.digest));
    home.put_manifest("team/app", &digest(&signature), OCI_MANIFEST, &signature).expect(201);
    run(&mut export(&home, &["--all"], stick));
    run(&mut import(&site, &[], stick));
    for (repository, tag) in [("team/app", "1"), ("other", "1"), ("team/app", &digest(&signature))] {
        assert_same(&home, &site, repository, tag);
    }
    let path = format!("/v2/team/app/referrers/{}", first.digest);
    assert_eq!(site.get(&path).expect(200).body, home.get(&path).expect(200).body);
    // The site has left its inventory, so that the next export has only what is new.
    let second = push(&home, "team/app", "2", &noise(3, 200_000));
    let text = run(&mut export(&home, &["--all"], stick));
    assert!(text.contains("left out: "), "{text}");
    let found = files(stick);
    assert!(found.contains_key(&path_of(&second.layer)) && !found.contains_key(&path_of(&first.layer)));
    run(&mut import(&site, &[], stick));
    assert_same(&home, &site, "team/app", "2");
    assert_same(&home, &site, "team/app", "1");
}

#[test]
fn parts_and_signed_archives_are_imported() {
    let home = Daemon::start();
    push(&home, "team/app", "1", &noise(1, 300_000));
    let amd = push_for(&home, "multi", "", b"amd", "amd64");
    let arm = push_for(&home, "multi", "", b"arm", "arm64");
    push_index(&home, "multi", "1", &[(&amd, "amd64"), (&arm, "arm64")]);
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let signers = directory.path().join("signers");
    let public = std::fs::read_to_string(directory.path().join("key.pub")).unwrap();
    std::fs::write(&signers, format!("ops {public}")).unwrap();
    let file = directory.path().join("x.tar");
    let arguments = ["--all", "--split", "100kB", "--sign", key.to_str().unwrap()];
    run(&mut export(&home, &arguments, &file));
    let site = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    run(&mut import(&site, &[], &directory.path().join("x.tar.001")));
    assert_same(&home, &site, "team/app", "1");
    assert_same(&home, &site, "multi", "1");
    assert_same(&home, &site, "multi", &arm.digest);
    let unsigned = directory.path().join("unsigned");
    run(&mut export(&home, &["--all"], &unsigned));
    let other = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    let refused = import(&other, &[], &unsigned).output().unwrap();
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    other.get("/v2/team/app/manifests/1").expect(404);
}

#[test]
fn blobs_in_parts_are_imported() {
    let (home, site) = (Daemon::start(), Daemon::start());
    push(&home, "team/app", "1", &noise(1, 300_000));
    let directory = tempfile::tempdir().unwrap();
    run(&mut export(&home, &["--all", "--split", "100kB"], directory.path()));
    run(&mut import(&site, &[], directory.path()));
    assert_same(&home, &site, "team/app", "1");
}
