//! Metrics in Prometheus: the exposition format, the alert rules, the dashboard, and a real server that scrapes.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::text;
use crate::support::*;

const RULES: &str = include_str!("../../../packaging/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../../../packaging/monitoring/grafana-dashboard.json");
const MANUAL: &str = include_str!("../../../docs/how-to/monitoring.md");

#[test]
fn promtool_accepts_the_exposition_format() {
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
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

/// Returns the expressions of the dashboard, with values for its variables.
fn expressions() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions.map(|text| text.replace("$__rate_interval", "5m").replace("$instance", ".*")).collect()
}

#[test]
fn rules_and_dashboard_are_valid_and_use_existing_metrics() {
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
              summary: "The registry on pi is read-only because its disk failed."
              description: "Check the disk, then restart the daemon."
      - {eval_time: 2m, alertname: HoldfastCollectionFails}
      - eval_time: 3m
        alertname: HoldfastCollectionFails
        exp_alerts:
          - exp_labels: {severity: warning, instance: pi, name: gc}
            exp_annotations: {summary: "Three garbage collections in a row failed on pi."}
"#;
    let cases = write("cases.yml", cases);
    run(Command::new("promtool").args(["test", "rules"]).arg(&cases));
    let daemon = Daemon::with_env(&[("HOLDFAST_TLS_MODE", "auto")]);
    let text = text(&daemon);
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    // Exposed from the first check on.
    let later = ["holdfast_check_faults"];
    for used in [RULES, DASHBOARD, &expressions().join(" ")] {
        for word in used.split(|char: char| !char.is_ascii_alphanumeric() && char != '_') {
            let is_metric = word.starts_with("holdfast_") || word.starts_with("process_");
            let family = word.trim_end_matches("_bucket");
            assert!(
                !is_metric || families.contains(&family) || later.contains(&word),
                "there is no metric {word}"
            );
        }
    }
    for family in families.iter().filter(|family| family.starts_with("holdfast_")) {
        let short = family.trim_start_matches("holdfast");
        let named = MANUAL.contains(&format!("`{family}")) || MANUAL.contains(&format!("`{short}`"));
        assert!(named, "{family} is not in the manual");
    }
}

/// A Prometheus server, killed on drop.
struct Prometheus {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // The first configuration in the manual.
        let block = MANUAL.split("```yaml\n").find(|block| block.starts_with("scrape_configs:")).unwrap();
        let block = block.split("```").next().unwrap().replace("127.0.0.1:5000", target);
        assert!(block.contains(target));
        let configuration = format!("rule_files: [alerts.yml]\n{}", block.replace("30s", "1s"));
        fs::write(at("prometheus.yml"), configuration).unwrap();
        fs::write(at("alerts.yml"), RULES).unwrap();
        let address = unused_address().to_string();
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

    /// Queries the API; `None` until the server answers.
    fn api(&self, path: &str, query: &str) -> Option<serde_json::Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let query = format!("query={query}");
        let output =
            Command::new("curl").args(["-sSfG", "-m", "10", &url, "--data-urlencode", &query]).output();
        serde_json::from_slice(&output.unwrap().stdout).ok()
    }

    /// Returns the values of an expression, by the value of one of its labels.
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
fn prometheus_scrapes_the_daemon_and_evaluates_the_rules() {
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
    // It negotiates OpenMetrics, which conveys the types.
    let metadata = prometheus.api("metadata", "").unwrap();
    let kind = |name: &str| metadata["data"][name][0]["type"].as_str().unwrap_or_default().to_owned();
    assert_eq!(kind("holdfast_http_request_seconds"), "histogram");
    assert_eq!(kind("holdfast_http_requests"), "counter", "{metadata}");
    while !rules_are_healthy(&prometheus) {
        assert!(Instant::now() < end, "{:?}", prometheus.api("rules", ""));
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Returns true if each rule was evaluated without an error.
fn rules_are_healthy(prometheus: &Prometheus) -> bool {
    let rules = prometheus.api("rules", "").unwrap_or_default();
    let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
    let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).peekable();
    rules.peek().is_some() && rules.all(|rule| rule["health"] == "ok" || rule["health"] == "unknown")
}
