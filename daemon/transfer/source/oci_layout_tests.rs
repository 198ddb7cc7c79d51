use crate::oci::MediaType;
use proptest::prelude::*;

use super::super::testing::TestMembers;
use super::*;

fn catalog(members: &mut TestMembers, index: &str) -> Catalog {
    members.add(&OciLayout, "index.json", index.as_bytes());
    OciLayout.catalog(members).unwrap().unwrap()
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.images.iter().flat_map(|entry| entry.names.iter().map(ToString::to_string)).collect()
}

fn entry(digest: &Digest, annotations: &str) -> String {
    format!(
        r#"{{"mediaType":"{}","digest":"{digest}","size":2,"annotations":{{{annotations}}}}}"#,
        MediaType::OCI_MANIFEST
    )
}

#[test]
fn names_come_from_all_annotations() {
    let mut members = TestMembers::default();
    let digest = members.blob(b"{}");
    let list = [
        entry(&digest, r#""org.opencontainers.image.ref.name":"1.0""#),
        entry(&digest, r#""org.opencontainers.image.ref.name":"docker.io/library/a:2""#),
        entry(
            &digest,
            r#""io.containerd.image.name":"hub.lan:5000/b:3","org.opencontainers.image.ref.name":"3""#,
        ),
        entry(
            &digest,
            r#""io.holdfast.repository":"team/c","org.opencontainers.image.ref.name":"4","io.holdfast.pushed":"77""#,
        ),
        entry(&digest, r#""io.containerd.image.name":"B A D""#),
        r#"{"digest":"sha256:x"}"#.into(),
    ];
    let catalog = catalog(&mut members, &format!(r#"{{"manifests":[{}]}}"#, list.join(",")));
    assert_eq!(names(&catalog), ["(no name):1.0", "docker.io/library/a:2", "hub.lan:5000/b:3", "team/c:4"]);
    assert_eq!(catalog.images.iter().map(|entry| entry.pushed).collect::<Vec<_>>(), [None, Some(77)]);
    let refused: Vec<_> = catalog.refused.iter().map(|refusal| refusal.name.as_str()).collect();
    assert_eq!(refused, ["B A D", "sha256:x"]);
}

#[test]
fn names_within_a_nested_index_are_found() {
    let mut members = TestMembers::default();
    let image = members.blob(b"{}");
    let inner = format!(
        r#"{{"manifests":[{}]}}"#,
        entry(&image, r#""io.containerd.image.name":"docker.io/library/a:1""#)
    );
    let inner = members.blob(inner.as_bytes());
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"{}","digest":"{inner}","size":9}}]}}"#,
        MediaType::OCI_INDEX
    );
    assert_eq!(names(&catalog(&mut members, &index)), ["docker.io/library/a:1"]);
}

#[test]
fn nested_indexes_are_expanded_once() {
    let mut members = TestMembers::default();
    let image = members.blob(b"{}");
    let named = |name: &str| entry(&image, &format!(r#""io.containerd.image.name":"{name}""#));
    let mut inner = members.blob(format!(r#"{{"manifests":[{}]}}"#, named("a:0")).as_bytes());
    let next = |inner: &Digest| {
        let one = format!(r#"{{"mediaType":"{}","digest":"{inner}","size":9}}"#, MediaType::OCI_INDEX);
        vec![one; 30].join(",")
    };
    for level in 1..9 {
        let text = format!(r#"{{"manifests":[{},{}]}}"#, next(&inner), named(&format!("a:{level}")));
        inner = members.blob(text.as_bytes());
    }
    let catalog = catalog(&mut members, &format!(r#"{{"manifests":[{}]}}"#, next(&inner)));
    // The ninth index is deeper than the limit, and an image of its own.
    assert_eq!(names(&catalog), (1..9).map(|level| format!("a:{level}")).collect::<Vec<_>>());
}

#[test]
fn many_tags_and_many_faults_are_bounded() {
    let mut members = TestMembers::default();
    let image = members.blob(b"{}");
    let tag = |at: usize| entry(&image, &format!(r#""org.opencontainers.image.ref.name":"t{at}""#));
    let tags: Vec<String> = (0..30_000).map(tag).collect();
    let all = catalog(&mut members, &format!(r#"{{"manifests":[{}]}}"#, tags.join(",")));
    assert_eq!((all.images.len(), names(&all).len()), (1, 30_000));
    let faults = format!(r#"{{"manifests":[{}0]}}"#, "0,".repeat(2 * limits::Bounds::COMMAND.images));
    let read = catalog(&mut members, &faults);
    assert_eq!(read.refused.len(), limits::Bounds::COMMAND.images + 1);
}

#[test]
fn untagged_images_of_docker_are_added() {
    let mut members = TestMembers::default();
    let (config, other, layer) = (members.blob(b"{1}"), members.blob(b"{2}"), members.blob(b"layer"));
    let manifest = members.blob(format!(r#"{{"config":{{"digest":"{config}"}}}}"#).as_bytes());
    let image = |config: &Digest| {
        format!(
            r#"{{"Config":"blobs/sha256/{}","RepoTags":null,"Layers":["blobs/sha256/{}"]}}"#,
            config.hex(),
            layer.hex()
        )
    };
    members.add(&OciLayout, "manifest.json", format!("[{},{}]", image(&config), image(&other)).as_bytes());
    let index = format!(r#"{{"manifests":[{}]}}"#, entry(&manifest, ""));
    let catalog = catalog(&mut members, &index);
    assert_eq!(catalog.images.len(), 2);
    assert!(
        matches!(&catalog.images[1].root, Root::Made(made) if made.config == super::super::Config::Blob(other))
    );
}

#[test]
fn roles_depend_on_the_name() {
    let role = |name: &str| OciLayout.role(&MemberName::parse(name.as_bytes()).unwrap());
    let blob = format!("blobs/sha256/{}", "a".repeat(64));
    assert!(matches!(role(&blob), Some(Role::Blob(_))));
    assert!(matches!(role(&format!("./top/{blob}")), Some(Role::Blob(_))));
    assert_eq!(role(&format!("a/b/{blob}")), None);
    assert_eq!(role("top/index.json"), Some(Role::Document));
    assert_eq!(role("holdfast/export.json.sig"), Some(Role::Document));
    assert_eq!(role("a/b/index.json"), None);
    assert_eq!(role("blobs/sha256/short"), None);
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}", inner in "\\PC{0,60}") {
        let mut members = TestMembers::default();
        members.add(&OciLayout, "index.json", text.as_bytes());
        let _ = OciLayout.catalog(&mut members);
        let index = format!(r#"{{"manifests":[{{"digest":"{inner}"}},{text}]}}"#);
        members.add(&OciLayout, "index.json", index.as_bytes());
        members.add(&OciLayout, "manifest.json", inner.as_bytes());
        let _ = OciLayout.catalog(&mut members);
    }
}
