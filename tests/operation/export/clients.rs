//! Other tools read what an export writes.

use super::*;
use crate::clients::engines::Engine;

struct Fixture {
    _daemon: Daemon,
    directory: tempfile::TempDir,
    app: Image,
    other: Image,
}

/// Exports two images as a tar and as a directory.
fn exported() -> Fixture {
    let daemon = Daemon::start();
    let app = push(&daemon, "team/app", "1.0", &noise(1, 300_000));
    let other = push(&daemon, "library/other", "2", &noise(2, 300_000));
    let directory = tempfile::tempdir().unwrap();
    run(&mut export(&daemon, &["--all"], &directory.path().join("a.tar")));
    run(&mut export(&daemon, &["--all"], &directory.path().join("layout")));
    Fixture { _daemon: daemon, directory, app, other }
}

impl Fixture {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn docker_loads_the_archive() {
    let fixture = exported();
    let engine = Engine::start();
    let loaded = engine.docker(&["load", "-i", &fixture.path("a.tar")]);
    assert!(loaded.contains("Loaded image: team/app:1.0"), "{loaded}");
    for (name, image) in [("team/app:1.0", &fixture.app), ("other:2", &fixture.other)] {
        // The id of an image is the digest of its config.
        assert_eq!(engine.docker(&["inspect", "--format", "{{.Id}}", name]).trim(), image.config);
    }
}

#[test]
fn containerd_imports_the_archive() {
    let fixture = exported();
    let engine = Engine::start();
    let containerd = engine.containerd();
    let ctr = |arguments: &[&str]| {
        run(Command::new("ctr").arg("-a").arg(&containerd).args(["-n", "test"]).args(arguments))
    };
    ctr(&["images", "import", &fixture.path("a.tar")]);
    let list = ctr(&["images", "list"]);
    for (name, image) in
        [("docker.io/team/app:1.0", &fixture.app), ("docker.io/library/other:2", &fixture.other)]
    {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{list}"));
        assert!(line.contains(&image.digest), "{line}");
    }
}

#[test]
fn skopeo_and_umoci_read_directory_and_archive() {
    let fixture = exported();
    for (source, output) in [
        (format!("oci:{}:1.0", fixture.path("layout")), "from-directory"),
        (format!("oci-archive:{}:1.0", fixture.path("a.tar")), "from-archive"),
    ] {
        let target = fixture.path(output);
        run(Command::new("skopeo").args(["copy", &source, &format!("dir:{target}")]));
        let manifest = std::fs::read(Path::new(&target).join("manifest.json")).unwrap();
        assert_eq!(digest(&manifest), fixture.app.digest, "{source}");
    }
    let docker = format!("docker-archive:{}:docker.io/library/other:2", fixture.path("a.tar"));
    run(Command::new("skopeo").args(["inspect", "--config", &docker]));
    let listed = run(Command::new("umoci").args(["ls", "--layout", &fixture.path("layout")]));
    let tags: std::collections::BTreeSet<&str> = listed.lines().collect();
    assert_eq!(tags, ["1.0", "2"].into(), "{listed}");
    let bundle = fixture.path("bundle");
    let image = format!("{}:1.0", fixture.path("layout"));
    run(Command::new("umoci").args(["unpack", "--rootless", "--image", &image, &bundle]));
    assert_eq!(std::fs::read(Path::new(&bundle).join("rootfs/file")).unwrap(), noise(1, 300_000));
}

#[test]
fn podman_loads_the_archive() {
    let fixture = exported();
    let root = fixture.directory.path().join("podman");
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--storage-driver", "vfs", "--root"]).arg(root.join("root"));
        command.arg("--runroot").arg(root.join("run")).args(arguments);
        run(&mut command)
    };
    podman(&["load", "-i", &fixture.path("a.tar")]);
    let list = podman(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    for (name, image) in [("team/app:1.0", &fixture.app), ("library/other:2", &fixture.other)] {
        let line = list.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{list}"));
        assert!(line.ends_with(&image.config), "{line}");
    }
}
