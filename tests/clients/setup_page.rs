//! The Set up page: the commands of each client's tab run as the page shows them, on a copy of this machine that is thrown away
//! (`tests/documents/environment`). Names and passwords are typed at a terminal; `USER` and `PASSWORD` in a command are replaced.
//!
//! Needs root and the Debian packages of the clients, and Helm, which `tests/run` downloads.

use super::formats;
use crate::documents::commands::{package_configuration, run_script};
use crate::support::*;

const HOST: &str = "pi.local:5000";

/// Tabs and commands that cannot run here, with the reason: a client, and the beginning of a command or of the file's path.
const NOT_RUN: [(&str, &str, &str); 10] = [
    ("containerd", "sudo nerdctl", "Debian 12 has no package of nerdctl, and no package registry has one"),
    ("k3s", "sudo systemctl restart k3s", "k3s is not packaged"),
    ("k3s", "sudo k3s", "k3s is not packaged; the test of containerd pulls by the interface of Kubernetes"),
    ("k3s", "kubectl", "needs a cluster"),
    ("helm", "helm install", "needs a cluster; the test renders the chart from the registry instead"),
    ("oras", "oras", "ORAS is not packaged"),
    ("buildx", "docker login", "the commands of the tab docker have it"),
    (
        "buildx",
        "docker buildx",
        "Debian 12 has no package of buildx, and BuildKit comes as an image of Docker Hub",
    ),
    ("windows", "", "needs Windows"),
    ("macos", "", "needs macOS"),
];

/// A command of the page, or a file with its lines.
#[derive(Debug)]
struct Shown {
    client: String,
    task: String,
    /// The path of the file; empty for commands.
    file: String,
    text: String,
}

fn decoded(html: &str) -> String {
    html.replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#38;", "&")
}

/// Returns the part of a text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    text.split_once(before).unwrap_or_else(|| panic!("{before}: {text}")).1.split_once(after).unwrap().0
}

/// Returns everything that the page tells to run or to write, in its order.
fn shown(page: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    for panel in page.split("<div class=\"panel card\" id=\"").skip(1) {
        let client = panel.split('"').next().unwrap();
        for step in panel.split("<h3>").skip(1) {
            let task = between(step, ". ", "</h3>");
            let mut rest = step;
            while let Some((before, after)) = rest.split_once("<pre class=\"copy\"><code") {
                let hint = before
                    .trim_end()
                    .strip_suffix("</p>")
                    .and_then(|text| text.rsplit_once("<p class=\"hint\">"));
                let file = hint.map_or("", |(_, hint)| hint);
                let is_file = file.starts_with('/') || file == "buildkitd.toml" || client == "windows";
                let file = if is_file { decoded(file) } else { String::new() };
                let text = decoded(between(after, ">", "</code>"));
                shown.push(Shown { client: client.into(), task: task.into(), file, text });
                rest = after;
            }
        }
    }
    shown
}

impl Shown {
    /// Returns true if this cannot run here.
    fn is_left_out(&self) -> bool {
        let begins = |what: &str| {
            if self.file.is_empty() { self.text.starts_with(what) } else { self.file.starts_with(what) }
        };
        NOT_RUN.iter().any(|(client, what, _)| *client == self.client && begins(what))
    }

    /// Returns the lines of a script that do what a reader does with this.
    fn script(&self) -> String {
        let text = self.text.replace("USER", "alice").replace("PASSWORD", "correct horse");
        if self.file.is_empty() {
            return format!("echo '$ {}'\n{text}\n", text.replace('\'', "'\\''"));
        }
        let file = &self.file;
        format!(
            "echo '> {file}'\nmkdir -p \"$(dirname '{file}')\"\ncat >'{file}' <<'END_OF_FILE'\n{text}\nEND_OF_FILE\n"
        )
    }
}

