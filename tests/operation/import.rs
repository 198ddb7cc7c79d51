//! `holdfast import`: formats, outcomes, interruptions.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI layout that a test makes.
struct Layout {
    /// Members in the order of the archive.
    files: Vec<(String, Vec<u8>)>,
    index: Vec<Value>,
}

impl Layout {
    fn new() -> Self {
        Layout {
            files: vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())],
            index: Vec::new(),
        }
    }

    fn blob(&mut self, content: &[u8]) -> String {
        let digest = digest(content);
        let name = format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
        if !self.files.iter().any(|(known, _)| *known == name) {
            self.files.push((name, content.to_vec()));
        }
        digest
    }

    fn image(&mut self, layer: &[u8]) -> String {
        let config_text = format!(r#"{{"config":{}}}"#, layer.len());
        let config = self.blob(config_text.as_bytes());
        let digest = self.blob(layer);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_text.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()}],
        });
        self.blob(manifest.to_string().as_bytes())
    }

    fn name(&mut self, digest: &str, media_type: &str, name: &str) {
        self.index.push(json!({
            "mediaType": media_type, "digest": digest, "size": 1,
            "annotations": {"io.containerd.image.name": name},
        }));
    }

    fn named(&mut self, name: &str, layer: &[u8]) -> String {
        let digest = self.image(layer);
        self.name(&digest, OCI_MANIFEST, name);
        digest
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = self.files.clone();
        files.push((
            "index.json".into(),
            json!({"schemaVersion": 2, "manifests": self.index}).to_string().into_bytes(),
        ));
        files
    }

    fn tar(&self, path: &Path) {
        std::fs::write(path, tar(&self.all())).unwrap();
    }

    fn directory(&self, path: &Path) {
        for (name, content) in self.all() {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
    }
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn import(data: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).env_clear().arg("import").args(arguments).arg("--data").arg(data).output().unwrap()
}

