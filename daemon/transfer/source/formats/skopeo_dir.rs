//! Directories of skopeo (`dir:`), also the trees that `skopeo sync` writes: one directory for each image.
//!
//! A directory has `version`, `manifest.json` and a file for each blob, named by its hash: 64 digits, or 128 for sha512. The
//! manifests of an index are `HEX.manifest.json`. The directory name is the only name: `REPOSITORY:TAG`, below the
//! components of its path. An image whose directory is named otherwise needs a name from the user.

use super::layout_index;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::transfer::source::{
    Catalog, Format, ImageEntry, ImageName, MemberName, Members, Refusal, Role, Root, SourceError, limits,
};

/// The first words of the file `version`.
const VERSION: &[u8] = b"Directory Transport Version: ";

/// The format of skopeo's directories.
pub struct SkopeoDir;

impl Format for SkopeoDir {
    fn name(&self) -> &'static str {
        "skopeo directory"
    }

    fn role(&self, name: &MemberName) -> Option<Role> {
        let (_, [file]) = name.split_end()?;
        if matches!(file, "version" | "manifest.json") {
            return Some(Role::Document);
        }
        if let Some(digest) = digest(file.strip_suffix(".manifest.json").unwrap_or(file)) {
            return Some(Role::Blob(digest));
        }
        let (_, ending) = file.rsplit_once('.').unwrap_or(("", file));
        ending.starts_with("signature-").then_some(Role::Ignored)
    }

    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError> {
        let mut catalog = Catalog { format: self.name(), ..Catalog::within(members.bounds()) };
        for document in members.documents() {
            let Some(directory) = directory_of(&document) else { continue };
            let is_version = members.document(&document).is_some_and(|text| text.starts_with(VERSION));
            let manifest = members.document(&join(directory, "manifest.json"));
            let (true, Some(text)) = (is_version, manifest) else { continue };
            let place = if directory.is_empty() { members.place().unwrap_or(".") } else { directory };
            match image(place, &text) {
                Ok(image) => {
                    if catalog.is_full() {
                        break;
                    }
                    if let Root::Manifest { digest, .. } = &image.root {
                        catalog.manifests.insert(digest.clone(), text.to_vec());
                    }
                    catalog.add(image);
                }
                Err(reason) => catalog.refuse(Refusal { name: place.to_owned(), reason }),
            }
        }
        let is_empty = catalog.images.is_empty() && catalog.refused.is_empty();
        Ok((!is_empty).then_some(catalog))
    }
}

/// Returns the directory of a file `version`.
fn directory_of(document: &str) -> Option<&str> {
    match document.strip_suffix("version")? {
        "" => Some(""),
        directory => directory.strip_suffix('/'),
    }
}

fn join(directory: &str, file: &str) -> String {
    if directory.is_empty() { file.to_owned() } else { format!("{directory}/{file}") }
}

/// Returns the digest that a file is named by.
fn digest(file: &str) -> Option<Digest> {
    let (algorithm, hex) = match file.split_once('-') {
        Some((algorithm, hex)) => (algorithm.parse().ok()?, hex),
        None if file.len() == 2 * Algorithm::Sha512.hash_len() => (Algorithm::Sha512, file),
        None => (Algorithm::Sha256, file),
    };
    format!("{algorithm}:{hex}").parse().ok()
}

/// Returns the image in a directory.
fn image(place: &str, text: &[u8]) -> Result<ImageEntry, String> {
    if text.len() as u64 > limits::MANIFEST {
        return Err(format!("manifest.json exceeds the limit of {} bytes", limits::MANIFEST));
    }
    let manifest = layout_index::manifest(text, None).map_err(|error| format!("manifest.json: {error}"))?;
    let named = ImageName::parse(place).ok().filter(|name| name.tag.is_some() || name.digest.is_some());
    Ok(ImageEntry {
        names: named.into_iter().collect(),
        root: Root::Manifest {
            digest: Hasher::digest(Algorithm::Sha256, text),
            media_type: Some(manifest.media_type().clone()),
        },
        pushed: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_members::{self, TestMembers, lines, refusals};
    use super::*;

    const MANIFEST: &[u8] =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

    fn add(members: &mut TestMembers, directory: &str, manifest: &[u8]) {
        members.add(&SkopeoDir, &format!("{directory}/version"), b"Directory Transport Version: 1.1\n");
        members.add(&SkopeoDir, &format!("{directory}/manifest.json"), manifest);
    }

    #[test]
    fn files_are_blobs_by_their_hashes() {
        let hex = "a".repeat(64);
        let role = |text: &str| SkopeoDir.role(&MemberName::parse(text.as_bytes()).unwrap());
        let blob = Some(Role::Blob(format!("sha256:{hex}").parse().unwrap()));
        assert_eq!(role(&hex), blob);
        assert_eq!(role(&format!("alpine:3/{hex}.manifest.json")), blob);
        let long = hex.repeat(2);
        let sha512 = Some(Role::Blob(format!("sha512:{long}").parse().unwrap()));
        assert_eq!(role(&long), sha512);
        assert_eq!(role(&format!("sha512-{long}")), sha512);
        assert_eq!(role("signature-1"), Some(Role::Ignored));
        assert_eq!(role(&format!("{hex}.signature-1")), Some(Role::Ignored));
        for other in [format!("{hex}.json"), format!("{hex}/layer.tar"), "repositories".into()] {
            assert_eq!(role(&other), None, "{other}");
        }
    }

    #[test]
    fn the_directory_names_the_image() {
        let mut members = TestMembers::at("stick");
        add(&mut members, "quay.io/team/app:1.4", MANIFEST);
        add(&mut members, "without-tag", MANIFEST);
        add(&mut members, "old:1", br#"{"schemaVersion":1}"#);
        let catalog = members.catalog(&SkopeoDir);
        assert_eq!(lines(&catalog), ["quay.io/team/app:1.4", ""]);
        assert!(refusals(&catalog)[0].starts_with("old:1: manifest.json: "), "{catalog:?}");
        assert_eq!(catalog.manifests[&test_members::digest(MANIFEST)], MANIFEST);
    }

    #[test]
    fn a_single_directory_has_the_name_of_the_medium() {
        for (place, expected) in [("app:1.4", "app:1.4"), ("app", "")] {
            let mut members = TestMembers::at(place);
            add(&mut members, ".", MANIFEST);
            assert_eq!(lines(&members.catalog(&SkopeoDir)), [expected]);
        }
    }

    #[test]
    fn other_media_are_of_another_format() {
        let mut members = TestMembers::at("x");
        members.add(&SkopeoDir, "manifest.json", b"[]");
        assert_eq!(SkopeoDir.catalog(&mut members).unwrap(), None);
        members.add(&SkopeoDir, "version", b"1.0");
        assert_eq!(SkopeoDir.catalog(&mut members).unwrap(), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            name in "\\PC*",
            place in "\\PC*",
            version in "(Directory Transport Version: )?\\PC*",
            manifest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut members = TestMembers::at(&place);
            members.add(&SkopeoDir, &name, &manifest);
            members.add(&SkopeoDir, "version", version.as_bytes());
            members.add(&SkopeoDir, "manifest.json", &manifest);
            let _ = SkopeoDir.catalog(&mut members);
        }
    }
}
