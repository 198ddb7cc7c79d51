//! Real clients: Docker, skopeo, buildah and podman. They are Debian packages, which `tests/run` installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::support::*;

/// Engines that run at the same time: more starve each other on two processors.
const ENGINES: usize = 2;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The place of a running engine.
struct Place;

impl Place {
    fn take() -> Self {
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = RUNNING.1.wait_while(running, |running| *running >= ENGINES);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// A Docker engine, stopped on drop.
pub struct Engine {
    child: Child,
    directory: tempfile::TempDir,
    _place: Place,
}

impl Engine {
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    fn start_with(options: &[&str], environment: &[(&str, &str)]) -> Self {
        let place = Place::take();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let child = Command::new("dockerd")
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("sock")), "--bridge=none", "--iptables=false"])
            .args(options)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package docker.io has to be installed");
        let engine = Engine { child, directory, _place: place };
        let begun = Instant::now();
        while !engine.command(&["info"]).output().is_ok_and(|output| output.status.success()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the Docker engine did not start");
            std::thread::sleep(Duration::from_millis(200));
        }
        engine
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = self.directory.path().join("sock");
        command
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.directory.path().join("config"));
        command
    }

    /// Returns the socket of the engine's containerd.
    pub fn containerd(&self) -> PathBuf {
        self.directory.path().join("exec/containerd/containerd.sock")
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub fn layer(directory: &Path) -> PathBuf {
    let (files, tar) = (directory.join("files"), directory.join("layer.tar"));
    fs::create_dir_all(&files).unwrap();
    fs::write(
        files.join("big"),
        (0..3_000_000u32).map(|i| (i.wrapping_mul(i) % 251) as u8).collect::<Vec<u8>>(),
    )
    .unwrap();
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&files).arg("."));
    tar
}

#[test]
fn docker_logs_in_pushes_and_pulls() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    for mode in ["off", "auto"] {
        let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", mode)]);
        let host = format!("127.0.0.1:{}", daemon.address.port());
        let image = format!("{host}/team/hello:1");
        engine.docker(&["import", tar.to_str().unwrap(), &image]);
        assert!(
            !engine.command(&["push", &image]).output().unwrap().status.success(),
            "a push without login"
        );
        let wrong = engine.command(&["login", "-u", "alice", "-p", "wrong", &host]).output().unwrap();
        assert!(!wrong.status.success());
        engine.docker(&["login", "-u", "alice", "-p", "secret", &host]);
        let pushed = engine.docker(&["push", &image]);
        assert!(pushed.contains("digest: sha256:"), "{pushed}");
        engine.docker(&["rmi", &image]);
        engine.docker(&["pull", &image]);
        assert!(engine.docker(&["images", "--quiet", &image]).len() > 5);
    }
}

#[test]
fn docker_pulls_docker_hub_names_from_its_mirror() {
    let daemon = Daemon::start();
    let host = format!("127.0.0.1:{}", daemon.address.port());
    // Only the mirror is reachable: requests to Docker Hub end at a closed port.
    let closed = "http://127.0.0.1:9";
    let engine = Engine::start_with(
        &[&format!("--registry-mirror=http://{host}")],
        &[("HTTP_PROXY", closed), ("HTTPS_PROXY", closed)],
    );
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    for image in ["library/alpine:3", "team/app:1"] {
        let pushed = format!("{host}/{image}");
        engine.docker(&["import", tar.to_str().unwrap(), &pushed]);
        engine.docker(&["push", &pushed]);
        engine.docker(&["rmi", &pushed]);
    }
    engine.docker(&["pull", "alpine:3"]);
    engine.docker(&["pull", "team/app:1"]);
    let images = engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(images.lines().any(|image| image == "alpine:3"), "{images}");
    assert!(images.lines().any(|image| image == "team/app:1"), "{images}");
    let missing = engine.command(&["pull", "alpine:4"]).output().unwrap();
    assert!(!missing.status.success(), "an image that was never pushed is pulled");
}

#[test]
fn retention_keeps_the_newest_tags_of_one_docker_push() {
    let daemon = Daemon::with_config("[[retention]]\nrepositories = [\"*\"]\nkeep_newest = 3\n");
    let repository = format!("127.0.0.1:{}/app", daemon.address.port());
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let tar = layer(directory.path());
    for tag in 1..=8 {
        let change = format!("LABEL number={tag}");
        engine.docker(&[
            "import",
            "--change",
            &change,
            tar.to_str().unwrap(),
            &format!("{repository}:{tag}"),
        ]);
    }
    engine.docker(&["push", "--all-tags", &repository]);
    let mut collect = Command::new(BINARY);
    run(collect.env_clear().args(["gc", "--data"]).arg(&daemon.data));
    let tags = daemon.get("/v2/app/tags/list").expect(200).json()["tags"].clone();
    assert_eq!(tags.as_array().unwrap().len(), 3, "{tags}");
}

