//! Pushes that are on their way while the rights of their users change.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

/// A registry with a user, whose rights change.
pub struct Registry {
    pub daemon: Daemon,
    config: PathBuf,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts it with users who have the password `secret`, and a rule for each.
    pub fn start(rules: &[(&str, &str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, config) = (directory.path().join("data"), directory.path().join("holdfast.toml"));
        for (user, ..) in rules {
            add_user(&data, user, "secret");
        }
        std::fs::write(&config, text(rules)).unwrap();
        Registry { daemon: Daemon::with_config_file_at(&data, &config), config, _directory: directory }
    }

    /// Changes the rules, and waits until a user may no longer pull from a repository.
    pub fn reload(&self, rules: &[(&str, &str, &str)], (user, repository): (&str, &str)) {
        std::fs::write(&self.config, text(rules)).unwrap();
        run(Command::new("kill").args(["-HUP", &self.daemon.pid().to_string()]));
        self.wait_for(user, repository, 403);
    }

    /// Removes a user.
    pub fn remove(&self, user: &str) {
        let file = self.daemon.data.join("htpasswd");
        let users = std::fs::read_to_string(&file).unwrap();
        let rest: Vec<&str> = users.lines().filter(|line| !line.starts_with(&format!("{user}:"))).collect();
        std::fs::write(&file, rest.join("\n") + "\n").unwrap();
        self.wait_for(user, "team/app", 401);
    }

    fn wait_for(&self, user: &str, repository: &str, status: u16) {
        let began = Instant::now();
        while self.get(user, &format!("/v2/{repository}/tags/list")).status != status {
            assert!(began.elapsed() < Duration::from_secs(20), "the rights of {user} do not change");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, user: &str, path: &str) -> Response {
        self.daemon.request("GET", path).login(user, "secret").send()
    }

    /// Begins a request of bob, and sends half of its body once the registry wants it.
    fn begin(&self, method: &str, path: &str, body: &[u8]) -> TcpStream {
        let request =
            self.daemon.request(method, path).login("bob", "secret").header("Content-Type", OCI_MANIFEST);
        let request = request.header("Content-Length", &body.len().to_string());
        let mut stream = request.header("Expect", "100-continue").open();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&body[..body.len() / 2]).unwrap();
        stream
    }
}

fn text(rules: &[(&str, &str, &str)]) -> String {
    let rule = |(user, repositories, allow): &(&str, &str, &str)| {
        format!(
            "[[auth.rule]]\nusers = [\"{user}\"]\nrepositories = [\"{repositories}\"]\nallow = [{allow}]\n"
        )
    };
    rules.iter().map(rule).collect()
}

pub const FULL: (&str, &str, &str) = ("alice", "*", "\"pull\", \"push\", \"delete\"");
pub const TEAM: (&str, &str, &str) = ("bob", "team/*", "\"pull\", \"push\"");
const OTHERS: (&str, &str, &str) = ("bob", "other/*", "\"pull\", \"push\"");

fn finish(mut stream: TcpStream, body: &[u8]) -> Response {
    stream.write_all(&body[body.len() / 2..]).unwrap();
    Response::read(&mut stream, false)
}

#[test]
fn push_that_outlives_the_rights_of_its_user_is_refused() {
    let by_rules = |registry: &Registry| registry.reload(&[FULL, OTHERS], ("bob", "team/app"));
    let by_user = |registry: &Registry| registry.remove("bob");
    for (number, take) in [&by_rules as &dyn Fn(&Registry), &by_user].into_iter().enumerate() {
        let registry = Registry::start(&[FULL, TEAM]);
        let start = || {
            let upload =
                registry.daemon.request("POST", "/v2/team/app/blobs/uploads/").login("bob", "secret");
            upload.body(b"").send().expect(202).required_header("location")
        };
        let (first, second, config) = (noise(1, 100_000), noise(2, 100_000), b"{}");
        let uploaded = format!("{}?digest={}", start(), digest(config));
        let request = registry.daemon.request("PUT", &uploaded).login("bob", "secret");
        request.body(config).send().expect(201);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[]}}"#,
            digest(config)
        );
        let manifest = manifest.into_bytes();
        let (put, post) = (
            format!("{}?digest={}", start(), digest(&first)),
            format!("/v2/team/app/blobs/uploads/?digest={}", digest(&second)),
        );
        let pushes = [
            (registry.begin("PUT", &put, &first), &first),
            (registry.begin("POST", &post, &second), &second),
            (registry.begin("PUT", "/v2/team/app/manifests/1", &manifest), &manifest),
        ];
        take(&registry);
        for (stream, body) in pushes {
            let answer = finish(stream, body).expect(403);
            assert_eq!(answer.error_code(), "DENIED", "{number}");
            let message = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(message.contains("user bob may no longer push to team/app"), "{message}");
        }
        for path in [
            format!("/v2/team/app/blobs/{}", digest(&first)),
            format!("/v2/team/app/blobs/{}", digest(&second)),
            "/v2/team/app/manifests/1".into(),
        ] {
            registry.get("alice", &path).expect(404);
        }
    }
}

#[test]
fn push_of_a_user_who_keeps_the_right_outlives_a_reload() {
    let registry = Registry::start(&[FULL, TEAM]);
    let content = noise(1, 100_000);
    let path = format!("/v2/team/app/blobs/uploads/?digest={}", digest(&content));
    let stream = registry.begin("POST", &path, &content);
    // Another user is added meanwhile, and bob loses other rights.
    add_user(&registry.daemon.data, "carol", "secret");
    registry.reload(&[FULL, ("bob", "team/app", "\"pull\", \"push\"")], ("bob", "team/other"));
    finish(stream, &content).expect(201);
    registry.get("bob", &format!("/v2/team/app/blobs/{}", digest(&content))).expect(200);
}
