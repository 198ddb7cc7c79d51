//! hauls of hauler: an image layout whose descriptors have the annotation `kind`.
//!
//! | kind, after `dev.hauler/` or `dev.cosignproject.cosign/` | name |
//! |---|---|
//! | `image`, `imageIndex`; also charts and files | the name of the image or artifact |
//! | `sigs`, `atts`, `sboms`, also followed by `/HEX` | the tag `sha256-HEX.sig`, `.att` or `.sbom` in the repository of the base image |
//! | `referrers/HEX` | by digest in the repository of the base image |
//!
//! A haul for containerd has no `oci-layout`, and lists only the images in `index.json`; `hauler-index.json` lists all.

use std::collections::BTreeMap;

use super::super::index_descriptor::IndexDescriptor;
use super::super::listing::{HAULER_KIND as KIND, HAULER_SUBJECT as SUBJECT};
use super::layout_index;
use crate::oci::Digest;
use crate::oci::annotations::{CONTAINERD_NAME, REF_NAME};
use crate::transfer::source::{
    Catalog, Format, ImageEntry, ImageName, MemberName, Members, Role, Root, SourceError,
};

/// The beginnings of kinds: today's, and that of releases which used a fork of cosign.
const VENDORS: [&str; 2] = ["dev.hauler/", "dev.cosignproject.cosign/"];
/// The index of all content, in a haul for containerd.
const WHOLE_INDEX: &str = "hauler-index.json";

/// The format of hauls.
pub struct Hauler;

/// The kind of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An image, an index, a chart or a file.
    Content,
    /// Content that is found by a tag made of the digest of its image, with this ending.
    Attached(&'static str),
    /// A referrer.
    Referrer,
}

impl Format for Hauler {
    fn name(&self) -> &'static str {
        "hauler"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        if let Some((top, digest)) = name.layout_blob() {
            return top.is_empty().then_some(Role::Blob(digest));
        }
        match name.as_str() {
            "index.json" | WHOLE_INDEX | "oci-layout" => Some(Role::Document),
            _ => None,
        }
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let Some((place, index)) =
            [WHOLE_INDEX, "index.json"].into_iter().find_map(|name| Some((name, members.document(name)?)))
        else {
            return Ok(None);
        };
        let (entries, refused) = match layout_index::entries(place, &index, members.bounds()) {
            Ok(read) => read,
            // The error is that of the format of all layouts.
            Err(_) if place == "index.json" => return Ok(None),
            Err(error) => return Err(error),
        };
        if place == "index.json" && !entries.iter().any(is_of_hauler) {
            return Ok(None);
        }
        let bases = bases(&entries);
        let mut catalog = Catalog { format: self.name(), refused, ..Catalog::default() };
        for entry in &entries {
            match name(entry, &bases) {
                Ok(name) => catalog.images.push(ImageEntry {
                    names: vec![name],
                    root: Root::Manifest { digest: entry.digest.clone(), media_type: entry.parsed_type() },
                    pushed: None,
                }),
                Err(reason) => catalog.refused.push(entry.refuse(&reason)),
            }
        }
        Ok(Some(catalog))
    }
}

fn is_of_hauler(entry: &IndexDescriptor) -> bool {
    entry.annotation(KIND).is_some_and(|kind| VENDORS.iter().any(|vendor| kind.starts_with(vendor)))
}

/// Returns the kind of a descriptor. Charts and files have no kind, or that of an image.
fn kind(entry: &IndexDescriptor) -> Kind {
    let Some(text) = entry.annotation(KIND) else { return Kind::Content };
    let kind = VENDORS.iter().find_map(|vendor| text.strip_prefix(vendor)).unwrap_or(text);
    match kind.split('/').next().unwrap_or_default() {
        "sigs" => Kind::Attached("sig"),
        "atts" => Kind::Attached("att"),
        "sboms" => Kind::Attached("sbom"),
        "referrers" => Kind::Referrer,
        _ => Kind::Content,
    }
}

/// Returns the digest of each image by its name. An index counts before the images of single platforms.
fn bases(entries: &[IndexDescriptor]) -> BTreeMap<&str, &Digest> {
    let is_index =
        |entry: &&IndexDescriptor| entry.parsed_type().is_some_and(|media_type| media_type.is_index());
    let content = || entries.iter().filter(|entry| kind(entry) == Kind::Content);
    let mut bases = BTreeMap::new();
    for entry in content().filter(is_index).chain(content()) {
        if let Some(name) = entry.annotation(REF_NAME) {
            bases.entry(name).or_insert(&entry.digest);
        }
    }
    bases
}

