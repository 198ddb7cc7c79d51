//! The compared servers: Holdfast, Debian's `docker-registry` (registry:2), and nginx with static files.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::load::{Connection, Target};

pub const HOLDFAST: &str = "holdfast";
pub const REGISTRY_2: &str = "registry:2";
pub const NGINX: &str = "nginx";
/// The earlier build of Holdfast given by `--before`.
pub const BEFORE: &str = "before";

/// User name and password of the server with users.
const USER: (&str, &str) = ("bench", "a password");

/// A running server, stopped on drop.
pub struct Server {
    child: Child,
    pub target: Target,
    pub data: PathBuf,
    /// Time from the start of the process to its first response.
    pub start: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        // A negative number signals the process group: nginx has workers.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(mut command: Command, target: Target, data: &Path, probe: &str) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let begun = Instant::now();
        let child = command.spawn()?;
        let mut server = Server { child, target, data: data.to_owned(), start: Duration::ZERO };
        while begun.elapsed() < Duration::from_mins(2) {
            if responds(&server.target, probe) {
                server.start = begun.elapsed();
                return Ok(server);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Err(io::Error::other(format!("{} does not respond", command.get_program().display())))
    }

    /// Kills it, without a clean shutdown.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Returns the CPU seconds of all its processes.
    pub fn cpu_seconds(&self) -> f64 {
        let ticks: u64 = self.processes().iter().filter_map(|process| ticks_of(process)).sum();
        ticks as f64 / TICKS_PER_SECOND
    }

    /// Returns a value of `/proc/PID/status` in MiB, summed over all its processes.
    pub fn memory(&self, key: &str) -> f64 {
        let kibibytes: f64 = self.processes().iter().filter_map(|process| status_of(process, key)).sum();
        kibibytes / 1024.0
    }

    /// Returns a value of `/proc/PID/io` in bytes, summed over all its processes.
    pub fn input_output(&self, key: &str) -> u64 {
        let value = |process: &PathBuf| value_of(&process.join("io"), key)?.trim().parse::<u64>().ok();
        self.processes().iter().filter_map(value).sum()
    }

    fn processes(&self) -> Vec<PathBuf> {
        let own = self.child.id().to_string();
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own.as_str())
            .chain(children.split_whitespace())
            .map(|process| Path::new("/proc").join(process))
            .collect()
    }
}

/// Unit of CPU time in `/proc/PID/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn ticks_of(process: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    // The process name ends at the last bracket and may contain spaces; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Returns a value of `/proc/PID/status` in KiB.
pub fn status_of(process: &Path, key: &str) -> Option<f64> {
    value_of(&process.join("status"), key)?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Returns the text after `KEY:` in a file of `/proc`.
fn value_of(file: &Path, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::to_owned)
}

fn responds(target: &Target, path: &str) -> bool {
    let request = || {
        let mut connection = Connection::open(target)?;
        let head = connection.head_of("GET", path, "");
        connection.exchange(&head, &[], 200)
    };
    request().is_ok()
}

/// Returns an address with a free port; another process may still take it.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Returns the path of the measured build.
pub fn own_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_holdfast"))
}

/// Starts Holdfast without configuration: open on loopback.
pub fn holdfast(data: &Path) -> io::Result<Server> {
    build_of_holdfast(own_binary(), data)
}

/// Starts any build of Holdfast without configuration.
pub fn build_of_holdfast(binary: &Path, data: &Path) -> io::Result<Server> {
    let target = Target { address: free_address()?, tls: None, authorization: String::new() };
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("HOLDFAST_LISTEN", target.address.to_string())
        .env("HOLDFAST_STORAGE_PATH", data)
        // The default is as many tags as the largest repository of the tables has before the pushes.
        .env("HOLDFAST_LIMITS_TAGS_PER_REPOSITORY", "1000000");
    Server::start(command, target, data, "/v2/")
}

/// Starts Holdfast with TLS from its own authority, and a user.
pub fn holdfast_with_users(data: &Path) -> io::Result<Server> {
    let binary = env!("CARGO_BIN_EXE_holdfast");
    let mut add = Command::new(binary)
        .args(["user", "add", USER.0, "--password-stdin", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(stdin) = &mut add.stdin {
        io::Write::write_all(stdin, USER.1.as_bytes())?;
    }
    if !add.wait_with_output()?.status.success() {
        return Err(io::Error::other("the user could not be added"));
    }
    let address = free_address()?;
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("HOLDFAST_LISTEN", address.to_string())
        .env("HOLDFAST_STORAGE_PATH", data)
        .env("HOLDFAST_TLS_MODE", "auto");
    // The first start creates the certificate; /ca.crt is available over plain HTTP.
    let plain = Target { address, tls: None, authorization: String::new() };
    let mut server = Server::start(command, plain, data, "/ca.crt")?;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(data.join("tls/ca.crt")).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    server.target.tls = Some(Arc::new(config));
    server.target.authorization = authorization();
    Ok(server)
}

fn authorization() -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", USER.0, USER.1));
    format!("Authorization: Basic {encoded}\r\n")
}

/// Starts registry:2 with its file system driver; `None` if it is not installed.
pub fn registry_2(data: &Path) -> io::Result<Option<Server>> {
    let target = Target { address: free_address()?, tls: None, authorization: String::new() };
    let configuration = data.join("config.yml");
    std::fs::create_dir_all(data)?;
    std::fs::write(
        &configuration,
        format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {}\n",
            data.join("data").display(),
            target.address
        ),
    )?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(configuration);
    if_installed(Server::start(command, target, data, "/v2/"))
}

/// Starts nginx with two workers, sendfile and static files; `None` if it is not installed.
pub fn nginx(data: &Path) -> io::Result<Option<Server>> {
    let target = Target { address: free_address()?, tls: None, authorization: String::new() };
    std::fs::create_dir_all(data.join("files"))?;
    std::fs::write(data.join("files/probe"), "{}")?;
    let configuration = data.join("nginx.conf");
    let (here, address) = (data.display(), target.address);
    std::fs::write(
        &configuration,
        format!(
            "daemon off; worker_processes 2; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;\n\
             client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3;\n\
             uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;\n\
             server {{ listen {address}; root {here}/files; }} }}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(configuration);
    if_installed(Server::start(command, target, data, "/probe"))
}

fn if_installed(started: io::Result<Server>) -> io::Result<Option<Server>> {
    match started {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        started => started.map(Some),
    }
}