/// Returns commands before the first command of a step: what the reader has already, and what makes a pull a real one.
fn before(client: &str, task: &str) -> &'static str {
    match (client, task) {
        ("docker", "Trust the registry" | "Allow plain HTTP") => {
            "if docker login pi.local:5000; then exit 1; fi\n"
        }
        ("podman", "Trust the registry" | "Allow plain HTTP") => {
            "if podman login pi.local:5000; then exit 1; fi\n"
        }
        ("docker", "Pull") => "docker rmi pi.local:5000/hello:1 hello-world\n",
        ("podman", "Pull") => "podman rmi --all --force\n",
        ("containerd", "Pull") => {
            "ctr images rm --sync pi.local:5000/hello:1 docker.io/library/hello-world:latest\n"
        }
        (_, "Use as mirror of Docker Hub") => "push-images library/alpine:3\n",
        ("helm", "Push") => {
            "mkdir app\nprintf 'apiVersion: v2\\nname: app\\nversion: 1.0.0\\n' >app/Chart.yaml\n\
             mkdir app/templates\nprintf 'greeting: {{ .Release.Name }}\\n' >app/templates/hello.yaml\n\
             helm package app\nrm -r app\n"
        }
        ("helm", "Pull") => "rm app-1.0.0.tgz\n",
        ("linux", _) => "if curl -fsS https://pi.local:5000/healthz; then exit 1; fi\n",
        _ => "",
    }
}

/// Returns commands after the last command of a step, which verify what it did.
fn after(client: &str, task: &str) -> &'static str {
    match (client, task) {
        ("docker", "Pull") => "test -n \"$(docker images -q pi.local:5000/hello:1)\"\n",
        ("podman", "Pull") => "podman image exists pi.local:5000/hello:1\n",
        ("containerd", "Pull") => {
            "ctr images ls -q | grep -x pi.local:5000/hello:1\n\
             ctr images rm --sync pi.local:5000/hello:1\n\
             printf 'version = 2\\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\\n\
             config_path = \"/etc/containerd/certs.d\"\\n' >/etc/containerd/config.toml\n\
             systemctl restart containerd\n\
             pull-by-cri pi.local:5000/hello:1 alice 'correct horse'\n\
             if pull-by-cri pi.local:5000/missing:1 alice 'correct horse'; then exit 1; fi\n\
             grep 'missing:1: not found' /run/response\n"
        }
        // As the page says: these engines send no password.
        ("docker", "Use as mirror of Docker Hub") => {
            "if docker pull alpine:3; then exit 1; fi\nopen-for-pulls\ndocker pull alpine:3\n"
        }
        ("podman", "Use as mirror of Docker Hub") => "podman pull docker.io/library/alpine:3\n",
        ("containerd", "Use as mirror of Docker Hub") => {
            "if pull-by-cri docker.io/library/alpine:3; then exit 1; fi\nopen-for-pulls\n\
             pull-by-cri docker.io/library/alpine:3\n\
             ctr images rm --sync docker.io/library/alpine:3\n\
             /usr/bin/ctr images pull --hosts-dir /etc/containerd/certs.d docker.io/library/alpine:3\n"
        }
        ("helm", "Pull") => {
            "test -s app-1.0.0.tgz\n\
             helm template app oci://pi.local:5000/charts/app --version 1.0.0 --ca-file ca.crt | grep 'greeting: app'\n"
        }
        ("linux", _) => "curl -fsS https://pi.local:5000/healthz\n",
        ("k3s", "Trust the registry") => "openssl x509 -noout -in /etc/rancher/holdfast-ca.crt\n",
        _ => "",
    }
}

/// Lets every client pull, as the page says that a mirror needs.
const OPEN: &str = "open-for-pulls() {\n\
    sed -i 's/^\\[auth\\]/[auth]\\nanonymous = \"pull\"/' /etc/holdfast/holdfast.toml\n\
    systemctl try-reload-or-restart holdfast\n}\n";

