//! The daemon under a service manager: activation, status, reload, watchdog, idle exit. The test plays systemd.

use std::fs::Permissions;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::failing::Failing;
use crate::support::*;

/// A registry that is handed a TCP and a Unix socket, and tells how it is through a third.
struct Unit {
    directory: tempfile::TempDir,
    door: TcpListener,
    control: UnixListener,
    notify: UnixDatagram,
    address: SocketAddr,
}

impl Unit {
    fn new(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = UnixListener::bind(path("control")).unwrap();
        let notify = UnixDatagram::bind(path("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let address = door.local_addr().unwrap();
        let unit = Unit { directory, door, control, notify, address };
        unit.configure(configuration);
        unit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, text: &str) {
        let own = format!("[service]\nidle = \"off\"\ncontrol = {:?}\n", self.path("control"));
        let text = if text.contains("[service]") { text.to_owned() } else { format!("{text}\n{own}") };
        let data = format!("storage.path = {:?}\n", self.path("data"));
        let text = if text.contains("storage.path") { text } else { data + &text };
        // At once: half a configuration may be a valid one.
        std::fs::write(self.path("new.toml"), text).unwrap();
        std::fs::rename(self.path("new.toml"), self.path("holdfast.toml")).unwrap();
    }

    /// A command line for the same registry.
    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().arg("--config").arg(self.path("holdfast.toml"));
        command.arg("--data").arg(self.path("data"));
        command
    }

    fn start(&self, environment: &[(&str, &str)]) -> Child {
        self.start_with(environment, Stdio::inherit())
    }

    /// Starts it with its log somewhere else.
    fn start_with(&self, environment: &[(&str, &str)], log: Stdio) -> Child {
        self.start_by(&[], environment, log)
    }

    /// Has a command start it, which makes it somebody else.
    fn start_by(&self, starter: &[&str], environment: &[(&str, &str)], log: Stdio) -> Child {
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; \
                      LISTEN_FDS=2 LISTEN_FDNAMES=registry:control LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .args(starter)
            .args([BINARY, "--config"])
            .arg(self.path("holdfast.toml"))
            .stdin(OwnedFd::from(self.door.try_clone().unwrap()))
            .stdout(OwnedFd::from(self.control.try_clone().unwrap()))
            .stderr(log)
            .env_clear()
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("HOLDFAST_LOG_LEVEL", "warn")
            .envs(environment.iter().copied());
        // An empty name is none.
        environment.iter().filter(|(_, value)| value.is_empty()).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.spawn().unwrap()
    }

    /// What is told next.
    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = loop {
            match self.notify.recv(&mut buffer) {
                // A wait that has an end does not go on by itself when the machine has been frozen for a moment.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                told => break told.expect("something is told"),
            }
        };
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits until something like this is told.
    fn await_told(&self, wanted: &str) -> String {
        (0..1000).map(|_| self.told()).find(|told| told.contains(wanted)).expect(wanted)
    }

    fn get(&self, path: &str) -> Answer {
        Request::new(self.address, "GET", path).send()
    }
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").args([signal, &child.id().to_string()]));
}

#[test]
fn a_reload_takes_what_is_new_and_refuses_what_is_wrong() {
    let unit = Unit::new("");
    let child = Ends(unit.start(&[]));
    unit.await_told("READY=1");
    unit.get("/v2/").expect(200);
    // A push goes on through both reloads.
    let content = vec![5; 1 << 20];
    let location =
        Request::new(unit.address, "POST", "/v2/a/blobs/uploads/").send().expect(202).named("location");
    let request = format!(
        "PUT {location}?digest={} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        digest(&content),
        content.len()
    );
    let mut push = TcpStream::connect(unit.address).unwrap();
    std::io::Write::write_all(&mut push, request.as_bytes()).unwrap();
    std::io::Write::write_all(&mut push, &content[..1000]).unwrap();
    unit.configure("auth.anonymous = \"none\"\n");
    signal(&child.0, "-HUP");
    let reloading = unit.await_told("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(401);
    unit.configure("auth.anonymous = \"perhaps\"\n");
    signal(&child.0, "-HUP");
    unit.await_told("RELOADING=1");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(401);
    std::io::Write::write_all(&mut push, &content[1000..]).unwrap();
    Answer::read(&mut push, false).expect(201);
    unit.configure("storage.delete = false\n");
    signal(&child.0, "-HUP");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(200);
    Request::new(unit.address, "DELETE", &format!("/v2/a/blobs/{}", digest(&content))).send().expect(405);
}

#[test]
fn a_reload_leaves_the_data_where_it_is_and_users_and_authority_with_it() {
    let unit = Unit::new("tls.mode = \"auto\"\n");
    add_user(&unit.path("data"), "alice", "secret");
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Ends(unit.start_with(&[], log.reopen().unwrap().into()));
    unit.await_told("READY=1");
    let authority = unit.get("/ca.crt").expect(200).body;
    let elsewhere = format!("storage.path = {:?}\nlisten = [\":1\"]\n", unit.path("elsewhere"));
    unit.configure(&format!("{elsewhere}tls.mode = \"auto\"\ntls.names = [\"pi.lan\"]\n"));
    signal(&child.0, "-HUP");
    unit.await_told("READY=1");
    assert!(unit.get("/ca.crt").expect(200).body == authority, "it has another authority");
    assert!(!unit.path("elsewhere").exists());
    // Without users it would be open, since it is on loopback.
    unit.configure(&elsewhere);
    signal(&child.0, "-HUP");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(401);
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("storage.path has changed, which counts from the next restart on"), "{text}");
    assert!(text.contains("the port is that of holdfast.socket"), "{text}");
}

/// What is said by a command that has to fail, in its one line.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.trim_end().lines().count() == 1, "{text}");
    text
}

