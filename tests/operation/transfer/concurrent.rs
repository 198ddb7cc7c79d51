//! Tags that move and collections that run while images are imported.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

const IMAGES: u64 = 12;
/// Time within which four imports end.
const TIME: Duration = Duration::from_secs(120);
/// Bytes of the archive between two disturbances.
const PIECE: usize = 150_000;

fn holdfast(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&daemon.data))
}

/// The names of a stream come last, so that all its content is loose while the collections run.
#[test]
fn a_stream_loses_nothing_to_collections_and_moving_tags() {
    let (media, images) = layout(IMAGES, 100_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    let bytes = std::fs::read(&file).unwrap();
    let daemon = Daemon::start();
    // Tags of the archive that exist, and content that only deleted images have.
    let mut gone = vec![digest(b"only here")];
    for (number, layer) in [noise(1, 100_000), noise(2, 100_000), b"only here".to_vec()].iter().enumerate() {
        let (digest, _) = daemon.push_image("gone", &number.to_string(), layer);
        daemon.request("DELETE", &format!("/v2/gone/manifests/{digest}")).send().expect(202);
        // The first two are those of the archive in another repository.
        gone.extend((number > 1).then_some(digest));
    }
    let mut command = import(&daemon, Path::new("-"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.arg("--force").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for (number, piece) in bytes.chunks(PIECE).enumerate() {
        stdin.write_all(piece).unwrap();
        holdfast(&daemon, &["gc", "--grace", "0s"]);
        daemon.push_image("app0", "1", format!("moved {number}").as_bytes());
        daemon.push_image("other", "latest", format!("moved {number}").as_bytes());
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let contents = Contents::of(&daemon);
    for (number, image) in images.iter().enumerate() {
        assert_eq!(contents.tags[&format!("app{number}:1")], image.digest, "{}", text(&output));
    }
    holdfast(&daemon, &["check"]);
    // The transfer has ended, and keeps nothing alive.
    holdfast(&daemon, &["gc", "--grace", "0s"]);
    assert_eq!(Contents::of(&daemon).tags, contents.tags);
    let left = contents::blob_files(&daemon);
    assert!(gone.iter().all(|digest| !left.contains(&digest.replace(':', "/"))), "{left:?}");
}

/// Pushes an image, and deletes every second one. A collection without a grace period may take its content before it is named.
fn push_and_delete(daemon: &Daemon, repository: &str, number: u64) {
    let (config, layer) =
        (daemon.push_blob(repository, b"{}"), daemon.push_blob(repository, &noise(number, 500)));
    let manifest = image(&config, &layer, None);
    let status = daemon.put_manifest(repository, "1", OCI_MANIFEST, &manifest).status;
    assert!(status == 201 || status == 400, "{status}");
    if number.is_multiple_of(2) {
        daemon.request("DELETE", &format!("/v2/{repository}/manifests/{}", digest(&manifest))).send();
    }
}

/// Imports of a file, collections and pushes to the same tags, all at once and without an order.
#[test]
fn imports_collections_and_pushes_at_once_leave_whole_images() {
    let (media, images) = layout(IMAGES, 200_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    let daemon = Daemon::start();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..4).for_each(|_| drop(run(import(&daemon, &file).arg("--force"))));
            is_done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                holdfast(&daemon, &["gc", "--grace", "0s"]);
            }
        });
        let (began, mut number) = (Instant::now(), 0);
        while !is_done.load(Ordering::Relaxed) && began.elapsed() < TIME {
            number += 1;
            push_and_delete(&daemon, &format!("app{}", number % IMAGES), number);
        }
        // The collections end as well, also after a failure.
        is_done.store(true, Ordering::Relaxed);
    });
    Contents::of(&daemon);
    run(import(&daemon, &file).arg("--force"));
    let contents = Contents::of(&daemon);
    for (number, image) in images.iter().enumerate() {
        assert_eq!(contents.tags[&format!("app{number}:1")], image.digest);
    }
    holdfast(&daemon, &["check"]);
}
