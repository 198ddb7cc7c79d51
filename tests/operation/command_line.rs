//! The command line: errors, users, privileges of root, and the start without socket activation.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use crate::support::*;

fn holdfast(arguments: &[&str]) -> Output {
    Command::new(BINARY).env_clear().args(arguments).output().unwrap()
}

#[test]
fn errors_are_one_line_with_their_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    for (arguments, code, expected) in [
        (&["status", "--data", data][..], 1, "no registry"),
        (&["user", "remove", "carol", "--data", data], 1, "no user carol"),
        (&["user", "add", "a:b", "--data", data], 2, "invalid user name"),
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
fn unknown_names_say_where_the_known_ones_are() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let data = daemon.data.to_str().unwrap();
    for (arguments, expected) in [
        (&["ls", "none"][..], "repository none does not exist; `holdfast ls` lists the repositories"),
        (&["ls", "a:none"], "`holdfast ls REPOSITORY` lists the tags"),
        (&["rm", "--yes", "none"], "does not exist; `holdfast ls` lists the repositories"),
        (&["rm", "--yes", "a:none"], "a:none does not exist; `holdfast ls a` lists the tags"),
        // Without a terminal to ask at, too.
        (&["rm", "a:none"], "a:none does not exist; `holdfast ls a` lists the tags"),
        (&["rm", "a:1", "none"], "does not exist; `holdfast ls` lists the repositories"),
        (&["jobs", "run", "none"], "`holdfast jobs` lists all jobs"),
        (&["user", "remove", "none"], "`holdfast user list` lists the users"),
        (&["user", "passwd", "none"], "`holdfast user list` lists the users"),
    ] {
        let output = holdfast(&[arguments, &["--data", data]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(expected), "{arguments:?}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
    let output = holdfast(&["rm", "a:1", "--data", data]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("no terminal to ask"), "{text}");
    let output = holdfast(&["user", "list", "--data", data]);
    assert!(output.stdout.is_empty() && output.stderr.starts_with(b"no users yet; "), "{output:?}");
}

#[test]
fn help_groups_the_commands_and_shows_examples() {
    let text = |arguments: &[&str]| String::from_utf8(holdfast(arguments).stdout).unwrap();
    let help = text(&["--help"]);
    for group in ["Service:", "Users:", "Images:", "Transfer:", "Maintenance:", "Configuration:", "Examples:"]
    {
        assert!(help.contains(&format!("\n{group}\n")), "{group}: {help}");
    }
    let examples = help.split("Examples:").nth(1).unwrap();
    let lines = examples
        .lines()
        .filter(|line| line.starts_with("  holdfast ") || line.starts_with("  sudo holdfast "));
    assert_eq!(lines.count(), 3, "{help}");
    assert_eq!(text(&["help", "gc"]), text(&["gc", "--help"]));
    assert!(text(&["help", "gc"]).contains("Examples:\n  sudo holdfast gc --dry-run"));
    assert!(text(&["man"]).contains("sudo holdfast gc \\-\\-dry\\-run"));
}

#[test]
fn status_reports_what_the_daemon_holds() {
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
fn root_works_as_the_owner_of_the_data_directory() {
    const OWNER: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    let mut daemon = Daemon::at(&data);
    daemon.push_image("a", "1", b"layer");
    daemon.request("DELETE", "/v2/a/manifests/1").send().expect(202);
    daemon.stop();
    run(Command::new("chown").args(["-R", &OWNER.to_string()]).arg(&data));
    for arguments in [&["check", "--rebuild"][..], &["gc", "--grace", "0s"], &["status"]] {
        run(Command::new(BINARY).env_clear().args(arguments).arg("--data").arg(&data));
    }
    add_user(&data, "alice", "a secret");
    let others = run(Command::new("find").arg(&data).args(["!", "-uid", &OWNER.to_string()]));
    assert_eq!(others, "", "the daemon could not read these");
}

#[test]
fn root_follows_no_symbolic_link_in_the_data_directory() {
    const OWNER: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (data, target) = (directory.path().join("data"), directory.path().join("target"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, data.join("htpasswd.new")).unwrap();
    run(Command::new("chown").args(["-h", &OWNER.to_string()]).arg(&data).arg(data.join("htpasswd.new")));
    // No registry yet: the package has created the directory, and users are added first.
    add_user(&data, "alice", "a secret");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(std::fs::metadata(&target).unwrap().uid(), 0);
    let users = std::fs::symlink_metadata(data.join("htpasswd")).unwrap();
    assert!(users.is_file() && users.uid() == OWNER);
    // A file that root's editor has replaced belongs to the owner again after a change.
    run(Command::new("chown").arg("0").arg(data.join("htpasswd")));
    run(Command::new("chmod").arg("644").arg(data.join("htpasswd")));
    add_user(&data, "bob", "a secret");
    assert_eq!(std::fs::metadata(data.join("htpasswd")).unwrap().uid(), OWNER);
}

#[test]
fn user_file_outside_the_data_is_readable_by_the_group_of_the_data() {
    const OWNER: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    let (data, users) = (directory.path().join("data"), directory.path().join("etc/htpasswd"));
    std::fs::create_dir(&data).unwrap();
    std::fs::create_dir(directory.path().join("etc")).unwrap();
    run(Command::new("chown").arg(format!("{OWNER}:{OWNER}")).arg(&data));
    // With a strict umask of root.
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", "umask 077; exec \"$@\"", "sh", BINARY, "--data"]).arg(&data);
    command.env("HOLDFAST_AUTH_HTPASSWD", &users).args(["user", "add", "alice", "--password-stdin"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a secret\n").unwrap();
    assert!(child.wait().unwrap().success());
    let file = std::fs::metadata(&users).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, OWNER, 0o640), "the daemon cannot read it");
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
fn help_completions_and_manual_pages_are_printed() {
    for arguments in [
        &["completions", "bash"][..],
        &["man"],
        &["man", "holdfast.toml"],
        &["--version"],
        &["--help"],
        &["config", "show"],
    ] {
        let output = holdfast(arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn daemon_binds_its_own_socket_without_socket_activation() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = serve_on("127.0.0.1:0", directory.path());
    let url = lines.find_map(|line| line.unwrap().trim().strip_prefix("listens on ").map(str::to_owned));
    let answer = run(Command::new("curl").args(["-sSf", &format!("{}/v2/", url.unwrap().trim())]));
    // The banner tells where the admin page is, who has access, and what to try.
    let rest: Vec<String> = lines.take(7).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer, "{}");
    assert!(rest.iter().any(|line| line.starts_with("  admin page  http://127.0.0.1:")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("loopback only")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("docker push localhost:")), "{rest:?}");
}

#[test]
fn port_alone_means_all_addresses_of_ipv4_and_ipv6() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = serve_on(":0", directory.path());
    let port =
        lines.find_map(|line| line.unwrap().split_once("http://[::]:").map(|(_, port)| port.to_owned()));
    let statuses = ["127.0.0.1", "[::1]"].map(|host| {
        let url = format!("http://{host}:{}/v2/", port.as_ref().unwrap());
        run(Command::new("curl").args(["-sg", "-o", "/dev/null", "-w", "%{http_code}", &url]))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // Closed until there is a user, because other machines reach it.
    assert_eq!(statuses, ["401", "401"]);
}

#[test]
fn port_in_use_is_named_with_its_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let (child, _) = serve_on(&address, directory.path());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "cannot listen on {address}: another program uses port {}; stop it",
        taken.local_addr().unwrap().port()
    );
    assert!(output.status.code() == Some(1) && text.contains(&expected), "{text}");
}

/// Starts a daemon that opens its own socket; returns it with the lines of its output.
fn serve_on(
    address: &str,
    data: &std::path::Path,
) -> (std::process::Child, std::io::Lines<impl std::io::BufRead + use<>>) {
    use std::io::BufRead;
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOLDFAST_LISTEN", address).args(["serve", "--data"]).arg(data);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}
