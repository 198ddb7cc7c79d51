//! The owner of the store: commands beside a daemon, with a sleeping one, and without one.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

const OTHER_USER: &str = "65534";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn holdfast(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments).arg("--data").arg(data);
    command
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the names of the tags of a repository, in the order of the list.
fn tags(list: &Value) -> Vec<&str> {
    list["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap()).collect()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends bytes to a control socket and returns the answer up to its end.
fn exchange(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The daemon may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(socket: &Path, path: &str) -> String {
    exchange(
        socket,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// A process that owns the store of a data directory, as a command of root does, until it is dropped.
struct Holder(Child, Option<UnixStream>);

impl Holder {
    fn of(data: &Path) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let child = holdfast(data, &["own-store"]).stdin(OwnedFd::from(far)).spawn().unwrap();
        let mut holder = Holder(child, Some(near));
        let stream = holder.1.as_mut().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /_holdfast/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        holder
    }

    fn end(&mut self) {
        drop(self.1.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_ask_a_daemon_that_runs() {
    let daemon = Daemon::start();
    daemon.push_image("team/app", "1.0", b"one");
    daemon.push_image("team/app", "1.1", b"two");
    let (digest, _) = daemon.push_image("other", "2", b"three");
    let repositories = json(&mut holdfast(&daemon.data, &["ls", "--json"]));
    let names: Vec<&Value> =
        repositories["repositories"].as_array().unwrap().iter().map(|one| &one["repository"]).collect();
    assert_eq!(names, ["other", "team/app"]);
    let table = run(&mut holdfast(&daemon.data, &["ls"]));
    assert!(table.starts_with("REPOSITORY  TAGS  SIZE") && table.lines().count() == 3, "{table}");
    let table = run(&mut holdfast(&daemon.data, &["ls", "other"]));
    assert!(table.contains("linux/arm64") && table.contains(&digest[..19]), "{table}");
    let image = run(&mut holdfast(&daemon.data, &["ls", "other:2"]));
    assert!(
        image.contains(&format!("digest      {digest}\n")) && image.contains("layers      1\n"),
        "{image}"
    );
    assert!(image.contains("\nPLATFORM     SIZE"), "{image}");
    let missing = holdfast(&daemon.data, &["ls", "other:3"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1), "{}", stderr(&missing));
    // The daemon sees the delete at once: it made it.
    let deleted = run(&mut holdfast(&daemon.data, &["rm", "--yes", "team/app:1.0", "other"]));
    assert!(deleted.contains("deleted team/app:1.0\ndeleted other (1 manifest)\n"), "{deleted}");
    daemon.get("/v2/team/app/manifests/1.0").expect(404);
    daemon.get("/v2/team/app/manifests/1.1").expect(200);
    daemon.get("/v2/other/tags/list").expect(404);
    // Nothing of the local API is on the port.
    for path in ["/_holdfast/v1/status", "/_holdfast/v1/names", "/_holdfast/v1/jobs"] {
        daemon.get(path).expect(404);
    }
}

#[test]
fn tags_are_listed_newest_first_with_the_platforms_of_an_index() {
    let daemon = Daemon::start();
    let (one, bytes) = daemon.push_image("a", "old", b"one");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{one}","size":{},"platform":{{"os":"linux","architecture":"riscv64"}}}}]}}"#,
        bytes.len()
    );
    std::thread::sleep(Duration::from_millis(1100));
    daemon.put_manifest("a", "new", OCI_INDEX, index.as_bytes()).expect(201);
    let list = json(&mut holdfast(&daemon.data, &["ls", "a", "--json"]));
    assert_eq!(tags(&list), ["new", "old"]);
    assert_eq!(list["tags"][0]["platforms"][0], "linux/riscv64");
    let image = json(&mut holdfast(&daemon.data, &["ls", "a:new", "--json"]));
    assert_eq!((&image["platforms"][0]["digest"], &image["layers"]), (&one.into(), &Value::Null));
    // A list by patterns.
    let names = get(&daemon.data.join("control.sock"), "/_holdfast/v1/names?repository=*&tag=n*w");
    let lines: Vec<&str> = names.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.len() == 2 && lines[0].contains(r#""event":"item""#), "{names}");
    assert!(lines[1].contains(r#""event":"done""#) && lines[1].contains(r#""outcome":"ok""#), "{names}");
}

#[test]
fn command_starts_a_sleeping_daemon() {
    let unit = Unit::new("");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let blob = digest(b"x");
    Request::new(unit.address, "POST", &format!("/v2/a/blobs/uploads/?digest={blob}"))
        .body(b"x")
        .send()
        .expect(201);
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let listing = unit.command().args(["ls", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut connection = [PollFd::new(unit.control.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut connection, PollTimeout::from(20_000_u16)).unwrap(),
        1,
        "the command does not connect"
    );
    let _child = Process(unit.start(&[]));
    let output = listing.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["repositories"],
        serde_json::json!([])
    );
    // The socket is systemd's.
    assert!(!unit.path("data/control.sock").exists());
}

#[test]
fn command_without_a_daemon_opens_the_store_and_closes_it_in_good_order() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"one");
    daemon.push_image("a", "2", b"two");
    daemon.stop();
    assert!(!daemon.data.join("control.sock").exists());
    let status = run(&mut holdfast(&daemon.data, &["status"]));
    assert!(
        status.contains("daemon        not running\n") && status.contains("tags          2\n"),
        "{status}"
    );
    assert!(status.contains("as of ") && status.contains("ago)"), "{status}");
    run(&mut holdfast(&daemon.data, &["rm", "--yes", "a:1"]));
    assert!(daemon.data.join("index/clean").exists(), "the store was closed in good order");
    let status = json(&mut holdfast(&daemon.data, &["status", "--json"]));
    assert_eq!((&status["tags"], &status["daemon_runs"]), (&1.into(), &false.into()), "{status}");
    assert_eq!(tags(&json(&mut holdfast(&daemon.data, &["ls", "a", "--json"]))), ["2"]);
    daemon.start_again();
    daemon.get("/v2/a/manifests/1").expect(404);
    daemon.get("/v2/a/manifests/2").expect(200);
    // Without the file of the last exit the state is known all the same.
    daemon.kill();
    std::fs::remove_file(daemon.data.join("status.json")).unwrap();
    let status = run(&mut holdfast(&daemon.data, &["status"]));
    assert!(status.starts_with("daemon        not running\nfree "), "{status}");
    assert_eq!(json(&mut holdfast(&daemon.data, &["status", "--json"]))["daemon_runs"], false);
}

#[test]
fn root_and_the_owner_of_the_data_work_alike() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    let mut daemon = Daemon::at(&data);
    (1..=4).for_each(|number: u8| drop(daemon.push_image("a", &number.to_string(), &[number])));
    daemon.stop();
    run(Command::new("chown").args(["-R", &format!("{OTHER_USER}:{OTHER_USER}")]).arg(&data));
    let as_user = |user: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", BINARY]);
        command.args(arguments).arg("--data").arg(&data);
        command
    };
    // As root: a child process has become the owner.
    run(&mut holdfast(&data, &["rm", "--yes", "a:1"]));
    run(&mut as_user(OTHER_USER, &["rm", "--yes", "a:2"]));
    assert_eq!(
        json(&mut holdfast(&data, &["ls", "--json"])),
        json(&mut as_user(OTHER_USER, &["ls", "--json"]))
    );
    let others = run(Command::new("find").arg(&data).args(["!", "-uid", OTHER_USER]));
    assert_eq!(others, "", "the daemon could not read these");
    // Another user may do nothing.
    let other = as_user("1", &["ls"]).output().unwrap();
    assert!(other.status.code() == Some(1) && stderr(&other).contains("use sudo"), "{}", stderr(&other));
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).unwrap();
    for command in ["ls", "status"] {
        let other = as_user("1", &[command]).output().unwrap();
        assert!(stderr(&other).contains("permission denied; use sudo"), "{}", stderr(&other));
    }
    // Beside the daemon of the owner.
    let mut unit = Process(
        as_user(OTHER_USER, &["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).spawn().unwrap(),
    );
    let socket = data.join("control.sock");
    wait_until("the daemon has no control socket", || socket.exists());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    run(&mut holdfast(&data, &["rm", "--yes", "a:3"]));
    assert_eq!(tags(&json(&mut as_user(OTHER_USER, &["ls", "a", "--json"]))), ["4"]);
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let other = as_user("1", &["ls"]).output().unwrap();
    assert!(stderr(&other).contains("use sudo, or join the group of the socket"), "{}", stderr(&other));
    signal(&unit.0, "-TERM");
    unit.0.wait().unwrap();
    assert!(!socket.exists());
    assert_eq!(std::fs::metadata(data.join("status.json")).unwrap().uid().to_string(), OTHER_USER);
}

#[test]
fn another_registry_than_the_one_in_effect_is_named_with_both_paths() {
    let unit = Unit::new("");
    let _child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    let other = tempfile::tempdir().unwrap();
    let served = unit.path("data").canonicalize().unwrap();
    for arguments in [&["ls"][..], &["rm", "--yes", "a"], &["user", "add", "alice", "--password-stdin"]] {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOLDFAST_SERVICE_CONTROL", unit.path("control"));
        let output = command.args(arguments).current_dir(other.path()).stdin(Stdio::null()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let effective = other.path().canonicalize().unwrap().join("holdfast-data");
        assert!(
            text.contains(served.to_str().unwrap()) && text.contains(effective.to_str().unwrap()),
            "{text}"
        );
        assert!(text.trim_end().lines().count() == 1, "{text}");
    }
    assert!(!other.path().join("holdfast-data").exists(), "a second registry was created");
}

#[test]
fn stale_socket_counts_as_no_daemon_and_is_replaced() {
    let mut daemon = Daemon::start();
    daemon.push_image("a", "1", b"one");
    daemon.kill();
    let socket = daemon.data.join("control.sock");
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(tags(&json(&mut holdfast(&daemon.data, &["ls", "a", "--json"]))), ["1"]);
    daemon.start_again();
    assert!(get(&socket, "/_holdfast/v1/status").starts_with("HTTP/1.1 200 "));
}

#[test]
fn socket_of_a_long_path_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("x".repeat(60)).join("y".repeat(60));
    std::fs::create_dir_all(&data).unwrap();
    let mut daemon = Daemon::at(&data);
    daemon.push_image("a", "1", b"one");
    assert_eq!(json(&mut holdfast(&data, &["status", "--json"]))["owner"], "daemon");
    run(&mut holdfast(&data, &["rm", "--yes", "a:1"]));
    daemon.get("/v2/a/manifests/1").expect(404);
    daemon.stop();
    assert!(!data.join("control.sock").exists());
}

#[test]
fn daemon_waits_for_a_command_and_other_commands_name_it() {
    let unit = Unit::new("");
    let mut child = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    signal(&child.0, "-TERM");
    assert!(child.0.wait().unwrap().success());
    let data = unit.path("data");
    let mut holder = Holder::of(&data);
    let process = format!("process {}", holder.0.id());
    let busy = holdfast(&data, &["ls"]).output().unwrap();
    assert!(busy.status.code() == Some(1) && stderr(&busy).contains(&process), "{}", stderr(&busy));
    let status = run(&mut holdfast(&data, &["status"]));
    assert!(
        status.starts_with("daemon        not running; a holdfast command") && status.contains(&process),
        "{status}"
    );
    let _child = Process(unit.start(&[]));
    let waiting = unit.await_notification("waiting for a holdfast command");
    assert!(waiting.contains(&process) && waiting.contains("EXTEND_TIMEOUT_USEC="), "{waiting}");
    holder.end();
    unit.await_notification("READY=1");
    assert_eq!(json(unit.command().args(["ls", "--json"]))["repositories"], serde_json::json!([]));
}

#[test]
fn commands_at_once_take_turns() {
    let mut daemon = Daemon::start();
    (0..8).for_each(|number: u8| drop(daemon.push_image("a", &number.to_string(), &[number])));
    daemon.stop();
    let commands: Vec<Child> = (0..8)
        .map(|number| {
            let mut command = holdfast(&daemon.data, &["rm", "--yes", &format!("a:{number}")]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        // On a slow machine the wait for the others may end first, which changes nothing.
        assert!(
            output.status.success() || stderr(&output).contains("holdfast command"),
            "{}",
            stderr(&output)
        );
    }
    let left = json(&mut holdfast(&daemon.data, &["ls", "a", "--json"]));
    assert!(tags(&left).len() < 8, "{left}");
    assert!(daemon.data.join("index/clean").exists());
}

#[test]
fn disconnect_in_the_middle_of_a_stream_cancels_its_work() {
    let daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("a", "0", b"one");
    for number in 1..1500 {
        daemon
            .put_manifest("a", &format!("a-rather-long-tag-{number:0100}"), OCI_MANIFEST, &manifest)
            .expect(201);
    }
    let socket = daemon.data.join("control.sock");
    let requests = || {
        let answer = get(&socket, "/_holdfast/v1/status");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<Value>(body).unwrap()["requests"].as_u64().unwrap()
    };
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /_holdfast/v1/names HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // The list is longer than the buffers of the socket, and is not read.
    stream.read_exact(&mut [0; 12]).unwrap();
    assert_eq!(requests(), 1);
    drop(stream);
    wait_until("the list goes on", || requests() == 0);
}

#[test]
fn malformed_requests_get_an_error_and_the_daemon_goes_on() {
    let daemon = Daemon::start();
    let socket = daemon.data.join("control.sock");
    let request = |method: &str, path: &str, body: &str| {
        let head =
            format!("{method} /_holdfast/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let names = |count: usize| format!("{{\"names\":[{}]}}", vec![r#"{"repository":"a"}"#; count].join(","));
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET /_holdfast/v1/status HTTP/1.1\r\nConnection: close\r\n\r\n".into(), "400"),
        (request("GET", "", ""), "404"),
        (request("GET", "nothing", ""), "404"),
        (request("GET", "jobs/../status", ""), "404"),
        (request("POST", "status", ""), "405"),
        (request("PATCH", "names", ""), "405"),
        (request("GET", "names?repository=UPPER", ""), "400"),
        (request("GET", "names?repository=nothing", ""), "404"),
        (request("GET", &format!("names?tag={}", "x".repeat(600)), ""), "400"),
        (request("GET", "image?repository=a", ""), "400"),
        (request("GET", "image?repository=a&reference=1", ""), "404"),
        (request("DELETE", "names", ""), "400"),
        (request("DELETE", "names", "{"), "400"),
        (request("DELETE", "names", r#"{"names":[{"repository":"../x"}]}"#), "400"),
        (request("DELETE", "names", r#"{"names":[{"repository":"a","tag":"b","digest":"x"}]}"#), "400"),
        (request("DELETE", "names", &names(1001)), "400"),
        (request("DELETE", "names", &" ".repeat((1 << 20) + 1)), "413"),
        (request("GET", &"x".repeat(100_000), ""), "414"),
    ] {
        let answer = exchange(&socket, request.as_bytes());
        let first = &request[..request.len().min(80)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{first}: {answer}");
        if status != "414" && request.contains("Host") {
            let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert!(body["code"].is_string() && body["message"].is_string(), "{first}: {answer}");
        }
    }
    // The API of the standard, with full rights and with its own errors.
    assert!(get(&socket, "/v2/").starts_with("HTTP/1.1 200 "));
    assert!(get(&socket, "/v2/a/tags/list").contains("NAME_UNKNOWN"));
    assert!(get(&socket, "/_holdfast/v1/status").starts_with("HTTP/1.1 200 "));
}

#[test]
fn connections_are_bounded_and_silent_ones_end() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_BODY_STALL", "3s")]);
    let socket = daemon.data.join("control.sock");
    let silent: Vec<UnixStream> = (0..32).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let refused = get(&socket, "/_holdfast/v1/status");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains(r#""code":"busy""#), "{refused}");
    // They end without being dropped here.
    wait_until("silent connections keep their slots", || {
        get(&socket, "/_holdfast/v1/status").starts_with("HTTP/1.1 200 ")
    });
    drop(silent);
}

#[test]
fn rm_asks_and_follows_the_rules_of_the_api() {
    let daemon = Daemon::with_config("[[immutable]]\nrepositories = [\"kept\"]\ntags = [\"v*\"]\n");
    daemon.push_image("kept", "v1", b"one");
    daemon.push_image("kept", "latest", b"two");
    let rm = |arguments: &[&str]| {
        holdfast(&daemon.data, &[&["rm"][..], arguments].concat()).stdin(Stdio::null()).output().unwrap()
    };
    let refused = rm(&["kept:latest"]);
    assert!(
        refused.status.code() == Some(2) && stderr(&refused).contains("pass --yes"),
        "{}",
        stderr(&refused)
    );
    for name in ["kept:v1", "kept"] {
        let refused = rm(&["--yes", name]);
        assert!(
            refused.status.code() == Some(1) && stderr(&refused).contains("[[immutable]]"),
            "{}",
            stderr(&refused)
        );
    }
    assert_eq!(rm(&["--yes", "kept:none"]).status.code(), Some(1));
    assert_eq!(rm(&["--yes", "Kept"]).status.code(), Some(2));
    daemon.get("/v2/kept/manifests/latest").expect(200);
    assert!(rm(&["--yes", "kept:latest"]).status.success());
    daemon.get("/v2/kept/manifests/latest").expect(404);
    daemon.get("/v2/kept/manifests/v1").expect(200);
    drop(daemon);
    for (variable, key) in
        [("HOLDFAST_STORAGE_DELETE", "storage.delete"), ("HOLDFAST_REGISTRY_READ_ONLY", "read_only")]
    {
        let value = if key == "read_only" { "true" } else { "false" };
        let mut daemon = Daemon::start();
        daemon.push_image("a", "1", b"one");
        daemon.stop();
        daemon.start_again_with_env(&[(variable, value)]);
        let refused = holdfast(&daemon.data, &["rm", "--yes", "a:1"]).output().unwrap();
        assert!(refused.status.code() == Some(1) && stderr(&refused).contains(key), "{}", stderr(&refused));
        daemon.get("/v2/a/manifests/1").expect(200);
    }
}

#[test]
fn set_control_socket_of_another_daemon_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let _listener = UnixListener::bind(&socket).unwrap();
    let inode = std::fs::metadata(&socket).unwrap().ino();
    let mut daemon = Daemon::with_env(&[("HOLDFAST_SERVICE_CONTROL", socket.to_str().unwrap())]);
    daemon.get("/v2/").expect(200);
    daemon.stop();
    assert_eq!(std::fs::metadata(&socket).unwrap().ino(), inode);
}

/// Returns the events in the answer of the local API.
fn events(answer: &str) -> Vec<Value> {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    body.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_event_feed_is_read_from_a_position_and_followed() {
    let daemon = Daemon::start();
    let socket = daemon.data.join("control.sock");
    let (first, _) = daemon.push_image("team/app", "1", b"one");
    let all = events(&get(&socket, "/_holdfast/v1/events"));
    let kinds: Vec<_> = all.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["push", "tag"], "{all:?}");
    assert_eq!((&all[1]["digest"], &all[1]["tag"]), (&first.into(), &"1".into()), "{all:?}");
    assert_eq!(all[1]["actor"]["kind"], "anonymous");
    let last = all[1]["id"].as_str().unwrap();
    assert_eq!(events(&get(&socket, &format!("/_holdfast/v1/events?after={last}"))), Vec::<Value>::new());
    let foreign = get(&socket, "/_holdfast/v1/events?after=0000000000000000.1");
    assert!(foreign.starts_with("HTTP/1.1 410") && foreign.contains("newest"), "{foreign}");
    assert!(get(&socket, "/_holdfast/v1/events?after=x").starts_with("HTTP/1.1 400"));
    assert!(get(&socket, "/_holdfast/v1/events?kind=nonsense").starts_with("HTTP/1.1 400"));

    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let path = format!("/_holdfast/v1/events?after={last}&follow=1&kind=untag&repository=team/*");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    daemon.push_image("other", "1", b"two");
    daemon.request("DELETE", "/v2/other/manifests/1").send().expect(202);
    daemon.request("DELETE", "/v2/team/app/manifests/1").send().expect(202);
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("\"untag\"") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    assert!(text.contains("team/app") && !text.contains("other"), "{text}");
}

#[test]
fn checks_and_deletes_of_the_command_line_are_events() {
    let daemon = Daemon::start();
    daemon.push_image("team/app", "1", b"one");
    run(&mut holdfast(&daemon.data, &["check"]));
    run(&mut holdfast(&daemon.data, &["rm", "team/app:1", "--yes"]));
    let all = events(&get(&daemon.data.join("control.sock"), "/_holdfast/v1/events"));
    let of = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!(of("job")["subject"], "check");
    assert_eq!((&of("untag")["actor"]["kind"], &of("untag")["cause"]), (&"local".into(), &"control".into()));
}
