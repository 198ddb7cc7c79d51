//! Random sequences of calls, compared with a simple model of the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

#[derive(Clone, Debug)]
enum Call {
    PushBlob(u8, u8),
    /// Kills the daemon between the two chunks if the flag is set.
    PushInChunks(u8, u8, bool),
    CancelUpload(u8, u8),
    DeleteBlob(u8, u8),
    Mount(u8, u8, u8),
    PutManifest(u8, u8, u8),
    /// Pushes a signature of a manifest, which may be missing.
    PutReferrer(u8, u8),
    DeleteReferrer(u8, u8),
    DeleteTag(u8, u8),
    DeleteManifest(u8, u8),
    Kill,
    /// Rebuilds the index.
    Rebuild,
    /// Pushes an image with a foreign layer, which may be missing.
    PutForeign(u8, u8),
}

fn call() -> impl Strategy<Value = Call> {
    let (repository, blob, tag) = (0..2u8, 0..3u8, 0..3u8);
    let (repository_of, blob_of) = (repository.clone(), blob.clone());
    prop_oneof![
        4 => (repository.clone(), blob.clone()).prop_map(|(r, b)| Call::PushBlob(r, b)),
        2 => (repository.clone(), blob.clone(), any::<bool>()).prop_map(|(r, b, k)| Call::PushInChunks(r, b, k)),
        1 => (repository.clone(), blob.clone()).prop_map(|(r, b)| Call::CancelUpload(r, b)),
        2 => (repository.clone(), blob.clone()).prop_map(|(r, b)| Call::PutReferrer(r, b)),
        1 => (repository.clone(), blob.clone()).prop_map(|(r, b)| Call::DeleteReferrer(r, b)),
        1 => (repository.clone(), blob.clone()).prop_map(|(r, b)| Call::DeleteBlob(r, b)),
        2 => (repository.clone(), repository.clone(), blob.clone()).prop_map(|(f, t, b)| Call::Mount(f, t, b)),
        4 => (repository.clone(), tag.clone(), blob.clone()).prop_map(|(r, t, b)| Call::PutManifest(r, t, b)),
        2 => (repository.clone(), tag).prop_map(|(r, t)| Call::DeleteTag(r, t)),
        2 => (repository, blob).prop_map(|(r, b)| Call::DeleteManifest(r, b)),
        1 => Just(Call::Kill),
        1 => Just(Call::Rebuild),
        2 => (repository_of.clone(), blob_of.clone()).prop_map(|(r, b)| Call::PutForeign(r, b)),
    ]
}

#[derive(Default)]
struct Repository {
    blobs: BTreeSet<u8>,
    manifests: BTreeSet<u8>,
    referrers: BTreeSet<u8>,
    /// Images with a foreign layer, and whether the layer was present at the last push.
    foreign: BTreeMap<u8, bool>,
    tags: BTreeMap<u8, u8>,
}

fn content(blob: u8) -> Vec<u8> {
    vec![blob; 10 + usize::from(blob)]
}

fn manifest(blob: u8) -> Vec<u8> {
    let digest = digest(&content(blob));
    image(&digest, &digest, None)
}

/// Returns a manifest whose subject is the one of the same number.
fn referrer(blob: u8) -> Vec<u8> {
    let digest = digest(&content(blob));
    image(&digest, &digest, Some(&crate::support::digest(&manifest(blob))))
}

/// The number of the config of images with a foreign layer.
const CONFIG: u8 = 9;

/// Returns an image whose only layer is foreign.
fn foreign(blob: u8) -> Vec<u8> {
    let config = digest(&content(CONFIG));
    let mut image: serde_json::Value =
        serde_json::from_slice(&image(&config, &digest(&content(blob)), None)).unwrap();
    image["layers"][0]["urls"] = serde_json::json!(["https://elsewhere.example/layer"]);
    serde_json::to_vec(&image).unwrap()
}

