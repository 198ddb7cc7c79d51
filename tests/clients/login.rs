//! Log-in with real clients in every access mode: a wrong password is refused, the right one can push, after the log-out only
//! open repositories can be pulled, and a changed password ends the log-in.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::engines::{Engine, layer};
use crate::support::*;

/// A client with the credentials that it stores.
trait Client {
    fn log_in(&self, host: &str, password: &str) -> bool;
    fn log_out(&self, host: &str);
    fn push(&self, image: &str) -> Outcome;
    fn pull(&self, image: &str) -> Outcome;

    /// Returns true if the client requests `/v2/` for a challenge first, also for open repositories.
    fn pings(&self) -> bool {
        true
    }
}

/// Success and output of a command.
struct Outcome(bool, String);

impl Outcome {
    fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Outcome(output.status.success(), format!("{command:?}: {}", text.concat()))
    }

    #[track_caller]
    fn expect(self, success: bool) -> Self {
        assert_eq!(self.0, success, "{}", self.1);
        self
    }
}

fn change_password(daemon: &Daemon, name: &str, password: &str) {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["user", "passwd", name, "--password-stdin", "--data"]).arg(&daemon.data);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Access mode: the rights of the anonymous user, and the scheme of the challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// `auth.anonymous` opens all repositories for pulls.
    AnonymousPull,
    /// A rule opens `public/*`.
    AnonymousRule,
    /// No anonymous access; log-in by bearer token.
    ClosedBearer,
    /// No anonymous access; log-in with a password in each request.
    ClosedBasic,
}

const MODES: [Mode; 4] = [Mode::AnonymousPull, Mode::AnonymousRule, Mode::ClosedBearer, Mode::ClosedBasic];

impl Mode {
    fn start(self, data: &Path) -> Daemon {
        add_user(data, "alice", "secret");
        let auth = match self {
            Mode::AnonymousPull => "[auth]\nanonymous = \"pull\"\n",
            Mode::AnonymousRule => {
                "[[auth.rule]]\nusers = [\"-\"]\nrepositories = [\"public/*\"]\nallow = [\"pull\"]\n"
            }
            Mode::ClosedBearer => "[auth]\nchallenge = \"bearer\"\n",
            Mode::ClosedBasic => "[auth]\nchallenge = \"basic\"\n",
        };
        Daemon::with_config_at(data, &format!("[storage]\npath = {data:?}\n{auth}"))
    }

    fn opens_public(self) -> bool {
        matches!(self, Mode::AnonymousPull | Mode::AnonymousRule)
    }

    fn opens_private(self) -> bool {
        self == Mode::AnonymousPull
    }
}

/// Checks a client in every mode.
fn check_every_mode(name: &str, client: &dyn Client) {
    for mode in MODES {
        let directory = tempfile::tempdir().unwrap();
        let daemon = mode.start(&directory.path().join("data"));
        let host = format!("127.0.0.1:{}", daemon.address.port());
        let (public, private) = (format!("{host}/public/app:1"), format!("{host}/private/app:1"));
        println!("{name}, {mode:?}");
        client.push(&public).expect(false);
        assert!(!client.log_in(&host, "wrong"), "{name}, {mode:?}: a wrong password is accepted");
        client.push(&public).expect(false);
        assert!(client.log_in(&host, "secret"), "{name}, {mode:?}: the right password is refused");
        client.push(&public).expect(true);
        client.push(&private).expect(true);
        client.pull(&private).expect(true);
        client.log_out(&host);
        client.pull(&public).expect(mode.opens_public());
        client.pull(&private).expect(mode.opens_private());
        // A new name, since some clients do not push an image again that exists.
        let other = format!("{host}/public/other:1");
        client.push(&other).expect(false);
        assert!(client.log_in(&host, "secret"));
        change_password(&daemon, "alice", "another one");
        client.push(&other).expect(false);
        client.pull(&private).expect(mode.opens_private() && !client.pings());
        client.log_out(&host);
    }
}

struct Docker(Engine);

impl Client for Docker {
    fn log_in(&self, host: &str, password: &str) -> bool {
        Outcome::of(&mut self.0.command(&["login", "-u", "alice", "-p", password, host])).0
    }

    fn log_out(&self, host: &str) {
        self.0.docker(&["logout", host]);
    }