/// Runs an import that has to succeed; returns its output.
#[track_caller]
fn imported(data: &Path, arguments: &[&str]) -> String {
    let output = import(data, arguments);
    assert!(output.status.success(), "{}", both(&output));
    both(&output)
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn piped(data: &Path, input: &[u8]) -> Output {
    with_input(Command::new(BINARY).env_clear().args(["import", "-", "--data"]).arg(data), input)
}

fn path(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

fn manifest(daemon: &Daemon, image: &str) -> Response {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let types = format!("{OCI_MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json");
    daemon.request("GET", &format!("/v2/{repository}/manifests/{tag}")).header("Accept", &types).send()
}

/// Pulls an image with all its blobs; returns the digest of its manifest.
#[track_caller]
fn pulled(daemon: &Daemon, image: &str) -> String {
    let answer = manifest(daemon, image).expect(200);
    let repository = image.rsplit_once(':').unwrap().0;
    let parsed = answer.json();
    let descriptors = parsed["layers"].as_array().unwrap().iter().chain([&parsed["config"]]);
    for descriptor in descriptors {
        let wanted = descriptor["digest"].as_str().unwrap();
        let blob = daemon.get(&format!("/v2/{repository}/blobs/{wanted}")).expect(200);
        assert_eq!(digest(&blob.body), wanted);
        assert_eq!(blob.body.len() as u64, descriptor["size"].as_u64().unwrap());
    }
    digest(&answer.body)
}

#[test]
fn layouts_are_imported_as_directory_archive_and_stream() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let first = layout.named("docker.io/library/a:1", &vec![1; 300_000]);
    let second = layout.named("hub.lan:5000/team/b:2", b"");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let tree = path(&directory, "tree");
    layout.directory(&tree.join("below"));
    let compressed = path(&directory, "x.tar.gz");
    let bytes = std::fs::read(&archive).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    std::fs::write(&compressed, encoder.finish().unwrap()).unwrap();
    for medium in [&archive, &tree, &compressed] {
        let daemon = Daemon::start();
        let text = imported(&daemon.data, &[medium.to_str().unwrap()]);
        assert!(text.contains("docker.io/library/a:1") && text.contains("taken"), "{text}");
        assert_eq!(pulled(&daemon, "a:1"), first);
        assert_eq!(pulled(&daemon, "team/b:2"), second);
        let again = imported(&daemon.data, &[medium.to_str().unwrap()]);
        assert!(again.contains("present") && again.contains("stored 0 blobs"), "{again}");
    }
    // A blob in parts, as on FAT32.
    let blob =
        tree.join("below/blobs/sha256").join(digest(&vec![1; 300_000]).strip_prefix("sha256:").unwrap());
    let content = std::fs::read(&blob).unwrap();
    std::fs::remove_file(&blob).unwrap();
    for (number, part) in content.chunks(100_000).enumerate() {
        std::fs::write(format!("{}.{:03}", blob.display(), number + 1), part).unwrap();
    }
    let daemon = Daemon::start();
    imported(&daemon.data, &[tree.to_str().unwrap()]);
    assert_eq!(pulled(&daemon, "a:1"), first);
    // Without a daemon, and from a pipe.
    let mut daemon = Daemon::start();
    daemon.stop();
    let output = piped(&daemon.data, &bytes);
    assert!(output.status.success(), "{}", both(&output));
    daemon.start_again();
    assert_eq!(pulled(&daemon, "a:1"), first);
}

/// Returns an archive of `docker save` before engine 25, with a repeated layer as a link.
fn docker_archive(tags: &[&str]) -> Vec<u8> {
    let layer = tar(&[("file".into(), b"content".repeat(1000))]);
    let id = digest(&layer);
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [id, id]}});
    let config = config.to_string();
    let hex = digest(config.as_bytes()).strip_prefix("sha256:").unwrap().to_owned();
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let manifest = json!([{
        "Config": format!("{hex}.json"), "RepoTags": tags,
        "Layers": [format!("{one}/layer.tar"), format!("{two}/layer.tar")],
    }]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    };
    add(&format!("{one}/VERSION"), b"1.0");
    add(&format!("{one}/json"), b"{}");
    add(&format!("{one}/layer.tar"), &layer);
    add(&format!("{hex}.json"), config.as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, format!("{two}/layer.tar"), format!("../{one}/layer.tar")).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn docker_archives_get_the_same_manifest_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = docker_archive(&["app:1", "hub.lan/app:2"]);
    let file = path(&directory, "save.tar");
    std::fs::write(&file, &bytes).unwrap();
    let (first, second) = (Daemon::start(), Daemon::start());
    imported(&first.data, &[file.to_str().unwrap()]);
    let output = piped(&second.data, &bytes);
    assert!(output.status.success(), "{}", both(&output));
    let made = pulled(&first, "app:1");
    assert_eq!(
        [pulled(&first, "app:2"), pulled(&second, "app:1"), pulled(&second, "app:2")],
        [&made, &made, &made].map(String::clone)
    );
    let layers = manifest(&first, "app:1").json()["layers"].clone();
    assert_eq!(layers[0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let again = imported(&first.data, &[file.to_str().unwrap()]);
    assert!(again.contains("present") && again.contains("stored 0 blobs"), "{again}");
    let plain = Daemon::start();
    imported(&plain.data, &["--compress", "none", file.to_str().unwrap()]);
    let layers = manifest(&plain, "app:1").json()["layers"].clone();
    assert_eq!(layers[0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar");
    pulled(&plain, "app:1");
}

#[test]
fn one_bad_image_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let good = layout.named("good:1", b"good layer");
    layout.named("wrong:1", b"this layer will differ");
    layout.named("hole:1", b"this layer will be missing");
    layout.named("twice:1", b"one");
    layout.named("twice:1", b"two");
    layout.name(&digest(b"no such manifest"), OCI_MANIFEST, "gone:1");
    for (_, content) in &mut layout.files {
        if content == b"this layer will differ" {
            *content = b"THIS LAYER WILL DIFFER".to_vec();
        }
    }
    layout.files.retain(|(_, content)| content != b"this layer will be missing");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let bytes = std::fs::read(&archive).unwrap();
    for stream in [false, true] {
        let daemon = Daemon::start();
        let output = if stream {
            piped(&daemon.data, &bytes)
        } else {
            import(&daemon.data, &[archive.to_str().unwrap()])
        };
        let text = both(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(pulled(&daemon, "good:1"), good);
        let row = |name: &str, outcome: &str| {
            text.lines().any(|line| line.starts_with(name) && line.contains(outcome))
        };
        assert!(row("wrong:1", "refused") && row("hole:1", "missing") && row("gone:1", "missing"), "{text}");
        assert!(row("twice:1", "refused"), "{text}");
        for name in ["wrong:1", "hole:1", "twice:1", "gone:1"] {
            manifest(&daemon, name).expect(404);
        }
    }
}

#[test]
fn indexes_may_lack_platforms_and_nest() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let image = layout.image(b"arm64 layer");
    let child = |digest: &str, arch: &str| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": arch}});
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [child(&image, "arm64"), child(&digest(b"absent"), "amd64")]});
    let inner = layout.blob(inner.to_string().as_bytes());
    let outer = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": INDEX, "digest": inner, "size": 1}]});
    let outer = layout.blob(outer.to_string().as_bytes());
    layout.name(&outer, INDEX, "multi:1");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let daemon = Daemon::start();
    imported(&daemon.data, &[archive.to_str().unwrap()]);
    assert_eq!(digest(&manifest(&daemon, "multi:1").expect(200).body), outer);
    daemon.get(&format!("/v2/multi/manifests/{image}")).expect(200);
}

