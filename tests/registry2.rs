//! What the documentation of registry:2 has people run, word for word: each `docker run` and compose file, in a mount and a
//! network namespace of its own, with the configuration of the container image.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// What a container is run with.
#[derive(Default)]
struct Run {
    environment: Vec<(String, String)>,
    /// Host and container path of each volume.
    volumes: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Run {
    /// Reads a command of the documentation. `$(pwd)` and the paths of the examples become those of a directory.
    fn of_command(command: &str, directory: &Path) -> Self {
        let here = directory.to_str().unwrap();
        let command = command.replace("\\\n", " ");
        let command = command
            .replace("\"$(pwd)\"", here)
            .replace("`pwd`", here)
            .replace("/mnt/registry", &format!("{here}/data"));
        let mut words = words(&command).into_iter().skip_while(|word| word != "run").skip(1);
        let mut run = Run::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-e" => {
                    let pair = words.next().unwrap();
                    let (name, value) = pair.split_once('=').unwrap();
                    run.environment.push((name.to_owned(), value.to_owned()));
                }
                "-v" => {
                    let pair = words.next().unwrap();
                    let (from, to) = pair.split_once(':').unwrap();
                    run.volumes.push((from.to_owned(), to.to_owned()));
                }
                "-p" | "--name" => drop(words.next()),
                option if option.starts_with('-') => {}
                // The image; what follows are the arguments of its program.
                _ => run.arguments = words.by_ref().collect(),
            }
        }
        run
    }

    /// Reads a compose file of the documentation; `/path` becomes a directory.
    fn of_compose(file: &str, directory: &Path) -> Self {
        let mut run = Run::default();
        let mut section = "";
        for line in file.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match (section, line.strip_prefix("- ")) {
                ("volumes:", Some(volume)) => {
                    let volume = volume.replace("/path", directory.to_str().unwrap());
                    let (from, to) = volume.split_once(':').unwrap();
                    run.volumes.push((from.to_owned(), to.to_owned()));
                }
                ("environment:", None) if line.starts_with("REGISTRY_") => {
                    let (name, value) = line.split_once(": ").unwrap();
                    run.environment.push((name.to_owned(), value.to_owned()));
                }
                _ => section = if line.starts_with("- ") { section } else { line },
            }
        }
        run
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The words of a command, as a shell makes them of double quotes.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in command.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            letter => word.push(letter),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// A daemon in namespaces of its own, with a root directory as the image has it.
struct Container {
    child: Child,
    log: PathBuf,
    directory: tempfile::TempDir,
}

impl Container {
    fn start(run: &Run) -> Self {
        Self::try_start(run).unwrap_or_else(|log| panic!("the daemon does not start: {log}"))
    }