    fn push(&self, image: &str) -> Outcome {
        self.0.docker(&["tag", "seed:1", image]);
        let pushed = Outcome::of(&mut self.0.command(&["push", image]));
        self.0.docker(&["rmi", image]);
        pushed
    }

    fn pull(&self, image: &str) -> Outcome {
        let pulled = Outcome::of(&mut self.0.command(&["pull", image]));
        if pulled.0 {
            self.0.docker(&["rmi", image]);
        }
        pulled
    }
}

#[test]
fn docker_logs_in_and_out_in_every_mode() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    engine.docker(&["import", layer(directory.path()).to_str().unwrap(), "seed:1"]);
    let docker = Docker(engine);
    check_every_mode("docker", &docker);
    // With TLS the token endpoint has an https URL.
    let environment = [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_AUTH_ANONYMOUS", "pull")];
    let daemon = Daemon::with_user("alice", "secret", &environment);
    let host = format!("127.0.0.1:{}", daemon.address.port());
    let image = format!("{host}/app:1");
    assert!(!docker.log_in(&host, "wrong") && docker.log_in(&host, "secret"));
    docker.push(&image).expect(true);
    docker.log_out(&host);
    docker.pull(&image).expect(true);
    docker.push(&format!("{host}/app:2")).expect(false);
    // A mount from another repository needs a token for both.
    let data = directory.path().join("data");
    let daemon = Mode::AnonymousRule.start(&data);
    let host = format!("127.0.0.1:{}", daemon.address.port());
    assert!(docker.log_in(&host, "secret"));
    let image = |name: &str| format!("{host}/{name}:1");
    for (name, line) in [("private/app", "Pushed"), ("team/copy", "Mounted from private/app")] {
        docker.0.docker(&["tag", "seed:1", &image(name)]);
        let pushed = docker.0.docker(&["push", &image(name)]);
        assert!(pushed.contains(line), "{pushed}");
    }
}

/// containerd stores no credentials: each command gets them as an option.
struct Ctr {
    engine: Engine,
    password: std::cell::RefCell<Option<String>>,
    archive: PathBuf,
}

impl Ctr {
    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.engine.containerd()).args(["-n", "tests", "images"]).args(arguments);
        command
    }

    fn with_user(&self, verb: &str, image: &str) -> Outcome {
        let mut command = self.ctr(&[verb, "--plain-http"]);
        if let Some(password) = &*self.password.borrow() {
            command.args(["--user", &format!("alice:{password}")]);
        }
        Outcome::of(command.arg(image))
    }
}

impl Client for Ctr {
    fn log_in(&self, host: &str, password: &str) -> bool {
        self.password.replace(Some(password.to_owned()));
        // It sends credentials only in response to a challenge.
        self.push(&format!("{host}/private/probe:1")).0
    }

    fn log_out(&self, _host: &str) {
        self.password.replace(None);
    }

    fn push(&self, image: &str) -> Outcome {
        run(&mut self.ctr(&["import", "--base-name", "seed", self.archive.to_str().unwrap()]));
        let names = run(&mut self.ctr(&["ls", "-q"]));
        let seed = names.lines().find(|name| name.contains("seed")).unwrap().to_owned();
        run(&mut self.ctr(&["tag", "--force", &seed, image]));
        self.with_user("push", image)
    }

    fn pull(&self, image: &str) -> Outcome {
        run(&mut self.ctr(&["rm", "--sync", image]));
        self.with_user("pull", image)
    }

    fn pings(&self) -> bool {
        false
    }
}

#[test]
fn containerd_logs_in_and_out_in_every_mode() {
    let engine = Engine::start();
    let directory = tempfile::tempdir().unwrap();
    engine.docker(&["import", layer(directory.path()).to_str().unwrap(), "docker.io/library/seed:1"]);
    let archive = directory.path().join("seed.tar");
    engine.docker(&["save", "-o", archive.to_str().unwrap(), "docker.io/library/seed:1"]);
    check_every_mode("containerd", &Ctr { engine, password: None.into(), archive });
}

/// skopeo, podman and buildah share a library, but differ in how they push and pull an image.
struct Tool {
    program: &'static str,
    directory: tempfile::TempDir,
}