/// Returns the script of a client's tab; empty if nothing of it can run.
fn script(client: &str, shown: &[Shown]) -> String {
    let own: Vec<&Shown> = shown.iter().filter(|one| one.client == client && !one.is_left_out()).collect();
    let mut script = String::new();
    for (number, one) in own.iter().enumerate() {
        if number == 0 || own[number - 1].task != one.task {
            script += before(client, &one.task);
        }
        script += &one.script();
        if own.get(number + 1).is_none_or(|next| next.task != one.task) {
            script += after(client, &one.task);
        }
    }
    script
}

/// TLS of the registry, of which the page depends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    OwnAuthority,
    Off,
}

impl Tls {
    fn mode(self) -> &'static str {
        if self == Tls::Off { "off" } else { "auto" }
    }
}

/// Returns the page of a real daemon as a browser gets it that calls the daemon by its name.
fn page(tls: Tls) -> String {
    let environment = [("HOLDFAST_TLS_MODE", tls.mode()), ("HOLDFAST_TLS_NAMES", "pi.local")];
    let daemon = Daemon::with_user("alice", "correct horse", &environment);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut url = format!("http://{HOST}");
    if tls == Tls::OwnAuthority {
        std::fs::write(at("ca.crt"), daemon.get("/ca.crt").expect(200).body).unwrap();
        url = format!("https://{HOST}");
    }
    let connection = format!("{HOST}:127.0.0.1:{}", daemon.address.port());
    let curl = |arguments: &[&str], path: &str| {
        let mut command = std::process::Command::new("curl");
        command.args([
            "-sS",
            "--cacert",
            &at("ca.crt"),
            "--connect-to",
            &connection,
            "-H",
            "Accept: text/html",
        ]);
        command.args(["-b", &at("jar"), "-c", &at("jar")]).args(arguments);
        run(command.arg(format!("{url}{path}")))
    };
    let login = curl(&[], "/login");
    let token = between(&login, "name=\"token\" value=\"", "\"");
    let fields = format!("name=alice&password=correct+horse&next=/&token={token}");
    curl(&["-d", &fields, "-H", &format!("Origin: {url}")], "/login");
    curl(&[], "/push")
}

/// Checks the files of the page whose programs cannot run here.
#[test]
fn files_of_every_client_have_their_format() {
    let shown = shown(&page(Tls::OwnAuthority));
    let text = |file: &str| {
        let of_file =
            shown.iter().find(|one| one.file == file).unwrap_or_else(|| panic!("{file}: {shown:#?}"));
        of_file.text.as_str()
    };
    formats::assert_format(
        &formats::yaml(text("/etc/rancher/k3s/registries.yaml")),
        formats::REGISTRIES_YAML,
        "k3s",
    );
    let table = toml::from_str(text("buildkitd.toml")).unwrap();
    formats::assert_format(&table, formats::BUILDKITD_TOML, "buildx");
}

#[test]
fn all_that_cannot_run_is_on_the_page() {
    let shown = shown(&page(Tls::OwnAuthority));
    for (client, what, reason) in NOT_RUN {
        let is_there = shown.iter().any(|one| one.client == client && one.text.starts_with(what));
        assert!(is_there, "{client}: the page has no {what:?}, which does not run because: {reason}");
    }
}

/// Runs the tabs of all clients, each on a machine of its own.
fn run_clients(tls: Tls) {
    let shown = shown(&page(tls));
    let mut configuration = package_configuration();
    configuration["tls"].as_table_mut().unwrap().insert("mode".into(), tls.mode().into());
    let mut clients: Vec<&str> = shown.iter().map(|one| one.client.as_str()).collect();
    clients.dedup();
    let mut failures = Vec::new();
    for client in clients {
        let mut script = script(client, &shown);
        if script.is_empty() {
            continue;
        }
        if tls == Tls::Off {
            script = script.replace("--ca-file ca.crt", "--plain-http");
        }
        let script = format!("set -e -o pipefail\n{OPEN}holdfast user add alice\n{script}");
        failures.extend(run_script(client, &configuration, &script).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_commands_of_every_client_run() {
    run_clients(Tls::OwnAuthority);
}

#[test]
fn the_commands_of_every_client_run_without_tls() {
    run_clients(Tls::Off);
}
