//! Log injection, the fixed lines that other programs read, and the rate limit of each client.

use crate::support::browser::Browser;
use crate::support::*;

/// Starts a daemon with the user alice; returns it with its log file.
fn start(level: &str) -> (Daemon, tempfile::NamedTempFile) {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    daemon.stop();
    let log = daemon.start_again_with_log(&[("HOLDFAST_LOG_LEVEL", level)]);
    (daemon, log)
}

/// Stops the daemon; returns the lines of its log without their times, which are in the order of the lines.
fn lines(mut daemon: Daemon, log: &tempfile::NamedTempFile) -> Vec<String> {
    daemon.stop();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once("Z ").unwrap()).collect();
    assert!(
        lines.is_sorted_by_key(|(time, _)| *time) && lines.iter().all(|(time, _)| time.len() == 19),
        "{text}"
    );
    lines.into_iter().map(|(_, line)| line.to_owned()).collect()
}

#[test]
fn failed_login_is_logged_once() {
    let (daemon, log) = start("warn");
    daemon.get("/v2/").expect(401);
    daemon.request("GET", "/v2/").login("alice", "secret").send().expect(200);
    daemon.request("GET", "/v2/").login("alice", "wrong").send().expect(401);
    daemon.request("PUT", "/v2/a/manifests/1").login("bob", "wrong").body(b"{}").send().expect(401);
    daemon.request("GET", "/v2/").login("x client=192.0.2.1\nWARN  \u{202e}\"", "x").send().expect(401);
    daemon.request("GET", "/v2/").header("Authorization", "Bearer x").send().expect(401);
    daemon.request("GET", "/v2/").login(&"l".repeat(3000), "x").send().expect(401);
    let mut browser = Browser::new(&daemon);
    browser.log_in("carol", "wrong").expect(422);
    browser.log_in("alice", "secret").expect(303);
    let own = [("old", "wrong"), ("new", "a-new-password"), ("again", "a-new-password")];
    browser.get("/account");
    browser.post("/account", &own).expect(422);
    let long = format!("{}…", "l".repeat(256));
    assert_eq!(
        lines(daemon, &log),
        [
            "WARN  login failed client=127.0.0.1 via=api reason=wrong user=alice".to_owned(),
            "WARN  login failed client=127.0.0.1 via=api reason=wrong user=bob".to_owned(),
            "WARN  login failed client=127.0.0.1 via=api reason=wrong \
             user=\"x client=192.0.2.1\\nWARN  \\u{202e}\\\"\""
                .to_owned(),
            "WARN  login failed client=127.0.0.1 via=api reason=wrong".to_owned(),
            format!("WARN  login failed client=127.0.0.1 via=api reason=wrong user={long}"),
            "WARN  login failed client=127.0.0.1 via=admin reason=wrong user=carol".to_owned(),
            "WARN  login failed client=127.0.0.1 via=admin reason=wrong user=alice".to_owned(),
        ]
    );
}

#[test]
fn access_log_goes_to_a_file_that_a_reload_opens_again() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    daemon.stop();
    let directory = tempfile::tempdir().unwrap();
    let [file, rotated] = ["access.log", "access.log.1"].map(|name| directory.path().join(name));
    let log = daemon.start_again_with_log(&[
        ("HOLDFAST_LOG_LEVEL", "info"),
        ("HOLDFAST_LOG_FORMAT", "json"),
        ("HOLDFAST_LOG_ACCESS", file.to_str().unwrap()),
    ]);
    daemon.request("GET", "/v2/").login("alice", "secret").send().expect(200);
    daemon.request("GET", "/v2/").login("alice", "wrong").send().expect(401);
    std::fs::rename(&file, &rotated).unwrap();
    run(std::process::Command::new("kill").args(["-HUP", &daemon.pid().to_string()]));
    unit::await_logged(&log, "configuration reloaded");
    daemon.get("/v2/_catalog").expect(401);
    daemon.stop();
    let [first, second, rest] = [rotated, file, log.path().to_owned()].map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(line).collect::<Vec<_>>()
    });
    let statuses: Vec<i64> = first.iter().map(|line| line["status"].as_i64().unwrap()).collect();
    assert_eq!((statuses, &first[0]["user"]), (vec![200, 401], &"alice".into()));
    assert_eq!((second.len(), &second[0]["msg"]), (1, &"GET /v2/_catalog".into()));
    assert!(rest.iter().any(|line| line["msg"] == "login failed"), "{rest:?}");
    assert!(rest.iter().all(|line| line["msg"] != "GET /v2/"), "{rest:?}");
    assert_eq!(rest.last().unwrap()["msg"], "stopped");
}

