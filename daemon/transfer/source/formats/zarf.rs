//! zarf packages: an image layout in `images/`, beside `zarf.yaml`.
//!
//! Everything but the images is ignored: charts, files and manifests of a package are for zarf. A differential package
//! lists images whose content it does not have; the engine reports these as missing.

use super::super::index_descriptor::IndexDescriptor;
use super::layout_index;
use crate::oci::annotations::{BASE_NAME, CONTAINERD_NAME, REF_NAME};
use crate::transfer::source::{
    Catalog, Format, ImageEntry, ImageName, MemberName, Members, Role, Root, SourceError,
};

/// The definition of a package, by which it is recognised.
const DEFINITION: &str = "zarf.yaml";
/// Members at the top of a package that are not images.
const OTHERS: [&str; 4] = ["components", "checksums.txt", "sboms.tar", "zarf.yaml.sig"];

/// The format of zarf packages.
pub struct Zarf;

impl Format for Zarf {
    fn name(&self) -> &'static str {
        "zarf package"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        if let Some((top, digest)) = name.layout_blob() {
            return (top == "images").then_some(Role::Blob(digest));
        }
        let text = name.as_str();
        if text == DEFINITION || text == "images/index.json" {
            return Some(Role::Document);
        }
        let first = text.split('/').next().unwrap_or_default();
        (OTHERS.contains(&first) || text == "images/oci-layout").then_some(Role::Ignored)
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let place = "images/index.json";
        let (Some(_), Some(index)) = (members.document(DEFINITION), members.document(place)) else {
            return Ok(None);
        };
        let (entries, refused) = layout_index::entries(place, &index, members.bounds())?;
        let mut catalog = Catalog { format: self.name(), refused, ..Catalog::default() };
        catalog.notes.push("only the images of the package are imported".to_owned());
        for entry in entries {
            match image_name(&entry) {
                Ok(names) => catalog.images.push(ImageEntry {
                    names,
                    root: Root::Manifest { digest: entry.digest.clone(), media_type: entry.parsed_type() },
                    pushed: None,
                }),
                Err(reason) => catalog.refused.push(entry.refuse(&reason)),
            }
        }
        Ok(Some(catalog))
    }
}

/// Returns the name of an image; none if the package states none.
fn image_name(entry: &IndexDescriptor) -> Result<Vec<ImageName>, String> {
    let text = [BASE_NAME, CONTAINERD_NAME, REF_NAME].into_iter().find_map(|key| entry.annotation(key));
    text.map_or(Ok(Vec::new()), |text| layout_index::image_name(text).map(|name| vec![name]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_members::{TestMembers, digest, lines, refusals};
    use super::*;

    fn package(index: &str) -> TestMembers {
        let mut members = TestMembers::default();
        members.add(&Zarf, "zarf.yaml", b"kind: ZarfPackageConfig");
        members.add(&Zarf, "images/index.json", index.as_bytes());
        members
    }

    #[test]
    fn images_have_the_names_of_their_sources() {
        let manifest = digest(b"manifest");
        let mut members = package(&format!(
            r#"{{"schemaVersion":2,"manifests":[
              {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":8,
                "annotations":{{"org.opencontainers.image.base.name":"ghcr.io/team/podinfo:6.4.0"}}}},
              {{"digest":"{manifest}","size":8,"annotations":{{"org.opencontainers.image.base.name":"Bad Name"}}}}]}}"#
        ));
        let blob = format!("images/blobs/sha256/{}", manifest.hex());
        assert_eq!(members.add(&Zarf, &blob, b"manifest"), Some(Role::Blob(manifest.clone())));
        for ignored in ["components/app.tar", "checksums.txt", "sboms.tar", "images/oci-layout"] {
            assert_eq!(members.add(&Zarf, ignored, b""), Some(Role::Ignored), "{ignored}");
        }
        let catalog = members.catalog(&Zarf);
        assert_eq!(lines(&catalog), ["ghcr.io/team/podinfo:6.4.0"]);
        assert!(refusals(&catalog)[0].starts_with("Bad Name: \"Bad Name\" is not a name"), "{catalog:?}");
    }

    #[test]
    fn an_image_without_content_is_listed() {
        // The engine asks the store for it, and reports the hole.
        let digest = digest(b"held back");
        let mut members = package(&format!(
            r#"{{"manifests":[{{"digest":"{digest}","size":9,"annotations":{{"org.opencontainers.image.base.name":"a/b:1"}}}}]}}"#
        ));
        assert_eq!(lines(&members.catalog(&Zarf)), ["a/b:1"]);
    }

    #[test]
    fn other_layouts_are_of_another_format() {
        let mut members = TestMembers::default();
        members.add(&Zarf, "images/index.json", b"{}");
        assert_eq!(Zarf.catalog(&mut members).unwrap(), None);
        assert!(Zarf.catalog(&mut package("no JSON")).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(name in "\\PC*", index in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut members = package("{}");
            members.add(&Zarf, &name, &index);
            members.add(&Zarf, "images/index.json", &index);
            let _ = Zarf.catalog(&mut members);
        }
    }
}
