//! Checks of a real store whose files the tests damage.
#![expect(clippy::disallowed_methods, reason = "tests play the medium that fails")]

use std::time::{Duration, Instant};

use super::content::compare;
use super::rows::missing_content;
use super::{CheckEvent, CheckPosition, CheckReport, Fault, Outcome, least_duration};
use crate::oci::{Manifest, Reference};
use crate::store::index::changes::Origin;
use crate::store::index::changes::restore::RecordBlobs;
use crate::store::push::ManifestPush;
use crate::store::settings::IndexHealth;
use crate::store::test_store::{TestStore, digest, name};
use crate::store::{CheckOptions, StoreError};

#[test]
fn content_is_compared_with_its_digest_and_its_length() {
    let (wanted, other) = (digest(b"a"), digest(b"b"));
    assert_eq!(compare((&wanted, 1), (wanted.clone(), 1)), None);
    let length = Fault::Length { digest: wanted.clone(), indexed: 2, actual: 1 };
    assert_eq!(compare((&wanted, 2), (wanted.clone(), 1)), Some(length));
    let corrupt = Fault::Corrupt { digest: wanted.clone(), actual: other.clone() };
    assert_eq!(compare((&wanted, 2), (other, 1)), Some(corrupt), "the length follows from the content");
}

#[test]
fn only_required_content_is_missing() {
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": digest(b"config")},
        "layers": [{"digest": digest(b"layer")}, {"digest": digest(b"foreign"), "urls": ["https://x"]}],
        "manifests": [{"digest": digest(b"platform")}],
    });
    let manifest = Manifest::parse(&serde_json::to_vec(&manifest).unwrap(), None).unwrap();
    let missing = missing_content(&manifest, |wanted| Ok(*wanted == digest(b"config"))).unwrap();
    assert_eq!(missing, [digest(b"layer")]);
    assert!(matches!(missing_content(&manifest, |_| Err(StoreError::Closing)), Err(StoreError::Closing)));
}

#[test]
fn the_rate_limits_the_duration() {
    assert_eq!(least_duration(0, 1000), Duration::ZERO);
    assert_eq!(least_duration(1500, 1000), Duration::from_millis(1500));
    assert!(least_duration(u64::MAX, 1) >= Duration::from_hours(24));
}

#[test]
fn faults_are_counted_by_their_repair() {
    let (digest, repository) = (digest(b"x"), name("a"));
    let mut checked = CheckReport::default();
    checked.count(&Fault::Missing { digest: digest.clone() }, Outcome::SetAside);
    checked.count(&Fault::Unreadable { digest: digest.clone(), error: String::new() }, Outcome::Found);
    checked.count(&Fault::Miscounted { repository: repository.clone() }, Outcome::Found);
    checked.count(&Fault::MalformedManifest { repository, digest }, Outcome::Found);
    checked.count(&Fault::Layout { problem: String::new() }, Outcome::Repaired);
    let expected = CheckReport {
        faults: 5,
        repaired: 1,
        set_aside: 1,
        index_faults: 2,
        layout_faults: 1,
        ..CheckReport::default()
    };
    assert_eq!(checked, expected);
}

