//! A registry over TLS with images of every kind.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::images::{config, push_image_with};
use crate::support::*;

/// More tags and repositories than a page has.
pub const MANY_TAGS: usize = 45;
pub const MANY_REPOSITORIES: usize = 85;
/// The size of a layer that a gentle check reads for a few seconds.
const LARGE: usize = 14 << 20;
pub const MARKUP: &str =
    "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";

pub struct Registry {
    daemon: Daemon,
    pub origin: String,
    /// The file with the certificate of the registry's authority.
    pub authority: PathBuf,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry with the content that `fill` pushes, the user alice, and no anonymous access.
    pub fn with(fill: impl FnOnce(&Daemon)) -> Self {
        Self::with_anonymous(fill, "none", |data| add_user(data, "alice", "secret"))
    }

    /// Starts a registry with the rights `anonymous` of the anonymous user, and the users that `add_users` adds.
    pub fn with_anonymous(
        fill: impl FnOnce(&Daemon),
        anonymous: &str,
        add_users: impl FnOnce(&Path),
    ) -> Self {
        let mut daemon = Daemon::start();
        fill(&daemon);
        add_users(&daemon.data);
        daemon.stop();
        Self::over_tls(daemon, anonymous)
    }

    /// Restarts a stopped daemon with TLS.
    pub fn over_tls(mut daemon: Daemon, anonymous: &str) -> Self {
        daemon.start_again_with_env(&[("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_AUTH_ANONYMOUS", anonymous)]);
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("ca.crt");
        std::fs::write(&authority, daemon.get("/ca.crt").expect(200).body).unwrap();
        let origin = format!("https://localhost:{}", daemon.address.port());
        Registry { daemon, origin, authority, _directory: directory }
    }

    /// Starts a registry with images of every kind.
    pub fn start() -> Self {
        Self::with(push_every_kind)
    }

    /// Adds a user with the password `secret`.
    pub fn add_user(&self, name: &str) {
        add_user(&self.daemon.data, name, "secret");
    }

    /// Sends a request as alice.
    pub fn curl(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["-sSf", "-u", "alice:secret", "--cacert"]).arg(&self.authority).args(arguments);
        run(command.arg(format!("{}{path}", self.origin)))
    }

    /// Returns the tags of a repository from the API.
    pub fn tags(&self, name: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.curl(&[], &format!("/v2/{name}/tags/list"))).unwrap();
        list["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }

    /// Returns true if the API accepts a password.
    pub fn accepts(&self, name: &str, password: &str) -> bool {
        let status = self.status_of(&["-u", &format!("{name}:{password}")], "/v2/");
        status == "200"
    }

    fn status_of(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(&self.authority);
        run(command.args(arguments).arg(format!("{}{path}", self.origin)))
    }

    /// Starts an upload and leaves it unfinished.
    pub fn start_upload(&self, name: &str) {
        let head =
            self.curl(&["-D", "-", "-o", "/dev/null", "-X", "POST"], &format!("/v2/{name}/blobs/uploads/"));
        let location = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = location.unwrap();
        let path = location.strip_prefix(&self.origin).unwrap_or(&location).to_owned();
        let part = "x".repeat(100_000);
        let type_ = "Content-Type: application/octet-stream";
        self.curl(&["-X", "PATCH", "-H", type_, "--data-binary", &part], &path);
    }
}

/// Pushes images of every kind.
pub fn push_every_kind(daemon: &Daemon) {
    push_app(daemon);
    push_platforms(daemon);
    push_artifacts(daemon);
    push_many_tags(daemon);
    push_hostile(daemon);
    daemon.push_image("data/large", "1", &vec![7; LARGE]);
}

/// Pushes three tags of one image and two tags of other images.
pub fn push_app(daemon: &Daemon) {
    push_image_with(
        daemon,
        "team/app",
        &["1.9", "1.10", "latest"],
        &config(),
        &json!({"annotations": {"note": "hand-made"}}),
    );
    for tag in ["1.2", "2.0-rc.1"] {
        let mut other = config();
        other["created"] = json!("2025-06-07T08:09:10Z");
        push_image_with(daemon, "team/app", &[tag], &other, &json!({"annotations": {"version": tag}}));
    }
    push_image_with(daemon, "team/web/front", &["1"], &config(), &json!({}));
    push_image_with(daemon, "team/web/back", &["1"], &config(), &json!({}));
}

/// Pushes an index with two platforms, and a third that is missing.
fn push_platforms(daemon: &Daemon) {
    let one = |architecture: &str, command: &str| {
        let mut config = config();
        config["architecture"] = architecture.into();
        config["history"][0]["created_by"] = format!("COPY {command} /bin/app").into();
        push_image_with(daemon, "multi", &[], &config, &json!({"annotations": {"built-for": architecture}}))
    };
    let child = |digest: String, architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform})
    };
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": {"of": "two"}, "manifests": [
        child(one("arm64", "app-arm64"), "arm64"),
        child(one("amd64", "app-amd64"), "amd64"),
        child(digest(b"gone"), "riscv64"),
    ]});
    daemon.put_manifest("multi", "1", OCI_INDEX, &serde_json::to_vec(&index).unwrap()).expect(201);
}

/// Pushes referrers of an image, and a chart.
fn push_artifacts(daemon: &Daemon) {
    let image = push_image_with(daemon, "signed", &["1"], &config(), &json!({}));
    for kind in ["application/spdx+json", "application/vnd.dev.cosign.artifact.sig.v1+json"] {
        let subject = json!({"mediaType": OCI_MANIFEST, "digest": image, "size": 1});
        push_image_with(
            daemon,
            "signed",
            &[],
            &json!({}),
            &json!({"artifactType": kind, "subject": subject}),
        );
    }
    let helm = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
        "digest": daemon.push_blob("charts/app", b"{}"), "size": 2}});
    push_image_with(daemon, "charts/app", &["1.0.0"], &json!({}), &helm);
}

fn push_many_tags(daemon: &Daemon) {
    let tags: Vec<String> = (1..=MANY_TAGS).map(|number| format!("1.{number}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    push_image_with(daemon, "busy", &tags, &config(), &json!({}));
}

/// Pushes more repositories than a page has.
pub fn push_many_repositories(daemon: &Daemon) {
    for number in 0..MANY_REPOSITORIES {
        daemon.push_image(&format!("many/r{number}"), "1", b"layer");
    }
}

/// Pushes markup in every field that clients control.
pub fn push_hostile(daemon: &Daemon) {
    let mut config = config();
    config["config"]["Labels"] = json!({MARKUP: MARKUP, "</dd></dl><h1>heading": "\"' onload=alert(1)"});
    config["config"]["Env"] = json!([format!("A={MARKUP}")]);
    config["config"]["Entrypoint"] = json!([MARKUP]);
    config["config"]["User"] = MARKUP.into();
    config["architecture"] = MARKUP.into();
    config["history"][0]["created_by"] = MARKUP.into();
    config["history"][1]["created_by"] = MARKUP.into();
    let annotations = json!({MARKUP: MARKUP, "link": "javascript:alert(1)"});
    let image =
        push_image_with(daemon, "hostile", &["_-.1", "1"], &config, &json!({"annotations": annotations}));
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": image, "size": 1});
    let artifact = json!({"artifactType": MARKUP, "subject": subject, "annotations": annotations});
    push_image_with(daemon, "hostile", &[], &json!({}), &artifact);
}
