//! The daemon under test and a small HTTP client that sends exactly what it is told.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use holdfast::oci::{Algorithm, Hasher};
use serde_json::Value;

pub mod browser;
pub mod bulk;
pub mod failing;
pub mod images;
pub mod index_rows;
pub mod load;

pub const BINARY: &str = env!("CARGO_BIN_EXE_holdfast");
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A daemon with its data, ended with the test. It serves on a socket that the test holds and hands over as
/// systemd does: nobody else gets the port, and clients that come while it is restarted wait.
pub struct Daemon {
    child: Child,
    socket: TcpListener,
    pub address: SocketAddr,
    pub data: PathBuf,
    start: Start,
    _directory: tempfile::TempDir,
}

/// How a daemon is started.
#[derive(Clone, Default)]
struct Start {
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    /// How many descriptors it may have, if not as many as usual.
    descriptors: Option<u32>,
    /// The file that its log goes to, if not to that of the test.
    log: Option<PathBuf>,
}

/// Starts a daemon on a new directory, returns the first line of its standard output with these words, and ends it.
pub fn said_at_start(environment: &[(&str, &str)], words: &str) -> String {
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
    let lines = std::io::BufRead::lines(std::io::BufReader::new(daemon.stdout.take().unwrap()));
    let line = lines.map_while(Result::ok).find(|line| line.contains(words)).unwrap_or_default();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    line
}

impl Daemon {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts at an address.
    pub fn on(address: &str, environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory_on(address, tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts with its data in a place of the test's own.
    pub fn at(data: &Path) -> Self {
        Self::at_with(data, &[])
    }

    pub fn at_with(data: &Path, environment: &[(&str, &str)]) -> Self {
        let start = Start { environment: owned(environment), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), Some(data), start)
    }

    /// Starts with so many descriptors.
    pub fn with_descriptors(count: u32) -> Self {
        let start = Start { descriptors: Some(count), ..Start::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), None, start)
    }

    /// Starts with users made by the real command line.
    pub fn with_user(name: &str, password: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        add_user(&directory.path().join("data"), name, password);
        Self::in_directory(directory, None, Start { environment: owned(environment), ..Start::default() })
    }

    /// Starts with a file of configuration.
    pub fn with_file(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(directory, None, Start { arguments, ..Start::default() })
    }

    /// Starts with a file of configuration of the test's own.
    pub fn with_file_named(file: &Path) -> Self {
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(tempfile::tempdir().unwrap(), None, Start { arguments, ..Start::default() })
    }