#[test]
fn docker_push_survives_a_kill_of_the_registry() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    let (files, tar) = (directory.path().join("files"), directory.path().join("layer.tar"));
    fs::create_dir(&files).unwrap();
    let mut random = std::io::Read::take(fs::File::open("/dev/urandom").unwrap(), 96 << 20);
    std::io::copy(&mut random, &mut fs::File::create(files.join("random")).unwrap()).unwrap();
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&files).arg("."));
    let mut daemon = Daemon::start();
    let image = format!("127.0.0.1:{}/large:1", daemon.address.port());
    engine.docker(&["import", tar.to_str().unwrap(), &image]);
    let push =
        engine.command(&["push", &image]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let uploads = daemon.data.join("uploads");
    let received = || {
        fs::read_dir(&uploads)
            .unwrap()
            .flatten()
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum::<u64>()
    };
    let begun = Instant::now();
    while received() < 8 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the push did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.kill_and_restart();
    let pushed = push.wait_with_output().unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    engine.docker(&["rmi", &image]);
    engine.docker(&["pull", &image]);
}

#[test]
fn skopeo_copies_inspects_lists_and_deletes() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().unwrap();
    let image = format!("docker://{}/a/b", daemon.address);
    let (_, first) = daemon.push_image("seed", "arm64", &layer_bytes(directory.path()));
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
        "mediaType": OCI_MANIFEST, "digest": digest(&first), "size": first.len(),
        "platform": {"architecture": "arm64", "os": "linux"}}]});
    daemon.put_manifest("seed", "all", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
    let skopeo = |arguments: &[&str]| {
        run(Command::new("skopeo").args(arguments).args(["--tls-verify=false"]).env("HOME", directory.path()))
    };
    let seed = format!("docker://{}/seed:all", daemon.address);
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    run(Command::new("skopeo").args(["copy", "--all"]).args(plain).args([&seed, &format!("{image}:1")]));
    assert!(skopeo(&["list-tags", &image]).contains("\"1\""));
    assert!(skopeo(&["inspect", "--raw", &format!("{image}:1")]).contains("arm64"));
    let layout = format!("oci:{}:1", directory.path().join("layout").display());
    run(Command::new("skopeo").args(["copy", "--all"]).args(plain).args([&format!("{image}:1"), &layout]));
    skopeo(&["delete", &format!("{image}:1")]);
    daemon.get("/v2/a/b/manifests/1").expect(404);
}

/// Returns the bytes of a small layer.
fn layer_bytes(directory: &Path) -> Vec<u8> {
    fs::read(layer(directory)).unwrap()
}

#[test]
fn buildah_pushes_and_podman_pulls_over_tls() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", "auto")]);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("certificates")).unwrap();
    fs::write(at("certificates/ca.crt"), daemon.get("/ca.crt").expect(200).body).unwrap();
    // Image store and settings of this test only.
    let tool = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "vfs"]);
        run(command.args(arguments).env("HOME", directory.path()).env("XDG_RUNTIME_DIR", at("run")))
    };
    let trust = ["--creds", "alice:secret", "--cert-dir", &at("certificates")];
    let image = format!("localhost:{}/team/built:1", daemon.address.port());
    let container = tool("buildah", &["from", "--name", "work", "scratch"]);
    assert_eq!(container.trim(), "work");
    tool("buildah", &["copy", "work", layer(directory.path()).to_str().unwrap(), "/layer.tar"]);
    tool("buildah", &["commit", "--disable-compression=false", "work", &image]);
    tool("buildah", &[&["push"][..], &trust, &[&image]].concat());
    tool("buildah", &["rmi", "--all", "--force"]);
    tool("podman", &[&["pull"][..], &trust, &[&image]].concat());
    assert!(tool("podman", &["images", "--noheading"]).contains("team/built"));
    // Layers compressed with zstd have another media type.
    tool("podman", &[&["push", "--compression-format=zstd"][..], &trust, &[&image]].concat());
    tool("podman", &["rmi", "--all", "--force"]);
    tool("podman", &[&["pull"][..], &trust, &[&image]].concat());
}
