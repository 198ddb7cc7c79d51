//! A container as the documentation of registry:2 runs it: the daemon in its own mount and network namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// The options of `docker run` that matter to the daemon.
#[derive(Default)]
pub(super) struct Run {
    pub(super) environment: Vec<(String, String)>,
    /// Host and container path of each volume.
    pub(super) volumes: Vec<(String, String)>,
    pub(super) arguments: Vec<String>,
}

impl Run {
    /// Parses a command of the documentation; `$(pwd)` and the paths of the examples become paths in `directory`.
    pub(super) fn of_command(command: &str, directory: &Path) -> Self {
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
                // The image; the arguments of its program follow.
                _ => run.arguments = words.by_ref().collect(),
            }
        }
        run
    }

    /// Parses a compose file of the documentation; `/path` becomes `directory`.
    pub(super) fn of_compose(file: &str, directory: &Path) -> Self {
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

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Splits a command into words, as a shell does, with double quotes.
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

/// A daemon in its own mount and network namespaces, with the root directory of the image.
pub(super) struct Container {
    pub(super) child: Child,
    log: PathBuf,
    directory: tempfile::TempDir,
}

impl Container {
    pub(super) fn start(run: &Run) -> Self {
        Self::try_start(run).unwrap_or_else(|log| panic!("the daemon does not start: {log}"))
    }

    /// Starts the daemon; if it does not start, returns its log.
    pub(super) fn try_start(run: &Run) -> Result<Self, String> {
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

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a request inside the container's network; returns the status and the body.
    pub(super) fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--net", "curl", "-sS", "--max-time", "20"]);
        let text = run(command.args(["-w", "\n%{http_code}"]).args(arguments));
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// Pushes a blob and pulls it.
    #[track_caller]
    pub(super) fn pushes_and_pulls(&self, url: &str, options: &[&str]) {
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
