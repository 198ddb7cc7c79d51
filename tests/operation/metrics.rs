//! Metrics: access to them, their values, the file, and the command line.

mod prometheus;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

fn scrape(daemon: &Daemon) -> Response {
    daemon.request("GET", "/metrics").host("localhost").send()
}

fn text(daemon: &Daemon) -> String {
    String::from_utf8(scrape(daemon).expect(200).body).unwrap()
}

/// Returns the value of a sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// Waits until a sample has this value.
#[track_caller]
fn await_value(daemon: &Daemon, sample: &str, expected: f64) {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let text = text(daemon);
        if value(&text, sample) == Some(expected) {
            return;
        }
        assert!(Instant::now() < end, "{sample} is {:?}", value(&text, sample));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn local_access_is_for_clients_of_this_machine_without_a_proxy() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", "auto")]);
    let ask = |host: &str| daemon.request("GET", "/metrics").host(host);
    for host in ["localhost", "127.0.0.1:5000", "[::1]"] {
        let answer = ask(host).send().expect(200);
        assert_eq!(answer.required_header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.required_header("cache-control"), "no-store");
    }
    ask("hub.lan").send().expect(403);
    for (name, value) in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
    ] {
        let answer = ask("localhost").header(name, value).send().expect(403);
        assert!(String::from_utf8_lossy(&answer.body).contains("metrics.access"), "{name}");
    }
    daemon.request("HEAD", "/metrics").host("localhost").send().expect(200);
    daemon.request("POST", "/metrics").host("localhost").body(b"").send().expect(405);
    let trusting = Daemon::with_env(&[("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    for client in ["192.0.2.7", "127.0.0.1"] {
        let request = trusting.request("GET", "/metrics").host("localhost");
        request.header("X-Forwarded-For", client).send().expect(403);
    }
}

#[test]
fn web_pages_of_other_origins_can_read_only_open_metrics() {
    for (access, status, allowed) in [("local", 403, None), ("open", 200, Some("*"))] {
        let daemon = Daemon::with_config(&format!(
            "[metrics]\naccess = \"{access}\"\n[http.headers]\nAccess-Control-Allow-Origin = [\"*\"]\n"
        ));
        let ask = |path: &str| daemon.request("GET", path).host("localhost");
        let from_page = ask("/metrics").header("Origin", "http://evil.example");
        let answer = from_page.header("Sec-Fetch-Site", "cross-site").send().expect(status);
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        for path in ["/metrics", "/healthz"] {
            let answer = ask(path).send().expect(200);
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{access} {path}");
        }
        assert_eq!(ask("/v2/").send().expect(200).header("access-control-allow-origin"), Some("*"));
    }
}

#[test]
fn other_machines_get_access_by_configuration() {
    let rules = "[metrics]\naccess = \"users\"\n[auth]\nanonymous = \"pull\"\n\
        [[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n\
        [[auth.rule]]\nusers = [\"bob\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\"]\n";
    let daemon = Daemon::with_config(rules);
    add_user(&daemon.data, "alice", "secret");
    add_user(&daemon.data, "bob", "secret");
    let ask = |name: &str, password: &str| daemon.request("GET", "/metrics").login(name, password).send();
    daemon.get("/metrics").expect(401).required_header("www-authenticate");
    scrape(&daemon).expect(401);
    ask("alice", "wrong").expect(401);
    ask("bob", "secret").expect(403);
    let text = String::from_utf8(ask("alice", "secret").expect(200).body).unwrap();
    assert_eq!(value(&text, "holdfast_login_failures_total"), Some(1.0), "{text}");

    let open = Daemon::with_user("alice", "secret", &[("HOLDFAST_METRICS_ACCESS", "open")]);
    open.request("GET", "/metrics").header("X-Forwarded-For", "192.0.2.1").send().expect(200);
    let off = Daemon::with_env(&[("HOLDFAST_METRICS_ENABLED", "false")]);
    scrape(&off).expect(404);
    // Passwords are accepted over TLS only.
    let settings = [("HOLDFAST_METRICS_ACCESS", "users"), ("HOLDFAST_TLS_MODE", "auto")];
    let secure = Daemon::with_user("alice", "secret", &settings);
    secure.request("GET", "/metrics").login("alice", "secret").send().expect(308);
}

#[test]
fn metrics_count_requests_and_reveal_no_names() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    daemon.push_image("confidential/name", "hush", &[7; 50_000]);
    daemon.get("/v2/confidential/name/manifests/hush").expect(200);
    daemon.request("HEAD", "/v2/confidential/name/manifests/none").send().expect(404);
    daemon.get("/v2/confidential/name/tags/list").expect(200);
    daemon.request("SECRETMETHOD", "/secret/path").body(b"").send().expect(404);
    daemon.request("GET", "/v2/").login("alice", "wrong").send().expect(401);
    let answer = daemon.get("/v2/confidential/name/manifests/hush").expect(200);
    daemon.get("/login?next=/x").expect(200);
    // A request is counted after its answer was sent, possibly after the client has received it.
    await_value(&daemon, "holdfast_http_requests_total{route=\"page\",method=\"GET\",code=\"200\"}", 1.0);
    let text = text(&daemon);
    for (sample, expected) in [
        ("holdfast_http_requests_total{route=\"upload\",method=\"POST\",code=\"201\"}", 2.0),
        ("holdfast_http_requests_total{route=\"manifest\",method=\"PUT\",code=\"201\"}", 1.0),
        ("holdfast_http_requests_total{route=\"manifest\",method=\"GET\",code=\"200\"}", 2.0),
        ("holdfast_http_requests_total{route=\"manifest\",method=\"HEAD\",code=\"404\"}", 1.0),
        ("holdfast_http_requests_total{route=\"tags\",method=\"GET\",code=\"200\"}", 1.0),
        ("holdfast_http_requests_total{route=\"other\",method=\"other\",code=\"404\"}", 1.0),
        ("holdfast_http_request_seconds_count{route=\"manifest\"}", 4.0),
        ("holdfast_http_request_seconds_bucket{route=\"manifest\",le=\"+Inf\"}", 4.0),
        ("holdfast_login_failures_total", 1.0),
        ("holdfast_throttled_total", 0.0),
        ("holdfast_read_only", 0.0),
        ("holdfast_full", 0.0),
        ("holdfast_job_running{name=\"gc\"}", 0.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample}: {text}");
    }
    assert!(value(&text, "holdfast_http_bytes_total{direction=\"received\"}").unwrap() > 50_000.0);
    let sent = value(&text, "holdfast_http_bytes_total{direction=\"sent\"}").unwrap();
    assert!(sent > 2.0 * answer.body.len() as f64 && value(&text, "holdfast_connections").unwrap() >= 1.0);
    for (sample, expected) in [
        ("holdfast_repositories", 1.0),
        ("holdfast_tags", 1.0),
        ("holdfast_manifests", 1.0),
        ("holdfast_blobs", 3.0),
        ("holdfast_uploads", 0.0),
    ] {
        await_value(&daemon, sample, expected);
    }
    for word in ["confidential", "hush", "alice", "SECRET", "secret", "sha256", "127.0.0.1"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn collection_is_reported_as_a_job() {
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "100ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    let digest = daemon.push_blob("a", &[7; 10_000]);
    let begun = Instant::now();
    let success = || value(&text(&daemon), "holdfast_job_last_success_seconds{name=\"gc\"}");
    // The run ends once its record is stored, after the bytes are counted.
    while value(&text(&daemon), "holdfast_collection_freed_bytes_total") != Some(10_000.0)
        || success().is_none()
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "{digest} is not collected");
        std::thread::sleep(Duration::from_millis(50));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let at = success().unwrap();
    assert!((now - at).abs() < 60.0, "{at}");
    assert_eq!(value(&text(&daemon), "holdfast_job_last_success_seconds{name=\"check\"}"), None);
    assert_eq!(value(&text(&daemon), "holdfast_check_faults"), None);
}

#[test]
fn metrics_file_is_written_periodically_and_at_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.prom");
    let settings = [("HOLDFAST_METRICS_FILE", file.to_str().unwrap()), ("HOLDFAST_METRICS_ENABLED", "false")];
    let mut daemon = Daemon::with_env(&settings);
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no file");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.push_image("a", "1", b"layer");
    daemon.stop();
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(value(&written, "holdfast_tags"), Some(1.0), "{written}");
    let put = "holdfast_http_requests_total{route=\"manifest\",method=\"PUT\",code=\"201\"}";
    assert_eq!(value(&written, put), Some(1.0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    let command = |file: &Path| {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_METRICS_FILE", file).args(["metrics", "--data"]).arg(&daemon.data);
        command
    };
    assert_eq!(run(&mut command(&file)), written);
    let missing = command(&directory.path().join("none")).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn command_line_reads_metrics_over_http_without_a_control_socket() {
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    let print = |address: &str| {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_LISTEN", address).args(["metrics", "--data"]).arg(&daemon.data);
        // As if the daemon had no control socket.
        command.env("HOLDFAST_SERVICE_CONTROL", "/nonexistent");
        command
    };
    let text = run(&mut print(&daemon.address.to_string()));
    assert_eq!(value(&text, "holdfast_read_only"), Some(0.0), "{text}");
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(print(&unused).output().unwrap().status.code(), Some(1));
}

#[test]
fn config_check_verifies_the_directory_of_the_metrics_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    let check = |place: &str| {
        let file = directory.path().join(place).join("holdfast.prom");
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_METRICS_FILE", file).args(["config", "check", "--data"]).arg(&data);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("data").0, Some(0));
    let (code, said) = check("none");
    assert!(code == Some(1) && said.contains("does not exist"), "{said}");
    // A data directory of another user, as the package creates it.
    std::os::unix::fs::chown(&data, Some(65534), Some(65534)).unwrap();
    assert_eq!(check("data").0, Some(0));
    let (code, said) = check(".");
    assert!(code == Some(1) && said.contains("ReadWritePaths="), "{said}");
}