/// A command line that has no rights beyond those of files, whoever runs the tests.
fn powerless(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.env_clear().args(["--bounding-set=-all", "--inh-caps=-all", BINARY]).args(arguments);
    command
}

/// Waits until something like this is in the log.
fn await_logged(log: &tempfile::NamedTempFile, wanted: &str) {
    let began = Instant::now();
    while !std::fs::read_to_string(log.path()).unwrap().contains(wanted) {
        assert!(began.elapsed() < Duration::from_secs(10), "{wanted} is not in the log");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_does_not_end_while_it_could_not_start_again() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Ends(unit.start_with(&[], log.reopen().unwrap().into()));
    unit.await_told("READY=1");
    // Refused when it was to be read again.
    unit.configure("[service]\nidle = \"100ms\"\n[auth]\nanonymous = \"perhaps\"\n");
    await_logged(&log, "perhaps");
    unit.get("/v2/").expect(200);
    // No better is one whose key cannot be used.
    std::fs::write(unit.path("key"), "nonsense").unwrap();
    let files = format!("certificate = {:?}\nkey = {:?}", unit.path("key"), unit.path("key"));
    unit.configure(&format!("[service]\nidle = \"100ms\"\n[tls]\nmode = \"files\"\n{files}\n"));
    await_logged(&log, "has no certificate in it");
    // Or whose users cannot be read, or whose names no certificate can have.
    let users = format!("[auth]\nhtpasswd = {:?}\n", unit.path("data"));
    unit.configure(&format!("[service]\nidle = \"100ms\"\n{users}"));
    await_logged(&log, "cannot read");
    unit.configure("[service]\nidle = \"100ms\"\n[tls]\nmode = \"auto\"\nnames = [\"m\u{fc}ller.lan\"]\n");
    await_logged(&log, "tls.names is \"m\u{fc}ller.lan\"");
    // For many times as long as it waits for somebody.
    std::thread::sleep(Duration::from_millis(800));
    assert!(child.0.try_wait().unwrap().is_none(), "it ends");
    unit.get("/v2/").expect(200);
    unit.configure("[service]\nidle = \"100ms\"\n");
    let began = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it stays though nobody is there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.0.wait().unwrap().success());
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("it stays").count(), 4, "each reason is said once: {text}");
}

