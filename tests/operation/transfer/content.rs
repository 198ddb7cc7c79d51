//! Content that is allowed and seldom seen.

use holdfast::oci::Algorithm::{Sha256, Sha512};
use serde_json::json;

use super::*;
use crate::support::images::{CONFIG, LAYER};

/// Tags of one manifest.
const TAGS: usize = 512;

/// Pushes images, artifacts and indexes of all kinds; returns the names of those that have no tag.
fn fill(daemon: &Daemon) -> Vec<String> {
    let at = |repository: &str| Pusher { daemon, repository: repository.into() };
    let mut untagged = Vec::new();
    // sha512 for blobs, for a child of an index, and for a manifest that no tag names.
    let sha512 = at("algorithms/sha512");
    let config = sha512.blob(Sha512, CONFIG, br#"{"architecture":"arm64","os":"linux"}"#);
    let layers = [sha512.blob(Sha512, LAYER, b"a layer"), sha512.blob(Sha256, LAYER, b"a layer")];
    let child = sha512.manifest(Sha512, None, &image_manifest(&config, &layers));
    sha512.manifest(Sha256, Some("index"), &index_manifest(&[child]));
    let alone = sha512.manifest(Sha512, None, &image_manifest(&config, &layers[..1]));
    untagged.push(format!("algorithms/sha512@{}", alone["digest"].as_str().unwrap()));
    let mut signature = image_manifest(&config, &layers[1..]);
    (signature["subject"], signature["artifactType"]) = (alone, "application/x-signature".into());
    sha512.manifest(Sha512, None, &signature);
    // Artifacts: with the empty config, without a config, and in the withdrawn format.
    let artifacts = at("artifacts");
    let file = artifacts.blob(Sha256, "application/spdx+json", b"a bill of materials");
    let empty = artifacts.blob(Sha256, "application/vnd.oci.empty.v1+json", b"{}");
    let mut artifact = image_manifest(&empty, std::slice::from_ref(&file));
    artifact["artifactType"] = "application/x-sbom".into();
    artifacts.manifest(Sha256, Some("empty-config"), &artifact);
    artifact.as_object_mut().unwrap().remove("config");
    artifacts.manifest(Sha256, Some("no-config"), &artifact);
    let withdrawn = "application/vnd.oci.artifact.manifest.v1+json";
    let withdrawn = json!({"mediaType": withdrawn, "artifactType": "application/x-sbom", "blobs": [file]});
    artifacts.manifest(Sha256, Some("withdrawn"), &withdrawn);
    // No bytes, also as the only layer and under both algorithms.
    let nothing = at("nothing");
    let config = nothing.blob(Sha256, CONFIG, b"{}");
    let layers = [nothing.blob(Sha256, LAYER, b""), nothing.blob(Sha512, LAYER, b"")];
    nothing.manifest(Sha256, Some("1"), &image_manifest(&config, &layers));
    // An index in an index in an index, and an index without manifests.
    let nested = at("nested");
    let config = nested.blob(Sha256, CONFIG, b"{\"os\":\"linux\"}");
    let layer = nested.blob(Sha256, LAYER, b"deep down");
    let mut inner = nested.manifest(Sha256, None, &image_manifest(&config, &[layer]));
    for tag in [None, None, Some("3")] {
        inner = nested.manifest(Sha256, tag, &index_manifest(&[inner]));
    }
    nested.manifest(Sha256, Some("empty"), &index_manifest(&[]));
    // Many names of one manifest.
    let many = at("many/tags");
    let config = many.blob(Sha256, CONFIG, b"{\"os\":\"other\"}");
    let manifest = image_manifest(&config, &[]);
    for number in 0..TAGS {
        many.manifest(Sha256, Some(&format!("v{number}")), &manifest);
    }
    untagged
}

#[test]
fn unusual_content_is_exported_and_imported_bit_exact() {
    let home = Daemon::start();
    let untagged = fill(&home);
    let expected = Contents::of(&home);
    let names: Vec<&str> = ["*"].into_iter().chain(untagged.iter().map(String::as_str)).collect();
    let directory = tempfile::tempdir().unwrap();
    for form in ["layout", "x.tar", "stream"] {
        let (site, medium) = (Daemon::start(), directory.path().join(form));
        run(&mut export(&home, &names, &medium));
        if form == "stream" {
            let piped = directory.path().join("piped.tar");
            run(Command::new("tar").arg("-C").arg(&medium).arg("-cf").arg(&piped).arg("."));
            let output = import_stream(&site, &piped);
            assert!(output.status.success(), "{}", text(&output));
        } else {
            run(&mut import(&site, &medium));
        }
        let imported = Contents::of(&site);
        assert_eq!(imported.tags.len(), TAGS + 7, "{form}");
        assert_eq!(imported, expected, "{form}");
        for name in &untagged {
            let (repository, digest) = name.split_once('@').unwrap();
            let path = format!("/v2/{repository}/manifests/{digest}");
            assert_eq!(site.get(&path).expect(200).body, home.get(&path).expect(200).body, "{form}");
            let path = format!("/v2/{repository}/referrers/{digest}");
            assert_eq!(site.get(&path).expect(200).body, home.get(&path).expect(200).body, "{form}");
            assert_eq!(site.get(&path).json()["manifests"].as_array().unwrap().len(), 1, "{form}");
        }
    }
}
