//! The requirements of the OCI Distribution Specification: one test for each MUST of the registry, in a module for its
//! section.
//!
//! The MUSTs of clients (verify digests, fall back to the referrers tag schema, keep credentials from other hosts) have
//! no test here. Other tests go deeper; these make sure that none is forgotten.

mod deleting;
mod errors;
mod listing_referrers;
mod listing_tags;
mod pulling;
mod pushing_blobs;
mod pushing_chunks;
mod pushing_manifests;

use serde_json::{Value, json};

use crate::support::*;

/// Digest of content that no test pushes.
fn unknown() -> String {
    digest(b"content that no test pushes")
}

/// Returns the location with a query parameter added.
fn with_query(location: &str, parameter: &str) -> String {
    format!("{location}{}{parameter}", if location.contains('?') { '&' } else { '?' })
}

/// Sends a chunk; `range` is the value of `Content-Range`.
fn patch(daemon: &Daemon, location: &str, range: &str, bytes: &[u8]) -> Response {
    daemon.request("PATCH", location).header("Content-Range", range).body(bytes).send()
}

/// Pushes a manifest with these fields in addition to those of an image; returns its digest and the response.
fn push_manifest(daemon: &Daemon, repository: &str, fields: &Value) -> (String, Response) {
    let config = daemon.push_blob(repository, b"{}");
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.example.config.v1+json", "digest": config, "size": 2},
        "layers": [],
    });
    for (key, value) in fields.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let answer = daemon.put_manifest(repository, &digest(&bytes), &media_type, &bytes);
    (digest(&bytes), answer)
}

/// Descriptor of a subject.
fn subject(digest: &str) -> Value {
    json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 2})
}