#[test]
fn access_log_that_cannot_be_written_refuses_the_start_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("missing/access.log");
    for arguments in [&["config", "check"][..], &["serve"]] {
        let mut command = std::process::Command::new(BINARY);
        command.env_clear().env("HOLDFAST_LOG_ACCESS", &file).env("HOLDFAST_LISTEN", "127.0.0.1:0");
        let output =
            command.args(arguments).arg("--data").arg(directory.path().join("data")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("cannot write the access log"), "{text}");
        assert!(text.contains("LogsDirectory=") && text.trim_end().lines().count() == 1, "{text}");
    }
}

#[test]
fn refused_push_is_logged_once() {
    let rules =
        "[[auth.rule]]\nusers = [\"alice\"]\nrepositories = [\"team/*\"]\nallow = [\"pull\", \"push\"]\n";
    let mut daemon = Daemon::with_config(rules);
    add_user(&daemon.data, "alice", "secret");
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    let ask = |method: &str, path: &str| daemon.request(method, path).login("alice", "secret");
    ask("POST", "/v2/other/blobs/uploads/").body(b"").send().expect(403);
    ask("PUT", "/v2/team/a/manifests/1").header("Content-Type", "text/html").body(b"{}").send().expect(400);
    ask("DELETE", "/v2/team/a/manifests/1").send().expect(403);
    // None of these counts as a refused push.
    daemon.request("POST", "/v2/team/a/blobs/uploads/").body(b"").send().expect(401);
    ask("POST", "/v2/team/a/blobs/uploads/").body(b"").send().expect(202);
    ask("GET", "/v2/other/tags/list").send().expect(403);
    ask("PATCH", "/v2/team/a/blobs/uploads/nonsense").body(b"").send().expect(404);
    let lines = lines(daemon, &log);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let denied = "code=DENIED user=alice repository=other reason=\"user alice may not push to other\"";
    assert_eq!(lines[0], format!("WARN  push refused client=127.0.0.1 status=403 {denied}"));
    let invalid = "WARN  push refused client=127.0.0.1 status=400 code=MANIFEST_INVALID user=alice \
                   repository=team/a reason=\"";
    assert!(lines[1].starts_with(invalid) && lines[1].contains("text/html"), "{}", lines[1]);
    assert!(lines[2].starts_with("WARN  delete refused client=127.0.0.1 status=403 "), "{}", lines[2]);
}

#[test]
fn long_paths_and_methods_are_cut() {
    let (daemon, log) = start("info");
    let path = format!("/v2/{}", "x".repeat(9000));
    daemon.get(&path).expect(401);
    daemon.request(&"M".repeat(3000), "/v2/").send().expect(401);
    let lines = lines(daemon, &log);
    let cut = format!("INFO  GET {}… client=127.0.0.1 ", &path[..256]);
    assert!(lines.iter().any(|line| line.starts_with(&cut)), "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() < 600), "{lines:#?}");
}

/// Sends requests one after the other on a connection, without waiting for responses; returns when all were answered.
fn flood(daemon: &Daemon, requests: usize) {
    let head = "GET /v2/ HTTP/1.1\r\nHost: registry\r\n\r\n";
    let last = "GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n";
    let mut stream = std::net::TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut reader).unwrap());
    std::io::Write::write_all(&mut stream, head.repeat(requests - 1).as_bytes()).unwrap();
    std::io::Write::write_all(&mut stream, last.as_bytes()).unwrap();
    assert_eq!(reading.join().unwrap().matches("HTTP/1.1 401").count(), requests);
}

/// Returns the resident memory of a daemon, in bytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn access_log_on_a_full_disk_is_logged_once_and_costs_no_request() {
    let mut daemon = Daemon::with_user("alice", "secret", &[]);
    daemon.stop();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let log = daemon.start_again_with_log(&[
        ("HOLDFAST_LOG_LEVEL", "info"),
        ("HOLDFAST_LOG_ACCESS", file.to_str().unwrap()),
        ("HOLDFAST_LOG_LINES_PER_ADDRESS", "1000000"),
    ]);
    flood(&daemon, 1000);
    unit::await_logged(&log, "cannot write the access log");
    let before = resident(&daemon);
    flood(&daemon, 10_000);
    // The lines alone are a million bytes.
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
    std::fs::remove_file(&file).unwrap();
    let begun = std::time::Instant::now();
    while !std::fs::read_to_string(log.path()).unwrap().contains("the access log is written again") {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30));
        flood(&daemon, 1);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    flood(&daemon, 10);
    let lines = lines(daemon, &log);
    let one = |words: &str| {
        let found: Vec<&String> = lines.iter().filter(|line| line.contains(words)).collect();
        assert_eq!(found.len(), 1, "{words}: {lines:#?}");
        found[0].to_owned()
    };
    let failure = one("cannot write the access log");
    assert!(failure.starts_with("ERROR ") && failure.contains("free space there"), "{failure}");
    let dropped = one("the access log is written again; ");
    assert!(dropped.starts_with("WARN ") && dropped.ends_with(file.to_str().unwrap()), "{dropped}");
    let number = dropped.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(number >= 11_000, "{number}");
    assert!(std::fs::read_to_string(&file).unwrap().lines().count() >= 11);
}

