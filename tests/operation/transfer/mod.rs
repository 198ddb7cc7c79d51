//! Exports, imports and adoptions together: unusual content, hostile archives, failing media and interruptions. Each compares
//! everything that the registries serve.

mod archives;
mod bundle;
mod concurrent;
mod content;
mod failing_media;
mod full_store;
mod journeys;
mod kills;
mod limits;
mod property;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::contents::{Contents, Pusher, image_manifest, index_manifest};
use crate::support::media::{Image, Media};
use crate::support::*;

fn export(daemon: &Daemon, arguments: &[&str], output: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("export").args(arguments).arg("-o").arg(output);
    command.arg("--data").arg(&daemon.data).stdin(Stdio::null());
    command
}

fn import(daemon: &Daemon, medium: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("import").arg(medium).arg("--data").arg(&daemon.data).stdin(Stdio::null());
    command
}

/// Runs an import of a file on standard input.
fn import_stream(daemon: &Daemon, file: &Path) -> Output {
    import(daemon, Path::new("-")).stdin(std::fs::File::open(file).unwrap()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An image layout with images of one layer each, `app0:1` and so on, that do not compress.
fn layout(count: u64, length: usize) -> (Media, Vec<Image>) {
    let images: Vec<Image> = (0..count).map(|number| Image::of(&noise(number + 1, length))).collect();
    let name = |number: usize| format!("app{number}:1");
    let descriptors: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(number, image)| image.descriptor(&[("io.containerd.image.name", &name(number))]))
        .collect();
    let mut media = Media::default();
    media.layout("", &images.iter().collect::<Vec<_>>(), &descriptors);
    (media, images)
}

/// Asserts that a registry has these images and nothing else, all of them whole.
#[track_caller]
fn assert_has(daemon: &Daemon, images: &[Image]) {
    let contents = Contents::of(daemon);
    let tags =
        images.iter().enumerate().map(|(number, image)| (format!("app{number}:1"), image.digest.clone()));
    assert_eq!(contents.tags, tags.collect());
    let blobs = images.iter().flat_map(|image| image.content.keys());
    assert_eq!(contents.blobs, blobs.map(|digest| digest.replace(':', "/")).collect());
}