#[test]
fn a_check_of_the_configuration_reads_the_certificate_and_its_key() {
    let unit = Unit::new("");
    let made = |name: &str| {
        let files = [unit.path("certificate"), unit.path(name)].map(|path| path.to_str().unwrap().to_owned());
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", "/CN=localhost", "-out", &files[0], "-keyout", &files[1]]));
    };
    made("another");
    made("key");
    let check = |key: &str| {
        let tls =
            format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", unit.path("certificate"), unit.path(key));
        unit.configure(&tls);
        let mut command = unit.command();
        command.args(["config", "check"]);
        command
    };
    assert_eq!(run(&mut check("key")), "the configuration is valid\n");
    assert!(refusal(&mut check("another")).contains("is not the key of"));
    assert!(refusal(&mut check("nowhere")).contains("cannot read"));
    // As the service, that may not read a key of somebody else.
    check("key");
    run(Command::new("chown").arg("65534").arg(unit.path("key")));
    let mut powerless = powerless(&["config", "check", "--config"]);
    let text = refusal(powerless.arg(unit.path("holdfast.toml")));
    assert!(text.contains("key may not be read by the user") && text.contains("mode 640"), "{text}");
    // Nor is it good for the service because root may read it.
    run(Command::new("chown").arg("0").arg(unit.path("key")));
    std::fs::create_dir(unit.path("data")).unwrap();
    run(Command::new("chown").arg("65534").arg(unit.path("data")));
    for (name, mode) in [("", "755"), ("certificate", "644"), ("key", "600")] {
        run(Command::new("chmod").arg(mode).arg(unit.path(name)));
    }
    assert!(refusal(&mut check("key")).contains("key may not be read by the user"));
    run(Command::new("chmod").arg("644").arg(unit.path("key")));
    run(&mut check("key"));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused_with_what_to_do() {
    let unit = Unit::new("");
    std::fs::create_dir(unit.path("disk")).unwrap();
    run(Command::new("chown").arg("65534").arg(unit.path("disk")));
    let mut powerless = powerless(&["serve", "--data"]);
    powerless.arg(unit.path("disk/data")).env("HOLDFAST_LISTEN", "127.0.0.1:0");
    let text = refusal(&mut powerless);
    assert!(text.contains("ReadWritePaths=") && text.contains("systemctl edit holdfast"), "{text}");
    // Its owner is told so by a check, and whoever else asks is not, since they cannot know.
    std::fs::set_permissions(unit.path(""), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(unit.path("disk"), Permissions::from_mode(0o555)).unwrap();
    let disk = unit.path("disk");
    let check = ["config", "check", "--data", disk.to_str().unwrap()];
    let mut owner = Command::new(BINARY);
    assert!(refusal(owner.env_clear().args(check)).contains("cannot write to"));
    let mut somebody = Command::new("setpriv");
    somebody.env_clear().args(["--reuid=65533", "--regid=65533", "--clear-groups", BINARY]).args(check);
    assert_eq!(run(&mut somebody), "the configuration is valid\n");
}

#[test]
fn a_reload_refuses_data_that_cannot_be_written_and_minds_no_disk_that_fails() {
    let unit = Unit::new("");
    std::fs::set_permissions(unit.path(""), Permissions::from_mode(0o755)).unwrap();
    for name in ["data", "disk"] {
        std::fs::create_dir(unit.path(name)).unwrap();
    }
    run(Command::new("chown")
        .arg("65534:65534")
        .args(["data", "notify", "holdfast.toml"].map(|name| unit.path(name))));
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = Ends(unit.start_by(
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        &[],
        log.reopen().unwrap().into(),
    ));
    unit.await_told("READY=1");
    unit.configure(&format!("storage.path = {:?}\nauth.anonymous = \"none\"\n", unit.path("disk")));
    signal(&child.0, "-HUP");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(200);
    std::fs::set_permissions(unit.path("data"), Permissions::from_mode(0o555)).unwrap();
    unit.configure("auth.anonymous = \"none\"\n");
    run(unit.command().args(["config", "check"]));
    signal(&child.0, "-HUP");
    unit.await_told("READY=1");
    unit.get("/v2/").expect(401);
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("cannot write to").count(), 1, "{text}");
}

#[test]
fn without_a_daemon_the_status_says_that_one_waits_to_be_started() {
    let unit = Unit::new("");
    let mut child = Ends(unit.start(&[]));
    unit.await_told("READY=1");
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let service = format!("[service]\ncontrol = {:?}\n", unit.path("control"));
    unit.configure(&format!("storage.path = {:?}\n{service}", unit.path("data")));
    let mut status = Command::new(BINARY);
    status.env_clear().arg("status").arg("--config").arg(unit.path("holdfast.toml"));
    assert!(run(&mut status).contains("daemon        waiting for a connection"));
    // Nobody was started for that, and another directory is not the service's.
    let mut knock = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut knock, PollTimeout::ZERO).unwrap(), 0);
    assert!(run(unit.command().arg("status")).contains("daemon        not running"));
    let json: serde_json::Value = serde_json::from_str(&run(status.arg("--json"))).unwrap();
    assert_eq!(json["daemon_runs"], false);
    std::fs::remove_file(unit.path("control")).unwrap();
    let mut status = Command::new(BINARY);
    status.env_clear().arg("status").arg("--config").arg(unit.path("holdfast.toml"));
    assert!(run(&mut status).contains("daemon        not running"));
}

