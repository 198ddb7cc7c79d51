//! Everything that a registry serves, so that two registries can be compared.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::oci::{Algorithm, Digest, Hasher};
use serde_json::{Value, json};

use super::{Daemon, OCI_INDEX, OCI_MANIFEST, Response};

/// Names, manifests, referrers and files of blobs. Reading them pulls all content and compares it with its digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tags, `REPOSITORY:TAG`, with the digests of their manifests.
    pub tags: BTreeMap<String, String>,
    /// Media types and texts of the manifests, by `REPOSITORY@DIGEST`.
    pub manifests: BTreeMap<String, String>,
    /// Answers to requests for referrers, by `REPOSITORY@DIGEST`.
    pub referrers: BTreeMap<String, String>,
    /// The files in the store.
    pub blobs: BTreeSet<String>,
}

impl Contents {
    /// Reads everything below the tags of a registry. Panics if an image is not whole.
    #[track_caller]
    pub fn of(daemon: &Daemon) -> Self {
        let mut contents = Contents { blobs: blob_files(daemon), ..Contents::default() };
        let list = |path: &str, key: &str| -> Vec<String> {
            let answer = daemon.get(path);
            let listed = if answer.status == 404 { Value::Null } else { answer.expect(200).json() };
            let items = listed[key].as_array().cloned().unwrap_or_default();
            items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
        };
        for repository in list("/v2/_catalog?n=1000", "repositories") {
            for tag in list(&format!("/v2/{repository}/tags/list?n=1000"), "tags") {
                let digest = manifest(daemon, &repository, &tag).required_header("docker-content-digest");
                contents.add(daemon, &repository, &digest);
                contents.tags.insert(format!("{repository}:{tag}"), digest);
            }
        }
        contents
    }

    fn add(&mut self, daemon: &Daemon, repository: &str, digest: &str) {
        let name = format!("{repository}@{digest}");
        if self.manifests.contains_key(&name) {
            return;
        }
        let answer = manifest(daemon, repository, digest);
        assert_matches(&answer.body, digest);
        let links: Value = answer.json();
        let text = format!("{} {}", answer.required_header("content-type"), text_of(&answer));
        self.manifests.insert(name.clone(), text);
        let files = ["layers", "blobs"].into_iter().filter_map(|key| links[key].as_array()).flatten();
        for file in files.chain([&links["config"]]).filter_map(|link| link["digest"].as_str()) {
            let path = format!("/v2/{repository}/blobs/{file}");
            assert_matches(&daemon.get(&path).expect(200).body, file);
        }
        let children = links["manifests"].as_array().into_iter().flatten();
        let answer = daemon.get(&format!("/v2/{repository}/referrers/{digest}")).expect(200);
        let referrers = answer.json();
        self.referrers.insert(name, text_of(&answer));
        for child in children.chain(referrers["manifests"].as_array().into_iter().flatten()) {
            self.add(daemon, repository, child["digest"].as_str().unwrap());
        }
    }
}

fn manifest(daemon: &Daemon, repository: &str, reference: &str) -> Response {
    daemon.get(&format!("/v2/{repository}/manifests/{reference}")).expect(200)
}

fn text_of(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[track_caller]
fn assert_matches(content: &[u8], digest: &str) {
    let algorithm = digest.parse::<Digest>().unwrap().algorithm();
    assert_eq!(Hasher::digest(algorithm, content).to_string(), digest);
}

/// Returns the names of the files with blobs, `ALGORITHM/HEX`.
pub fn blob_files(daemon: &Daemon) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for algorithm in ["sha256", "sha512"] {
        let folder = std::fs::read_dir(daemon.data.join("blobs").join(algorithm));
        for entry in folder.into_iter().flatten() {
            files.insert(format!("{algorithm}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    files
}

/// A repository into which a test pushes content of any kind. Pushes return descriptors.
pub struct Pusher<'a> {
    pub daemon: &'a Daemon,
    pub repository: String,
}

impl Pusher<'_> {
    /// Pushes a blob under a digest of this algorithm.
    #[track_caller]
    pub fn blob(&self, algorithm: Algorithm, media_type: &str, content: &[u8]) -> Value {
        let digest = Hasher::digest(algorithm, content);
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        self.daemon.request("POST", &path).body(content).send().expect(201);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes a manifest under a tag, or by a digest of this algorithm.
    #[track_caller]
    pub fn manifest(&self, algorithm: Algorithm, tag: Option<&str>, manifest: &Value) -> Value {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let media_type = manifest["mediaType"].as_str().unwrap();
        let digest = Hasher::digest(algorithm, &bytes).to_string();
        let reference = tag.unwrap_or(&digest);
        self.daemon.put_manifest(&self.repository, reference, media_type, &bytes).expect(201);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// Returns the manifest of an image.
pub fn image_manifest(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

/// Returns an index.
pub fn index_manifest(children: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
}
