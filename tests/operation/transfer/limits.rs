//! The limits of what a medium may make an import hold, and directories that other users prepared.

use std::io::Write;

use serde_json::json;

use super::*;

/// A tar with one image, and with room for members beside it.
fn tar_with(members: impl FnOnce(&mut dyn FnMut(&str, &[u8]))) -> (Vec<u8>, Image) {
    let (media, images) = layout(1, 5_000);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    };
    members(&mut add);
    media.files().for_each(|(name, content)| add(name, content));
    (builder.into_inner().unwrap(), images[0].clone())
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) -> Daemon {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let daemon = Daemon::start();
    let output = import(&daemon, file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for words in words {
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
    }
    daemon
}

#[test]
fn documents_and_members_beyond_the_limits_are_refused() {
    // 33 MiB of blanks, which gzip makes small.
    let (bytes, _) = tar_with(|add| add("manifest.json", &vec![b' '; 33 << 20]));
    refused(&bytes, &["manifest.json", "32.0 MiB"]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    refused(&encoder.finish().unwrap(), &["manifest.json", "32.0 MiB"]);
    let (bytes, _) = tar_with(|add| (0..100_000).for_each(|number| add(&format!("{number}/layer.tar"), b"")));
    refused(&bytes, &["the number of members", "100000"]);
}

#[test]
fn large_files_of_others_beside_the_images_are_passed_over() {
    let (media, images) = layout(1, 5_000);
    let directory = tempfile::tempdir().unwrap();
    media.write_to(directory.path());
    let many = (0..10).map(|number| (format!("a/{number}.json"), 4));
    for (name, length) in many.chain([("measurements.json".into(), 33), ("photos/list.json".into(), 20)]) {
        let file = directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::File::create(file).unwrap().set_len(length << 20).unwrap();
    }
    let daemon = Daemon::start();
    let told = run(&mut import(&daemon, directory.path()));
    assert!(told.contains("skipped measurements.json: a document of 34603008 bytes"), "{told}");
    assert_has(&daemon, &images);
}

#[test]
fn images_beyond_the_limits_stop_no_other() {
    let large = serde_json::to_vec(
        &json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "x": "x".repeat(4 << 20)}),
    );
    let large = large.unwrap();
    let mut nested = Image::of(b"deep");
    for _ in 0..10 {
        nested = Image::index(&[&nested]);
    }
    let (good, images) = layout(1, 5_000);
    let mut descriptors = vec![
        images[0].descriptor(&[("io.containerd.image.name", "app0:1")]),
        nested.descriptor(&[("io.containerd.image.name", "nested:1")]),
    ];
    descriptors.push(json!({"mediaType": OCI_MANIFEST, "digest": digest(&large), "size": large.len(),
        "annotations": {"io.containerd.image.name": "large:1"}}));
    let mut media = good;
    media.layout("", &[&images[0], &nested], &descriptors);
    media.add(&format!("blobs/{}", digest(&large).replace(':', "/")), &large);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    let (one, two) = (Daemon::start(), Daemon::start());
    let outputs = [import(&one, &file).output().unwrap(), import_stream(&two, &file)];
    for (daemon, output) in [one, two].iter().zip(outputs) {
        let told = text(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let row = |name: &str| {
            told.lines().find(|line| line.starts_with(name) && !line.contains("->")).unwrap().to_owned()
        };
        assert!(row("nested:1").contains("nested deeper than 8"), "{told}");
        assert!(row("large:1").contains("refused") || row("large:1").contains("missing"), "{told}");
        assert!(row("app0:1").contains("taken"), "{told}");
        assert_eq!(Contents::of(daemon).tags.len(), 1, "{told}");
    }
}

#[test]
fn links_and_pipes_in_a_directory_are_not_followed() {
    let (media, images) = layout(3, 5_000);
    let directory = tempfile::tempdir().unwrap();
    let (stick, outside) = (directory.path().join("stick"), directory.path().join("outside"));
    media.write_to(&stick);
    let path = |seed: u64| stick.join("blobs").join(digest(&noise(seed, 5_000)).replace(':', "/"));
    // The right bytes, but not on the medium.
    std::fs::rename(path(1), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, path(1)).unwrap();
    std::fs::remove_file(path(2)).unwrap();
    run(Command::new("mkfifo").arg(path(2)));
    run(Command::new("mkfifo").arg(stick.join("manifest.json")));
    // Devices need root, which continuous integration has.
    for (name, kind) in [("null", ["c", "1", "3"]), ("disk", ["b", "7", "200"])] {
        let made = Command::new("mknod").arg(stick.join("blobs/sha256").join(name)).args(kind).output();
        assert!(made.unwrap().status.success() || !nix::unistd::geteuid().is_root());
    }
    let _listening = std::os::unix::net::UnixListener::bind(stick.join("blobs/sha256/socket")).unwrap();
    std::os::unix::fs::symlink("/", stick.join("top")).unwrap();
    let daemon = Daemon::start();
    let output = import(&daemon, &stick).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a link") && told.contains(&digest(&noise(1, 5_000))), "{told}");
    let contents = Contents::of(&daemon);
    assert_eq!(contents.tags, [("app2:1".to_owned(), images[2].digest.clone())].into());
    // A directory that is nothing but a link out.
    std::fs::remove_file(stick.join("index.json")).unwrap();
    std::fs::write(&outside, "{\"manifests\":[]}").unwrap();
    std::os::unix::fs::symlink(&outside, stick.join("index.json")).unwrap();
    let output = import(&daemon, &stick).output().unwrap();
    assert!(
        output.status.code() == Some(1) && text(&output).contains("no known format"),
        "{}",
        text(&output)
    );
}
