//! Chromium and chromedriver with a temporary profile; both end with the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::registry::Registry;
use super::webdriver::Session;
use crate::support::unused_address;

const PACKAGES: &str = "install the packages chromium, chromium-driver and libnss3-tools";
const STARTS: usize = 5;
const FLAGS: [&str; 15] = [
    // Chromium ends when chromedriver closes this pipe.
    "--remote-debugging-pipe",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--lang=en",
    "--window-size=1280,900",
];

/// JavaScript in the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    On,
    Off,
}

pub struct Chromium {
    pub session: Session,
    /// The scheme, host and port of the registry.
    pub origin: String,
    pub script: Script,
    /// Declared before the profile: dropped, and so ended, before the profile is removed.
    _driver: Driver,
    _home: tempfile::TempDir,
}

impl Chromium {
    pub fn start(registry: &Registry, script: Script) -> Self {
        let home = tempfile::tempdir().unwrap();
        trust(home.path(), &registry.authority);
        let driver = Driver::start(home.path());
        let session = Session::open(driver.address(), &capabilities(home.path(), script));
        let browser =
            Chromium { session, origin: registry.origin.clone(), script, _driver: driver, _home: home };
        browser.open("/login");
        browser
    }
}

impl Drop for Chromium {
    /// Closes the session, so that Chromium exits; the driver kills the rest.
    fn drop(&mut self) {
        let _ = self.session.try_call("DELETE", "", &Value::Null);
    }
}

fn capabilities(home: &Path, script: Script) -> Value {
    let mut arguments: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    arguments.push(format!("--user-data-dir={}", home.join("profile").display()));
    let mut preferences =
        json!({"credentials_enable_service": false, "profile.password_manager_enabled": false});
    if script == Script::Off {
        preferences["profile.managed_default_content_settings.javascript"] = 2.into();
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": {"args": arguments, "prefs": preferences},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "timeouts": {"implicit": 0, "pageLoad": 60_000, "script": 60_000},
        "unhandledPromptBehavior": "ignore",
    })
}

/// Adds an authority to the certificate store of a browser with this home directory.
fn trust(home: &Path, authority: &Path) {
    let store = home.join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let certutil = |arguments: &[&str]| {
        let mut command = Command::new("certutil");
        command.arg("-d").arg(format!("sql:{}", store.display())).args(arguments).stdin(Stdio::null());
        let output = command.output().expect(PACKAGES);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    certutil(&["-N", "--empty-password"]);
    certutil(&["-A", "-n", "holdfast", "-t", "C,,", "-i", authority.to_str().unwrap()]);
}

/// chromedriver, in its own process group, and the processes that it started.
struct Driver {
    child: Child,
    home: String,
    port: u16,
}

impl Driver {
    /// Another process may take the port before chromedriver listens, which then exits.
    fn start(home: &Path) -> Self {
        let mut printed = String::new();
        for _ in 0..STARTS {
            match Self::try_start(home) {
                Ok(driver) => return driver,
                Err(output) => printed = output,
            }
        }
        panic!("chromedriver did not start {STARTS} times; {PACKAGES}; its last output was: {printed}");
    }

    /// Returns what it printed if it exited.
    fn try_start(home: &Path) -> Result<Self, String> {
        // The driver ends even if the test process is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "chromedriver", &format!("--port={}", unused_address().port())])
            .env("HOME", home)
            .env("TMPDIR", home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut driver = Driver { child, home: home.to_str().unwrap().to_owned(), port: 0 };
        let mut printed = String::new();
        for line in output.lines().map_while(Result::ok) {
            if let Some(port) = port(&line) {
                driver.port = port;
                return Ok(driver);
            }
            printed = printed + &line + "\n";
        }
        Err(printed)
    }

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

fn port(line: &str) -> Option<u16> {
    line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        // Chromium leaves the process group: its processes are found by the profile on their command lines.
        for _ in 0..50 {
            let left = processes_of(&self.home);
            for process in &left {
                let _ = kill(*process, Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn processes_of(home: &str) -> Vec<Pid> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_ours = |number: &i32| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(home)
    };
    numbers.filter(is_ours).map(Pid::from_raw).collect()
}
