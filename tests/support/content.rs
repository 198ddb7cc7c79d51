//! Digests and manifests.

use holdfast::oci::{Algorithm, Hasher};

use super::OCI_MANIFEST;

/// Returns the sha256 digest of content.
pub fn digest(content: &[u8]) -> String {
    Hasher::digest(Algorithm::Sha256, content).to_string()
}

/// Returns content that does not compress and is the same in each run.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Returns the manifest of an image with one layer, and perhaps a subject; the sizes are not those of the blobs.
pub fn image(config: &str, layer: &str, subject: Option<&str>) -> Vec<u8> {
    image_of((config, 2), (layer, 5), subject)
}

/// Returns the manifest of an image with a config and a layer, each with its size, and perhaps a subject.
pub(super) fn image_of(config: (&str, usize), layer: (&str, usize), subject: Option<&str>) -> Vec<u8> {
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.0, "size": layer.1}],
    });
    if let Some(subject) = subject {
        manifest["subject"] = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
        manifest["artifactType"] = "application/x-signature".into();
    }
    serde_json::to_vec(&manifest).unwrap()
}