#[test]
fn truncated_archives_leave_no_partial_image() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    for number in 0..4u8 {
        layout.named(&format!("image{number}:1"), &[number; 100_000].map(|byte| byte ^ 0x55));
    }
    let bytes = tar(&layout.all());
    let daemon = Daemon::start();
    for end in (1..bytes.len()).step_by(64 << 10) {
        let file = path(&directory, "cut.tar");
        std::fs::write(&file, &bytes[..end]).unwrap();
        let output = import(&daemon.data, &[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{end}: {}", both(&output));
        let output = piped(&daemon.data, &bytes[..end]);
        assert_eq!(output.status.code(), Some(1), "{end}: {}", both(&output));
        manifest(&daemon, "image0:1").expect(404);
    }
    let output = piped(&daemon.data, &bytes);
    assert!(output.status.success(), "{}", both(&output));
    pulled(&daemon, "image3:1");
}

#[test]
fn names_are_mapped_and_selected() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    layout.named("hub.lan:5000/team/a:v1", b"a");
    layout.named("docker.io/library/b:v2", b"b");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let archive = archive.to_str().unwrap();
    let daemon = Daemon::start();
    let data = &daemon.data;
    let dry = imported(data, &["--dry-run", archive]);
    assert!(dry.contains("hub.lan:5000/team/a:v1") && dry.contains("team/a:v1"), "{dry}");
    manifest(&daemon, "team/a:v1").expect(404);
    imported(data, &["--prefix", "site", "--only", "site/team/*:v*", archive]);
    pulled(&daemon, "site/team/a:v1");
    manifest(&daemon, "site/b:v2").expect(404);
    imported(data, &["--names", "full", archive]);
    pulled(&daemon, "docker.io/library/b:v2");
    assert_eq!(import(data, &["--as", "x:1", archive]).status.code(), Some(2));
    imported(data, &["--as", "chosen:1", "--only", "team/a", archive]);
    pulled(&daemon, "chosen:1");
    let none = import(data, &["--only", "absent*:1", archive]);
    assert_eq!(none.status.code(), Some(1), "{}", both(&none));
    assert!(
        both(&none).contains(&format!("no image on {archive} matches --only absent*:1")),
        "{}",
        both(&none)
    );
    assert_eq!(import(data, &["--prefix", "SITE/", archive]).status.code(), Some(2));
    let mut other = Layout::new();
    other.named("docker.io/library/b:v2", b"other");
    other.tar(&path(&directory, "y.tar"));
    let other = path(&directory, "y.tar");
    let other = other.to_str().unwrap();
    imported(data, &["--as", "x:1", other]);
    pulled(&daemon, "x:1");
    let kept = imported(data, &["--names", "full", "--keep-existing", other]);
    assert!(kept.contains("kept"), "{kept}");
    assert!(kept.contains("1 tag kept") && !kept.contains("--force"), "{kept}");
    let hinted = imported(data, &["--names", "full", other]);
    assert!(
        hinted.contains("; --force moves it") && hinted.contains("1 tag kept; --force moves it"),
        "{hinted}"
    );
    assert!(
        hinted.lines().any(|line| line.contains("is sha256:") && line.contains(": the archive")),
        "{hinted}"
    );
    let moved = imported(data, &["--names", "full", "--force", other]);
    assert!(moved.contains("moved") && !moved.contains("--force"), "{moved}");
}

