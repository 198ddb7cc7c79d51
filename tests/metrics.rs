//! Metrics: who may read them, what they count, and that Prometheus takes them.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

const RULES: &str = include_str!("../packaging/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../packaging/monitoring/grafana-dashboard.json");
const MANUAL: &str = include_str!("../docs/monitoring.md");

fn scrape(daemon: &Daemon) -> Answer {
    daemon.request("GET", "/metrics").by_name("localhost").send()
}

fn text(daemon: &Daemon) -> String {
    String::from_utf8(scrape(daemon).expect(200).body).unwrap()
}

/// The value of a sample.
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
fn by_default_they_are_for_clients_of_this_machine_without_a_proxy() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_TLS_MODE", "auto")]);
    let ask = |host: &str| daemon.request("GET", "/metrics").by_name(host);
    for host in ["localhost", "127.0.0.1:5000", "[::1]"] {
        let answer = ask(host).send().expect(200);
        assert_eq!(answer.named("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.named("cache-control"), "no-store");
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
    daemon.request("HEAD", "/metrics").by_name("localhost").send().expect(200);
    daemon.request("POST", "/metrics").by_name("localhost").body(b"").send().expect(405);
    let trusting = Daemon::with(&[("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1")]);
    for client in ["192.0.2.7", "127.0.0.1"] {
        let request = trusting.request("GET", "/metrics").by_name("localhost");
        request.header("X-Forwarded-For", client).send().expect(403);
    }
}

#[test]
fn web_pages_of_other_origins_read_them_only_where_they_are_open() {
    for (access, status, allowed) in [("local", 403, None), ("open", 200, Some("*"))] {
        let daemon = Daemon::with_file(&format!(
            "[metrics]\naccess = \"{access}\"\n[http.headers]\nAccess-Control-Allow-Origin = [\"*\"]\n"
        ));
        let ask = |path: &str| daemon.request("GET", path).by_name("localhost");
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
fn other_machines_are_let_in_as_the_configuration_says() {
    let rules = "[metrics]\naccess = \"users\"\n[auth]\nanonymous = \"pull\"\n\
        [[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\", \"delete\"]\n\
        [[auth.rule]]\nusers = [\"bob\"]\nrepositories = [\"*\"]\nallow = [\"pull\", \"push\"]\n";
    let daemon = Daemon::with_file(rules);
    add_user(&daemon.data, "alice", "secret");
    add_user(&daemon.data, "bob", "secret");
    let ask = |name: &str, password: &str| daemon.request("GET", "/metrics").login(name, password).send();
    daemon.get("/metrics").expect(401).named("www-authenticate");
    scrape(&daemon).expect(401);
    ask("alice", "wrong").expect(401);
    ask("bob", "secret").expect(403);
    let text = String::from_utf8(ask("alice", "secret").expect(200).body).unwrap();
    assert_eq!(value(&text, "holdfast_login_failures_total"), Some(1.0), "{text}");

    let open = Daemon::with_user("alice", "secret", &[("HOLDFAST_METRICS_ACCESS", "open")]);
    open.request("GET", "/metrics").header("X-Forwarded-For", "192.0.2.1").send().expect(200);
    let off = Daemon::with(&[("HOLDFAST_METRICS_ENABLED", "false")]);
    scrape(&off).expect(404);
    // A password is for TLS.
    let settings = [("HOLDFAST_METRICS_ACCESS", "users"), ("HOLDFAST_TLS_MODE", "auto")];
    let secure = Daemon::with_user("alice", "secret", &settings);
    secure.request("GET", "/metrics").login("alice", "secret").send().expect(308);
}

#[test]
fn they_count_what_happens_and_name_nothing() {
    let daemon = Daemon::with_user("alice", "secret", &[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    daemon.push_image("confidential/name", "hush", &[7; 50_000]);
    daemon.get("/v2/confidential/name/manifests/hush").expect(200);
    daemon.request("HEAD", "/v2/confidential/name/manifests/none").send().expect(404);
    daemon.get("/v2/confidential/name/tags/list").expect(200);
    daemon.request("SECRETMETHOD", "/secret/path").body(b"").send().expect(404);
    daemon.request("GET", "/v2/").login("alice", "wrong").send().expect(401);
    let answer = daemon.get("/v2/confidential/name/manifests/hush").expect(200);
    daemon.get("/login?next=/x").expect(200);
    // A request is counted when its answer is sent, a moment after its client has it.
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
fn a_check_and_a_collection_are_jobs() {
    let daemon = Daemon::with(&[("HOLDFAST_GC_INTERVAL", "100ms"), ("HOLDFAST_GC_GRACE", "0s")]);
    let digest = daemon.push_blob("a", &[7; 10_000]);
    let begun = Instant::now();
    while value(&text(&daemon), "holdfast_collection_freed_bytes_total") != Some(10_000.0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{digest} is not collected");
        std::thread::sleep(Duration::from_millis(50));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let at = value(&text(&daemon), "holdfast_job_last_success_seconds{name=\"gc\"}").unwrap();
    assert!((now - at).abs() < 60.0, "{at}");
    assert_eq!(value(&text(&daemon), "holdfast_job_last_success_seconds{name=\"check\"}"), None);
    assert_eq!(value(&text(&daemon), "holdfast_check_faults"), None);
}

#[test]
fn the_file_is_written_while_the_daemon_runs_and_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdfast.prom");
    let settings = [("HOLDFAST_METRICS_FILE", file.to_str().unwrap()), ("HOLDFAST_METRICS_ENABLED", "false")];
    let mut daemon = Daemon::with(&settings);
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
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the new file has taken its place");
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
fn without_systemd_the_command_line_asks_the_port() {
    let daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", "auto")]);
    let print = |address: &str| {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_LISTEN", address).args(["metrics", "--data"]).arg(&daemon.data);
        command
    };
    let text = run(&mut print(&daemon.address.to_string()));
    assert_eq!(value(&text, "holdfast_read_only"), Some(0.0), "{text}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(print(&nobody).output().unwrap().status.code(), Some(1));
}

#[test]
fn the_configuration_check_tries_the_directory_of_the_file() {
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
    // The user that the data belongs to, as the package has one.
    std::os::unix::fs::chown(&data, Some(65534), Some(65534)).unwrap();
    assert_eq!(check("data").0, Some(0));
    let (code, said) = check(".");
    assert!(code == Some(1) && said.contains("ReadWritePaths="), "{said}");
}

#[test]
fn promtool_finds_nothing_wrong_with_them() {
    let daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", "auto")]);
    daemon.get("/v2/").expect(308);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the package prometheus has to be installed");
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text(&daemon).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// The expressions of the dashboard, as Prometheus gets them.
fn expressions() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions.map(|text| text.replace("$__rate_interval", "5m").replace("$instance", ".*")).collect()
}

#[test]
fn rules_and_dashboard_are_valid_and_use_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name)
    };
    let rules: Vec<serde_json::Value> = expressions()
        .iter()
        .enumerate()
        .map(|(number, expr)| serde_json::json!({"record": format!("panel:{number}"), "expr": expr}))
        .collect();
    // JSON is YAML.
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let alerts = write("alerts.yml", RULES);
    let panels = write("dashboard.yml", &groups.to_string());
    run(Command::new("promtool").args(["check", "rules"]).arg(&alerts).arg(&panels));
    let cases = r#"
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'holdfast_read_only{instance="pi"}', values: '0 0 1 1 1'}
      - {series: 'holdfast_job_failures{name="gc",instance="pi"}', values: '0 1 2 3 3'}
    alert_rule_test:
      - {eval_time: 1m, alertname: HoldfastReadOnly}
      - eval_time: 3m
        alertname: HoldfastReadOnly
        exp_alerts:
          - exp_labels: {severity: critical, instance: pi}
            exp_annotations:
              summary: "The registry on pi takes no pushes, since its disk failed."
              description: "Check the disk, then restart the daemon."
      - {eval_time: 2m, alertname: HoldfastCollectionFails}
      - eval_time: 3m
        alertname: HoldfastCollectionFails
        exp_alerts:
          - exp_labels: {severity: warning, instance: pi, name: gc}
            exp_annotations: {summary: "Three collections in a row have failed on pi."}
"#;
    let cases = write("cases.yml", cases);
    run(Command::new("promtool").args(["test", "rules"]).arg(&cases));
    let daemon = Daemon::with(&[("HOLDFAST_TLS_MODE", "auto")]);
    let text = text(&daemon);
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    // These come with the first event of their kind.
    let later = ["holdfast_check_faults"];
    for used in [RULES, DASHBOARD, &expressions().join(" ")] {
        for word in used.split(|char: char| !char.is_ascii_alphanumeric() && char != '_') {
            let is_metric = word.starts_with("holdfast_") || word.starts_with("process_");
            let family = word.trim_end_matches("_bucket");
            assert!(!is_metric || families.contains(&family) || later.contains(&word), "there is no {word}");
        }
    }
    for family in families.iter().filter(|family| family.starts_with("holdfast_")) {
        let short = family.trim_start_matches("holdfast");
        let named = MANUAL.contains(&format!("`{family}")) || MANUAL.contains(&format!("`{short}`"));
        assert!(named, "{family} is not in the manual");
    }
}

/// A Prometheus of its own, ended with the test.
struct Prometheus {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // The first configuration of the manual.
        let block = MANUAL.split("```yaml\n").find(|block| block.starts_with("scrape_configs:")).unwrap();
        let block = block.split("```").next().unwrap().replace("127.0.0.1:5000", target);
        assert!(block.contains(target));
        let configuration = format!("rule_files: [alerts.yml]\n{}", block.replace("30s", "1s"));
        fs::write(at("prometheus.yml"), configuration).unwrap();
        fs::write(at("alerts.yml"), RULES).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", at("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", at("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package prometheus has to be installed");
        Prometheus { child, address, _directory: directory }
    }

    /// Asks for something; nothing while there is no answer.
    fn api(&self, path: &str, query: &str) -> Option<serde_json::Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let query = format!("query={query}");
        let output =
            Command::new("curl").args(["-sSfG", "-m", "10", &url, "--data-urlencode", &query]).output();
        serde_json::from_slice(&output.unwrap().stdout).ok()
    }

    /// The values of an expression by the value of one of its labels.
    fn query(&self, expression: &str, label: &str) -> BTreeMap<String, String> {
        let found = self.api("query", expression).unwrap_or_default();
        let results = found["data"]["result"].as_array().cloned().unwrap_or_default();
        let pair = |result: &serde_json::Value| {
            let label = result["metric"][label].as_str().unwrap_or_default().to_owned();
            (label, result["value"][1].as_str().unwrap().to_owned())
        };
        results.iter().map(pair).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_the_daemon() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", &[7; 20_000]);
    let prometheus = Prometheus::start(&daemon.address.to_string());
    let end = Instant::now() + Duration::from_secs(90);
    while prometheus.query("holdfast_tags", "job").get("holdfast").map(String::as_str) != Some("1") {
        let targets = prometheus.api("targets", "");
        assert!(Instant::now() < end, "{targets:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(prometheus.query("up{job=\"holdfast\"}", "job")["holdfast"], "1");
    assert_eq!(prometheus.query("holdfast_build_info", "version")[env!("CARGO_PKG_VERSION")], "1");
    let requests = prometheus.query("holdfast_http_requests_total{code=\"201\"}", "route");
    assert_eq!((requests["upload"].as_str(), requests["manifest"].as_str()), ("2", "1"));
    // It asks for OpenMetrics, and knows the types.
    let metadata = prometheus.api("metadata", "").unwrap();
    let kind = |name: &str| metadata["data"][name][0]["type"].as_str().unwrap_or_default().to_owned();
    assert_eq!(kind("holdfast_http_request_seconds"), "histogram");
    assert_eq!(kind("holdfast_http_requests"), "counter", "{metadata}");
    while !rules_are_well(&prometheus) {
        assert!(Instant::now() < end, "{:?}", prometheus.api("rules", ""));
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Whether each rule was evaluated without an error.
fn rules_are_well(prometheus: &Prometheus) -> bool {
    let rules = prometheus.api("rules", "").unwrap_or_default();
    let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
    let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).peekable();
    rules.peek().is_some() && rules.all(|rule| rule["health"] == "ok" || rule["health"] == "unknown")
}