#[test]
fn flooding_client_is_suppressed_and_counted() {
    const REQUESTS: usize = 3000;
    let (daemon, log) = start("info");
    let begun = std::time::Instant::now();
    flood(&daemon, REQUESTS);
    // Warnings have their own budget.
    daemon.request("GET", "/v2/").login("alice", "wrong").send().expect(401);
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let lines = lines(daemon, &log);
    let logged = lines.iter().filter(|line| line.starts_with("INFO  GET /v2/ client=127.0.0.1 ")).count();
    assert!((500..=520 + 20 * (seconds + 1)).contains(&logged), "{logged} lines in {seconds} s");
    assert!(lines.iter().any(|line| line.starts_with("WARN  login failed client=127.0.0.1 ")));
    let suppressed = lines.iter().filter_map(|line| {
        let rest = line.strip_prefix("WARN  suppressed ")?;
        rest.strip_suffix(" lines from 127.0.0.1")?.parse::<usize>().ok()
    });
    // All requests, and the one with the failed log-in.
    assert_eq!(logged + suppressed.sum::<usize>(), REQUESTS + 1);
}

#[test]
fn repeated_requests_for_corrupt_content_do_not_flood_the_log() {
    let mut daemon = Daemon::start();
    let blob = daemon.push_blob("a", b"some content");
    daemon.stop();
    let log = daemon.start_again_with_log(&[("HOLDFAST_LOG_LEVEL", "error")]);
    let hex = blob.strip_prefix("sha256:").unwrap();
    std::fs::remove_file(daemon.data.join("blobs/sha256").join(hex)).unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        daemon.get(&format!("/v2/a/blobs/{blob}")).expect(500);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let lines = lines(daemon, &log);
    let errors = lines.iter().filter(|line| line.starts_with("ERROR") && line.contains(&blob)).count();
    assert!((1..=105 + 5 * (seconds + 1)).contains(&errors), "{errors} lines in {seconds} s");
    assert!(lines.iter().all(|line| line.contains("client=127.0.0.1") || !line.starts_with("ERROR")));
}

#[test]
fn burst_of_lines_is_configurable() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let log = daemon
        .start_again_with_log(&[("HOLDFAST_LOG_LEVEL", "info"), ("HOLDFAST_LOG_LINES_PER_ADDRESS", "10")]);
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        daemon.get("/v2/").expect(200);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let lines = lines(daemon, &log);
    let logged = lines.iter().filter(|line| line.starts_with("INFO  GET /v2/ client=")).count();
    assert!((10..=11 + seconds + 1).contains(&logged), "{logged} lines in {seconds} s");
}

#[test]
fn push_of_an_image_is_a_line() {
    let (daemon, log) = start("info");
    let ask = |method: &str, path: &str, body: &[u8]| {
        daemon.request(method, path).login("alice", "secret").body(body).send()
    };
    let absent = format!("/v2/a/blobs/{}", digest(b"layer"));
    daemon.request("HEAD", &absent).login("alice", "secret").send().expect(404);
    let mut manifest = String::from(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":"#,
    );
    for (content, ends) in [(b"{}".as_slice(), ",\"layers\":["), (b"layer", "]}")] {
        let begun = ask("POST", "/v2/a/blobs/uploads/", b"").expect(202);
        let (location, digest) = (begun.header("location").unwrap(), digest(content));
        ask("PUT", &format!("{location}?digest={digest}"), content).expect(201);
        let size = content.len();
        manifest +=
            &format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}{ends}"#);
    }
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let put = daemon.request("PUT", "/v2/a/manifests/1").login("alice", "secret");
    put.header("Content-Type", media_type).body(manifest.as_bytes()).send().expect(201);
    let lines = lines(daemon, &log);
    let requests: Vec<&String> = lines.iter().filter(|line| line.contains(" status=")).collect();
    assert_eq!(requests.len(), 1, "{lines:#?}");
    assert!(requests[0].starts_with("INFO  PUT /v2/a/manifests/1 "), "{lines:#?}");
    assert!(requests[0].ends_with(&format!(" received={}", manifest.len())), "{lines:#?}");
}
