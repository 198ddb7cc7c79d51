//! `holdfast export` on the real binary: layouts, selection, resuming, media and other tools.

mod clients;
mod differences;
mod failing_writes;
mod faults;
mod large_on_fat;
mod resume;
mod round_trip;
mod signing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::*;

/// An image whose layer is a real tar, as docker needs it.
struct Image {
    digest: String,
    config: String,
    layer: String,
}

/// Pushes an image with a layer that has a file of this content.
fn push(daemon: &Daemon, repository: &str, tag: &str, content: &[u8]) -> Image {
    push_for(daemon, repository, tag, content, "amd64")
}

fn push_for(daemon: &Daemon, repository: &str, tag: &str, content: &[u8], architecture: &str) -> Image {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", content).unwrap();
    let layer = builder.into_inner().unwrap();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/file"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let image = Image {
        digest: String::new(),
        config: daemon.push_blob(repository, &config),
        layer: daemon.push_blob(repository, &layer),
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": images::CONFIG, "digest": image.config, "size": config.len()},
        "layers": [{"mediaType": images::LAYER, "digest": image.layer, "size": layer.len()}],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = digest(&manifest);
    let reference = if tag.is_empty() { &digest } else { tag };
    daemon.put_manifest(repository, reference, OCI_MANIFEST, &manifest).expect(201);
    Image { digest, ..image }
}

