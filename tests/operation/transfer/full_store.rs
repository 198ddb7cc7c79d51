//! Imports into a store that becomes full: at each blob, and at the quota.

use super::*;
use crate::support::small_disk::SmallDisk;

const MIB: u64 = 1 << 20;
const IMAGES: u64 = 4;
/// The reason why content is refused, which names both sizes.
const FULL: &str = "the missing content needs";

/// Asserts that some images are missing, and that those with a name are whole.
#[track_caller]
fn assert_incomplete(daemon: &Daemon, output: &Output, words: &str) {
    let told = text(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(words), "{words}: {told}");
    assert!(Contents::of(daemon).tags.len() < IMAGES as usize, "{told}");
}

#[test]
fn a_disk_that_is_full_at_any_blob_keeps_whole_images_and_the_next_run_completes() {
    let (media, images) = layout(IMAGES, MIB as usize);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    // Before each layer, and within it.
    for half in 0..2 * IMAGES {
        let disk = SmallDisk::mount(64);
        let daemon = Daemon::at_with_env(&disk.path().join("data"), &[("HOLDFAST_STORAGE_RESERVE", "1MiB")]);
        disk.leave_free(MIB + half * MIB / 2 + 100_000);
        let refused = import(&daemon, &file).output().unwrap();
        assert_incomplete(&daemon, &refused, FULL);
        let output = import_stream(&daemon, &file);
        assert_incomplete(&daemon, &output, FULL);
        disk.drop_ballast();
        let output = import_stream(&daemon, &file);
        assert!(output.status.success(), "{}", text(&output));
        assert_has(&daemon, &images);
    }
}

#[test]
fn a_quota_that_is_reached_keeps_whole_images_and_the_next_run_completes() {
    let (media, images) = layout(IMAGES, MIB as usize);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.tar");
    media.write_tar(&file);
    for layers in 0..IMAGES {
        let quota = (layers * MIB + MIB / 2).to_string();
        let mut daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", &quota)]);
        let refused = import(&daemon, &file).output().unwrap();
        assert_incomplete(&daemon, &refused, FULL);
        let output = import_stream(&daemon, &file);
        assert_incomplete(&daemon, &output, FULL);
        daemon.stop();
        daemon.start_again_with_env(&[]);
        let output = import_stream(&daemon, &file);
        assert!(output.status.success(), "{}", text(&output));
        assert_has(&daemon, &images);
    }
}
