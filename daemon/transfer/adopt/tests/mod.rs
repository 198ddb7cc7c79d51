//! Adoptions from directories on a disk into a registry in memory.
#![expect(clippy::disallowed_methods, reason = "the tests write the directory as registry:2 does")]

mod directory;

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use self::directory::Directory;
use super::super::sink::SinkError;
use super::super::test_registry::{Registry, digest, size_of};
use super::*;
use crate::oci::Pattern;

fn settings(moves: bool) -> Settings {
    Settings { moves, is_same_disk: true, ..Settings::default() }
}

/// The outcomes of images, and the last progress.
#[derive(Default)]
struct Seen(Vec<AdoptedImage>, Option<(u64, Option<u64>)>);

impl AdoptionObserver for Seen {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        assert!(self.1.is_none_or(|(before, of)| before <= done && of == total));
        self.1 = Some((done, total));
    }

    fn image(&mut self, image: AdoptedImage) {
        self.0.push(image);
    }
}

fn run(directory: &Directory, registry: &mut Registry, settings: &Settings) -> (Adopted, Vec<AdoptedImage>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut seen = Seen::default();
    let adopted = runtime.block_on(adopt(directory.tree(), registry, settings, &mut seen)).unwrap();
    assert_eq!(seen.1.map_or(0, |(done, _)| done), if settings.dry_run { 0 } else { adopted.bytes });
    (adopted, seen.0)
}

fn lines(images: &[AdoptedImage]) -> Vec<String> {
    images.iter().map(|image| format!("{} {:?}", image.names, image.outcome)).collect()
}

fn skipped(adopted: &Adopted) -> Vec<String> {
    adopted.skipped.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect()
}

/// Several images that share content, an index, and an image without a tag.
fn sample() -> Directory {
    let directory = Directory::new();
    directory.image("team/app", &["1", "latest"], &[b"base layer", &vec![1; 30_000], &[4; 5000]]);
    directory.image("team/app", &["2"], &[b"base layer", b"small"]);
    directory.image("team/app/sub", &["s"], &[b"sub"]);
    let child = directory.image("multi", &[], &[&vec![2; 20_000]]);
    let other = directory.image("multi", &[], &[&vec![2; 20_000], &[3; 10_000]]);
    directory.index("multi", &["all"], &[&child, &other]);
    directory.image("pinned", &[], &[b"pinned layer"]);
    directory
}

#[test]
fn all_images_are_adopted_the_least_missing_content_first() {
    let (directory, mut registry) = (sample(), Registry::default());
    let files = directory.files("");
    let (adopted, images) = run(&directory, &mut registry, &settings(false));
    assert_eq!((adopted.images, adopted.failed, adopted.skipped.len()), (5, 0, 0), "{:?}", skipped(&adopted));
    let names: Vec<&str> =
        images.iter().map(|image| image.names.split_once('@').map_or(&*image.names, |one| one.0)).collect();
    assert_eq!(names, ["team/app/sub:s", "pinned", "team/app:2", "multi:all", "team/app:1,latest"]);
    assert_eq!(
        registry.tags.keys().collect::<Vec<_>>(),
        ["multi:all", "team/app/sub:s", "team/app:1", "team/app:2", "team/app:latest"]
    );
    assert_eq!(registry.manifests.len(), 7);
    assert_eq!(directory.files(""), files, "nothing was changed");
    let sent = registry.sent.len();
    let (again, images) = run(&directory, &mut registry, &settings(false));
    assert_eq!((again.failed, again.bytes, registry.sent.len()), (0, 0, sent));
    assert!(
        images
            .iter()
            .filter(|image| !image.tags.is_empty())
            .all(|image| image.outcome == ImageState::Present)
    );
}

