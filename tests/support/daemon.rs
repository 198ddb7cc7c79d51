//! The daemon under test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::content::{digest, image_of};
use super::http::{Request, Response};
use super::{BINARY, OCI_MANIFEST};

/// A daemon with its data, killed on drop. Its socket belongs to the test, which passes it by socket activation: the
/// port stays reserved, and clients that connect during a restart wait.
pub struct Daemon {
    child: Child,
    socket: TcpListener,
    pub address: SocketAddr,
    pub data: PathBuf,
    start: Start,
    _directory: tempfile::TempDir,
}

/// Settings of the daemon's process.
#[derive(Clone, Default)]
struct Start {
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    /// Limit of open files, if not the default.
    descriptors: Option<u32>,
    /// The file that its stderr goes to, if not the test's.
    log: Option<PathBuf>,
}

/// Starts a daemon in a new directory, kills it, and returns the first line of its banner that contains `words`.
pub fn startup_line(environment: &[(&str, &str)], words: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(BINARY)
        .env_clear()
        .env("HOLDFAST_LISTEN", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .args(["serve", "--data"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains(words)).unwrap_or_default();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    line
}

impl Daemon {
    /// Starts with default settings.
    pub fn start() -> Self {
        Self::with_env(&[])
    }

    /// Starts with this environment.
    pub fn with_env(environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts a daemon that listens on this address.
    pub fn on(address: &str, environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory_on(address, tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts with this data directory.
    pub fn at(data: &Path) -> Self {
        Self::at_with_env(data, &[])
    }

    /// Starts with this data directory and environment.
    pub fn at_with_env(data: &Path, environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), Some(data), start)
    }

    /// Starts with this limit of open files.
    pub fn with_descriptors(count: u32) -> Self {
        let start = Start { descriptors: Some(count), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts with a user, added by the real command line.
    pub fn with_user(name: &str, password: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        add_user(&directory.path().join("data"), name, password);
        Self::in_directory(directory, None, Start { environment: owned(environment), ..Start::default() })
    }

    /// Starts with a configuration file of this text.
    pub fn with_config(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(directory, None, Start { arguments, ..Start::default() })
    }

    /// Starts with this configuration file.
    pub fn with_config_file(file: &Path) -> Self {
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(tempfile::tempdir().unwrap(), None, Start { arguments, ..Start::default() })
    }

    /// Starts with a configuration file of this text and this data directory.
    pub fn with_config_at(data: &Path, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(directory, Some(data), Start { arguments, ..Start::default() })
    }

    /// Starts with this configuration file and this data directory.
    pub fn with_config_file_at(data: &Path, file: &Path) -> Self {
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(tempfile::tempdir().unwrap(), Some(data), Start { arguments, ..Start::default() })
    }

    fn in_directory(directory: tempfile::TempDir, data: Option<&Path>, start: Start) -> Self {
        Self::in_directory_on("127.0.0.1:0", directory, data, start)
    }

    fn in_directory_on(
        address: &str,
        directory: tempfile::TempDir,
        data: Option<&Path>,
        start: Start,
    ) -> Self {
        let data = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let child = spawn(&data, &socket, &start);
        Daemon { child, socket, address, data, start, _directory: directory }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it with SIGKILL and starts it again at the same address.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Stops it gracefully, as systemd does, and starts it again.
    pub fn stop_and_restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Sends SIGTERM; returns true if it exits with success within `time`.
    pub fn stop_within(&mut self, time: Duration) -> bool {
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(terminated.success());
        let begun = std::time::Instant::now();
        while begun.elapsed() < time {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Waits until it has exited, with success.
    pub fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// Returns true if its process has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Stops it with SIGTERM, and asserts that it exits with success.
    pub fn stop(&mut self) {
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(terminated.success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Stops it without leaving a shutdown marker, as after a power cut.
    pub fn stop_without_marker(&mut self) {
        self.stop();
        // A daemon that has met damage leaves no marker by itself.
        let _ = std::fs::remove_file(self.data.join("index/clean"));
    }

    /// Returns the number of broken indexes that were set aside.
    pub fn broken_index_count(&self) -> usize {
        let names = std::fs::read_dir(&self.data).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("index.broken-")).count()
    }

    /// Runs another daemon on the same data directory; it has to refuse to start.
    pub fn start_another(&self) -> Output {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_LISTEN", "127.0.0.1:0");
        command.args(["serve", "--data"]).arg(&self.data).output().unwrap()
    }

    /// Starts it again after it has exited.
    pub fn start_again(&mut self) {
        self.child.wait().unwrap();
        self.child = spawn(&self.data, &self.socket, &self.start);
    }

    /// Starts it again with another environment, after it has exited.
    pub fn start_again_with_env(&mut self, environment: &[(&str, &str)]) {
        self.start.environment = owned(environment);
        self.start_again();
    }

    /// As [`Daemon::start_again_with_env`]; returns the file that its stderr goes to.
    pub fn start_again_with_log(&mut self, environment: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let log = tempfile::NamedTempFile::new().unwrap();
        self.start.log = Some(log.path().to_owned());
        self.start_again_with_env(environment);
        log
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a request to this daemon.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path).send()
    }

    /// Pushes a blob with one POST; returns its digest.
    pub fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = digest(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.request("POST", &path).body(content).send().expect(201);
        digest
    }

    /// Starts an upload; returns its location.
    pub fn start_upload(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        self.request("POST", &path).body(b"").send().expect(202).required_header("location")
    }

    /// Pushes an image of one layer under a tag; returns the digest and the bytes of the manifest.
    pub fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> (String, Vec<u8>) {
        let config = br#"{"architecture":"arm64","os":"linux"}"#;
        let manifest = image_of(
            (&self.push_blob(repository, config), config.len()),
            (&self.push_blob(repository, layer), layer.len()),
            None,
        );
        self.put_manifest(repository, tag, OCI_MANIFEST, &manifest).expect(201);
        (digest(&manifest), manifest)
    }

    /// Pushes a manifest by tag or digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Response {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.request("PUT", &path).header("Content-Type", media_type).body(bytes).send()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// Passes the socket as descriptor 3 and waits until the daemon announces that it listens.
fn spawn(data: &Path, socket: &TcpListener, start: &Start) -> Child {
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("prlimit");
    command.args(start.descriptors.map(|count| format!("--nofile={count}")));
    if let Some(log) = &start.log {
        command.stderr(std::fs::File::create(log).unwrap());
    }
    let mut child = command
        .args(["sh", "-c", script, BINARY])
        .args(&start.arguments)
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOLDFAST_STORAGE_PATH", data)
        .env("HOLDFAST_LOG_LEVEL", "warn")
        .envs(start.environment.iter().cloned())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listens on")));
    assert!(listens, "the daemon did not start");
    child
}

/// Adds a user with the real command line; one with a short password as Apache's `htpasswd` adds it.
pub fn add_user(data: &Path, name: &str, password: &str) {
    if password.chars().count() < 8 {
        let line = format!("{name}:{}\n", bcrypt::hash(password, 10).unwrap());
        fs::create_dir_all(data).unwrap();
        let file = fs::OpenOptions::new().create(true).append(true).open(data.join("htpasswd"));
        return file.unwrap().write_all(line.as_bytes()).unwrap();
    }
    let mut child = Command::new(BINARY)
        .env_clear()
        .args(["user", "add", name, "--password-stdin", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