/// Pushes an index of manifests that the repository has, each for an architecture.
fn push_index(daemon: &Daemon, repository: &str, tag: &str, images: &[(&Image, &str)]) -> String {
    let entries: Vec<Value> = images
        .iter()
        .map(|(image, architecture)| {
            let bytes = daemon.get(&format!("/v2/{repository}/manifests/{}", image.digest)).expect(200).body;
            json!({"mediaType": OCI_MANIFEST, "digest": image.digest, "size": bytes.len(),
                "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let index = serde_json::to_vec(&index).unwrap();
    daemon.put_manifest(repository, tag, OCI_INDEX, &index).expect(201);
    digest(&index)
}

fn export(daemon: &Daemon, arguments: &[&str], output: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("export").args(arguments).arg("-o").arg(output);
    command.arg("--data").arg(&daemon.data);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the content of all files of a directory, by their paths.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(directory, directory, &mut found);
    found
}

/// Returns the members of a tar in their order.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    use std::io::Read;
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap();
    let read = entries.map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    });
    read.collect()
}

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn json_of(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

/// Asserts that every blob has the bytes of its name, and that everything that a manifest lists is there.
fn assert_whole(files: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in files.iter().filter(|(name, _)| name.starts_with("blobs/sha256/")) {
        assert_eq!(path_of(&digest(content)), *name);
    }
    let mut queue: Vec<Value> = json_of(files, "index.json")["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["digest"].clone())
        .collect();
    while let Some(digest) = queue.pop() {
        let name = path_of(digest.as_str().unwrap());
        assert!(files.contains_key(&name), "{name} is missing");
        if let Ok(manifest) = serde_json::from_slice::<Value>(&files[&name]) {
            let layers = manifest["layers"].as_array().into_iter().flatten();
            queue.extend(layers.chain([&manifest["config"]]).filter_map(|one| one.get("digest").cloned()));
        }
    }
}

#[test]
fn directory_is_a_layout_with_all_names_and_is_the_same_again() {
    let daemon = Daemon::start();
    let one = push(&daemon, "team/app", "1.0", b"one");
    push(&daemon, "team/app", "latest", b"one");
    let two = push(&daemon, "ghcr.io/x/y", "2", b"two");
    let directory = tempfile::tempdir().unwrap();
    let stick = directory.path().join("stick");
    let text = run(&mut export(&daemon, &["--all"], &stick));
    assert!(text.contains("team/app:1.0") && text.contains("exported 3 images, 6 blobs"), "{text}");
    assert!(text.contains("stick is complete and was read back; the medium can be unplugged\n"), "{text}");
    let found = files(&stick);
    assert_whole(&found);
    assert_eq!(found["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    assert!(!found.contains_key("manifest.json"));
    let index = json_of(&found, "index.json");
    let entry = &index["manifests"][1];
    assert_eq!(entry["digest"], one.digest.as_str());
    let annotations = &entry["annotations"];
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1.0");
    assert_eq!(annotations["io.holdfast.repository"], "team/app");
    assert_eq!(annotations["io.containerd.image.name"], "docker.io/team/app:1.0");
    assert!(annotations["io.holdfast.pushed"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
    assert_eq!(name, "ghcr.io/x/y:2");
    let list = json_of(&found, "holdfast/export.json");
    assert_eq!((&list["format"], &list["whole"]), (&json!(1), &json!(true)));
    assert_eq!(list["blobs"].as_array().unwrap().len(), 6);
    // A second run writes nothing, and another directory gets the same bytes.
    let text = run(&mut export(&daemon, &["--all"], &stick));
    assert!(text.contains("already there"), "{text}");
    assert_eq!(files(&stick), found);
    let other = directory.path().join("other");
    run(&mut export(&daemon, &["--all", "--docker"], &other));
    let mut with_docker = files(&other);
    with_docker.remove("manifest.json").unwrap();
    assert_eq!(with_docker, found);
    // An export of fewer images replaces it, with its content.
    run(&mut export(&daemon, &["ghcr.io/x/y"], &stick));
    let fewer = files(&stick);
    assert_whole(&fewer);
    assert!(fewer.contains_key(&path_of(&two.layer)) && !fewer.contains_key(&path_of(&one.layer)));
    assert!(fewer.keys().all(|name| !name.ends_with(".new")));
}

#[test]
fn archive_has_its_names_first_and_equals_that_on_a_pipe() {
    let daemon = Daemon::start();
    let image = push(&daemon, "team/app", "1", &noise(1, 100_000));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.tar");
    run(&mut export(&daemon, &["team/app", "--host", "hub.lan:5000"], &file));
    let archive = std::fs::read(&file).unwrap();
    let names: Vec<String> = members(&archive).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "oci-layout",
        "index.json",
        "manifest.json",
        "holdfast/export.json",
        &path_of(&image.digest),
        &path_of(&image.config),
        &path_of(&image.layer),
    ];
    assert_eq!(names, expected);
    let found: BTreeMap<String, Vec<u8>> = members(&archive).into_iter().collect();
    assert_whole(&found);
    let docker = json_of(&found, "manifest.json");
    assert_eq!(docker[0]["RepoTags"], json!(["hub.lan:5000/team/app:1"]));
    let piped = export(&daemon, &["team/app", "--host", "hub.lan:5000"], Path::new("-")).output().unwrap();
    assert_eq!(code(&piped), 0, "{}", stderr(&piped));
    assert!(piped.stdout == archive, "a pipe has other bytes");
    assert!(stderr(&piped).contains("exported 1 image"), "{}", stderr(&piped));
    // Parts are plain cuts, and an unchanged archive is recognised.
    let text = run(&mut export(&daemon, &["team/app", "--host", "hub.lan:5000", "--split", "40kB"], &file));
    assert!(text.contains("a.tar.001 … ") && text.contains("a.tar.003 (3 parts)"), "{text}");
    let parts: Vec<u8> = (1..=3)
        .flat_map(|part| std::fs::read(directory.path().join(format!("a.tar.00{part}"))).unwrap())
        .collect();
    assert!(parts == archive, "the parts have other bytes");
    let text = run(&mut export(&daemon, &["team/app", "--host", "hub.lan:5000"], &file));
    assert!(text.contains("already there"), "{text}");
    assert_eq!(files(directory.path()).into_keys().collect::<Vec<_>>(), ["a.tar"]);
}

#[test]
fn selection_has_patterns_digests_and_platforms() {
    let daemon = Daemon::start();
    let amd = push_for(&daemon, "team/app", "", b"amd", "amd64");
    let arm = push_for(&daemon, "team/app", "", b"arm", "arm64");
    let index = push_index(&daemon, "team/app", "v1.0", &[(&amd, "amd64"), (&arm, "arm64")]);
    push(&daemon, "team/app", "v2.0", b"later");
    push(&daemon, "other", "v1.1", b"other");
    let directory = tempfile::tempdir().unwrap();
    let images = |arguments: &[&str], name: &str| {
        let stick = directory.path().join(name);
        let output = export(&daemon, arguments, &stick).arg("--json").output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut images: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|line| Some(line["image"].as_str()?.to_owned()))
            .collect();
        images.sort();
        (images, code(&output), stick)
    };
    assert_eq!(images(&["team/*:v1.*", "other"], "a").0, ["other:v1.1", "team/app:v1.0"]);
    let name = format!("team/app@{}", arm.digest);
    assert_eq!(images(&[&name], "b").0, [name]);
    let (found, status, stick) = images(&["team/app:v1.0", "--platform", "linux/arm64"], "c");
    assert_eq!((found, status), (vec!["team/app:v1.0".to_owned()], 0));
    let exported = files(&stick);
    assert_eq!(digest(&exported[&path_of(&index)]), index);
    assert!(exported.contains_key(&path_of(&arm.layer)) && !exported.contains_key(&path_of(&amd.layer)));
    // A name that matches nothing, and a platform that is not there: the rest is done.
    let (found, status, _) = images(&["missing/*", "other"], "d");
    assert_eq!((found, status), (vec!["other:v1.1".to_owned()], 1));
    let (_, status, stick) = images(&["team/*", "--platform", "linux/riscv64"], "e");
    assert_eq!(
        (status, json_of(&files(&stick), "index.json")["manifests"].as_array().unwrap().len()),
        (1, 1)
    );
    let missing = export(&daemon, &["missing"], &directory.path().join("f")).output().unwrap();
    assert_eq!(code(&missing), 1);
    assert!(!directory.path().join("f").exists());
    let wrong = export(&daemon, &["hub.lan:5000/a"], &directory.path().join("f")).output().unwrap();
    assert_eq!(code(&wrong), 2, "{}", stderr(&wrong));
    let wrong =
        export(&daemon, &["other", "--host", "bad host"], &directory.path().join("f")).output().unwrap();
    assert!(code(&wrong) == 2 && stderr(&wrong).contains("--host"), "{}", stderr(&wrong));
    let planned = run(&mut export(&daemon, &["--all", "--dry-run"], &directory.path().join("f")));
    assert!(planned.contains("index.json") && planned.contains("would export 3 images"), "{planned}");
    assert!(!directory.path().join("f").exists());
}

#[test]
fn referrers_and_attachment_tags_travel_with_their_image() {
    let daemon = Daemon::start();
    let app = push(&daemon, "app", "1", b"app");
    push(&daemon, "app", "2", b"other");
    let config = daemon.push_blob("app", b"{}");
    let layer = daemon.push_blob("app", b"signature");
    let signature = image(&config, &layer, Some(&app.digest));
    daemon.put_manifest("app", &digest(&signature), OCI_MANIFEST, &signature).expect(201);
    let attached = push(&daemon, "app", &format!("sha256-{}.sig", &app.digest[7..]), b"cosign");
    let directory = tempfile::tempdir().unwrap();
    let roots = |arguments: &[&str], name: &str| {
        let stick: PathBuf = directory.path().join(name);
        run(&mut export(&daemon, arguments, &stick));
        let found = files(&stick);
        assert_whole(&found);
        let index = json_of(&found, "index.json");
        let digests = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["digest"].as_str().unwrap().to_owned());
        digests.collect::<std::collections::BTreeSet<_>>()
    };
    let all = [app.digest.clone(), digest(&signature), attached.digest].into();
    assert_eq!(roots(&["app:1"], "a"), all);
    assert_eq!(roots(&["app:1", "--no-referrers"], "b"), [app.digest].into());
    assert_eq!(roots(&["app:2"], "c").len(), 1);
}