#[test]
fn the_watchdog_is_fed_while_reads_answer_and_not_while_they_hang() {
    const HANGS: Duration = Duration::from_secs(100);
    let unit = Unit::new("");
    let child = Ends(unit.start(&[("WATCHDOG_USEC", "1000000")]));
    let began = Instant::now();
    (0..4).for_each(|_| drop(unit.await_told("WATCHDOG=1")));
    assert!(began.elapsed() < Duration::from_secs(10));
    // The writer of the index waits for the disk in its next transaction: a restart would not help.
    let index = unit.path("data/index/data.mdb");
    let hanging = Failing::delay(child.0.id(), "fdatasync", index.to_str(), HANGS);
    let blob = digest(b"x");
    let address = unit.address;
    let push = std::thread::spawn(move || {
        let path = format!("/v2/a/blobs/uploads/?digest={blob}");
        Request::new(address, "POST", &path).body(b"x").send().expect(201);
    });
    // What was told before that is not read for longer than the watchdog would wait.
    let told = unit.await_told("STATUS=the disk has not answered a write for");
    assert!(told.contains("pushes wait"), "{told}");
    (0..8).for_each(|_| drop(unit.await_told("WATCHDOG=1")));
    drop(hanging);
    push.join().unwrap();
    // A disk that answers no read either is one that the daemon cannot serve from.
    let read = unit.path("data/oci-layout");
    let hanging = Failing::delay(child.0.id(), "openat,open", read.to_str(), HANGS);
    std::thread::sleep(Duration::from_millis(1000));
    let forget_told = || {
        unit.notify.set_nonblocking(true).unwrap();
        let mut fed = false;
        let mut buffer = [0; 4096];
        while let Ok(length) = unit.notify.recv(&mut buffer) {
            fed |= buffer[..length].starts_with(b"WATCHDOG");
        }
        unit.notify.set_nonblocking(false).unwrap();
        fed
    };
    forget_told();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!forget_told(), "it is fed though reads hang");
    drop(hanging);
    unit.await_told("WATCHDOG=1");
}

#[test]
fn the_command_line_asks_the_daemon_and_can_wait_for_it() {
    let unit = Unit::new("");
    let refused = unit.command().args(["status", "--wait=300ms"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "nobody answers: {refused:?}");
    let waiting = unit.command().args(["status", "--wait=20s"]).stdout(Stdio::piped()).spawn().unwrap();
    let _child = Ends(unit.start(&[]));
    let text = String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains("daemon        running") && text.contains("uploads       0"), "{text}");
    Request::new(unit.address, "POST", "/v2/a/blobs/uploads/").send().expect(202);
    let live: serde_json::Value =
        serde_json::from_str(&run(unit.command().args(["status", "--json"]))).unwrap();
    assert_eq!((&live["uploads"], &live["read_only"]), (&1.into(), &serde_json::Value::Null), "{live}");
    unit.await_told("1 upload");
    // Another data directory is none of this daemon's business.
    let elsewhere = unit.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut other = Command::new(BINARY);
    other
        .env_clear()
        .args(["status", "--data"])
        .arg(&elsewhere)
        .env("HOLDFAST_SERVICE_CONTROL", unit.path("control"));
    assert_eq!(other.output().unwrap().status.code(), Some(1));
}

#[test]
fn the_command_line_prints_the_metrics_of_the_daemon_and_those_of_its_end() {
    let unit = Unit::new("");
    let file = unit.path("holdfast.prom");
    unit.configure(&format!("[metrics]\nfile = {file:?}\naccess = \"users\"\n"));
    let print = || unit.command().arg("metrics").output().unwrap();
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let none = print();
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && said.contains("no daemon can be asked"), "{said}");
    let mut child = Ends(unit.start(&[]));
    unit.await_told("READY=1");
    unit.get("/v2/").expect(200);
    let running = print();
    assert!(text(&running).contains("holdfast_connections ") && running.status.success(), "{running:?}");
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let ended = print();
    assert_eq!(text(&ended), std::fs::read_to_string(&file).unwrap());
    let ping = "holdfast_http_requests_total{route=\"ping\",method=\"GET\",code=\"200\"} 1\n";
    assert!(text(&ended).contains(ping), "{}", text(&ended));
}