#[test]
fn the_json_of_faults_keeps_its_kinds() {
    let (digest, repository) = (digest(b"x"), name("a"));
    let kind = |fault: Fault| serde_json::to_value(fault).unwrap()["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(Fault::Corrupt { digest: digest.clone(), actual: digest.clone() }), "rotten");
    assert_eq!(kind(Fault::MalformedManifest { repository, digest }), "no-manifest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_healthy_store_has_no_faults() {
    let test = TestStore::open().await;
    test.push_image("a", &["1", "2"], b"layer", None).await;
    test.push_image("b", &["1"], b"layer", None).await;
    std::fs::write(test.file(&digest(b"unknown")), b"unknown").unwrap();
    let (checked, faults) = test.check(false).await;
    assert_eq!(faults, []);
    assert_eq!((checked.blobs.count, checked.manifests, checked.tags, checked.unknown_files), (3, 2, 3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_corrupt_blob_is_moved_aside_and_its_image_is_incomplete() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"layer", None).await;
    let layer = digest(b"layer");
    std::fs::write(test.file(&layer), b"laxer").unwrap();
    let corrupt = Fault::Corrupt { digest: layer.clone(), actual: digest(b"laxer") };
    assert_eq!(test.check(false).await.1, [(corrupt.clone(), false)]);
    assert!(test.file(&layer).exists(), "a check without repair changes nothing");
    let incomplete = Fault::Incomplete { repository: name("a"), digest: image, missing: layer.clone() };
    assert_eq!(test.check(true).await.1, [(corrupt, true)], "one damage is one fault");
    assert_eq!(test.check(false).await.1, [(incomplete, false)]);
    assert!(!test.file(&layer).exists() && test.path("damaged").exists());
    test.push_blob("a", b"layer").await;
    assert_eq!(test.check(false).await.1, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_blob_and_a_corrupt_manifest_are_repaired_by_forgetting_them() {
    let test = TestStore::open().await;
    let image = test.push_image("a", &["1"], b"layer", None).await;
    let unused = test.push_blob("a", b"unused").await;
    std::fs::remove_file(test.file(&unused)).unwrap();
    std::fs::write(test.file(&image), b"{}").unwrap();
    let (checked, faults) = test.check(true).await;
    assert_eq!((checked.faults, checked.repaired, checked.set_aside), (2, 0, 2), "{faults:?}");
    assert!(faults.contains(&(Fault::Missing { digest: unused }, true)));
    assert!(test.store.manifest(&name("a"), &Reference::Tag("1".parse().unwrap())).is_err());
    assert_eq!(test.check(false).await.1, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_length_in_the_index_is_a_fault_of_the_index() {
    let test = TestStore::open().await;
    let blob = digest(b"adopted");
    std::fs::write(test.file(&blob), b"adopted").unwrap();
    let adopted = vec![(blob.clone(), 3)];
    test.store.writer().unwrap().submit(RecordBlobs(adopted)).await.unwrap();
    let (checked, faults) = test.check(true).await;
    assert_eq!(faults, [(Fault::Length { digest: blob.clone(), indexed: 3, actual: 7 }, false)]);
    assert_eq!(checked.index_faults, 1);
    assert!(test.file(&blob).exists(), "the content is healthy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_that_are_not_a_manifest_are_a_fault_of_the_index() {
    let test = TestStore::open().await;
    let valid = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
    let manifest = Manifest::parse(valid, None).unwrap();
    let bytes = bytes::Bytes::from_static(b"[]");
    let push = ManifestPush {
        repository: name("a"),
        manifest,
        bytes,
        claimed: None,
        tags: Vec::new(),
        may_be_sparse: false,
        origin: Origin::system(),
    };
    let digest = test.store.put_manifest(push).await.unwrap();
    let malformed = Fault::MalformedManifest { repository: name("a"), digest };
    assert_eq!(test.check(true).await.1, [(malformed, false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_damaged_layout_is_rewritten() {
    let test = TestStore::open().await;
    test.push_image("a", &["1"], b"layer", None).await;
    let file = test.path("index.json");
    // The layout thread writes the file after a while.
    let began = Instant::now();
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("sha256")) {
        assert!(began.elapsed() < Duration::from_secs(20), "index.json is not written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let damaged = std::fs::read_to_string(&file).unwrap().replace(":1\"", ":2\"");
    std::fs::write(&file, damaged).unwrap();
    let (checked, faults) = test.check(false).await;
    assert_eq!((checked.layout_faults, checked.repaired), (1, 1), "the daemon repairs it: {faults:?}");
    assert_eq!(test.check(false).await.1, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_damaged_index_is_a_fault_and_prevents_repairs() {
    let test = TestStore::open_with(|_| IndexHealth::Corrupt).await;
    let unused = test.push_blob("a", b"unused").await;
    std::fs::remove_file(test.file(&unused)).unwrap();
    let (checked, faults) = test.check(true).await;
    assert_eq!(faults, [(Fault::Index, false), (Fault::Missing { digest: unused }, false)]);
    assert_eq!((checked.index_faults, checked.repaired), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_index_that_cannot_be_inspected_is_an_error() {
    let test = TestStore::open_with(|_| IndexHealth::Unknown("no process".to_owned())).await;
    let failed = test.store.check(CheckOptions::default(), &mut |_| ()).await;
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn progress_is_reported_for_each_blob() {
    let test = TestStore::open().await;
    test.push_blob("a", b"one").await;
    test.push_blob("a", b"three").await;
    let mut progress = Vec::new();
    let mut observe = |event| match event {
        CheckEvent::Progress(now) => progress.push((now.done.count, now.done.bytes, now.all.bytes)),
        CheckEvent::Position(_) => {}
        CheckEvent::Fault(found) => panic!("{found:?}"),
    };
    let options = CheckOptions { rate: Some(1 << 30), ..CheckOptions::default() };
    test.store.check(options, &mut observe).await.unwrap();
    assert_eq!((progress.len(), progress[1]), (2, (2, 8, 8)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_check_continues_after_the_last_blob_of_an_interrupted_one() {
    let test = TestStore::open().await;
    let mut blobs = Vec::new();
    for content in [b"one", b"two", b"six"] {
        blobs.push(test.push_blob("a", content).await);
    }
    blobs.sort();
    // The first one is corrupt, and the interrupted check has counted that.
    std::fs::write(test.file(&blobs[0]), b"bad").unwrap();
    let (mut positions, mut faults) = (Vec::new(), 0);
    let mut observe = |event| match event {
        CheckEvent::Position(position) => positions.push(position),
        CheckEvent::Fault(..) => faults += 1,
        CheckEvent::Progress(_) => {}
    };
    let whole = test.store.check(CheckOptions::default(), &mut observe).await.unwrap();
    assert_eq!((whole.blobs.count, whole.faults, faults), (3, 1, 1));
    let reached: Vec<_> = positions.iter().map(|position| position.after.clone()).collect();
    assert_eq!(reached, blobs);
    let saved = serde_json::to_string(&positions[0]).unwrap();
    let position: CheckPosition = serde_json::from_str(&saved).unwrap();
    assert_eq!((position.report.blobs.count, position.report.faults), (1, 1));
    let mut read = Vec::new();
    let mut observe = |event| match event {
        CheckEvent::Position(position) => read.push(position.after),
        CheckEvent::Fault(found) => panic!("{found:?}"),
        CheckEvent::Progress(_) => {}
    };
    let rest = test.store.check_from(CheckOptions::default(), Some(position), &mut observe).await.unwrap();
    assert_eq!((rest, read.as_slice()), (whole, &blobs[1..]));
}
