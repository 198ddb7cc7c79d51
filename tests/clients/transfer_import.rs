//! `holdfast import` of archives that real tools write.

use std::path::Path;
use std::process::Command;

use super::engines::{Engine, layer};
use crate::support::*;

#[track_caller]
fn import(daemon: &Daemon, arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().arg("import").args(arguments).arg("--data").arg(&daemon.data))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn archives_of_docker_are_imported_and_pulled_again() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    engine.docker(&["import", text(&tar), "tool:1"]);
    let id = engine.docker(&["images", "--no-trunc", "--quiet", "tool:1"]);
    engine.docker(&["tag", "tool:1", "hub.lan:5000/team/tool:2"]);
    let saved = directory.path().join("save.tar");
    engine.docker(&["save", "-o", text(&saved), "tool:1", "hub.lan:5000/team/tool:2"]);
    engine.docker(&["rmi", "--force", "tool:1", "hub.lan:5000/team/tool:2"]);
    let daemon = Daemon::start();
    import(&daemon, &[text(&saved)]);
    for name in ["tool:1", "team/tool:2"] {
        let image = format!("127.0.0.1:{}/{name}", daemon.address.port());
        engine.docker(&["pull", &image]);
        assert_eq!(engine.docker(&["images", "--no-trunc", "--quiet", &image]), id);
    }
}

#[test]
fn a_downloaded_image_is_loaded_by_docker_and_read_by_skopeo() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    let daemon = Daemon::start();
    let image = format!("127.0.0.1:{}/team/tool:1", daemon.address.port());
    engine.docker(&["import", text(&tar), &image]);
    let id = engine.docker(&["images", "--no-trunc", "--quiet", &image]);
    engine.docker(&["push", &image]);
    engine.docker(&["rmi", "--force", &image]);
    let saved = directory.path().join("download.tar");
    let url = format!("http://127.0.0.1:{}/image/team/tool:1/download", daemon.address.port());
    run(Command::new("curl").args([
        "-sSf",
        "--max-time",
        "60",
        "-H",
        "Accept: text/html",
        "-o",
        text(&saved),
        &url,
    ]));
    let loaded = engine.docker(&["load", "-i", text(&saved)]);
    assert!(loaded.contains(&image), "{loaded}");
    assert_eq!(engine.docker(&["images", "--no-trunc", "--quiet", &image]), id);
    for kind in ["oci-archive", "docker-archive"] {
        let read =
            run(Command::new("skopeo").args(["inspect", "--raw", &format!("{kind}:{}", text(&saved))]));
        assert!(read.contains("schemaVersion"), "{kind}: {read}");
    }
}

#[test]
fn images_that_docker_pushed_are_pulled_elsewhere_after_a_journey() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    let (home, site) = (Daemon::start(), Daemon::start());
    let at = |daemon: &Daemon| format!("127.0.0.1:{}/team/tool:1", daemon.address.port());
    engine.docker(&["import", text(&tar), &at(&home)]);
    engine.docker(&["push", &at(&home)]);
    let id = engine.docker(&["images", "--no-trunc", "--quiet", &at(&home)]);
    let digests = |image: &str| {
        let listed = engine.docker(&["inspect", "--format", "{{join .RepoDigests \"\\n\"}}", image]);
        listed
            .lines()
            .filter_map(|line| line.split_once('@'))
            .map(|(_, digest)| digest.to_owned())
            .collect::<Vec<_>>()
    };
    let pushed = digests(&at(&home));
    for medium in ["stick", "stick.tar"] {
        let medium = directory.path().join(medium);
        let mut export = Command::new(BINARY);
        export.env_clear().args(["export", "--all", "-o"]).arg(&medium).arg("--data").arg(&home.data);
        run(&mut export);
        import(&site, &[text(&medium)]);
    }
    engine.docker(&["rmi", "--force", &at(&home)]);
    engine.docker(&["pull", &at(&site)]);
    assert_eq!(engine.docker(&["images", "--no-trunc", "--quiet", &at(&site)]), id);
    assert_eq!(digests(&at(&site)), pushed);
}

#[test]
fn archives_of_buildah_podman_and_skopeo_keep_their_digests() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let source = Daemon::start();
    let host = format!("127.0.0.1:{}", source.address.port());
    source.push_image("team/tool", "1", b"a layer");
    let from = format!("docker://{host}/team/tool:1");
    let digest = |daemon: &Daemon, name: &str| {
        let image = format!("docker://127.0.0.1:{}/{name}", daemon.address.port());
        run(Command::new("skopeo").args(["inspect", "--tls-verify=false", "--raw", &image]))
    };
    // Without --preserve-digests skopeo compresses the layers.
    let copy = |to: &str| {
        run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", "--preserve-digests", &from, to]))
    };
    copy(&format!("oci-archive:{}:hub.lan/team/tool:2", at("archive.tar")));
    copy(&format!("oci:{}:hub.lan/team/tool:3", at("layout")));
    let daemon = Daemon::start();
    for (medium, name) in [("archive.tar", "team/tool:2"), ("layout", "team/tool:3")] {
        import(&daemon, &[&at(medium)]);
        assert_eq!(digest(&daemon, name), digest(&source, "team/tool:1"));
    }
    // The engines make the files of the image themselves, and so its layers.
    std::fs::write(directory.path().join("file"), "content").unwrap();
    let script = "set -e; c=$(buildah from scratch); trap 'buildah rm $c >&2; buildah rmi -f localhost/holdfast-import:1 >&2' EXIT
        buildah copy -q $c file /file >&2; buildah commit -q $c localhost/holdfast-import:1 >&2
        buildah push -q localhost/holdfast-import:1 docker-archive:buildah.tar:tool:4
        podman save -q -o podman.tar localhost/holdfast-import:1
        podman save -q --format oci-archive -o podman-oci.tar localhost/holdfast-import:1";
    run(Command::new("sh").args(["-c", script]).current_dir(directory.path()));
    import(&daemon, &[&at("buildah.tar")]);
    import(&daemon, &["--as", "tool:5", &at("podman.tar")]);
    assert_eq!(digest(&daemon, "tool:4"), digest(&daemon, "tool:5"));
    import(&daemon, &["--as", "tool:6", &at("podman-oci.tar")]);
    let back = format!("docker://127.0.0.1:{}/tool:6", daemon.address.port());
    run(Command::new("skopeo").args([
        "copy",
        "--src-tls-verify=false",
        &back,
        &format!("dir:{}", at("back")),
    ]));
}
