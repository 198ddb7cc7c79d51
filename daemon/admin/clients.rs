//! The commands that set up each client for this registry; pure.

use super::format::shell_argument;

/// The registry as clients reach it.
pub(super) struct Target {
    /// The host with its port, as in the address bar.
    pub(super) host: String,
    /// The host without its port.
    pub(super) hostname: String,
    pub(super) trust: Trust,
    /// True if clients have to log in.
    pub(super) has_users: bool,
}

/// The preparation that clients need before they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Trust the registry's own authority.
    Authority,
    /// None here: the certificate was issued by another authority.
    OtherAuthority,
    /// Allow plain HTTP; clients allow it for loopback anyway.
    Plain { is_loopback: bool },
}

/// A client or system, with its steps.
pub(super) struct Client {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    pub(super) steps: Vec<Step>,
}

/// A step: its task, a remark, and its commands.
pub(super) struct Step {
    pub(super) task: &'static str,
    pub(super) remark: &'static str,
    pub(super) commands: Vec<Command>,
}

/// Commands to copy together, or the lines of a file.
pub(super) struct Command {
    /// The id of the element.
    pub(super) id: &'static str,
    /// The file that the lines belong into; empty for commands.
    pub(super) file: String,
    pub(super) text: String,
}

/// A task, by which the steps are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Trust,
    LogIn,
    Push,
    Pull,
    Mirror,
}

impl Task {
    pub(super) const ALL: [Task; 5] = [Task::Trust, Task::LogIn, Task::Push, Task::Pull, Task::Mirror];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Task::ALL.into_iter().find(|task| task.name() == text)
    }

    /// Returns the value of the query and of the cookie.
    pub(super) fn name(self) -> &'static str {
        match self {
            Task::Trust => "trust",
            Task::LogIn => "log-in",
            Task::Push => "push",
            Task::Pull => "pull",
            Task::Mirror => "mirror",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Task::Trust => "Trust",
            Task::LogIn => LOG_IN,
            Task::Push => PUSH,
            Task::Pull => PULL,
            Task::Mirror => "Use as mirror",
        }
    }

    /// Returns true if the task has a step of this title.
    fn has(self, title: &str) -> bool {
        match title {
            TRUST | PLAIN => self == Task::Trust,
            LOG_IN => self == Task::LogIn,
            PUSH | BUILD => self == Task::Push,
            PULL | RUN => self == Task::Pull,
            MIRROR => self == Task::Mirror,
            // One file has the certificate, the password and the mirror.
            NODE => matches!(self, Task::Trust | Task::LogIn | Task::Mirror),
            BUILDER => matches!(self, Task::Trust | Task::Push | Task::Mirror),
            _ => false,
        }
    }
}

const NODE: &str = "Configure each node";
const BUILDER: &str = "Create a builder";
const BUILD: &str = "Build and push";
const RUN: &str = "Run";
const TRUST: &str = "Trust the registry";
const PLAIN: &str = "Allow plain HTTP";
const LOG_IN: &str = "Log in";
const PUSH: &str = "Push";
const PULL: &str = "Pull";
const MIRROR: &str = "Use as mirror of Docker Hub";
const MIRRORED: &str =
    "Images pushed as library/NAME or OWNER/NAME are then pulled from here under their short names.";
/// For clients that send no password to a mirror.
const MIRRORED_OPENLY: &str = "Images pushed as library/NAME or OWNER/NAME are then pulled from here under their short names. \
    The client sends no password to a mirror: the registry needs anonymous = \"pull\" in the section [auth].";

fn run(text: String) -> Command {
    Command { id: "", file: String::new(), text }
}

fn named(id: &'static str, text: String) -> Command {
    Command { id, ..run(text) }
}

fn file(file: impl Into<String>, text: String) -> Command {
    Command { id: "", file: file.into(), text }
}

fn step(task: &'static str, remark: &'static str, commands: impl Into<Vec<Command>>) -> Step {
    Step { task, remark, commands: commands.into() }
}

impl Target {
    /// Returns a shell argument that contains the host.
    fn with_host(&self, before: &str, after: &str) -> String {
        shell_argument(&format!("{before}{}{after}", self.host))
    }

    /// Returns a shell argument that contains the host without its port.
    fn with_hostname(&self, before: &str, after: &str) -> String {
        shell_argument(&format!("{before}{}{after}", self.hostname))
    }

