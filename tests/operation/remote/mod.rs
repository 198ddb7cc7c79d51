//! `holdfast import --to` and `holdfast export --from`: registry:2 with users, another Holdfast with TLS, and registries that
//! misbehave.

mod export_from;
mod hostile;
mod import_to;
mod proxies;
mod relay;
mod repositories;
mod stub;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::media::{Image, Media};
use crate::support::registry2::Registry2;
use crate::support::*;

const USER: (&str, &str) = ("ops", "a password");

/// A command of which standard input is a password, or nothing.
fn holdfast(arguments: &[&str], input: Option<&str>) -> Output {
    holdfast_in(&[], arguments, input.unwrap_or_default().as_bytes())
}

fn holdfast_in(environment: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Output {
    // Another registry needs no data directory; none may be made.
    let nowhere = tempfile::tempdir().unwrap();
    let data = nowhere.path().join("data");
    let mut command = Command::new(BINARY);
    command.env_clear().envs(environment.iter().copied()).args(arguments).arg("--data").arg(&data);
    let output = with_input(&mut command, input);
    assert!(!data.exists(), "{}", text(&output));
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that a command succeeds; returns its output.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

/// Asserts that a command fails with this code and these words.
#[track_caller]
fn fails(output: &Output, code: i32, words: &str) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

/// Writes an image layout with these images under their names.
fn layout(directory: &Path, images: &[(&str, &Image)]) {
    media(images).write_to(directory);
}

fn media(images: &[(&str, &Image)]) -> Media {
    let index: Vec<_> =
        images.iter().map(|(name, image)| image.descriptor(&[("io.containerd.image.name", name)])).collect();
    let all: Vec<&Image> = images.iter().map(|(_, image)| *image).collect();
    let mut media = Media::default();
    media.layout("", &all, &index);
    media
}

/// Starts another Holdfast with TLS and a user; returns the file of its authority too.
fn with_tls(directory: &TempDir) -> (Daemon, PathBuf) {
    let daemon = Daemon::with_user(USER.0, USER.1, &[("HOLDFAST_TLS_MODE", "auto")]);
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, &daemon.get("/ca.crt").expect(200).body).unwrap();
    (daemon, ca)
}

/// Asserts that a registry serves an image with all its content.
#[track_caller]
fn assert_has(get: impl Fn(&str) -> Request, repository: &str, reference: &str, image: &Image) {
    let accept = format!("{OCI_MANIFEST}, {OCI_INDEX}");
    let manifest = |reference: &str| {
        get(&format!("/v2/{repository}/manifests/{reference}")).header("Accept", &accept).send()
    };
    let served = manifest(reference).expect(200);
    assert_eq!(served.body, image.manifest, "{repository}:{reference}");
    assert_eq!(served.header("content-type"), Some(image.media_type));
    for (digest, content) in &image.content {
        let is_manifest = content.windows(13).any(|part| part == b"schemaVersion");
        let answer = if is_manifest {
            manifest(digest)
        } else {
            get(&format!("/v2/{repository}/blobs/{digest}")).send()
        };
        assert!(answer.expect(200).body == *content, "{repository}@{digest}");
    }
}
