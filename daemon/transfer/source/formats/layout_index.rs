//! `index.json` of an image layout, and the facts of a manifest that a catalog needs.

use serde::Deserialize;

use super::super::catalog::Refusal;
use super::super::error::SourceError;
use super::super::index_descriptor::{Index, IndexDescriptor};
use super::super::limits::Bounds;
use super::super::name::ImageName;
use crate::oci::{Digest, Manifest, ManifestError, MediaType, ReferenceKind};

/// Parses an index. A descriptor that is not valid is a refusal, and the others are still returned.
///
/// # Errors
/// Fails if the text is not an index.
pub(super) fn entries(
    place: &str,
    text: &[u8],
    bounds: Bounds,
) -> Result<(Vec<IndexDescriptor>, Vec<Refusal>), SourceError> {
    // serde would read an array as the fields in their order.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(SourceError::invalid(place, "this is not an image index: no JSON object"));
    }
    let index: Index<'_> = serde_json::from_slice(text).map_err(|error| SourceError::json(place, &error))?;
    let (mut entries, mut refused) = (Vec::new(), Vec::new());
    let is_cut = index.manifests.is_cut || index.manifests.items.len() > bounds.images;
    for (number, text) in index.manifests.items.into_iter().take(bounds.images).enumerate() {
        match serde_json::from_str(text.get()) {
            Ok(entry) => entries.push(entry),
            Err(error) => refused.push(Refusal {
                name: format!("{place}, descriptor {}", number + 1),
                reason: error.to_string(),
            }),
        }
    }
    if is_cut {
        let reason = format!("{place} lists more than {} descriptors, which is the limit", bounds.images);
        refused.push(Refusal { name: "(further images)".to_owned(), reason });
    }
    Ok((entries, refused))
}

/// Parses the name of an image. The names of Docker Hub's host become one.
pub(super) fn image_name(text: &str) -> Result<ImageName, String> {
    let mut name = ImageName::parse(text).map_err(|error| format!("{text:?} is not a name: {error}"))?;
    if matches!(name.host.as_deref(), Some("index.docker.io" | "registry-1.docker.io")) {
        name.host = Some("docker.io".to_owned());
    }
    Ok(name)
}

/// Parses a manifest whose media type may be known. A manifest that states none is an index or an image by its fields.
///
/// # Errors
/// Fails if the text is not a manifest, or one of schema 1.
pub(in crate::transfer) fn manifest(
    text: &[u8],
    media_type: Option<&MediaType>,
) -> Result<Manifest, ManifestError> {
    #[derive(Deserialize)]
    struct Fields {
        manifests: Option<serde::de::IgnoredAny>,
    }
    match Manifest::parse(text, media_type) {
        Err(ManifestError::Untyped) => {
            let Fields { manifests } = serde_json::from_slice(text)?;
            let kind = if manifests.is_some() { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
            Manifest::parse(text, kind.parse().ok().as_ref())
        }
        other => other,
    }
}

/// Returns the manifests that an index lists.
pub(super) fn children(manifest: &Manifest) -> impl Iterator<Item = &Digest> {
    let references = manifest.references().iter();
    references.filter(|one| one.kind == ReferenceKind::Manifest).map(|one| &one.digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_malformed_descriptor_does_not_hide_the_others() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!(r#"{{"manifests":[7,{{"digest":"md5:x"}},{{"digest":"{digest}","size":1}}]}}"#);
        let (entries, refused) = entries("index.json", text.as_bytes(), Bounds::COMMAND).unwrap();
        assert_eq!((entries.len(), refused.len()), (1, 2));
        assert_eq!(refused[0].name, "index.json, descriptor 1");
        assert!(super::entries("index.json", b"[]", Bounds::COMMAND).is_err());
        assert!(super::entries("index.json", b"{}", Bounds::COMMAND).unwrap().0.is_empty());
    }

    #[test]
    fn a_manifest_without_a_media_type_is_known_by_its_fields() {
        let index = manifest(br#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
        assert!(index.media_type().is_index());
        let image = manifest(br#"{"schemaVersion":2,"layers":[]}"#, None).unwrap();
        assert_eq!(image.media_type().as_str(), MediaType::OCI_MANIFEST);
        assert!(matches!(manifest(br#"{"schemaVersion":1}"#, None), Err(ManifestError::Schema1)));
    }

    #[test]
    fn docker_hub_has_one_host() {
        for host in ["index.docker.io", "registry-1.docker.io", "docker.io"] {
            let name = image_name(&format!("{host}/library/alpine:3")).unwrap();
            assert_eq!(name.to_string(), "docker.io/library/alpine:3");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = image_name(&text);
            let _ = entries("index.json", &bytes, Bounds::COMMAND);
            let _ = manifest(&bytes, None);
        }
    }
}