    fn is_plain(&self) -> bool {
        matches!(self.trust, Trust::Plain { .. })
    }

    /// Returns the address with its scheme.
    fn url(&self) -> String {
        format!("{}://{}", if self.is_plain() { "http" } else { "https" }, self.host)
    }

    /// Returns the commands that download the authority's certificate into a directory of the system.
    fn certificate_in(&self, directory: &str) -> Command {
        run(format!(
            "sudo mkdir -p {}\nsudo curl -fsS -o {} {}",
            self.with_host(directory, ""),
            self.with_host(directory, "/ca.crt"),
            self.with_host("http://", "/ca.crt")
        ))
    }

    /// Returns the step that comes before all others, if the client needs one: `secure` for the own authority, `plain` for
    /// plain HTTP on another machine.
    fn trust(
        &self,
        secure: impl FnOnce() -> (&'static str, Vec<Command>),
        plain: impl FnOnce() -> (&'static str, Vec<Command>),
    ) -> Option<Step> {
        match self.trust {
            Trust::Authority => {
                let (remark, commands) = secure();
                Some(step(TRUST, remark, commands))
            }
            Trust::Plain { is_loopback: false } => {
                let (remark, commands) = plain();
                Some(step(PLAIN, remark, commands))
            }
            Trust::OtherAuthority | Trust::Plain { is_loopback: true } => None,
        }
    }

    /// Returns the remark on a mirror of a client that sends no password to it.
    fn mirrored_openly(&self) -> &'static str {
        if self.has_users { MIRRORED_OPENLY } else { MIRRORED }
    }

    fn log_in(&self, remark: &'static str, command: Command) -> Option<Step> {
        self.has_users.then(|| step(LOG_IN, remark, [command]))
    }

    /// Returns the steps of a client with the command line of Docker.
    fn docker_steps(&self, trust: Option<Step>, ids: [&'static str; 4], mirror: Option<Step>) -> Vec<Step> {
        let [login, tag, push, pull] = ids;
        let image = self.with_host("", "/hello:1");
        let steps = [
            trust,
            self.log_in("", named(login, format!("docker login {}", self.with_host("", "")))),
            Some(step(
                PUSH,
                "",
                [
                    run("docker pull hello-world".into()),
                    named(tag, format!("docker tag hello-world {image}")),
                    named(push, format!("docker push {image}")),
                ],
            )),
            Some(step(PULL, "", [named(pull, format!("docker pull {image}"))])),
            mirror,
        ];
        steps.into_iter().flatten().collect()
    }

    fn daemon_json(&self) -> String {
        format!("{{ \"insecure-registries\": [\"{}\"] }}", self.host)
    }

    fn docker(&self) -> Vec<Step> {
        let trust = self.trust(
            || ("", vec![self.certificate_in("/etc/docker/certs.d/")]),
            || {
                (
                    "",
                    vec![
                        file("/etc/docker/daemon.json", self.daemon_json()),
                        run("sudo systemctl restart docker".into()),
                    ],
                )
            },
        );
        let mirror = step(
            MIRROR,
            self.mirrored_openly(),
            [
                file("/etc/docker/daemon.json", format!("{{ \"registry-mirrors\": [\"{}\"] }}", self.url())),
                run("sudo systemctl restart docker".into()),
            ],
        );
        self.docker_steps(trust, ["docker-login", "docker-tag", "docker-push", "docker-pull"], Some(mirror))
    }

    /// Returns the steps for Docker Desktop, after the certificate is in the system's store.
    fn desktop(&self, trust: Command) -> Vec<Step> {
        let trust = self.trust(
            || ("Restart Docker Desktop afterwards.", vec![trust]),
            || ("", vec![file("Docker Desktop, Settings, Docker Engine", self.daemon_json())]),
        );
        self.docker_steps(trust, [""; 4], None)
    }

    fn windows(&self) -> Vec<Step> {
        self.desktop(file(
            "PowerShell, as administrator",
            format!(
                "Invoke-WebRequest {} -OutFile $env:TEMP\\ca.crt\n\
                 Import-Certificate -FilePath $env:TEMP\\ca.crt -CertStoreLocation Cert:\\LocalMachine\\Root",
                self.with_host("http://", "/ca.crt")
            ),
        ))
    }

    fn macos(&self) -> Vec<Step> {
        self.desktop(run(format!(
            "curl -fsS -o /tmp/ca.crt {}\n\
             sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain /tmp/ca.crt",
            self.with_host("http://", "/ca.crt")
        )))
    }

    fn podman(&self) -> Vec<Step> {
        let insecure = if self.is_plain() { "insecure = true\n" } else { "" };
        let image = self.with_host("", "/hello:1");
        let trust = self.trust(
            || {
                (
                    "Buildah and skopeo use the same files.",
                    vec![self.certificate_in("/etc/containers/certs.d/")],
                )
            },
            || {
                let path = format!("/etc/containers/registries.conf.d/{}.conf", self.hostname);
                let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true", self.host);
                ("Buildah and skopeo use the same file.", vec![file(path, text)])
            },
        );
        let mirror = format!(
            "[[registry]]\nlocation = \"docker.io\"\n\n[[registry.mirror]]\nlocation = \"{}\"\n{insecure}",
            self.host
        );
        let mirror = file("/etc/containers/registries.conf.d/mirror.conf", mirror.trim_end().into());
        let steps = [
            trust,
            self.log_in("", run(format!("podman login {}", self.with_host("", "")))),
            Some(step(
                PUSH,
                "",
                [
                    run("podman pull quay.io/podman/hello".into()),
                    run(format!("podman tag quay.io/podman/hello {image}")),
                    run(format!("podman push {image}")),
                ],
            )),
            Some(step(PULL, "", [run(format!("podman pull {image}"))])),
            Some(step(MIRROR, MIRRORED, [mirror])),
        ];
        steps.into_iter().flatten().collect()
    }

    fn containerd(&self) -> Vec<Step> {
        let (url, image) = (self.url(), self.with_host("", "/hello:1"));
        let path = format!("/etc/containerd/certs.d/{}/hosts.toml", self.host);
        // containerd 1.6 refuses a file without a host.
        let hosts = format!("server = \"{url}\"\n[host.\"{url}\"]");
        let trust = self.trust(
            || {
                (
                    "The configuration of containerd needs: config_path = \"/etc/containerd/certs.d\".",
                    vec![self.certificate_in("/etc/containerd/certs.d/")],
                )
            },
            || {
                (
                    "The configuration of containerd needs: config_path = \"/etc/containerd/certs.d\".",
                    vec![file(path, hosts)],
                )
            },
        );
        let ca = match self.trust {
            Trust::Authority => format!("\n  ca = \"/etc/containerd/certs.d/{}/ca.crt\"", self.host),
            Trust::OtherAuthority | Trust::Plain { .. } => String::new(),
        };
        let mirror = file(
            "/etc/containerd/certs.d/docker.io/hosts.toml",
            format!(
                "server = \"https://registry-1.docker.io\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]{ca}"
            ),
        );
        let user = if self.has_users { " --user USER" } else { "" };
        let ctr = |action: &str| {
            format!("sudo ctr images {action} --hosts-dir /etc/containerd/certs.d{user} {image}")
        };
        let steps = [
            trust,
            self.log_in("With nerdctl:", run(format!("sudo nerdctl login {}", self.with_host("", "")))),
            Some(step(
                PUSH,
                "",
                [
                    run("sudo ctr images pull docker.io/library/hello-world:latest".into()),
                    run(format!("sudo ctr images tag docker.io/library/hello-world:latest {image}")),
                    run(ctr("push")),
                ],
            )),
            Some(step(PULL, "", [run(ctr("pull"))])),
            Some(step(MIRROR, self.mirrored_openly(), [mirror])),
        ];
        steps.into_iter().flatten().collect()
    }

    fn k3s(&self) -> Vec<Step> {
        let (url, host) = (self.url(), &self.host);
        let own = self.trust == Trust::Authority;
        let mut text = format!("mirrors:\n  docker.io:\n    endpoint: [\"{url}\"]\n");
        if self.is_plain() {
            text += &format!("  \"{host}\":\n    endpoint: [\"{url}\"]\n");
        }
        if own || self.has_users {
            text += &format!("configs:\n  \"{host}\":\n");
        }
        if self.has_users {
            text += "    auth:\n      username: USER\n      password: PASSWORD\n";
        }
        if own {
            text += "    tls:\n      ca_file: /etc/rancher/holdfast-ca.crt\n";
        }
        let certificate = run(format!(
            "sudo mkdir -p /etc/rancher/k3s\nsudo curl -fsS -o /etc/rancher/holdfast-ca.crt {}",
            self.with_host("http://", "/ca.crt")
        ));
        let configure = step(
            NODE,
            "On RKE2: /etc/rancher/rke2/registries.yaml, and restart rke2-server or rke2-agent. The section mirrors makes this \
             registry the first source of Docker Hub's images.",
            [
                file("/etc/rancher/k3s/registries.yaml", text.trim_end().into()),
                run("sudo systemctl restart k3s".into()),
            ],
        );
        let image = self.with_host("", "/hello:1");
        let steps = [
            own.then(|| step(TRUST, "", [certificate])),
            Some(configure),
            Some(step(PULL, "", [run(format!("sudo k3s crictl pull {image}"))])),
            Some(step(RUN, "", [run(format!("kubectl run hello --restart=Never --image={image}"))])),
        ];
        steps.into_iter().flatten().collect()
    }

    /// Returns the download of the authority's certificate to the current directory, for clients that get it as an option.
    fn certificate_here(&self) -> Option<Step> {
        let command = || run(format!("curl -fsS -o ca.crt {}", self.with_host("http://", "/ca.crt")));
        (self.trust == Trust::Authority)
            .then(|| step(TRUST, "The commands below name the certificate.", [command()]))
    }

    /// Returns the option that such a client needs in every command.
    fn option(&self) -> &'static str {
        match self.trust {
            Trust::Authority => " --ca-file ca.crt",
            Trust::OtherAuthority => "",
            Trust::Plain { .. } => " --plain-http",
        }
    }

    fn helm(&self) -> Vec<Step> {
        let (option, charts) = (self.option(), self.with_host("oci://", "/charts"));
        let login = format!("helm registry login {}{option}", self.with_host("", ""));
        let pull = format!("helm pull {charts}/app --version 1.0.0{option}");
        let install = format!("helm install app {charts}/app --version 1.0.0{option}");
        let steps = [
            self.certificate_here(),
            self.log_in("", run(login)),
            Some(step(PUSH, "", [run(format!("helm push app-1.0.0.tgz {charts}{option}"))])),
            Some(step(PULL, "", [run(pull), run(install)])),
        ];
        steps.into_iter().flatten().collect()
    }

    fn oras(&self) -> Vec<Step> {
        let (option, files) = (self.option(), self.with_host("", "/files/notes:1"));
        let login = format!("oras login {}{option}", self.with_host("", ""));
        let steps = [
            self.certificate_here(),
            self.log_in("", run(login)),
            Some(step(PUSH, "", [run(format!("oras push{option} {files} notes.txt:text/plain"))])),
            Some(step(PULL, "", [run(format!("oras pull{option} {files}"))])),
        ];
        steps.into_iter().flatten().collect()
    }

    fn buildx(&self) -> Vec<Step> {
        let host = &self.host;
        let settings = match self.trust {
            Trust::Authority => format!("[registry.\"{host}\"]\n  ca = [\"ca.crt\"]\n\n"),
            Trust::OtherAuthority => String::new(),
            Trust::Plain { .. } => format!("[registry.\"{host}\"]\n  http = true\n\n"),
        };
        let mirror = format!("{settings}[registry.\"docker.io\"]\n  mirrors = [\"{host}\"]");
        let create = "docker buildx create --name holdfast --use --buildkitd-config buildkitd.toml";
        let builder = step(
            BUILDER,
            "The section docker.io makes this registry the first source of Docker Hub's images; leave it out if you do not want that.",
            [file("buildkitd.toml", mirror), run(create.into())],
        );
        let build = format!(
            "docker buildx build --platform linux/amd64,linux/arm64 --tag {} --push .",
            self.with_host("", "/app:1")
        );
        let steps = [
            self.certificate_here().map(|step| Step { remark: "", ..step }),
            Some(builder),
            self.log_in("", run(format!("docker login {}", self.with_host("", "")))),
            Some(step(BUILD, "", [run(build)])),
        ];
        steps.into_iter().flatten().collect()
    }

    fn linux(&self) -> Option<Client> {
        let command = format!(
            "sudo curl -fsS -o {} {}\nsudo update-ca-certificates",
            self.with_hostname("/usr/local/share/ca-certificates/", ".crt"),
            self.with_host("http://", "/ca.crt")
        );
        let remark = "For every program on Debian, Ubuntu, Alpine and their relatives. Restart programs that are already running.";
        let steps = vec![step(TRUST, remark, [run(command)])];
        (self.trust == Trust::Authority).then_some(Client { id: "linux", label: "All of Linux", steps })
    }

    /// Returns all clients.
    pub(super) fn clients(&self) -> Vec<Client> {
        let client = |id, label, steps| Client { id, label, steps };
        let mut all = vec![
            client("docker", "Docker", self.docker()),
            client("podman", "Podman", self.podman()),
            client("containerd", "containerd", self.containerd()),
            client("k3s", "k3s, RKE2", self.k3s()),
            client("helm", "Helm", self.helm()),
            client("oras", "ORAS", self.oras()),
            client("buildx", "buildx", self.buildx()),
            client("windows", "Windows", self.windows()),
            client("macos", "macOS", self.macos()),
        ];
        all.extend(self.linux());
        all
    }
}

impl Target {
    /// Returns the clients with the steps of a task, or with all steps.
    pub(super) fn clients_for(&self, task: Option<Task>) -> Vec<Client> {
        let of_task = |step: &Step| task.is_none_or(|task| task.has(step.task));
        let clients = self.clients().into_iter().map(|client| {
            let steps = client.steps.into_iter().filter(of_task).collect();
            Client { steps, ..client }
        });
        clients.filter(|client| !client.steps.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_of_a_task() {
        for trust in [Trust::Authority, Trust::OtherAuthority, Trust::Plain { is_loopback: false }] {
            let target =
                Target { host: "pi.lan:5000".into(), hostname: "pi.lan".into(), trust, has_users: true };
            for step in target.clients().iter().flat_map(|client| &client.steps) {
                assert!(Task::ALL.iter().any(|task| task.has(step.task)), "{}", step.task);
            }
            let ids = |task| target.clients_for(task).iter().map(|client| client.id).collect::<Vec<_>>();
            assert!(
                ids(Some(Task::Mirror)).contains(&"docker") && !ids(Some(Task::Mirror)).contains(&"helm")
            );
            assert_eq!(ids(None).len(), target.clients().len());
            assert_eq!(ids(Some(Task::Trust)).contains(&"docker"), trust != Trust::OtherAuthority);
        }
        assert!(
            Task::ALL.iter().all(|task| Task::parse(task.name()) == Some(*task))
                && Task::parse("all").is_none()
        );
    }

    fn texts(trust: Trust, has_users: bool) -> Vec<String> {
        let target = Target { host: "pi.lan:5000".into(), hostname: "pi.lan".into(), trust, has_users };
        let clients = target.clients().into_iter().flat_map(|client| client.steps);
        clients.flat_map(|step| step.commands).map(|command| command.text).collect()
    }

    #[test]
    fn own_authority_is_trusted_and_no_command_hides_a_failed_download() {
        let texts = texts(Trust::Authority, true);
        let downloads: Vec<&String> = texts.iter().filter(|text| text.contains("curl")).collect();
        assert!(downloads.len() >= 7, "{downloads:?}");
        assert!(
            downloads
                .iter()
                .all(|text| text.contains("curl -fsS -o ") && text.contains("http://pi.lan:5000/ca.crt"))
        );
        assert!(!texts.iter().any(|text| text.contains("plain-http") || text.contains("insecure")));
        assert!(texts.iter().any(|text| text.contains("\"registry-mirrors\": [\"https://pi.lan:5000\"]")));
    }

    #[test]
    fn other_authorities_and_loopback_need_no_trust_and_open_registries_no_login() {
        for trust in [Trust::OtherAuthority, Trust::Plain { is_loopback: true }] {
            let texts = texts(trust, false);
            assert!(!texts.iter().any(|text| text.contains("ca.crt") || text.contains("login")), "{texts:?}");
        }
    }

    #[test]
    fn plain_http_is_allowed_in_each_client() {
        let texts = texts(Trust::Plain { is_loopback: false }, false).join("\n");
        for part in
            ["insecure-registries", "insecure = true", "--plain-http", "http = true", "http://pi.lan:5000"]
        {
            assert!(texts.contains(part), "{part}");
        }
        assert!(!texts.contains("https://pi.lan"), "{texts}");
    }
}
