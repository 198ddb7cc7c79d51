//! Plays systemd for a daemon: socket activation, `sd_notify`, signals.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{BINARY, Request, Response, run};

/// A unit: the registry's socket, the control socket, the notification socket, and a directory with data and
/// configuration.
pub struct Unit {
    directory: tempfile::TempDir,
    pub socket: TcpListener,
    pub control: UnixListener,
    pub notify: UnixDatagram,
    pub address: SocketAddr,
}

impl Unit {
    /// Creates a unit with this configuration.
    pub fn new(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = UnixListener::bind(path("control")).unwrap();
        let notify = UnixDatagram::bind(path("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let unit = Unit { directory, socket, control, notify, address };
        unit.configure(configuration);
        unit
    }

    /// Returns a path in the unit's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the configuration; keeps the daemon's data and control socket, and turns the idle exit off unless
    /// `text` has these settings.
    pub fn configure(&self, text: &str) {
        let own = format!("[service]\nidle = \"off\"\ncontrol = {:?}\n", self.path("control"));
        let text = if text.contains("[service]") { text.to_owned() } else { format!("{text}\n{own}") };
        let data = format!("storage.path = {:?}\n", self.path("data"));
        let text = if text.contains("storage.path") { text } else { data + &text };
        // Atomically: a partial configuration may be valid.
        std::fs::write(self.path("new.toml"), text).unwrap();
        std::fs::rename(self.path("new.toml"), self.path("holdfast.toml")).unwrap();
    }

    /// Returns a command line for the same registry.
    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().arg("--config").arg(self.path("holdfast.toml"));
        command.arg("--data").arg(self.path("data"));
        command
    }

    /// Starts the daemon.
    pub fn start(&self, environment: &[(&str, &str)]) -> Child {
        self.start_with(environment, Stdio::inherit())
    }

    /// Starts the daemon with its stderr in `log`.
    pub fn start_with(&self, environment: &[(&str, &str)], log: Stdio) -> Child {
        self.start_by(&[], environment, log)
    }

    /// Starts the daemon through another command, which changes its user.
    pub fn start_by(&self, starter: &[&str], environment: &[(&str, &str)], log: Stdio) -> Child {
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; \
                      LISTEN_FDS=2 LISTEN_FDNAMES=registry:control LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .args(starter)
            .args([BINARY, "--config"])
            .arg(self.path("holdfast.toml"))
            .stdin(OwnedFd::from(self.socket.try_clone().unwrap()))
            .stdout(OwnedFd::from(self.control.try_clone().unwrap()))
            .stderr(log)
            .env_clear()
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("HOLDFAST_LOG_LEVEL", "warn")
            .envs(environment.iter().copied());
        // An empty value removes the variable.
        environment.iter().filter(|(_, value)| value.is_empty()).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.spawn().unwrap()
    }

    /// Receives the next notification.
    pub fn notification(&self) -> String {
        let mut buffer = [0; 4096];
        let length = loop {
            match self.notify.recv(&mut buffer) {
                // A receive with a timeout is interrupted, not resumed, if the machine was suspended for a moment.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.expect("no notification"),
            }
        };
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for a notification that contains `wanted`.
    pub fn await_notification(&self, wanted: &str) -> String {
        (0..1000).map(|_| self.notification()).find(|text| text.contains(wanted)).expect(wanted)
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> Response {
        Request::new(self.address, "GET", path).send()
    }
}

/// A process that is killed on drop.
pub struct Process(pub Child);

impl Process {
    /// Asserts that the process exits by itself, within ten seconds and with success.
    #[track_caller]
    pub fn expect_exit(&mut self) {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "the idle daemon does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal.
pub fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").args([signal, &child.id().to_string()]));
}

/// Waits until the log contains `wanted`.
pub fn await_logged(log: &tempfile::NamedTempFile, wanted: &str) {
    let began = Instant::now();
    while !std::fs::read_to_string(log.path()).unwrap().contains(wanted) {
        assert!(began.elapsed() < Duration::from_secs(10), "{wanted} is not in the log");
        std::thread::sleep(Duration::from_millis(10));
    }
}