#[test]
fn a_dry_run_tells_the_order_and_changes_nothing() {
    let (directory, mut registry) = (sample(), Registry::default());
    let dry = Settings { dry_run: true, ..settings(true) };
    let (adopted, images) = run(&directory, &mut registry, &dry);
    assert_eq!((images.len(), adopted.failed), (5, 0));
    assert!(images.iter().all(|image| image.outcome == ImageState::Planned));
    assert!(registry.sent.is_empty() && registry.tags.is_empty());
    assert!(adopted.bytes > 0);
    run(&directory, &mut registry, &settings(false));
    let (adopted, images) = run(&directory, &mut registry, &dry);
    assert_eq!((adopted.present, adopted.bytes), (5, 0));
    assert!(images.iter().all(|image| image.outcome == ImageState::Present && image.bytes == 0));
}

#[test]
fn a_move_leaves_nothing_behind() {
    let (directory, mut registry) = (sample(), Registry::default());
    let (adopted, _) = run(&directory, &mut registry, &settings(true));
    assert_eq!((adopted.failed, skipped(&adopted)), (0, Vec::new()));
    assert_eq!(directory.files(""), Vec::<String>::new());
    assert_eq!(fs::read_dir(directory.path("repositories")).unwrap().count(), 0);
}

#[test]
fn content_of_other_repositories_stays() {
    let (directory, mut registry) = (sample(), Registry::default());
    let only = vec![Pattern::from("team/app".to_owned()), Pattern::from("multi".to_owned())];
    directory.image("other", &["x"], &[b"base layer"]);
    let of_others = ["repositories/other", "repositories/pinned", "repositories/team/app/sub"];
    let before: Vec<_> = of_others.iter().map(|folder| directory.files(folder)).collect();
    let selection = RepositorySelection { only, prefix: "old/".to_owned() };
    let (adopted, _) = run(&directory, &mut registry, &Settings { selection, ..settings(true) });
    assert_eq!(adopted.failed, 0);
    assert_eq!(registry.tags.keys().next().unwrap(), "old/multi:all");
    assert!(directory.blob_path(&digest(b"base layer")).exists());
    assert!(!directory.blob_path(&digest(b"small")).exists());
    let after: Vec<_> = of_others.iter().map(|folder| directory.files(folder)).collect();
    assert_eq!(after, before);
    assert!(!directory.path("repositories/multi").exists());
    // The rest can still be adopted.
    let (rest, _) = run(&directory, &mut Registry::default(), &settings(true));
    assert_eq!((rest.images, rest.failed, skipped(&rest)), (3, 0, Vec::new()));
}

#[test]
fn wrong_and_missing_blobs_stop_only_their_images() {
    let (directory, mut registry) = (sample(), Registry::default());
    let damaged = directory.blob_path(&digest(b"small"));
    fs::write(&damaged, b"other").unwrap();
    fs::remove_file(directory.blob_path(&digest(b"sub"))).unwrap();
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert_eq!(adopted.failed, 2);
    let failed: Vec<_> = images.iter().filter(|image| image.outcome.is_failure()).cloned().collect();
    assert_eq!(lines(&failed), ["team/app/sub:s Incomplete", "team/app:2 Refused"]);
    assert!(failed[0].reason.as_ref().unwrap().contains(&digest(b"sub").to_string()));
    assert_eq!(fs::read(&damaged).unwrap(), b"other", "the source of a refused blob stays");
    assert!(directory.path("repositories/team/app/_manifests/tags/2").exists());
    assert!(directory.path("repositories/team/app/sub/_manifests").exists());
    assert!(!directory.path("repositories/multi").exists());
    // The right bytes come later.
    fs::write(&damaged, b"small").unwrap();
    let (again, _) = run(&directory, &mut registry, &settings(true));
    assert_eq!((again.failed, registry.tags.contains_key("team/app:2")), (1, true));
    assert!(!directory.path("repositories/team/app/_manifests").exists());
}

