//! Imports of what skopeo, hauler, zarf and oc-mirror write.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::media::{Image, Media};
use crate::support::*;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const BASE_NAME: &str = "org.opencontainers.image.base.name";

fn import(daemon: &Daemon, paths: &[&Path], more: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("import").args(paths).args(more).arg("--data").arg(&daemon.data);
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn imported(daemon: &Daemon, paths: &[&Path], more: &[&str]) -> String {
    let output = import(daemon, paths, more);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    text
}

#[track_caller]
fn expect_image(daemon: &Daemon, repository: &str, reference: &str, image: &Image) {
    let accept = format!("{OCI_MANIFEST}, {OCI_INDEX}");
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = daemon.request("GET", &path).header("Accept", &accept).send().expect(200);
    assert_eq!(answer.body, image.manifest, "{path}");
    for (digest, content) in image.content.iter().filter(|(digest, _)| **digest != image.digest) {
        let blob = daemon.get(&format!("/v2/{repository}/blobs/{digest}"));
        let manifest = || {
            daemon
                .request("GET", &format!("/v2/{repository}/manifests/{digest}"))
                .header("Accept", &accept)
                .send()
        };
        let body = if blob.status == 200 { blob.body } else { manifest().expect(200).body };
        assert_eq!(&body, content, "{digest}");
    }
}

/// A haul with an index, its signature, a chart, and an image that is pinned by its digest.
fn haul() -> (Media, [Image; 4]) {
    let (arm, amd) = (Image::of(b"arm"), Image::of(b"amd"));
    let index = Image::index(&[&arm, &amd]);
    let (signature, chart, pinned) = (Image::of(b"signature"), Image::of(b"chart"), Image::of(b"pinned"));
    let busybox = [(REF_NAME, "library/busybox:1"), (CONTAINERD_NAME, "index.docker.io/library/busybox:1")];
    let of = |image: &Image, kind: &str| image.descriptor(&[busybox[0], busybox[1], ("kind", kind)]);
    let pinned_name = format!("team/pinned@{}", pinned.digest);
    let descriptors = [
        of(&index, "dev.hauler/imageIndex"),
        of(&signature, "dev.hauler/sigs"),
        chart.descriptor(&[(REF_NAME, "hauler/rancher:2.8.2"), ("kind", "dev.hauler/image")]),
        pinned.descriptor(&[(REF_NAME, &pinned_name), ("kind", "dev.hauler/image")]),
    ];
    let mut media = Media::default();
    media.layout("", &[&index, &signature, &chart, &pinned], &descriptors);
    (media, [index, signature, chart, pinned])
}

#[test]
fn hauls_are_imported_with_signatures_charts_and_pinned_images() {
    let directory = tempfile::tempdir().unwrap();
    let (mut media, [index, signature, chart, pinned]) = haul();
    // A haul for containerd has no oci-layout.
    for name in ["haul.tar", "containerd.tar"] {
        let daemon = Daemon::start();
        let path = directory.path().join(name);
        media.write_tar(&path);
        imported(&daemon, &[&path], &[]);
        expect_image(&daemon, "busybox", "1", &index);
        let tag = format!("{}.sig", index.digest.replace(':', "-"));
        expect_image(&daemon, "busybox", &tag, &signature);
        expect_image(&daemon, "hauler/rancher", "2.8.2", &chart);
        expect_image(&daemon, "team/pinned", &pinned.digest, &pinned);
        if name == "haul.tar" {
            media.remove("oci-layout");
        }
    }
}

#[test]
fn the_images_of_a_zarf_package_are_imported() {
    let directory = tempfile::tempdir().unwrap();
    let (image, held_back) = (Image::of(b"podinfo"), Image::of(b"held back"));
    let descriptors = [
        image.descriptor(&[(BASE_NAME, "ghcr.io/team/podinfo:6.4.0")]),
        held_back.descriptor(&[(BASE_NAME, "ghcr.io/team/other:1")]),
    ];
    let mut media = Media::default();
    media.layout("images/", &[&image], &descriptors);
    media.add("zarf.yaml", b"kind: ZarfPackageConfig\n").add("components/app.tar", b"no image");
    media.add("checksums.txt", b"").add("sboms.tar", b"");
    let path = directory.path().join("zarf-package-app-amd64.tar");
    media.write_tar(&path);
    let daemon = Daemon::start();
    // A differential package does not have all of its images.
    let output = import(&daemon, &[&path], &[]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("team/other:1") && text.contains(&held_back.digest), "{text}");
    expect_image(&daemon, "team/podinfo", "6.4.0", &image);
    daemon.get("/v2/team/other/manifests/1").expect(404);
    // With the content in the registry there is no hole.
    let whole = directory.path().join("whole");
    let mut media = Media::default();
    media.layout("", &[&held_back], &[held_back.descriptor(&[(REF_NAME, "team/base:1")])]).write_to(&whole);
    imported(&daemon, &[&whole], &[]);
    imported(&daemon, &[&path], &[]);
    expect_image(&daemon, "team/other", "1", &held_back);
}

#[test]
fn archives_of_oc_mirror_are_imported_also_in_several_files() {
    let directory = tempfile::tempdir().unwrap();
    let (arm, amd) = (Image::of(&[1; 5000]), Image::of(&[2; 5000]));
    let index = Image::index(&[&arm, &amd]);
    let mut media = Media::default();
    media.registry_tree("ubi9/ubi", Some("latest"), &index).registry_tree("ubi9/ubi", None, &arm);
    media.registry_tree("ubi9/ubi", None, &amd).registry_tree("team/alone", None, &Image::of(b"alone"));
    media.add("working-dir/cluster-resources/idms.yaml", b"kind: ImageDigestMirrorSet\n");
    media.add("docker/registry/v2/repositories/broken/_manifests/tags/x/current/link", b"");
    let (one, two) = (directory.path().join("mirror_000001.tar"), directory.path().join("mirror_000002.tar"));
    let large = arm.content.iter().find(|(_, content)| content.len() == 5000).unwrap().0.clone();
    let (second, first) = media.split(|name| name.contains(&large[7..]) && name.ends_with("data"));
    first.write_tar(&one);
    second.write_tar(&two);
    let daemon = Daemon::start();
    let output = import(&daemon, &[&one, &two], &[]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "the empty link is refused: {text}");
    assert!(text.contains("broken:x") && text.contains("link file is empty"), "{text}");
    expect_image(&daemon, "ubi9/ubi", "latest", &index);
    let alone = Image::of(b"alone");
    expect_image(&daemon, "team/alone", &alone.digest, &alone);
}

#[test]
fn skopeo_directories_are_imported_by_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let (image, arm) = (Image::of(b"layer"), Image::of(b"arm"));
    let index = Image::index(&[&arm]);
    let mut media = Media::default();
    media.skopeo_directory("quay.io/team/app:1.4/", &image).skopeo_directory("quay.io/team/multi:2/", &index);
    media.write_to(directory.path());
    let daemon = Daemon::start();
    imported(&daemon, &[directory.path()], &[]);
    expect_image(&daemon, "team/app", "1.4", &image);
    expect_image(&daemon, "team/multi", "2", &index);
    let single = directory.path().join("single");
    let mut media = Media::default();
    media.skopeo_directory("", &image).write_to(&single);
    let output = import(&daemon, &[&single], &[]);
    assert_eq!(output.status.code(), Some(1), "an image without a name needs --as");
    imported(&daemon, &[&single], &["--as", "team/named:1"]);
    expect_image(&daemon, "team/named", "1", &image);
}

#[test]
fn a_directory_that_skopeo_itself_wrote_is_imported() {
    let directory = tempfile::tempdir().unwrap();
    let (source, daemon) = (Daemon::start(), Daemon::start());
    let (digest, manifest) = source.push_image("team/app", "1", b"a layer");
    let to = directory.path().join("app:1");
    run(Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--preserve-digests"])
        .arg(format!("docker://{}/team/app:1", source.address))
        .arg(format!("dir:{}", to.display())));
    imported(&daemon, &[&to], &[]);
    let answer =
        daemon.request("GET", "/v2/app/manifests/1").header("Accept", OCI_MANIFEST).send().expect(200);
    assert_eq!(answer.headers("docker-content-digest"), [digest]);
    assert_eq!(answer.body, manifest);
}