/// Starts an upload with the first bytes of a blob; returns its location.
fn begin(daemon: &Daemon, repository: u8, first: &[u8]) -> String {
    let start = daemon.request("POST", &format!("/v2/r{repository}/blobs/uploads/")).body(b"").send();
    let location = start.expect(202).required_header("location");
    let patch = daemon.request("PATCH", &location).header("Content-Range", &format!("0-{}", first.len() - 1));
    patch.body(first).send().expect(202).required_header("location")
}

fn apply(daemon: &mut Daemon, model: &mut [Repository; 2], call: &Call) {
    let delete = |daemon: &Daemon, path: String| daemon.request("DELETE", &path).send().status;
    let expected = |ok: bool, yes: u16, no: u16| if ok { yes } else { no };
    match *call {
        Call::PushBlob(r, b) => {
            daemon.push_blob(&format!("r{r}"), &content(b));
            model[usize::from(r)].blobs.insert(b);
        }
        Call::PushInChunks(r, b, kill) => {
            let content = content(b);
            let (first, rest) = content.split_at(5);
            let location = begin(daemon, r, first);
            if kill {
                daemon.kill_and_restart();
            }
            assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-4");
            let put = format!("{location}?digest={}", digest(&content));
            daemon.request("PUT", &put).body(rest).send().expect(201);
            model[usize::from(r)].blobs.insert(b);
        }
        Call::CancelUpload(r, b) => {
            let location = begin(daemon, r, &content(b));
            assert_eq!(delete(daemon, location.clone()), 204);
            daemon.get(&location).expect(404);
        }
        Call::PutReferrer(r, b) => {
            let repository = &mut model[usize::from(r)];
            let bytes = referrer(b);
            let answer = daemon.put_manifest(&format!("r{r}"), &digest(&bytes), OCI_MANIFEST, &bytes);
            let known = repository.blobs.contains(&b);
            assert_eq!(answer.status, expected(known, 201, 400));
            if known {
                assert_eq!(answer.required_header("oci-subject"), digest(&manifest(b)));
                repository.referrers.insert(b);
            }
        }
        Call::DeleteReferrer(r, b) => {
            let known = model[usize::from(r)].referrers.remove(&b);
            let status = delete(daemon, format!("/v2/r{r}/manifests/{}", digest(&referrer(b))));
            assert_eq!(status, expected(known, 202, 404));
        }
        Call::DeleteBlob(r, b) => {
            let known = model[usize::from(r)].blobs.remove(&b);
            let status = delete(daemon, format!("/v2/r{r}/blobs/{}", digest(&content(b))));
            assert_eq!(status, expected(known, 202, 404));
        }
        Call::Mount(from, to, b) => {
            let path = format!("/v2/r{to}/blobs/uploads/?mount={}&from=r{from}", digest(&content(b)));
            let known = model[usize::from(from)].blobs.contains(&b);
            let answer = daemon.request("POST", &path).body(b"").send().expect(expected(known, 201, 202));
            if known {
                model[usize::from(to)].blobs.insert(b);
            } else {
                // The refused mount opens an upload.
                assert_eq!(delete(daemon, answer.required_header("location")), 204);
            }
        }
        Call::PutManifest(r, t, b) => {
            let repository = &mut model[usize::from(r)];
            let answer = daemon.put_manifest(&format!("r{r}"), &format!("t{t}"), OCI_MANIFEST, &manifest(b));
            let known = repository.blobs.contains(&b);
            assert_eq!(answer.status, expected(known, 201, 400));
            if known {
                repository.manifests.insert(b);
                repository.tags.insert(t, b);
            }
        }
        Call::DeleteTag(r, t) => {
            let known = model[usize::from(r)].tags.remove(&t).is_some();
            assert_eq!(delete(daemon, format!("/v2/r{r}/manifests/t{t}")), expected(known, 202, 404));
        }
        Call::DeleteManifest(r, b) => {
            let repository = &mut model[usize::from(r)];
            let known = repository.manifests.remove(&b);
            repository.tags.retain(|_, manifest| *manifest != b);
            let status = delete(daemon, format!("/v2/r{r}/manifests/{}", digest(&manifest(b))));
            assert_eq!(status, expected(known, 202, 404));
        }
        Call::Kill => daemon.kill_and_restart(),
        Call::Rebuild => {
            daemon.stop();
            run(Command::new(BINARY).env_clear().args(["check", "--rebuild", "--data"]).arg(&daemon.data));
            daemon.start_again();
            // A rebuild may lose a blob that no manifest of the repository references; the next push brings it again.
            // Referenced blobs stay, and no deleted content returns.
            for (number, repository) in model.iter_mut().enumerate() {
                let Repository { blobs, manifests, referrers, foreign, .. } = repository;
                blobs.retain(|blob| {
                    let path = format!("/v2/r{number}/blobs/{}", digest(&content(*blob)));
                    let named = manifests.contains(blob)
                        || referrers.contains(blob)
                        || foreign.get(blob).copied().unwrap_or_default()
                        || (*blob == CONFIG && !foreign.is_empty());
                    named || daemon.get(&path).status == 200
                });
            }
        }
        Call::PutForeign(r, b) => {
            let repository = &mut model[usize::from(r)];
            daemon.push_blob(&format!("r{r}"), &content(CONFIG));
            repository.blobs.insert(CONFIG);
            let bytes = foreign(b);
            daemon.put_manifest(&format!("r{r}"), &digest(&bytes), OCI_MANIFEST, &bytes).expect(201);
            let known = repository.blobs.contains(&b);
            let before = repository.foreign.entry(b).or_default();
            *before |= known;
        }
    }
}