/// Returns the name of a descriptor.
fn name(entry: &IndexDescriptor, bases: &BTreeMap<&str, &Digest>) -> Result<ImageName, String> {
    let whole = entry.annotation(CONTAINERD_NAME).or_else(|| entry.annotation(REF_NAME));
    let base = layout_index::image_name(whole.ok_or("the haul has no name for it")?)?;
    let alone = ImageName { tag: None, digest: None, ..base.clone() };
    match kind(entry) {
        Kind::Content => Ok(base),
        Kind::Referrer => Ok(ImageName { digest: Some(entry.digest.clone()), ..alone }),
        Kind::Attached(ending) => {
            let subject = entry.annotation(SUBJECT).and_then(|text| text.parse().ok());
            let by_name = || entry.annotation(REF_NAME).and_then(|name| bases.get(name).copied().cloned());
            let subject: Digest = subject
                .or_else(by_name)
                .or(base.digest)
                .ok_or("the image that it belongs to is not in the haul")?;
            let tag = format!("{}-{}.{ending}", subject.algorithm(), subject.hex());
            let tag = tag.parse().map_err(|error| format!("{tag:?}: {error}"))?;
            Ok(ImageName { tag: Some(tag), ..alone })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_members::{TestMembers, digest, lines, refusals};
    use super::*;

    const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
    const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    fn entry(media_type: &str, content: &str, annotations: &[(&str, &str)]) -> String {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let digest = digest(content.as_bytes());
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": 1, "annotations": annotations})
            .to_string()
    }

    fn haul(name: &str, entries: &[String]) -> TestMembers {
        let mut members = TestMembers::default();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        assert_eq!(members.add(&Hauler, name, index.as_bytes()), Some(Role::Document));
        members
    }

    fn image(vendor: &str) -> Vec<String> {
        let names = [(REF_NAME, "library/busybox:1"), (CONTAINERD_NAME, "index.docker.io/library/busybox:1")];
        let with = |kind: &str, content, media_type| {
            let kind = format!("{vendor}/{kind}");
            entry(media_type, content, &[names[0], names[1], (KIND, &kind)])
        };
        vec![
            with("image", "one platform", IMAGE_TYPE),
            with("imageIndex", "index", INDEX_TYPE),
            with("sigs", "signature", IMAGE_TYPE),
            with("atts", "attestation", IMAGE_TYPE),
            with("sboms", "sbom", IMAGE_TYPE),
        ]
    }

    #[test]
    fn signatures_get_the_tags_that_clients_look_for() {
        for vendor in ["dev.hauler", "dev.cosignproject.cosign"] {
            let catalog = haul("index.json", &image(vendor)).catalog(&Hauler);
            let hex = digest(b"index").hex();
            let tag = |ending| format!("docker.io/library/busybox:sha256-{hex}.{ending}");
            let name = "docker.io/library/busybox:1".to_owned();
            assert_eq!(lines(&catalog), [name.clone(), name, tag("sig"), tag("att"), tag("sbom")]);
        }
    }

    #[test]
    fn the_subject_of_a_signature_may_be_stated() {
        let subject = digest(b"child");
        let kind = format!("dev.hauler/sigs/{}", subject.hex());
        let with_subject =
            entry(IMAGE_TYPE, "s", &[(REF_NAME, "a/b:1"), (KIND, &kind), (SUBJECT, &subject.to_string())]);
        let lost = entry(IMAGE_TYPE, "s", &[(REF_NAME, "c/d:1"), (KIND, "dev.hauler/atts")]);
        let referrer = entry(IMAGE_TYPE, "r", &[(REF_NAME, "a/b:1"), (KIND, "dev.hauler/referrers/x")]);
        let catalog = haul("index.json", &[with_subject, lost, referrer]).catalog(&Hauler);
        let expected = [format!("a/b:sha256-{}.sig", subject.hex()), format!("a/b@{}", digest(b"r"))];
        assert_eq!(lines(&catalog), expected);
        assert_eq!(refusals(&catalog), ["c/d:1: the image that it belongs to is not in the haul"]);
    }

    #[test]
    fn charts_files_and_pinned_images_keep_their_names() {
        let pinned = format!("library/alpine@{}", digest(b"pinned"));
        let entries = [
            entry(IMAGE_TYPE, "pinned", &[(REF_NAME, &pinned), (KIND, "dev.hauler/image")]),
            entry(IMAGE_TYPE, "chart", &[(REF_NAME, "hauler/rancher:2.8.2")]),
            entry(IMAGE_TYPE, "file", &[(REF_NAME, "hauler/install.sh:latest")]),
            entry(IMAGE_TYPE, "nameless", &[]),
        ];
        let catalog = haul("index.json", &entries).catalog(&Hauler);
        assert_eq!(lines(&catalog), [pinned.as_str(), "hauler/rancher:2.8.2", "hauler/install.sh:latest"]);
        assert_eq!(refusals(&catalog).len(), 1);
    }

    #[test]
    fn the_whole_index_of_a_haul_for_containerd_counts() {
        let mut members = haul("index.json", &image("dev.hauler")[..1]);
        let whole =
            format!(r#"{{"manifests":[{}]}}"#, entry(IMAGE_TYPE, "chart", &[(REF_NAME, "hauler/chart:1")]));
        members.add(&Hauler, "hauler-index.json", whole.as_bytes());
        assert_eq!(lines(&members.catalog(&Hauler)), ["hauler/chart:1"]);
    }

    #[test]
    fn other_layouts_are_of_another_format() {
        let mut members = haul("index.json", &[entry(IMAGE_TYPE, "x", &[(REF_NAME, "1.0")])]);
        assert_eq!(Hauler.catalog(&mut members).unwrap(), None);
        assert_eq!(Hauler.catalog(&mut TestMembers::default()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            index in prop::collection::vec(any::<u8>(), 0..200),
            name in "\\PC{0,40}",
            kind in "(dev.hauler/)?[a-z]{0,9}",
            subject in "\\PC{0,80}",
        ) {
            let mut members = TestMembers::default();
            members.add(&Hauler, "index.json", &index);
            let _ = Hauler.catalog(&mut members);
            let entry = entry(IMAGE_TYPE, "x", &[(REF_NAME, &name), (KIND, &kind), (SUBJECT, &subject)]);
            let _ = Hauler.catalog(&mut haul("index.json", &[entry]));
        }
    }
}