#[test]
fn a_daemon_that_listens_by_itself_can_be_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(arguments).arg("--data").arg(directory.path());
        command.env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}")).env("HOLDFAST_TLS_MODE", "auto");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let _child = Ends(command(&["serve"]).stderr(log.reopen().unwrap()).spawn().unwrap());
    assert!(command(&["status", "--wait=20s"]).status().unwrap().success());
    // A health check leaves no lines behind; what others ask does.
    Request::new(SocketAddr::from(([127, 0, 0, 1], port)), "GET", "/v2/").send().expect(308);
    let end = Instant::now() + Duration::from_secs(10);
    let lines = || std::fs::read_to_string(log.path()).unwrap().matches("GET /v2/").count();
    while lines() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lines(), 1);
}

/// Says so when it goes away, also by a panic.
struct SaysStop<'a>(&'a AtomicBool);

impl Drop for SaysStop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts the daemon whenever somebody knocks, as systemd does, until it is told to stop; gives how often.
fn activate(unit: &Unit, stop: &AtomicBool) -> usize {
    let mut starts = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut knock = [PollFd::new(unit.door.as_fd(), PollFlags::POLLIN)];
        if poll(&mut knock, PollTimeout::from(50u8)).unwrap() == 0 {
            continue;
        }
        starts += 1;
        // Nobody listens to what it tells.
        let mut child = Ends(unit.start(&[("NOTIFY_SOCKET", "")]));
        while child.0.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    starts
}

#[test]
fn nobody_is_refused_because_the_daemon_just_ends() {
    let rounds = std::env::var("HOLDFAST_TEST_KNOCKS").map_or(60, |text| text.parse().unwrap());
    let unit = Unit::new("[service]\nidle = \"60ms\"\n");
    let stop = AtomicBool::new(false);
    let starts = std::thread::scope(|scope| {
        let manager = scope.spawn(|| activate(&unit, &stop));
        let says_stop = SaysStop(&stop);
        for round in 0..rounds {
            // Around the moment at which it ends.
            std::thread::sleep(Duration::from_millis(40 + round * 7 % 60));
            let answer = Request::new(unit.address, "GET", "/v2/").header("Connection", "close").try_send();
            assert_eq!(answer.expect("it is refused").status, 200, "round {round}");
        }
        drop(says_stop);
        manager.join().unwrap()
    });
    assert!(starts as u64 > rounds / 10, "it was started {starts} times, and has hardly ever ended");
    println!("{rounds} knocks, {starts} starts");
}

#[test]
fn an_unfinished_upload_keeps_it_awake() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let mut child = Ends(unit.start(&[]));
    let upload =
        Request::new(unit.address, "POST", "/v2/a/blobs/uploads/").send().expect(202).named("location");
    std::thread::sleep(Duration::from_millis(600));
    assert!(child.0.try_wait().unwrap().is_none());
    Request::new(unit.address, "DELETE", &upload).send().expect(204);
    let began = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it stays though nobody is there");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.0.wait().unwrap().success());
    unit.await_told("STOPPING=1");
}

#[test]
fn somebody_who_is_logged_in_keeps_it_awake() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n[admin]\nsession = \"10m\"\n");
    add_user(&unit.path("data"), "alice", "secret");
    let mut child = Ends(unit.start(&[]));
    let mut browser = browser::Browser::at(unit.address);
    browser.log_in("alice", "secret").expect(303);
    std::thread::sleep(Duration::from_millis(600));
    assert!(child.0.try_wait().unwrap().is_none());
    browser.post("/logout", &[]).expect(303);
    let began = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it stays though nobody is there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_idle_connection_is_no_reason_to_end_in_the_middle() {
    let unit = Unit::new("[service]\nidle = \"100ms\"\n");
    let mut child = Ends(unit.start(&[]));
    unit.await_told("READY=1");
    let mut stream = TcpStream::connect(unit.address).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.0.try_wait().unwrap().is_none());
    std::io::Write::write_all(&mut stream, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[test]
fn who_came_in_at_the_last_moment_is_still_answered() {
    let unit = Unit::new("");
    let mut child = Ends(unit.start(&[]));
    unit.await_told("READY=1");
    let mut stream = TcpStream::connect(unit.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It is accepted, and has not said anything yet.
    while !run(unit.command().args(["status", "--json"])).contains("\"connections\": 1") {}
    signal(&child.0, "-TERM");
    // New ones are not accepted any more by now.
    std::thread::sleep(Duration::from_millis(300));
    std::io::Write::write_all(&mut stream, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(child.0.wait().unwrap().success());
}