fn compare(daemon: &Daemon, model: &[Repository; 2]) {
    let mut names = Vec::new();
    for (number, repository) in model.iter().enumerate() {
        let tags: Vec<String> = repository.tags.keys().map(|tag| format!("t{tag}")).collect();
        let listed = daemon.get(&format!("/v2/r{number}/tags/list"));
        let is_empty = repository.manifests.is_empty() && repository.referrers.is_empty();
        if is_empty && repository.foreign.is_empty() {
            assert_eq!(listed.status, 404);
        } else {
            names.push(format!("r{number}"));
            assert_eq!(listed.json()["tags"], serde_json::json!(tags));
        }
        for (tag, blob) in &repository.tags {
            let answer = daemon.get(&format!("/v2/r{number}/manifests/t{tag}")).expect(200);
            assert_eq!(answer.body, manifest(*blob));
        }
        for blob in 0..3 {
            let status = daemon.get(&format!("/v2/r{number}/blobs/{}", digest(&content(blob)))).status;
            assert_eq!(status == 200, repository.blobs.contains(&blob));
            let referrers =
                daemon.get(&format!("/v2/r{number}/referrers/{}", digest(&manifest(blob)))).expect(200);
            let expected: Vec<String> =
                repository.referrers.get(&blob).map(|blob| digest(&referrer(*blob))).into_iter().collect();
            let listed = referrers.json()["manifests"].as_array().unwrap().clone();
            let listed: Vec<&str> =
                listed.iter().map(|descriptor| descriptor["digest"].as_str().unwrap()).collect();
            assert_eq!(listed, expected);
        }
    }
    assert_eq!(daemon.get("/v2/_catalog").json()["repositories"], serde_json::json!(names));
}

/// Few cases by default; `HOLDFAST_TEST_CASES=1000 cargo test model` tries more.
fn cases() -> u32 {
    std::env::var("HOLDFAST_TEST_CASES").map_or(32, |cases| cases.parse().unwrap())
}

#[test]
fn daemon_behaves_as_the_model() {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(call(), 1..40), |calls| {
        let mut daemon = Daemon::start();
        let mut model = <[Repository; 2]>::default();
        for call in &calls {
            apply(&mut daemon, &mut model, call);
            compare(&daemon, &model);
        }
        assert_eq!(
            std::fs::read_dir(daemon.data.join("uploads")).unwrap().count(),
            0,
            "uploads were left behind"
        );
        Ok(())
    });
    outcome.unwrap();
}
