use std::process::{Command, Output};

use crate::support::*;

fn holdfast(arguments: &[&str]) -> Output {
    Command::new(BINARY).env_clear().args(arguments).output().unwrap()
}

#[test]
fn errors_are_one_line_and_have_their_code() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    for (arguments, code, expected) in [
        (&["status", "--data", data][..], 1, "no registry"),
        (&["user", "remove", "nobody", "--data", data], 1, "no user nobody"),
        (&["user", "add", "a:b", "--data", data], 2, "no user name"),
        (&["user", "add", "bob", "--data", data], 2, "--password-stdin"),
        (&["config", "check", "--config", "/nonexistent.toml"], 2, "cannot read"),
    ] {
        let output = holdfast(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected) && text.trim_end().lines().count() == 1, "{text}");
    }
    assert_eq!(holdfast(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn status_beside_the_daemon() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let output = holdfast(&["status", "--json", "--data", daemon.data.to_str().unwrap()]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["repositories"], &status["tags"], &status["daemon_runs"]),
        (&1.into(), &1.into(), &true.into())
    );
}

#[test]
fn users_are_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    add_user(directory.path(), "alice", "secret");
    add_user(directory.path(), "bob", "secret");
    let data = directory.path().to_str().unwrap();
    assert_eq!(holdfast(&["user", "list", "--data", data]).stdout, b"alice\nbob\n");
    assert!(holdfast(&["user", "remove", "alice", "--data", data]).status.success());
    assert_eq!(holdfast(&["user", "list", "--json", "--data", data]).stdout, b"{\"users\":[\"bob\"]}\n");
}

#[test]
fn what_it_prints_about_itself() {
    for arguments in
        [&["completions", "bash"][..], &["man"], &["--version"], &["--help"], &["config", "show"]]
    {
        let output = holdfast(arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn serves_on_an_inherited_socket() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null",
            BINARY,
            "serve",
            "--data",
        ])
        .arg(directory.path())
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let text = run(Command::new("curl").args(["-sSf", &format!("http://{address}/v2/")]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(text, "{}");
}