#[test]
fn unusable_names_are_skipped_with_a_line_each() {
    let (directory, mut registry) = (Directory::new(), Registry::default());
    directory.image("a", &["good"], &[b"shared"]);
    let shared = digest(b"shared");
    let schema1 = format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{shared}"}}]}}"#);
    let old = directory.manifest("a", &["old"], schema1.as_bytes());
    directory.write("repositories/a/_manifests/tags/empty/current/link", b"");
    directory.write("repositories/a/_manifests/tags/none/index/x", b"");
    directory
        .write("repositories/a/_manifests/tags/deleted/current/link", digest(b"gone").to_string().as_bytes());
    let lost = directory.manifest("a", &["lost"], br#"{"schemaVersion":2,"layers":[]}"#);
    fs::remove_file(directory.blob_path(&lost)).unwrap();
    let wrong = directory.manifest("a", &["wrong"], br#"{"schemaVersion":2,"layers":[ ]}"#);
    fs::write(directory.blob_path(&wrong), b"{}").unwrap();
    directory.write("repositories/a/_uploads/one/data", b"half");
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert_eq!(lines(&images), ["a:good Adopted"]);
    let skipped = skipped(&adopted);
    for name in [
        "a:empty: the link file is empty",
        "a:none: ",
        "a:deleted: ",
        "a:lost: ",
        "a:wrong: ",
        "a:old: a manifest of schema 1",
    ] {
        assert_eq!(skipped.iter().filter(|line| line.starts_with(name)).count(), 1, "{name} {skipped:#?}");
    }
    assert_eq!(skipped.len(), 6, "{skipped:#?}");
    assert_eq!(adopted.notes, ["a: 1 unfinished upload skipped"]);
    for kept in [&old, &shared, &wrong] {
        assert!(directory.blob_path(kept).exists(), "{kept}");
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let (directory, mut registry) = (Directory::new(), Registry::default());
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), digest(b"x").to_string()).unwrap();
    let tag = directory.path("repositories/a/_manifests/tags/t/current");
    fs::create_dir_all(&tag).unwrap();
    std::os::unix::fs::symlink(outside.path(), tag.join("link")).unwrap();
    directory.image("b", &["t"], &[b"layer"]);
    let layer = directory.blob_path(&digest(b"layer"));
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink(outside.path(), &layer).unwrap();
    std::os::unix::fs::symlink(directory.path("repositories/b"), directory.path("repositories/c")).unwrap();
    let (adopted, images) = run(&directory, &mut registry, &settings(false));
    assert_eq!(lines(&images), ["b:t Refused"]);
    assert!(images[0].reason.as_ref().unwrap().contains("symbolic link"), "{images:?}");
    assert!(skipped(&adopted)[0].starts_with("a:t: "), "{:?}", skipped(&adopted));
}

#[test]
fn a_tag_that_was_moved_here_is_kept_with_its_source() {
    let (directory, mut registry) = (sample(), Registry::default());
    registry.tags.insert("pinned:p".into(), digest(b"newer"));
    directory.image("pinned", &["p"], &[b"pinned"]);
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert_eq!(adopted.failed, 1);
    assert!(lines(&images).contains(&"pinned:p Kept".to_owned()), "{:?}", lines(&images));
    assert!(directory.path("repositories/pinned/_manifests/tags/p/current/link").exists());
}

#[test]
fn a_full_disk_is_moved_blob_by_blob() {
    let (directory, mut registry) = (sample(), Registry::default());
    // The largest blob fits, the largest image does not.
    registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 32_000));
    let (adopted, _) = run(&directory, &mut registry, &settings(true));
    assert_eq!((adopted.stopped, adopted.failed), (None, 0));
    assert!(directory.files("").is_empty());
}

#[test]
fn an_image_whose_names_are_not_certain_is_not_moved_blob_by_blob() {
    for refuses_names in [false, true] {
        let (directory, mut registry) = (sample(), Registry { refuses_names, ..Registry::default() });
        registry.tags.insert("multi:all".into(), digest(b"newer"));
        registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 22_000));
        let before = directory.files("repositories/multi");
        let (adopted, _) = run(&directory, &mut registry, &settings(true));
        assert_eq!((adopted.failed, adopted.partly_moved), (if refuses_names { 5 } else { 1 }, 0));
        assert_eq!(directory.files("repositories/multi"), before);
        for layer in [vec![2_u8; 20_000], vec![3; 10_000]] {
            assert!(directory.blob_path(&digest(&layer)).exists(), "nothing of the image was moved");
        }
    }
}