#[test]
fn immutable_tags_are_kept_without_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_config("[[immutable]]\nrepositories = [\"*\"]\ntags = [\"*\"]\n");
    let (digest, _) = daemon.push_image("app", "1", b"pushed");
    let mut layout = Layout::new();
    layout.named("app:1", b"other");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    for arguments in [vec![], vec!["--force"]] {
        let output = Command::new(BINARY)
            .env_clear()
            .arg("import")
            .args(arguments)
            .arg(&archive)
            .arg("--data")
            .arg(&daemon.data)
            .output()
            .unwrap();
        let text = both(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(": the tag is immutable") && text.contains("1 tag kept"), "{text}");
        assert!(!text.contains("--force"), "{text}");
        assert_eq!(pulled(&daemon, "app:1"), digest);
    }
}

#[test]
fn an_image_without_the_wanted_platform_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let image = layout.image(b"arm64 layer");
    let child = |digest: &str, arch: &str| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": arch}});
    let text = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [child(&image, "arm64"), child(&digest(b"absent"), "amd64")]});
    let index = layout.blob(text.to_string().as_bytes());
    layout.name(&index, INDEX, "multi:1");
    let medium = path(&directory, "medium");
    layout.directory(&medium);
    let medium_name = medium.to_str().unwrap();
    let daemon = Daemon::start();
    let output = import(&daemon.data, &["--platform", "linux/s390x", medium_name]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("refused") && text.contains("it has no linux/s390x"), "{text}");
    assert!(!text.contains("lacks") && !text.contains("the others are"), "{text}");
    let inventory = |medium: &Path| {
        let file = std::fs::read_dir(medium.join("holdfast/have")).unwrap().next().unwrap().unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    };
    assert!(!inventory(&medium).contains("wanted"), "{}", inventory(&medium));
    // The index names this platform, but the medium does not have it.
    let output = import(&daemon.data, &["--platform", "linux/amd64", medium_name]);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("missing") && text.contains(&digest(b"absent")), "{text}");
    manifest(&daemon, "multi:1").expect(404);
    imported(&daemon.data, &["--platform", "linux/arm64", medium_name]);
    assert_eq!(digest(&manifest(&daemon, "multi:1").expect(200).body), index);
}

#[test]
fn a_medium_without_a_place_for_the_inventory_is_imported() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    layout.named("a:1", b"a");
    layout.directory(directory.path());
    std::fs::write(path(&directory, "holdfast"), b"a file").unwrap();
    let daemon = Daemon::start();
    let text = imported(&daemon.data, &[directory.path().to_str().unwrap()]);
    assert!(text.contains("has no inventory") && text.contains("holdfast is not a directory"), "{text}");
    pulled(&daemon, "a:1");
}

