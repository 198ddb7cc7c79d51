//! Manifests of images that have none. The same config and layers make the same bytes.

use serde::Deserialize;
use serde_json::json;

use super::super::source::codec::Compression;
use crate::oci::{Algorithm, Digest, Hasher, MediaType};

/// A layer that the sink has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
    /// The digest of the uncompressed content, where it is known.
    pub(super) diff_id: Option<Digest>,
}

/// A manifest that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) media_type: &'static str,
    pub(super) text: String,
    pub(super) digest: Digest,
}

/// The kind of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Oci,
}

/// Returns the digests of the uncompressed layers in a config.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, String> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<Digest>>,
    }
    let config: Config =
        serde_json::from_slice(config).map_err(|error| format!("its config is not valid: {error}"))?;
    Ok(config.rootfs.diff_ids.unwrap_or_default())
}

/// Checks the layers against the config.
pub(super) fn check(layers: &[Layer], diff_ids: &[Digest]) -> Result<(), String> {
    for (layer, stated) in layers.iter().zip(diff_ids) {
        if layer.diff_id.as_ref().is_some_and(|diff_id| diff_id != stated) {
            return Err(format!("a layer does not match its config, which states {stated}"));
        }
    }
    Ok(())
}

/// Makes the manifest: Docker schema 2, or OCI where a layer is compressed in a way that Docker has no type for.
pub(super) fn manifest(config: &[u8], layers: &[Layer], kind: Kind) -> Made {
    let is_oci = kind == Kind::Oci || layers.iter().any(|layer| layer.compression == Compression::Zstd);
    let layer_type = |compression| match (is_oci, compression) {
        (false, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (false, Compression::None | Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar",
        (true, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (true, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (true, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
    };
    let (media_type, config_type) = if is_oci {
        (MediaType::OCI_MANIFEST, "application/vnd.oci.image.config.v1+json")
    } else {
        (MediaType::DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json")
    };
    let layer = |layer: &Layer| json!({ "digest": layer.digest, "mediaType": layer_type(layer.compression), "size": layer.size });
    // The keys of `serde_json` objects are sorted.
    let text = json!({
        "config": {
            "digest": Hasher::digest(Algorithm::Sha256, config),
            "mediaType": config_type,
            "size": config.len(),
        },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "mediaType": media_type,
        "schemaVersion": 2,
    })
    .to_string();
    Made { media_type, digest: Hasher::digest(Algorithm::Sha256, text.as_bytes()), text }
}

/// Returns true if a manifest has this config and as many layers, so that it is the same image.
pub(super) fn is_same_image(manifest: &[u8], config: &Digest, layers: usize) -> bool {
    #[derive(Deserialize)]
    struct Links {
        config: Link,
        layers: Vec<Link>,
    }
    #[derive(Deserialize)]
    struct Link {
        digest: Digest,
    }
    serde_json::from_slice::<Links>(manifest)
        .is_ok_and(|links| links.config.digest == *config && links.layers.len() == layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(compression: Compression) -> Layer {
        let digest = Hasher::digest(Algorithm::Sha256, b"layer");
        Layer { digest: digest.clone(), size: 5, compression, diff_id: Some(digest) }
    }

    #[test]
    fn the_same_layers_make_the_same_manifest() {
        let made = manifest(b"{}", &[layer(Compression::None), layer(Compression::Gzip)], Kind::Docker);
        assert_eq!(
            made.digest.to_string(),
            "sha256:6afe91432d7f375afee0e0180a4fb3aa0997e8887275a74068c836f60b9804dd"
        );
        let digest = Hasher::digest(Algorithm::Sha256, b"{}");
        assert!(
            is_same_image(made.text.as_bytes(), &digest, 2)
                && !is_same_image(made.text.as_bytes(), &digest, 1)
        );
        assert_eq!(
            manifest(b"{}", &[layer(Compression::Zstd)], Kind::Docker).media_type,
            MediaType::OCI_MANIFEST
        );
    }

    #[test]
    fn layers_have_to_match_their_config() {
        let stated = Hasher::digest(Algorithm::Sha256, b"other");
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{stated}"]}}}}"#);
        let ids = diff_ids(config.as_bytes()).unwrap();
        assert!(check(&[layer(Compression::None)], &ids).is_err());
        assert!(check(&[Layer { diff_id: None, ..layer(Compression::Gzip) }], &ids).is_ok());
        assert!(diff_ids(b"{}").is_err() && diff_ids(br#"{"rootfs":{}}"#).unwrap().is_empty());
    }
}