#[test]
fn an_image_whose_tag_is_pushed_during_its_move_is_kept_by_its_digest() {
    let (directory, mut registry) = (Directory::new(), Registry::default());
    let image = directory.image("a", &["t"], &[&vec![1; 20_000], &[2; 10_000]]);
    registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 22_000));
    registry.pushed_meanwhile = Some(("a:t".into(), digest(b"newer")));
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert_eq!((adopted.failed, adopted.partly_moved), (1, 1));
    assert!(images[0].reason.as_ref().unwrap().contains(&format!("is here as a@{image}")), "{images:?}");
    assert!(registry.manifests.contains(&("a".to_owned(), image)));
}

#[test]
fn limits_are_foreseen_before_content_is_moved_blob_by_blob() {
    let (directory, mut registry) = (sample(), Registry { max_tags: Some(1), ..Registry::default() });
    registry.tags.insert("multi:other".into(), digest(b"other"));
    registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 22_000));
    let before = directory.files("repositories/multi");
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert!(lines(&images).contains(&"multi:all Refused".to_owned()), "{:?}", lines(&images));
    assert_eq!(adopted.partly_moved, 0);
    assert_eq!(directory.files("repositories/multi"), before);
    for layer in [vec![2_u8; 20_000], vec![3; 10_000]] {
        assert!(directory.blob_path(&digest(&layer)).exists(), "nothing of the image was moved");
    }
}

#[test]
fn content_stays_that_is_shared_with_an_image_whose_names_may_be_too_many() {
    let (directory, mut registry) = (Directory::new(), Registry { max_tags: Some(1), ..Registry::default() });
    let base = vec![1; 10_000];
    directory.image("a", &["first"], &[&base, &[2; 5000], &[3; 5000]]);
    directory.image("a", &["second"], &[&base, &vec![4; 20_000]]);
    // Each blob of the first image fits, but not all of them.
    registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 17_000));
    let (adopted, images) = run(&directory, &mut registry, &settings(true));
    assert_eq!((adopted.adopted, adopted.failed), (1, 1), "{images:?}");
    assert!(registry.tags.contains_key("a:first"));
    for layer in [&base, &vec![4; 20_000]] {
        assert!(directory.blob_path(&digest(layer)).exists(), "the second image still needs it");
    }
}

#[test]
fn content_that_a_failed_image_shares_stays() {
    let (directory, mut registry) = (sample(), Registry::default());
    registry.tags.insert("team/app:1".into(), digest(b"newer"));
    let (adopted, _) = run(&directory, &mut registry, &settings(true));
    assert_eq!((adopted.failed, adopted.partly_moved), (1, 0));
    assert!(directory.blob_path(&digest(b"base layer")).exists(), "an adopted image has it, too");
}

#[test]
fn a_blob_that_does_not_fit_stops_before_its_image() {
    for same in [true, false] {
        let (directory, mut registry) = (sample(), Registry::default());
        registry.disk = Some((directory.path(""), size_of(&directory.path("")) + 5000));
        let settings = Settings { is_same_disk: same, ..settings(true) };
        let (adopted, images) = run(&directory, &mut registry, &settings);
        let Some(SinkError::Full(message)) = &adopted.stopped else { panic!("{adopted:?}") };
        assert!(message.contains("alone needs 20000 bytes"), "{message}");
        assert!(images.iter().all(|image| !image.outcome.is_failure()));
        for name in ["multi", "team/app"] {
            assert!(directory.path(&format!("repositories/{name}/_manifests")).exists(), "{name}");
        }
        for layer in [vec![2_u8; 20_000], vec![3; 10_000]] {
            assert!(directory.blob_path(&digest(&layer)).exists(), "nothing of the image was moved");
        }
        // There is room now.
        registry.disk = None;
        assert_eq!(run(&directory, &mut registry, &settings).0.failed, 0);
        assert!(directory.files("").is_empty());
    }
}

