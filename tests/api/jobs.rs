//! Background jobs over the control socket and the command line: run, join, wait, cancel, due.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

/// The rate of a check that runs for as long as a test needs it: one blob a second.
const SLOW: &str = "10KiB";

/// Starts a daemon with enough blobs for a slow check.
fn with_blobs(environment: &[(&str, &str)]) -> Daemon {
    let daemon = Daemon::with_env(environment);
    fill(&daemon);
    daemon
}

fn fill(daemon: &Daemon) {
    for number in 0..40_u8 {
        daemon.push_blob("a", &vec![number; 10 << 10]);
    }
}

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.data.join("control.sock")
}

/// A response of the local API, whose body is read line by line.
struct Stream {
    lines: BufReader<UnixStream>,
    status: u16,
}

impl Stream {
    fn open(socket: &Path, method: &str, path: &str, body: &Value) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head =
            format!("{method} /_holdfast/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Stream { lines, status }
    }

    /// Returns the next event; the lengths of chunks are skipped.
    fn event(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the stream ends without its last event");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// Returns the last event.
    fn done(&mut self) -> Value {
        loop {
            let event = self.event();
            if event["event"] == "done" {
                return event;
            }
        }
    }

    /// Reads a body that is not a stream.
    fn json(mut self) -> Value {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }
}

fn request(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let stream = Stream::open(&socket(daemon), method, path, body);
    (stream.status, stream.json())
}

fn job(daemon: &Daemon, name: &str) -> Value {
    request(daemon, "GET", &format!("jobs/{name}"), &Value::Null).1
}

/// Waits until a job is as wanted.
#[track_caller]
fn await_job(daemon: &Daemon, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let job = job(daemon, name);
        if wanted(&job) {
            return job;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{job:#}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a check that takes long, and waits until it runs.
fn slow_check(daemon: &Daemon, query: &str) -> Stream {
    let path = format!("jobs/check{query}");
    let stream = Stream::open(&socket(daemon), "POST", &path, &json!({"rate": SLOW}));
    await_job(daemon, "check", |job| job["state"] == "running");
    stream
}

fn command(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments).arg("--data").arg(&daemon.data);
    command.output().unwrap()
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn jobs_are_listed_started_and_reported() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let list = text_of(&command(&daemon, &["jobs"]));
    for part in ["JOB", "check", "gc", "never", "not by itself", "in "] {
        assert!(list.contains(part), "{list}");
    }
    let ran = command(&daemon, &["jobs", "run", "check"]);
    assert!(ran.status.success() && text_of(&ran).starts_with("check: No faults found: 3 blobs"), "{ran:?}");
    let check = job(&daemon, "check");
    assert_eq!((&check["state"], &check["last_outcome"]), (&json!("idle"), &json!("ok")));
    assert_eq!((&check["failures"], &check["next_due"]), (&json!(0), &Value::Null));
    let shown = text_of(&command(&daemon, &["jobs", "check"]));
    assert!(shown.contains("No faults found"), "{shown}");
    let listed: Value = serde_json::from_slice(&command(&daemon, &["jobs", "--json"]).stdout).unwrap();
    let names: Vec<&str> =
        listed["jobs"].as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["certificate", "check", "gc", "import"]);
}

#[test]
fn faults_fail_a_check_that_is_run_as_a_job() {
    let daemon = Daemon::start();
    let digest = daemon.push_blob("a", b"content");
    std::fs::write(daemon.data.join("blobs/sha256").join(&digest[7..]), b"c0ntent").unwrap();
    let ran = command(&daemon, &["jobs", "run", "check"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text_of(&ran).contains("1 fault found"), "{ran:?}");
    let shown = text_of(&command(&daemon, &["jobs", "check"]));
    assert!(shown.contains(&format!("{digest} is corrupt")), "{shown}");
    // The job did its work: it is not repeated as after a failure.
    assert_eq!(job(&daemon, "check")["failures"], 0);
}

#[test]
fn wrong_options_and_names_are_refused() {
    let daemon = Daemon::start();
    let refused = |name: &str, options: Value| {
        let (status, error) = request(&daemon, "POST", &format!("jobs/{name}"), &options);
        (status, error["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("nothing", json!({})), (404, "not_found".into()));
    for options in [json!({"grace": "1"}), json!({"rate": "1MiB"}), json!({"dry_run": 1}), json!([])] {
        assert_eq!(refused("gc", options), (400, "malformed".into()));
    }
    assert_eq!(request(&daemon, "GET", "jobs/nothing", &Value::Null).0, 404);
    assert_eq!(request(&daemon, "GET", "jobs/gc?follow=1", &Value::Null).0, 409);
    assert_eq!(request(&daemon, "DELETE", "jobs/nothing", &Value::Null).0, 404);
    assert_eq!(request(&daemon, "DELETE", "jobs/gc", &Value::Null), (200, json!({"cancelled": false})));
    let unknown = command(&daemon, &["jobs", "run", "nothing"]);
    assert!(
        unknown.status.code() == Some(1) && text_of(&unknown).contains("`holdfast jobs` lists"),
        "{unknown:?}"
    );
}

#[test]
fn second_start_joins_and_a_cancel_ends_the_run_for_both() {
    let daemon = with_blobs(&[]);
    let mut first = slow_check(&daemon, "");
    let joined = request(&daemon, "POST", "jobs/check?detach=1&follow=0", &json!({}));
    assert_eq!(joined, (200, json!({"joined": true})));
    let mut second = Stream::open(&socket(&daemon), "POST", "jobs/check", &json!({}));
    let mut progress = first.event();
    while progress["items_all"] == 0 {
        progress = first.event();
    }
    assert_eq!((&progress["event"], &progress["items_all"]), (&json!("progress"), &json!(40)));
    assert!(progress["line"].as_str().unwrap().contains("of 40 blobs"), "{progress}");
    let cancelled = command(&daemon, &["jobs", "cancel", "check"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.done()["outcome"], "cancelled");
    }
    assert_eq!(await_job(&daemon, "check", |job| job["state"] == "idle")["last_outcome"], "cancelled");
}

#[test]
fn closed_connection_cancels_unless_it_is_detached() {
    let daemon = with_blobs(&[]);
    drop(slow_check(&daemon, ""));
    assert_eq!(await_job(&daemon, "check", |job| job["state"] == "idle")["last_outcome"], "cancelled");
    drop(slow_check(&daemon, "?detach=1"));
    let mut follower = Stream::open(&socket(&daemon), "GET", "jobs/check?follow=1", &Value::Null);
    // Progress comes once a second.
    for _ in 0..2 {
        assert_eq!(follower.event()["event"], "progress");
    }
    assert_eq!(request(&daemon, "DELETE", "jobs/check", &Value::Null).1, json!({"cancelled": true}));
    assert_eq!(follower.done()["outcome"], "cancelled");
}

#[test]
fn interrupted_command_cancels_its_check() {
    let daemon = with_blobs(&[]);
    let mut command = Command::new(BINARY);
    command.env_clear().args(["check", "--rate", SLOW, "--data"]).arg(&daemon.data);
    let mut child = Process(command.stdout(Stdio::null()).spawn().unwrap());
    await_job(&daemon, "check", |job| job["state"] == "running");
    signal(&child.0, "-INT");
    assert!(!child.0.wait().unwrap().success());
    assert_eq!(await_job(&daemon, "check", |job| job["state"] == "idle")["last_outcome"], "cancelled");
}

#[test]
fn collection_waits_for_a_check_and_says_so() {
    let daemon = with_blobs(&[]);
    let check = slow_check(&daemon, "");
    let mut collection = Stream::open(&socket(&daemon), "POST", "jobs/gc", &json!({"grace": "0s"}));
    assert_eq!(collection.event()["waits_for"], json!(["check"]));
    let waiting = job(&daemon, "gc");
    assert_eq!((&waiting["state"], &waiting["reason"]), (&json!("waiting"), &json!("waits for check")));
    drop(check);
    let mut items = 0;
    let done = loop {
        let event = collection.event();
        match event["event"].as_str().unwrap() {
            "item" => {
                assert_eq!(event["kind"], "blob");
                items += 1;
            }
            "done" => break event,
            _ => {}
        }
    };
    assert_eq!(
        (items, &done["outcome"], &done["report"]["freed_blobs"]["count"]),
        (40, &json!("ok"), &json!(40))
    );
}

#[test]
fn dry_run_is_not_recorded() {
    let daemon = Daemon::start();
    daemon.push_blob("a", b"content");
    let dry = command(&daemon, &["gc", "--grace", "0s", "--dry-run", "--json"]);
    let report: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&report["dry_run"], &report["taken"][0]["kind"]), (&json!(true), &json!("blob")));
    assert_eq!(job(&daemon, "gc")["last_end"], Value::Null);
    let wet = command(&daemon, &["gc", "--grace", "0s", "--json"]);
    let report: Value = serde_json::from_slice(&wet.stdout).unwrap();
    assert_eq!(report["freed_blobs"], json!({"count": 1, "bytes": 7}));
    assert_eq!(job(&daemon, "gc")["last_outcome"], "ok");
}

#[test]
fn checks_run_by_their_interval_and_are_repeated() {
    let daemon = Daemon::with_env(&[("HOLDFAST_CHECK_INTERVAL", "100ms"), ("HOLDFAST_CHECK_RATE", "10MiB")]);
    daemon.push_image("a", "1", b"layer");
    let first = await_job(&daemon, "check", |job| job["last_outcome"] == "ok");
    assert_eq!((&first["run"]["user"], first["next_due"].is_null()), (&Value::Null, false));
    // By the count of blobs in the outcome: an earlier run may have seen none.
    await_job(&daemon, "check", |job| job["last_text"].as_str().unwrap().contains("3 blobs"));
    // Page and metrics have it, too.
    let page = Browser::new(&daemon).page("/maintenance");
    assert!(page.contains("id=\"jobs\"") && page.contains("ok: No faults found"), "{page}");
    let metrics = daemon.request("GET", "/metrics").host("localhost").send().expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("holdfast_job_last_success_seconds{name=\"check\"} 1"), "{metrics}");
    assert!(!metrics.contains("certificate\""), "{metrics}");
}

#[test]
fn wake_runs_due_jobs_and_answers_after_them() {
    let daemon = Daemon::with_env(&[("HOLDFAST_CHECK_INTERVAL", "200ms")]);
    let began = Instant::now();
    loop {
        let done = Stream::open(&socket(&daemon), "POST", "wake", &Value::Null).done();
        assert_eq!(done["outcome"], "ok");
        let jobs = done["jobs"].as_array().unwrap();
        if jobs.contains(&json!({"name": "check", "outcome": "ok"})) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{done}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn page_shows_and_cancels_a_job() {
    let daemon = with_blobs(&[]);
    let mut browser = Browser::new(&daemon);
    let stream = slow_check(&daemon, "");
    await_job(&daemon, "check", |job| job["run"]["progress"]["items_all"] == 40);
    let page = browser.page("/maintenance");
    for part in ["Check running", "Started by local:", "<progress", "of 40 blobs", "id=\"cancel\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // A second start from the page joins, and a job that does not exist is no error of the server.
    let joined = browser.post("/maintenance/check", &[]).expect(303);
    assert_eq!(joined.result_address(), "/maintenance?done=joined");
    drop(stream);
    browser.page("/maintenance");
    browser.post("/maintenance/cancel", &[("job", "nothing")]).expect(404);
    browser.post_as("/maintenance/cancel", &[("job", "check")], "http://other").expect(403);
    assert_eq!(job(&daemon, "check")["state"], "running");
    let cancelled = browser.post("/maintenance/cancel", &[("job", "check")]).expect(303);
    assert_eq!(cancelled.result_address(), "/maintenance?done=cancelled");
    await_job(&daemon, "check", |job| job["last_outcome"] == "cancelled");
    // The run is shown until its record is saved.
    let began = Instant::now();
    let mut page = browser.page("/maintenance");
    while page.contains("id=\"cancel\"") && began.elapsed() < Duration::from_secs(20) {
        page = browser.page("/maintenance");
    }
    assert!(page.contains("Cancelled.") && !page.contains("id=\"cancel\""), "{page}");
    let ended = browser.post("/maintenance/cancel", &[("job", "check")]).expect(303);
    assert_eq!(ended.result_address(), "/maintenance?done=ended");
}

#[test]
fn stop_of_the_daemon_ends_a_job_at_once() {
    let mut daemon = with_blobs(&[]);
    let mut stream = slow_check(&daemon, "");
    assert!(daemon.stop_within(Duration::from_secs(20)));
    let done = stream.done();
    assert_eq!((&done["outcome"], &done["code"]), (&json!("failed"), &json!("interrupted")));
}

#[test]
fn running_job_prevents_idle_exit_and_a_due_one_does_not() {
    let unit = Unit::new("");
    let control = unit.path("control");
    // Longer than a busy machine pauses between two requests.
    unit.configure(&format!("[service]\nidle = \"1s\"\ncontrol = {control:?}\n"));
    let mut child = Process(unit.start(&[]));
    for number in 0..40_u8 {
        let content = vec![number; 10 << 10];
        let path = format!("/v2/a/blobs/uploads/?digest={}", digest(&content));
        Request::new(unit.address, "POST", &path).body(&content).send().expect(201);
    }
    let started = Stream::open(&control, "POST", "jobs/check?detach=1&follow=0", &json!({"rate": SLOW}));
    assert_eq!(started.json(), json!({"joined": false}));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(child.0.try_wait().unwrap().is_none(), "the daemon exits during the check");
    assert_eq!(
        Stream::open(&control, "DELETE", "jobs/check", &Value::Null).json(),
        json!({"cancelled": true})
    );
    // The first collection is due within a minute.
    child.expect_exit();
}

#[test]
fn scheduled_check_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut daemon = Daemon::at(&data);
    for number in 0..6_u8 {
        daemon.push_blob("a", &vec![number; 10 << 10]);
    }
    daemon.stop();
    let text = format!("check.interval = \"1s\"\ncheck.rate = {SLOW:?}\ngc.interval = \"off\"\n");
    let mut daemon = Daemon::with_config_at(&data, &text);
    let done = |job: &Value| job["run"]["progress"]["items_done"].as_u64().unwrap_or_default();
    // One blob a second.
    let before = done(&await_job(&daemon, "check", |job| job["state"] == "running" && done(job) >= 2));
    assert!(daemon.stop_within(Duration::from_secs(20)));
    daemon.start_again();
    let after = await_job(&daemon, "check", |job| done(job) > 0);
    assert_eq!((&after["state"], &after["last_outcome"]), (&json!("running"), &json!("interrupted")));
    assert!(done(&after) > before, "it began anew: {after:#}");
    let ended = await_job(&daemon, "check", |job| job["last_outcome"] == "ok");
    assert!(ended["last_text"].as_str().unwrap().starts_with("No faults found: 6 blobs"), "{ended:#}");
    // The one after it reads all again.
    await_job(&daemon, "check", |job| job["state"] == "running" && done(job) == 1);
}

#[test]
fn killed_command_cancels_its_job_and_leaves_the_daemon_alone() {
    let daemon = with_blobs(&[]);
    let check = || {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["check", "--rate", SLOW, "--data"]).arg(&daemon.data);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = Process(check());
    await_job(&daemon, "check", |job| job["run"]["progress"]["items_done"].as_u64() > Some(0));
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let ended = await_job(&daemon, "check", |job| job["state"] == "idle");
    assert_eq!(ended["last_outcome"], "cancelled", "{ended:#}");
    daemon.get("/v2/").expect(200);
    // A detached run goes on without the command that joined it.
    let (_, started) = request(&daemon, "POST", "jobs/check?detach=1&follow=0", &json!({"rate": SLOW}));
    assert_eq!(started, json!({"joined": false}));
    let mut child = Process(check());
    await_job(&daemon, "check", |job| job["run"]["progress"]["items_done"].as_u64() > Some(0));
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let before = job(&daemon, "check")["run"]["progress"]["items_done"].as_u64();
    let running = await_job(&daemon, "check", |job| {
        job["state"] != "running" || job["run"]["progress"]["items_done"].as_u64() > before
    });
    assert_eq!(running["state"], "running", "{running:#}");
    request(&daemon, "DELETE", "jobs/check", &Value::Null);
    await_job(&daemon, "check", |job| job["last_outcome"] == "cancelled");
    daemon.push_blob("a", b"another one");
}

#[test]
fn cancelled_collection_reports_what_it_has_freed() {
    let daemon = Daemon::start();
    // On a slow machine a collection may end before it is cancelled.
    for attempt in 0..5_u8 {
        for number in 0..100_u8 {
            daemon.push_blob("a", &[attempt, number]);
        }
        let mut stream = Stream::open(&socket(&daemon), "POST", "jobs/gc", &json!({"grace": "0s"}));
        while stream.event()["event"] != "item" {}
        request(&daemon, "DELETE", "jobs/gc", &Value::Null);
        let done = stream.done();
        if done["outcome"] == "cancelled" {
            let freed = done["report"]["freed_blobs"]["count"].as_u64().unwrap();
            assert!(freed > 0 && freed < 100 && done["report"]["cancelled"] == true, "{done}");
            let text = done["text"].as_str().unwrap();
            assert!(text.starts_with("Cancelled; until then ") && text.contains("blob"), "{text}");
            let gc = job(&daemon, "gc");
            assert_eq!((&gc["last_outcome"], &gc["last_text"]), (&json!("cancelled"), &done["text"]));
            return;
        }
    }
    panic!("no collection was cancelled");
}