    /// Returns what the daemon says where it does not start.
    fn try_start(run: &Run) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let (root, log) = (directory.path().join("root"), directory.path().join("log"));
        fs::create_dir_all(root.join("etc/holdfast")).unwrap();
        fs::create_dir_all(root.join("var/lib/registry")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let configuration = crate::support::run(
            Command::new("python3")
                .arg(source.join("packaging/configuration"))
                .arg("image")
                .arg(source.join("config/holdfast.toml")),
        );
        fs::write(root.join("etc/holdfast/holdfast.toml"), configuration).unwrap();
        let mut script = format!("set -e; R={}; ip link set lo up; ", root.display());
        for shared in ["usr", "lib", "lib64", "bin", "dev", "proc"] {
            if Path::new("/").join(shared).exists() {
                script += &format!("mkdir -p $R/{shared}; mount --rbind /{shared} $R/{shared}; ");
            }
        }
        script += &format!("touch $R/holdfast; mount --bind {BINARY} $R/holdfast; ");
        for (from, to) in &run.volumes {
            if Path::new(from).is_file() {
                script += &format!("mkdir -p $(dirname $R{to}); touch $R{to}; mount --bind {from} $R{to}; ");
            } else {
                script += &format!("mkdir -p {from} $R{to}; mount --bind {from} $R{to}; ");
            }
        }
        script += "exec chroot $R /holdfast \"$@\"";
        let mut child = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "sh", "-c", &script, "sh"])
            .args(&run.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(run.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        if lines.any(|line| line.is_ok_and(|line| line.contains("listens on"))) {
            return Ok(Container { child, log, directory });
        }
        child.wait().unwrap();
        Err(fs::read_to_string(&log).unwrap())
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asks in the container's network; returns the status and the body.
    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--net", "curl", "-sS", "--max-time", "20"]);
        let text = run(command.args(["-w", "\n%{http_code}"]).args(arguments));
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// Pushes a blob and reads it again.
    #[track_caller]
    fn pushes_and_pulls(&self, url: &str, options: &[&str]) {
        let digest = digest(b"content");
        let upload = format!("{url}/v2/team/app/blobs/uploads/?digest={digest}");
        let push = [
            options,
            &[
                "-X",
                "POST",
                "--data-binary",
                "content",
                "-H",
                "Content-Type: application/octet-stream",
                &upload,
            ],
        ]
        .concat();
        let (status, body) = self.curl(&push);
        assert_eq!(status, 201, "{body}");
        let blob = format!("{url}/v2/team/app/blobs/{digest}");
        assert_eq!(self.curl(&[options, &[&blob]].concat()), (200, "content".into()));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with `certs` and `auth` as the documentation has them made.
fn prepared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["certs", "auth", "data"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "9",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-keyout", &at("certs/domain.key"), "-out", &at("certs/domain.crt")])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]));
    let users = run(Command::new("htpasswd").args(["-Bbn", "testuser", "testpassword"]));
    fs::write(at("auth/htpasswd"), users).unwrap();
    directory
}

const USER: [&str; 2] = ["-u", "testuser:testpassword"];

#[test]
fn a_local_registry() {
    let here = tempfile::tempdir().unwrap();
    for command in [
        "docker run -d -p 5000:5000 --restart=always --name registry registry:3",
        "docker run -d -p 5000:5000 --restart=always --name registry registry:2",
        "docker run -d \\\n  -p 5001:5000 \\\n  --name registry-test \\\n  registry:3",
    ] {
        let container = Container::start(&Run::of_command(command, here.path()));
        // The image without any setting is closed until it has a user, or opened as registry:2 is.
        assert_eq!(container.curl(&["http://localhost:5000/v2/"]).0, 401, "{command}");
    }
}

#[test]
fn a_port_in_the_container() {
    let here = tempfile::tempdir().unwrap();
    let command = "docker run -d \\
  -e REGISTRY_HTTP_ADDR=0.0.0.0:5001 \\
  -p 5001:5001 \\
  --name registry-test \\
  registry:3";
    let container = Container::start(&Run::of_command(command, here.path()));
    container.pushes_and_pulls("http://localhost:5001", &[]);
    assert!(
        container.log().contains("REGISTRY_AUTH is not set: the registry is open"),
        "{}",
        container.log()
    );
}

#[test]
fn a_directory_of_the_host() {
    let here = tempfile::tempdir().unwrap();
    let command = "docker run -d \\
  -p 5000:5000 \\
  --restart=always \\
  --name registry \\
  -v /mnt/registry:/var/lib/registry \\
  registry:3";
    let run = Run::of_command(command, here.path()).with("REGISTRY_HTTP_ADDR", ":5000");
    let container = Container::start(&run);
    container.pushes_and_pulls("http://localhost:5000", &[]);
    let blob = here.path().join("data/blobs/sha256").join(&digest(b"content")[7..]);
    assert!(blob.exists());
}

#[test]
fn tls_on_port_443() {
    let here = prepared();
    let command = "docker run -d \\
     --restart=always \\
     --name registry \\
     -v \"$(pwd)\"/certs:/certs \\
     -e REGISTRY_HTTP_ADDR=0.0.0.0:443 \\
     -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
     -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
     -p 443:443 \\
     registry:3";
    let container = Container::start(&Run::of_command(command, here.path()));
    let ca = here.path().join("certs/domain.crt");
    container.pushes_and_pulls("https://localhost", &["--cacert", ca.to_str().unwrap()]);
}

#[test]
fn users_with_tls() {
    let here = prepared();
    let command = "docker run -d \\
     -p 5000:5000 \\
     --restart=always \\
     --name registry \\
     -v \"$(pwd)\"/auth:/auth \\
     -e \"REGISTRY_AUTH=htpasswd\" \\
     -e \"REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm\" \\
     -e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd \\
     -v \"$(pwd)\"/certs:/certs \\
     -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
     -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
     registry:3";
    users_and_tls(&Run::of_command(command, here.path()), &here);
}

#[test]
fn the_compose_file() {
    let here = prepared();
    for image in ["registry:2", "registry:3"] {
        let file = format!(
            "registry:
  restart: always
  image: {image}
  ports:
    - 5000:5000
  environment:
    REGISTRY_HTTP_TLS_CERTIFICATE: /certs/domain.crt
    REGISTRY_HTTP_TLS_KEY: /certs/domain.key
    REGISTRY_AUTH: htpasswd
    REGISTRY_AUTH_HTPASSWD_PATH: /auth/htpasswd
    REGISTRY_AUTH_HTPASSWD_REALM: Registry Realm
  volumes:
    - /path/data:/var/lib/registry
    - /path/certs:/certs
    - /path/auth:/auth
"
        );
        let run = Run::of_compose(&file, here.path());
        assert_eq!((run.environment.len(), run.volumes.len()), (5, 3));
        users_and_tls(&run, &here);
        assert!(here.path().join("data/oci-layout").exists());
    }
}

#[track_caller]
fn users_and_tls(run: &Run, here: &tempfile::TempDir) {
    let container = Container::start(run);
    let ca = here.path().join("certs/domain.crt");
    let trust = ["--cacert", ca.to_str().unwrap()];
    let ping = "https://localhost:5000/v2/";
    assert_eq!(container.curl(&[&trust[..], &[ping]].concat()).0, 401);
    let (_, headers) = container.curl(&[&trust[..], &["-D", "-", ping]].concat());
    assert!(headers.contains("realm=\"Registry Realm\""), "{headers}");
    assert_eq!(container.curl(&[&trust[..], &["-u", "testuser:wrong", ping]].concat()).0, 401);
    container.pushes_and_pulls("https://localhost:5000", &[&trust[..], &USER].concat());
    assert!(!container.log().contains("has no effect"), "{}", container.log());
}

/// The file that the image of registry:2 has, with users.
const FILE: &str = "version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
auth:
  htpasswd:
    realm: basic-realm
    path: /auth/htpasswd
http:
  addr: :5002
  headers:
    X-Content-Type-Options: [nosniff]
    X-Custom: ['a value']
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

#[test]
fn a_configuration_file_that_is_mounted_or_named() {
    let here = prepared();
    fs::write(here.path().join("config.yml"), FILE).unwrap();
    for command in [
        "docker run -d -p 5000:5000 --restart=always --name registry \\
             -v `pwd`/config.yml:/etc/distribution/config.yml \\
             registry:3",
        "docker run -d -p 5000:5000 --restart=always --name registry \\
             -v `pwd`/config.yml:/etc/docker/registry/config.yml \\
             registry:2",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 /config.yml",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 serve /config.yml",
        "docker run -v `pwd`/config.yml:/config.yml registry:2 --config /config.yml",
    ] {
        let mut run = Run::of_command(command, here.path());
        run.volumes.push((here.path().join("auth").to_str().unwrap().to_owned(), "/auth".into()));
        let container = Container::start(&run);
        let ping = "http://localhost:5002/v2/";
        let (status, headers) = container.curl(&["-D", "-", ping]);
        assert_eq!(status, 401, "{command}");
        assert!(
            headers.contains("basic-realm") && headers.to_lowercase().contains("x-custom: a value"),
            "{headers}"
        );
        container.pushes_and_pulls("http://localhost:5002", &USER);
        assert!(container.root().join("var/lib/registry/oci-layout").exists(), "{command}");
        let warnings = container.log();
        assert_eq!(warnings.matches("has no effect").count(), 1, "{warnings}");
        assert!(warnings.contains("config.yml: log.fields has no effect"), "{warnings}");
    }
}

#[test]
fn what_must_not_be_ignored_keeps_it_from_starting() {
    let here = tempfile::tempdir().unwrap();
    for (setting, expected) in [
        ("REGISTRY_PROXY_REMOTEURL=https://hub.example", "pull-through"),
        ("REGISTRY_STORAGE=s3", "directory of this machine"),
        ("REGISTRY_AUTH_TOKEN_REALM=https://auth.example/token", "tokens of another server"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS=[/ca.pem]", "tls.client_ca"),
    ] {
        let run = Run::of_command(&format!("docker run -e {setting} registry:2"), here.path());
        let log = Container::try_start(&run).err().expect(setting);
        assert!(log.contains(expected) && log.lines().count() == 1, "{setting}: {log}");
    }
}

#[test]
fn clients_need_a_certificate_where_an_authority_is_named() {
    let here = prepared();
    let at = |name: &str| here.path().join(name).to_str().unwrap().to_owned();
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", "9", "-subj", "/CN=clients"])
        .args(ec)
        .args(["-keyout", &at("clients.key"), "-out", &at("certs/clients.pem")]));
    run(Command::new("openssl").args(["req", "-subj", "/CN=robot"]).args(ec).args([
        "-keyout",
        &at("robot.key"),
        "-out",
        &at("robot.csr"),
    ]));
    fs::write(at("extensions"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", "9", "-in", &at("robot.csr"), "-out", &at("robot.crt")])
        .args([
            "-CA",
            &at("certs/clients.pem"),
            "-CAkey",
            &at("clients.key"),
            "-CAcreateserial",
            "-extfile",
            &at("extensions"),
        ]));
    let command = "docker run -v \"$(pwd)\"/certs:/certs \\
        -e REGISTRY_HTTP_ADDR=0.0.0.0:443 \\
        -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt \\
        -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key \\
        -e REGISTRY_HTTP_TLS_CLIENTCAS_0=/certs/clients.pem \\
        registry:2";
    let container = Container::start(&Run::of_command(command, here.path()));
    let trust = ["--cacert", &at("certs/domain.crt")];
    let own = ["--cert", &at("robot.crt"), "--key", &at("robot.key")];
    container.pushes_and_pulls("https://localhost", &[&trust[..], &own].concat());
    let mut without = Command::new("nsenter");
    without.args(["--target", &container.child.id().to_string(), "--net", "curl", "-sS", "--max-time", "20"]);
    assert!(!without.args(trust).arg("https://localhost/v2/").output().unwrap().status.success());
}

#[test]
fn content_of_registry_2_is_noticed() {
    let here = tempfile::tempdir().unwrap();
    fs::create_dir_all(here.path().join("data/docker/registry/v2/repositories/app")).unwrap();
    let command = "docker run -v /mnt/registry:/var/lib/registry -e REGISTRY_HTTP_ADDR=:5000 registry:2";
    let container = Container::start(&Run::of_command(command, here.path()));
    let log = container.log();
    assert_eq!(log.matches("has content of registry:2").count(), 1, "{log}");
    assert!(log.contains("none of its images is served") && log.contains("skopeo sync"), "{log}");
    container.pushes_and_pulls("http://localhost:5000", &[]);
    assert!(here.path().join("data/docker/registry/v2/repositories/app").exists());
}
