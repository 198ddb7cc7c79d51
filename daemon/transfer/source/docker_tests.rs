use proptest::prelude::*;

use super::super::testing::TestMembers;
use super::*;

#[test]
fn images_have_config_and_layers() {
    let mut members = TestMembers::default();
    let hex = "a".repeat(64);
    members.add(&DockerArchive, &format!("{hex}.json"), b"{}");
    members.add(&DockerArchive, &format!("{hex}/layer.tar"), b"x");
    members.add(&DockerArchive, "config.json", b"{}");
    let list = format!(
        r#"[{{"Config":"{hex}.json","RepoTags":["app:1","app:2"],"Layers":["{hex}/layer.tar"]}},
            {{"Config":"config.json","RepoTags":["hub:5000/b:1"],"Layers":null}},
            {{"Config":"{hex}.json","RepoTags":["c:1"],"Layers":["gone.tar"]}},
            {{"Config":"gone.json","RepoTags":null}}, 7]"#
    );
    members.add(&DockerArchive, "manifest.json", list.as_bytes());
    let catalog = DockerArchive.catalog(&mut members).unwrap().unwrap();
    let names: Vec<_> = catalog.images.iter().map(|entry| entry.names.len()).collect();
    assert_eq!(names, [2, 1]);
    assert!(matches!(&catalog.images[1].root, Root::Made(MadeImage { config: Config::Text(_), .. })));
    let refused: Vec<_> = catalog.refused.iter().map(|refusal| refusal.name.as_str()).collect();
    assert_eq!(refused, ["c:1", "gone.json", "(an image without a config)"]);
}

#[test]
fn images_share_a_config_and_large_configs_are_refused() {
    let mut members = TestMembers::default();
    members.add(&DockerArchive, "config.json", b"{}");
    members.add(&DockerArchive, "large.json", &vec![b' '; (4 << 20) + 1]);
    members.add(&DockerArchive, "x/layer.tar", b"x");
    let layers = |count: usize| vec![r#""x/layer.tar""#; count].join(",");
    let list = format!(
        r#"[{{"Config":"config.json","RepoTags":["a:1"]}},
            {{"Config":"config.json","RepoTags":["b:1"],"Layers":["x/layer.tar"]}},
            {{"Config":"config.json","RepoTags":["b:2"],"Layers":["x/layer.tar"]}},
            {{"Config":"large.json","RepoTags":["c:1"]}},
            {{"Config":"config.json","RepoTags":["d:1"],"Layers":[{}]}}]"#,
        layers(limits::LAYERS + 1)
    );
    members.add(&DockerArchive, "manifest.json", list.as_bytes());
    let catalog = DockerArchive.catalog(&mut members).unwrap().unwrap();
    let config = |at: usize| match &catalog.images[at].root {
        Root::Made(MadeImage { config: Config::Text(text), .. }) => text.clone(),
        root => panic!("{root:?}"),
    };
    assert_eq!(catalog.images.len(), 2);
    assert_eq!(catalog.images[1].names.len(), 2);
    assert!(Arc::ptr_eq(&config(0), &config(1)));
    let refused: Vec<_> = catalog.refused.iter().map(|refusal| refusal.name.as_str()).collect();
    assert_eq!(refused, ["c:1", "d:1"]);
}

#[test]
fn faulty_elements_are_bounded() {
    let mut members = TestMembers::default();
    let list = format!("[{}0]", "0,".repeat(2 * limits::Bounds::COMMAND.images));
    members.add(&DockerArchive, "manifest.json", list.as_bytes());
    let catalog = DockerArchive.catalog(&mut members).unwrap().unwrap();
    assert_eq!(catalog.refused.len(), limits::Bounds::COMMAND.images + 1);
}

#[test]
fn a_manifest_of_skopeo_is_no_archive_of_docker() {
    let mut members = TestMembers::default();
    members.add(&DockerArchive, "manifest.json", b" {\"schemaVersion\":2}");
    assert!(DockerArchive.catalog(&mut members).unwrap().is_none());
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,80}") {
        let mut members = TestMembers::default();
        members.add(&DockerArchive, "manifest.json", format!("[{text}]").as_bytes());
        let _ = DockerArchive.catalog(&mut members);
    }
}
