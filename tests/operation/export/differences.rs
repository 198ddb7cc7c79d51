//! Exports that leave out what their receivers have.

use super::*;

fn inventory(id: &str, digests: &[&str], wanted: &[(&str, &str)]) -> String {
    let mut text = format!("# holdfast inventory 1 id={id} host={id} time=7\n");
    for digest in digests {
        text += &format!("{digest}\n");
    }
    for (image, digest) in wanted {
        text += &format!("wanted {image} {digest}\n");
    }
    text
}

#[test]
fn export_leaves_out_what_all_receivers_have_and_adds_what_one_wants() {
    let daemon = Daemon::start();
    let (old, new) =
        (push(&daemon, "app", "1", &noise(1, 50_000)), push(&daemon, "app", "2", &noise(2, 50_000)));
    let lost = push(&daemon, "other", "1", &noise(3, 50_000));
    let directory = tempfile::tempdir().unwrap();
    let have = directory.path().join("holdfast/have");
    std::fs::create_dir_all(&have).unwrap();
    let all = [old.layer.as_str(), old.config.as_str(), lost.layer.as_str()];
    std::fs::write(have.join("a.txt"), inventory("a", &all, &[])).unwrap();
    std::fs::write(
        have.join("b.txt"),
        inventory("b", &all[..2], &[("other", &lost.layer), ("app:1", &old.config)]),
    )
    .unwrap();
    let text = run(&mut export(&daemon, &["app"], directory.path()));
    assert!(text.contains("left out: 1 blob"), "{text}");
    let found = files(directory.path());
    assert!(!found.contains_key(&path_of(&old.layer)) && found.contains_key(&path_of(&old.digest)));
    for added in [&old.config, &lost.layer, &new.layer] {
        assert!(found.contains_key(&path_of(added)));
    }
    let list = json_of(&found, "holdfast/export.json");
    assert_eq!((&list["whole"], &list["left_out"][0]["digest"]), (&json!(false), &json!(old.layer)));
    // A tar beside the inventories, and the own inventory, which does not count.
    let own = run(Command::new(BINARY).env_clear().args(["inventory", "--data"]).arg(&daemon.data));
    assert!(own.contains(&new.layer), "{own}");
    std::fs::write(have.join("own.txt"), own).unwrap();
    std::fs::remove_file(have.join("b.txt")).unwrap();
    let file = directory.path().join("x.tar");
    let text = run(&mut export(&daemon, &["app"], &file));
    assert!(text.contains("left out: 2 blobs"), "{text}");
    // Images with holes are not for docker.
    let members: BTreeMap<String, Vec<u8>> = members(&std::fs::read(&file).unwrap()).into_iter().collect();
    let docker = json_of(&members, "manifest.json");
    assert_eq!(
        (docker.as_array().unwrap().len(), &docker[0]["RepoTags"]),
        (1, &json!(["docker.io/library/app:2"]))
    );
    std::fs::write(have.join("c.txt"), "nonsense").unwrap();
    let refused = export(&daemon, &["app"], directory.path()).output().unwrap();
    assert!(code(&refused) == 1 && stderr(&refused).contains("c.txt"), "{}", stderr(&refused));
}

#[test]
fn older_exports_are_receivers_as_well() {
    let daemon = Daemon::start();
    push(&daemon, "app", "1", &noise(1, 50_000));
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    run(&mut export(&daemon, &["app"], &at("first.tar")));
    run(&mut export(&daemon, &["app"], &at("first")));
    let new = push(&daemon, "app", "2", &noise(2, 50_000));
    let inventory = at("inventory.txt");
    run(Command::new(BINARY)
        .env_clear()
        .arg("inventory")
        .arg("-o")
        .arg(&inventory)
        .arg("--data")
        .arg(&daemon.data));
    let mut results = Vec::new();
    for older in ["first.tar", "first", "first/holdfast/export.json"] {
        let output = at(&format!("second-{}", results.len()));
        run(&mut export(&daemon, &["app", "--for", at(older).to_str().unwrap()], &output));
        results.push(files(&output));
    }
    assert!(results[0].contains_key(&path_of(&new.layer)));
    assert_eq!(results[0].keys().filter(|name| name.starts_with("blobs/")).count(), 4);
    assert!(results.iter().all(|result| *result == results[0]));
}
