//! Health checks: their answer in each state, without log-in, host name or TLS.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::support::fault_injection::FaultInjection;
use crate::support::*;

fn status_and_word(answer: &Response) -> (u16, String) {
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

fn check(daemon: &Daemon, path: &str) -> (u16, String) {
    status_and_word(&daemon.get(path))
}

/// Waits until a check gives this answer.
#[track_caller]
fn await_word(daemon: &Daemon, path: &str, expected: (u16, &str)) {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let (status, word) = check(daemon, path);
        if (status, word.as_str()) == expected {
            return;
        }
        assert!(Instant::now() < end, "{path}: {status} {word}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn checks_need_no_login_host_name_or_tls() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    daemon.stop();
    let settings = [("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_LOG_LEVEL", "info")];
    let log = daemon.start_again_with_log(&settings);
    for path in ["/healthz", "/readyz", "/healthz?verbose"] {
        let answer = daemon.get(path).expect(200);
        assert_eq!(status_and_word(&answer).1, "ok");
        assert_eq!(answer.required_header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.required_header("cache-control"), "no-store");
        let head = daemon.request("HEAD", path).send().expect(200);
        assert_eq!((head.required_header("content-length"), head.body.len()), ("2".into(), 0));
        // Credentials, host name, accepted types and proxies do not matter.
        daemon.request("GET", path).login("alice", "wrong").send().expect(200);
        daemon.request("GET", path).host("evil.example:1").send().expect(200);
        daemon.request("GET", path).header("Accept", "text/html").send().expect(200);
        daemon.request("GET", path).header("X-Forwarded-For", "192.0.2.1").send().expect(200);
        assert_eq!(
            daemon.request("POST", path).body(b"").send().expect(405).required_header("allow"),
            "GET, HEAD"
        );
    }
    let url = format!("https://localhost:{}/healthz", daemon.address.port());
    assert_eq!(run(Command::new("curl").args(["-sSfk", &url])), "ok");
    // Load balancers send HTTP/1.0 without a host.
    let old = format!("http://{}/readyz", daemon.address);
    assert_eq!(run(Command::new("curl").args(["-sSf0", "-H", "Host:", &old])), "ok");
    daemon.get("/healthz/").expect(308);
    daemon.stop();
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(
        !log.contains("/healthz ") && !log.contains("/readyz ") && !log.contains("login failed"),
        "{log}"
    );
    assert!(log.contains("GET /healthz/"), "{log}");
}

#[test]
fn checks_answer_to_host_names_that_the_registry_refuses() {
    // Implicitly open on loopback, the registry refuses public names (DNS rebinding).
    let daemon = Daemon::start();
    daemon.request("GET", "/v2/").host("hub.example").send().expect(421);
    daemon.request("GET", "/healthz").host("hub.example").send().expect(200);
}

#[test]
fn latched_store_is_reported_as_read_only() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let failing = FaultInjection::fail(daemon.pid(), "fdatasync", None);
    let content = b"another layer";
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
    assert!(daemon.request("POST", &path).body(content).send().status >= 500);
    drop(failing);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(check(&daemon, path), (503, "read-only".into()));
    }
    daemon.get("/v2/a/manifests/1").expect(200);
    let mut waits = Command::new(BINARY);
    waits.env_clear().env("HOLDFAST_LISTEN", daemon.address.to_string());
    let waited = waits.args(["status", "--wait=300ms", "--data"]).arg(&daemon.data).output().unwrap();
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert!(waited.status.code() == Some(1) && said.contains("not healthy (read-only"), "{said}");
}

#[test]
fn full_registry_is_healthy_but_not_ready() {
    for setting in [("HOLDFAST_STORAGE_RESERVE", "1000TiB"), ("HOLDFAST_STORAGE_QUOTA", "0")] {
        let daemon = Daemon::with_env(&[setting]);
        assert_eq!(check(&daemon, "/healthz"), (200, "ok".into()), "{setting:?}");
        assert_eq!(check(&daemon, "/readyz"), (503, "full".into()), "{setting:?}");
    }
    let daemon = Daemon::with_env(&[("HOLDFAST_STORAGE_QUOTA", "100KiB")]);
    assert_eq!(check(&daemon, "/readyz"), (200, "ok".into()));
    daemon.push_blob("a", &[7; 100 << 10]);
    await_word(&daemon, "/readyz", (503, "full"));
}

#[test]
fn hanging_disk_is_reported_without_delay() {
    let daemon = Daemon::start();
    let hanging = FaultInjection::delay(daemon.pid(), "fdatasync,fsync", None, Duration::from_secs(100));
    let content = b"layer";
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(content));
    let address = daemon.address;
    let push = std::thread::spawn(move || Request::new(address, "POST", &path).body(content).try_send());
    await_word(&daemon, "/healthz", (503, "hanging"));
    assert_eq!(check(&daemon, "/readyz"), (503, "hanging".into()));
    drop(hanging);
    push.join().unwrap().unwrap().expect(201);
    assert_eq!(check(&daemon, "/healthz"), (200, "ok".into()));
}

#[test]
fn stopping_daemon_is_reported_as_draining() {
    let mut daemon = Daemon::start();
    // Accepted before the check below is answered, since connections are accepted in order.
    let mut silent: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(daemon.address).unwrap()).collect();
    daemon.get("/healthz").expect(200);
    run(Command::new("kill").arg(daemon.pid().to_string()));
    let found = silent.iter_mut().any(|stream| {
        std::thread::sleep(Duration::from_millis(200));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = daemon.request("GET", "/healthz");
        request.send_on(stream).is_ok()
            && Response::try_read(stream, false)
                .is_ok_and(|answer| status_and_word(&answer) == (503, "draining".into()))
    });
    assert!(found, "no answer reports draining");
    drop(silent);
    daemon.start_again();
    assert_eq!(check(&daemon, "/healthz"), (200, "ok".into()));
}

/// A child process, killed on drop.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn daemon_that_opens_its_store_reports_starting_and_keeps_connections() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    // As a command of the command line that has opened the store.
    let lock = daemon.data.join("index/daemon.lock");
    std::fs::write(&lock, "command 1\n").unwrap();
    let lock = std::fs::File::open(lock).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY, "serve", "--data"]).arg(&daemon.data);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOLDFAST_LOG_LEVEL", "warn");
    command.stdin(port.as_fd().try_clone_to_owned().unwrap()).stdout(Stdio::null());
    let _child = KilledOnDrop(command.spawn().unwrap());
    let waiting = std::thread::spawn(move || Request::new(address, "GET", "/v2/a/manifests/1").send());
    for path in ["/healthz", "/readyz"] {
        let answer = Request::new(address, "GET", path).send();
        assert_eq!(status_and_word(&answer), (503, "starting".into()));
    }
    Request::new(address, "HEAD", "/healthz").send().expect(503);
    assert!(!waiting.is_finished(), "a pull waits for the store");
    drop(lock);
    waiting.join().unwrap().expect(200);
    assert_eq!(status_and_word(&Request::new(address, "GET", "/healthz").send()), (200, "ok".into()));
}