#[test]
fn a_run_that_breaks_anywhere_is_continued() {
    let mut undisturbed = Registry::default();
    run(&sample(), &mut undisturbed, &settings(false));
    for (moves, space) in [(false, None), (true, None), (true, Some(32_000))] {
        // A request either takes effect although its answer is lost, or does not.
        for takes_effect in [false, true] {
            for requests in (1..100).filter(|requests| space.is_some() || requests % 3 == 0) {
                let (directory, mut registry) = (sample(), Registry::default());
                let images = AdoptionPlan::read(
                    &directory.tree(),
                    &RepositorySelection::default(),
                    false,
                    &BTreeMap::new(),
                )
                .unwrap()
                .images;
                registry.disk = space.map(|space| (directory.path(""), size_of(&directory.path("")) + space));
                registry.breaks = Some((requests, takes_effect));
                let (adopted, _) = run(&directory, &mut registry, &settings(moves));
                let is_done = adopted.stopped.is_none();
                for image in &images {
                    for content in image.content() {
                        let is_somewhere =
                            registry.blobs.contains_key(content) || directory.blob_path(content).exists();
                        assert!(is_somewhere, "{content} is lost after {requests} requests");
                    }
                }
                registry.breaks = None;
                let (again, _) = run(&directory, &mut registry, &settings(moves));
                assert_eq!(
                    (again.stopped.clone(), again.failed, skipped(&again)),
                    (None, 0, Vec::new()),
                    "{requests}"
                );
                assert_eq!(registry.tags, undisturbed.tags, "{requests}");
                assert_eq!(registry.manifests, undisturbed.manifests, "{requests}");
                assert_eq!(directory.files("").is_empty(), moves, "{requests}");
                if is_done {
                    break;
                }
                assert!(requests < 99, "the loop is long enough");
            }
        }
    }
}

#[test]
fn a_restart_of_the_daemon_does_not_end_the_work() {
    for requests in 4..20 {
        let (directory, mut registry) = (sample(), Registry { restarts: true, ..Registry::default() });
        registry.breaks = Some((requests, requests % 2 == 0));
        let (adopted, _) = run(&directory, &mut registry, &settings(true));
        assert_eq!((adopted.stopped, adopted.adopted, adopted.failed), (None, 5, 0), "{requests}");
        assert!(directory.files("").is_empty());
    }
}

#[test]
fn other_directories_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(Tree::open(empty.path()).unwrap_err().to_string().contains("no content of registry:2"));
    assert!(Tree::open(&empty.path().join("none")).is_err());
    let directory = sample();
    assert!(Tree::open(&directory.path("")).is_ok(), "the tree itself may be named");
}

#[test]
fn open_files_of_another_process_are_found() {
    let directory = sample();
    assert_eq!(open_file(&directory.tree()).unwrap(), None);
    let file = fs::File::open(directory.blob_path(&digest(b"small"))).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    let found = open_file(&directory.tree()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found.map(|found| found.process), Some(child.id()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_directories_never_panic(
        name in "[a-zA-Z0-9_.-]{1,20}",
        link in prop::collection::vec(any::<u8>(), 0..100),
        manifest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let directory = Directory::new();
        directory.manifest("a", &["t"], &manifest);
        directory.write(&format!("repositories/a/_manifests/tags/t-{name}/current/link"), &link);
        directory.write(&format!("repositories/a/_manifests/revisions/sha256/{name}/link"), &link);
        directory.write(&format!("repositories/n{name}/_manifests/x"), &link);
        let plan = AdoptionPlan::read(&directory.tree(), &RepositorySelection::default(), true, &BTreeMap::new());
        prop_assert!(plan.is_ok() || name.chars().any(|c| !c.is_ascii_lowercase()));
    }
}