impl Tool {
    fn new(program: &'static str) -> Self {
        let tool = Tool { program, directory: tempfile::tempdir().unwrap() };
        // buildah requires the file to exist.
        std::fs::write(tool.at("auth.json"), "{}").unwrap();
        tool
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        if self.program != "skopeo" {
            command.args([
                "--root",
                &self.at("root"),
                "--runroot",
                &self.at("run"),
                "--storage-driver",
                "vfs",
            ]);
        }
        command.args(arguments);
        command.env("HOME", self.directory.path()).env("REGISTRY_AUTH_FILE", self.at("auth.json"));
        command.env("XDG_RUNTIME_DIR", self.at("run"));
        command
    }
}

const PLAIN: &str = "--tls-verify=false";

impl Client for Tool {
    fn log_in(&self, host: &str, password: &str) -> bool {
        let arguments = ["login", PLAIN, "-u", "alice", "-p", password, host];
        Outcome::of(&mut self.command(&arguments)).0
    }

    fn log_out(&self, host: &str) {
        run(&mut self.command(&["logout", host]));
    }

    fn push(&self, image: &str) -> Outcome {
        if self.program == "skopeo" {
            let (from, to) = (format!("oci:{}:1", self.at("seed")), format!("docker://{image}"));
            return Outcome::of(&mut self.command(&["copy", "--dest-tls-verify=false", &from, &to]));
        }
        Outcome::of(&mut self.command(&["push", PLAIN, "localhost/seed:1", &format!("docker://{image}")]))
    }

    fn pull(&self, image: &str) -> Outcome {
        if self.program == "skopeo" {
            let (from, to) = (format!("docker://{image}"), format!("dir:{}", self.at("pulled")));
            return Outcome::of(&mut self.command(&["copy", "--src-tls-verify=false", &from, &to]));
        }
        let pulled = Outcome::of(&mut self.command(&["pull", PLAIN, image]));
        if pulled.0 {
            run(&mut self.command(&["rmi", image]));
        }
        pulled
    }
}

#[test]
fn podman_and_skopeo_log_in_and_out_in_every_mode() {
    let (podman, skopeo) = (Tool::new("podman"), Tool::new("skopeo"));
    let tar = layer(podman.directory.path());
    run(&mut podman.command(&["import", tar.to_str().unwrap(), "localhost/seed:1"]));
    check_every_mode("podman", &podman);
    let layout = format!("oci:{}:1", skopeo.at("seed"));
    run(&mut podman.command(&["push", "localhost/seed:1", &layout]));
    check_every_mode("skopeo", &skopeo);
}

#[test]
fn buildah_logs_in_and_out_in_every_mode() {
    let buildah = Tool::new("buildah");
    let tar = layer(buildah.directory.path());
    run(&mut buildah.command(&["from", "--name", "work", "scratch"]));
    run(&mut buildah.command(&["copy", "work", tar.to_str().unwrap(), "/layer.tar"]));
    run(&mut buildah.command(&["commit", "work", "localhost/seed:1"]));
    check_every_mode("buildah", &buildah);
}

/// Scripts send a password with each request, regardless of the challenge, or request a token themselves.
#[test]
fn curl_logs_in_by_password_and_by_token_in_every_mode() {
    for mode in MODES {
        let directory = tempfile::tempdir().unwrap();
        let daemon = mode.start(&directory.path().join("data"));
        let at = |path: &str| format!("http://{}{path}", daemon.address);
        let curl = |arguments: &[&str], path: &str| {
            let mut command = Command::new("curl");
            run(command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments).arg(at(path)))
        };
        let start = "/v2/public/app/blobs/uploads/";
        for (password, status) in [("wrong", "401"), ("secret", "202")] {
            let login = format!("alice:{password}");
            assert_eq!(curl(&["-u", &login, "-X", "POST"], start), status, "{mode:?}");
        }
        let query = "/token?scope=repository:public/app:pull,push";
        let answer = run(Command::new("curl").args(["-sf", "-u", "alice:secret"]).arg(at(query)));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let header = format!("Authorization: Bearer {}", answer["token"].as_str().unwrap());
        assert_eq!(curl(&["-H", &header, "-X", "POST"], start), "202", "{mode:?}");
        assert_eq!(curl(&["-H", &header, "-X", "POST"], "/v2/b/blobs/uploads/"), "401", "{mode:?}");
        let ping = if mode == Mode::ClosedBasic { "Basic" } else { "Bearer" };
        let challenge = daemon.get("/v2/").expect(401).required_header("www-authenticate");
        assert!(challenge.starts_with(ping), "{mode:?} {challenge}");
        assert_eq!(curl(&["-u", "alice:secret"], "/v2/"), "200");
    }
}