#[test]
fn dry_runs_report_refused_images() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    layout.named("twice:1", b"one");
    layout.named("twice:1", b"two");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let daemon = Daemon::start();
    let output = import(&daemon.data, &["--dry-run", "--json", archive.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: Vec<Value> = events.filter(|event| event["event"] == "item").collect();
    assert_eq!(rows.len(), 2, "{lines}");
    assert!(rows.iter().all(|row| row["outcome"] == "refused" && row["name"] == "twice:1"), "{lines}");
    assert!(!both(&output).contains("the others are"), "{}", both(&output));
}

#[test]
fn wrong_media_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start();
    let write = |name: &str, content: &[u8]| {
        let file = path(&directory, name);
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let folder = |name: &str, files: &[(&str, &str)]| {
        let folder = path(&directory, name);
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }
        folder.to_str().unwrap().to_owned()
    };
    let other = write("other.tar", &tar(&[("etc/passwd".into(), b"x".to_vec())]));
    for (file, words) in [
        (write("x.tar.xz", b"\xfd7zXZ\0 and more"), "xz -dc FILE | holdfast import -"),
        (other, "etc/passwd"),
        (write("text", b"hello"), "no known format"),
        (write("long", &b"text ".repeat(1000)), "no known format"),
        (write("none", b""), "is empty or has no file of a known format"),
        (folder("empty", &[]), "empty is empty or has no file of a known format"),
        (folder("broken", &[("index.json", "{\"manifests\":")]), "broken/index.json is not valid JSON: "),
        (folder("blank", &[("index.json", "{\"manifests\":[]}")]), "blank has no images"),
        (
            folder("later", &[("index.json", "{}"), ("holdfast/export.json", "{\"format\":9}")]),
            "later: holdfast/export.json has format 9, which needs a later release",
        ),
        ("/no/such/file".into(), "/no/such/file"),
    ] {
        let output = import(&daemon.data, &[&file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(both(&output).contains(words), "{file}: {}", both(&output));
    }
    let output = piped(&daemon.data, b"hi\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(both(&output).contains("standard input: no known format"), "{}", both(&output));
}

#[test]
fn a_large_bundle_is_imported_and_continued_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let count = 100;
    for number in 0..count {
        layout.named(&format!("bundle/image{number}:1"), format!("layer {number}").repeat(500).as_bytes());
    }
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let daemon = Daemon::start();
    for _ in 0..3 {
        let mut child = Command::new(BINARY)
            .env_clear()
            .args(["import", "--json", archive.to_str().unwrap(), "--data"])
            .arg(&daemon.data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first item is there, and many are not.
        let mut seen = String::new();
        let mut output = child.stdout.take().unwrap();
        let mut buffer = [0; 4096];
        while !seen.contains("\"event\":\"item\"") {
            let read = output.read(&mut buffer).unwrap();
            assert!(read > 0, "{seen}");
            seen += &String::from_utf8_lossy(&buffer[..read]);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for number in 0..count {
        let name = format!("bundle/image{number}:1");
        if manifest(&daemon, &name).status == 200 {
            pulled(&daemon, &name);
        }
    }
    imported(&daemon.data, &[archive.to_str().unwrap()]);
    for number in 0..count {
        pulled(&daemon, &format!("bundle/image{number}:1"));
    }
}

#[test]
fn exports_are_imported_with_their_inventories() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (Daemon::start(), Daemon::start());
    let (digest, _) = first.push_image("team/app", "1", b"a layer");
    let stick = path(&directory, "stick");
    std::fs::create_dir(&stick).unwrap();
    let export = |daemon: &Daemon| {
        let output = Command::new(BINARY)
            .env_clear()
            .args(["export", "--all", "-o"])
            .arg(&stick)
            .arg("--data")
            .arg(&daemon.data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", both(&output));
    };
    export(&first);
    let stick_name = stick.to_str().unwrap();
    imported(&second.data, &[stick_name]);
    assert_eq!(pulled(&second, "team/app:1"), digest);
    let have = std::fs::read_dir(stick.join("holdfast/have")).unwrap().count();
    assert_eq!(have, 1);
    // Pushes have a time in seconds: one in the same second counts as no newer.
    std::thread::sleep(Duration::from_millis(1100));
    // The next export has only what is new, and completes the other registry.
    let (newer, _) = first.push_image("team/app", "1", b"another layer");
    export(&first);
    let moved = imported(&second.data, &[stick_name]);
    assert!(moved.contains("moved"), "{moved}");
    assert_eq!(pulled(&second, "team/app:1"), newer);
    // A third registry lacks what was left out, and says so on the medium.
    let third = Daemon::start();
    let output = import(&third.data, &[stick_name]);
    let text = both(&output);
    let is_whole = output.status.success();
    assert!(is_whole || (output.status.code() == Some(1) && text.contains("missing")), "{text}");
    export(&first);
    imported(&third.data, &[stick_name]);
    assert_eq!(pulled(&third, "team/app:1"), newer);
}

#[test]
fn layers_are_compressed_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let layer = tar(&[("file".into(), b"content".repeat(10_000))]);
    let mut layout = Layout::new();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}}).to_string();
    let (config_digest, layer_digest) = (layout.blob(config.as_bytes()), layout.blob(&layer));
    let text = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
    });
    let original = layout.blob(text.to_string().as_bytes());
    layout.name(&original, OCI_MANIFEST, "plain:1");
    let archive = path(&directory, "x.tar");
    layout.tar(&archive);
    let daemon = Daemon::start();
    imported(&daemon.data, &["--compress", "gzip", archive.to_str().unwrap()]);
    assert_ne!(pulled(&daemon, "plain:1"), original);
    let layers = manifest(&daemon, "plain:1").json()["layers"].clone();
    assert_eq!(layers[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    imported(&daemon.data, &["--as", "plain:2", archive.to_str().unwrap()]);
    assert_eq!(pulled(&daemon, "plain:2"), original);
}

/// Makes a key and the file of signers that allows it.
fn signer(directory: &TempDir) -> (PathBuf, PathBuf) {
    let (key, signers) = (path(directory, "key"), path(directory, "signers"));
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-f"];
    assert!(Command::new("ssh-keygen").args(arguments).arg(&key).status().unwrap().success());
    let public = std::fs::read_to_string(path(directory, "key.pub")).unwrap();
    std::fs::write(&signers, format!("ops {public}")).unwrap();
    (key, signers)
}

/// Exports everything to a signed stick.
fn signed_stick(daemon: &Daemon, key: &Path, stick: &Path) {
    std::fs::create_dir(stick).unwrap();
    let mut command = Command::new(BINARY);
    command.env_clear().args(["export", "--all", "-o"]).arg(stick).arg("--sign").arg(key);
    let output = command.arg("--data").arg(&daemon.data).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
}

/// Changes the descriptors of a stick.
fn edit_index(stick: &Path, edit: impl FnOnce(&mut Vec<Value>)) {
    let file = stick.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    edit(index["manifests"].as_array_mut().unwrap());
    std::fs::write(file, index.to_string()).unwrap();
}

/// Returns a registry that demands signatures, and one for which the command does, with the arguments of the command.
fn demanding(signers: &Path) -> [(Daemon, Vec<&str>); 2] {
    let signers = signers.to_str().unwrap();
    let daemon = Daemon::with_env(&[("HOLDFAST_IMPORT_SIGNERS", signers)]);
    [(daemon, Vec::new()), (Daemon::start(), vec!["--signers", signers])]
}

#[track_caller]
fn assert_refused(output: &Output, daemon: &Daemon, names: &[&str]) {
    let text = both(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for name in names {
        let is_row = |line: &str| line.starts_with(name) && line.contains("refused");
        assert!(text.lines().any(is_row), "{name}: {text}");
        manifest(daemon, name).expect(404);
    }
}

#[test]
fn signed_sticks_are_imported_together_and_under_other_names() {
    let directory = tempfile::tempdir().unwrap();
    let (key, signers) = signer(&directory);
    let (one, two) = (path(&directory, "one"), path(&directory, "two"));
    let (first, second) = (Daemon::start(), Daemon::start());
    let (app, _) = first.push_image("team/app", "1", b"a layer");
    let (other, _) = second.push_image("other", "1", b"another layer");
    signed_stick(&first, &key, &one);
    signed_stick(&second, &key, &two);
    for (daemon, arguments) in demanding(&signers) {
        let sticks = [one.to_str().unwrap(), two.to_str().unwrap()];
        imported(&daemon.data, &[&arguments[..], &sticks].concat());
        imported(&daemon.data, &[&arguments[..], &["--prefix", "site/"], &sticks].concat());
        imported(&daemon.data, &[&arguments[..], &["--as", "x:9"], &sticks[..1]].concat());
        for prefix in ["", "site/"] {
            assert_eq!(pulled(&daemon, &format!("{prefix}team/app:1")), app);
            assert_eq!(pulled(&daemon, &format!("{prefix}other:1")), other);
        }
        assert_eq!(pulled(&daemon, "x:9"), app);
    }
}

#[test]
fn names_and_times_have_to_be_signed() {
    let directory = tempfile::tempdir().unwrap();
    let (key, signers) = signer(&directory);
    let home = Daemon::start();
    home.push_image("team/app", "1", b"a layer");
    home.push_image("other", "1", b"another layer");
    let (third, _) = home.push_image("third", "1", b"a third layer");
    let stick = path(&directory, "stick");
    signed_stick(&home, &key, &stick);
    // The digests of two images are swapped.
    edit_index(&stick, |entries| {
        let at = |name: &str| {
            entries.iter().position(|one| one["annotations"]["io.holdfast.repository"] == name).unwrap()
        };
        let (app, other) = (at("team/app"), at("other"));
        let digests = (entries[app]["digest"].clone(), entries[other]["digest"].clone());
        (entries[other]["digest"], entries[app]["digest"]) = digests;
    });
    for (daemon, arguments) in demanding(&signers) {
        let output = import(&daemon.data, &[&arguments[..], &[stick.to_str().unwrap()]].concat());
        assert_refused(&output, &daemon, &["team/app:1", "other:1"]);
        assert_eq!(pulled(&daemon, "third:1"), third);
    }
    // A later time would move the tag.
    let stick = path(&directory, "later");
    signed_stick(&home, &key, &stick);
    edit_index(&stick, |entries| {
        for entry in entries {
            entry["annotations"]["io.holdfast.pushed"] = "99999999999".into();
        }
    });
    let daemon = Daemon::start();
    let (signers, stick) = (signers.to_str().unwrap(), stick.to_str().unwrap());
    let output = import(&daemon.data, &["--signers", signers, stick]);
    assert_refused(&output, &daemon, &["team/app:1", "other:1", "third:1"]);
    assert!(both(&output).contains("the signed list does not name it"), "{}", both(&output));
}

#[test]
fn foreign_images_beside_a_signed_list_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (key, signers) = signer(&directory);
    let home = Daemon::start();
    home.push_image("team/app", "1", b"a layer");
    let (stick, foreign) = (path(&directory, "stick"), path(&directory, "foreign"));
    signed_stick(&home, &key, &stick);
    let mut layout = Layout::new();
    layout.named("team/app:1", b"a foreign layer");
    layout.directory(&foreign);
    std::fs::create_dir(foreign.join("holdfast")).unwrap();
    for name in ["holdfast/export.json", "holdfast/export.json.sig"] {
        std::fs::copy(stick.join(name), foreign.join(name)).unwrap();
    }
    for (daemon, arguments) in demanding(&signers) {
        let output = import(&daemon.data, &[&arguments[..], &[foreign.to_str().unwrap()]].concat());
        assert_refused(&output, &daemon, &["team/app:1"]);
    }
}

/// Copies the files of one folder into another.
fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_old_signed_medium_moves_no_tag_back() {
    let directory = tempfile::tempdir().unwrap();
    let (key, signers) = signer(&directory);
    let [old, new, mixed] = ["old", "new", "mixed"].map(|name| path(&directory, name));
    let home = Daemon::start();
    home.push_image("team/app", "1", b"an old layer");
    signed_stick(&home, &key, &old);
    // Pushes have a time in seconds: one in the same second counts as no newer.
    std::thread::sleep(Duration::from_millis(1100));
    let (newer, _) = home.push_image("team/app", "1", b"a new layer");
    signed_stick(&home, &key, &new);
    // The index of the old medium with the list of the new one.
    signed_stick(&home, &key, &mixed);
    std::fs::copy(old.join("index.json"), mixed.join("index.json")).unwrap();
    copy_files(&old.join("blobs/sha256"), &mixed.join("blobs/sha256"));
    for (daemon, arguments) in demanding(&signers) {
        let run = |stick: &Path| import(&daemon.data, &[&arguments[..], &[stick.to_str().unwrap()]].concat());
        assert!(run(&new).status.success());
        let replayed = run(&old);
        assert!(replayed.status.success() && both(&replayed).contains("1 tag kept"), "{}", both(&replayed));
        let refused = run(&mixed);
        assert!(refused.status.code() == Some(1) && both(&refused).contains("refused"), "{}", both(&refused));
        assert_eq!(pulled(&daemon, "team/app:1"), newer);
    }
}