    /// Starts with a file of configuration and its data in a place of the test's own.
    pub fn with_file_at(data: &Path, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.to_str().unwrap().to_owned()];
        Self::in_directory(directory, Some(data), Start { arguments, ..Start::default() })
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

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it without warning and starts it again at the same address.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart_after_end();
    }

    /// Ends it as systemd does and starts it again.
    pub fn stop_and_restart(&mut self) {
        self.stop();
        self.restart_after_end();
    }

    /// Tells it to end, and gives up after a while; returns whether it ended in good order.
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

    /// Waits until it has ended in good order.
    pub fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    pub fn stop(&mut self) {
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(terminated.success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as a power cut does, with nothing to say that its index is in order.
    pub fn end_badly(&mut self) {
        self.stop();
        // A daemon that met damage leaves no mark itself.
        let _ = std::fs::remove_file(self.data.join("index/clean"));
    }

    /// How many broken indexes are kept beside.
    pub fn broken_indexes(&self) -> usize {
        let names = std::fs::read_dir(&self.data).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("index.broken-")).count()
    }

    /// Runs another daemon on the same data, which is to refuse to serve it.
    pub fn start_another(&self) -> Output {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_LISTEN", "127.0.0.1:0");
        command.args(["serve", "--data"]).arg(&self.data).output().unwrap()
    }

    pub fn restart_after_end(&mut self) {
        self.child.wait().unwrap();
        self.child = spawn(&self.data, &self.socket, &self.start);
    }

    /// Starts it again with other settings, after it has been stopped or killed.
    pub fn restart_with(&mut self, environment: &[(&str, &str)]) {
        self.start.environment = owned(environment);
        self.restart_after_end();
    }

    /// As [`Daemon::restart_with`]; gives the file with what it writes to stderr.
    pub fn restart_with_log(&mut self, environment: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let log = tempfile::NamedTempFile::new().unwrap();
        self.start.log = Some(log.path().to_owned());
        self.restart_with(environment);
        log
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    pub fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = digest(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.request("POST", &path).body(content).send().expect(201);
        digest
    }

    /// Pushes an image of one layer under a tag; gives the manifest's digest and bytes.
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

    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Answer {
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

/// Hands the socket over as descriptor 3 and waits until the daemon says that it listens.
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
    assert!(listens, "the daemon does not start");
    child
}

pub fn add_user(data: &Path, name: &str, password: &str) {
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

/// Connects from a certain address of this machine.
pub fn connect_from(local: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((local, 0))))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

pub struct Request {
    pub address: SocketAddr,
    /// The address that it is sent from, if not from that of the daemon.
    local: Option<Ipv4Addr>,
    head: String,
    body: Vec<u8>,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
        Request { address, local: None, head, body: Vec::new() }
    }

    /// Sends it from another address of this machine, as another client would.
    pub fn from(mut self, local: Ipv4Addr) -> Self {
        self.local = Some(local);
        self
    }

    pub fn local(&self) -> Option<Ipv4Addr> {
        self.local
    }

    /// Leaves the connection open for another request.
    pub fn keep_alive(mut self) -> Self {
        self.head = self.head.replace("Connection: close\r\n", "");
        self
    }

    /// Sends the head of this request on a connection that is open already.
    pub fn send_on(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(format!("{}\r\n", self.head).as_bytes())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        match self.local {
            None => TcpStream::connect(self.address),
            Some(local) => connect_from(local, self.address),
        }
    }

    /// Calls the registry by another name.
    pub fn by_name(mut self, host: &str) -> Self {
        self.head = self.head.replace("Host: registry\r\n", &format!("Host: {host}\r\n"));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.head += &format!("Content-Length: {}\r\n", body.len());
        self.body = body.to_vec();
        self
    }

    /// A body in chunks, as Docker sends it.
    pub fn chunked(mut self, body: &[u8]) -> Self {
        self.head += "Transfer-Encoding: chunked\r\n";
        for part in body.chunks(100_000) {
            self.body.extend(format!("{:x}\r\n", part.len()).bytes());
            self.body.extend(part);
            self.body.extend(b"\r\n");
        }
        self.body.extend(b"0\r\n\r\n");
        self
    }

    pub fn login(self, name: &str, password: &str) -> Self {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        self.header("Authorization", &format!("Basic {text}"))
    }

    pub fn open(&self) -> TcpStream {
        let mut stream = self.connect().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{}\r\n", self.head).as_bytes()).unwrap();
        stream
    }

    /// As [`Request::send`], for a daemon that may end at any moment.
    pub fn try_send(self) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let written = stream
            .write_all(format!("{}\r\n", self.head).as_bytes())
            .and_then(|()| stream.write_all(&self.body));
        let answer = Answer::try_read(&mut stream, self.head.starts_with("HEAD"))?;
        // A refused body need not be read to its end.
        if answer.status < 400 {
            written?;
        }
        Ok(answer)
    }

    pub fn send(self) -> Answer {
        let mut stream = self.open();
        // What is left of a refused body may be cut off by the server after its answer, but never before.
        let written = stream.write_all(&self.body);
        let answer = Answer::read(&mut stream, self.head.starts_with("HEAD"));
        if answer.status < 400 {
            written.unwrap();
        }
        answer
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, Vec<String>>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(stream: &mut impl Read, head: bool) -> Self {
        Self::try_read(stream, head).unwrap()
    }

    /// An answer that is cut off is an error.
    pub fn try_read(stream: &mut impl Read, head: bool) -> io::Result<Self> {
        Self::try_read_one(&mut BufReader::new(stream), head)
    }

    /// Reads one answer of several.
    pub fn read_one(reader: &mut impl BufRead, head: bool) -> Self {
        Self::try_read_one(reader, head).unwrap()
    }

    fn try_read_one(reader: &mut impl BufRead, head: bool) -> io::Result<Self> {
        let cut_off = |what: String| io::Error::new(io::ErrorKind::UnexpectedEof, what);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).ok_or_else(|| cut_off(format!("no answer: {line:?}")))?;
        let status = status.parse().unwrap();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(cut_off("the headers are cut off".into()));
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim_start().to_owned());
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if !head && !matches!(status, 204 | 304) {
            reader.take(length).read_to_end(&mut answer.body)?;
            if answer.body.len() as u64 != length {
                return Err(cut_off("the body is cut off".into()));
            }
        }
        Ok(answer)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        assert_eq!(self.status, status, "{:?} {body}", self.headers);
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|values| values[0].as_str())
    }

    pub fn headers(&self, name: &str) -> Vec<String> {
        self.headers.get(name).cloned().unwrap_or_default()
    }

    #[track_caller]
    pub fn named(&self, name: &str) -> String {
        self.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

pub fn digest(content: &[u8]) -> String {
    Hasher::digest(Algorithm::Sha256, content).to_string()
}

/// A manifest of an image with one layer, and a subject if there is one; sizes are not those of the blobs.
pub fn image(config: &str, layer: &str, subject: Option<&str>) -> Vec<u8> {
    image_of((config, 2), (layer, 5), subject)
}

fn image_of(config: (&str, usize), layer: (&str, usize), subject: Option<&str>) -> Vec<u8> {
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.0, "size": layer.1}],
    });
    if let Some(subject) = subject {
        manifest["subject"] = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
        manifest["artifactType"] = "application/x-signature".into();
    }
    serde_json::to_vec(&manifest).unwrap()
}

/// Runs a program to its end and gives what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
