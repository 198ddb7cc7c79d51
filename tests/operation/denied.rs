//! A user who may not connect to the control socket of the system's service.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::support::unit::{Process, Unit, signal};
use crate::support::*;

/// Runs a command as another user.
fn as_other_user(unit: &Unit, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", BINARY, "--config"]);
    command.arg(unit.path("holdfast.toml")).args(arguments).output().unwrap()
}

#[track_caller]
fn expect_refusals(unit: &Unit) {
    for arguments in [
        &["ls"][..],
        &["rm", "--yes", "a:1"],
        &["gc"],
        &["check"],
        &["jobs"],
        &["jobs", "run", "gc"],
        &["status"],
        &["wake"],
    ] {
        let output = as_other_user(unit, arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?}: {text}");
        for part in [unit.path("control").to_str().unwrap(), "use sudo", "usermod -aG"] {
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn user_without_rights_learns_how_to_reach_the_service() {
    let unit = Unit::new("");
    for (name, mode) in [("", 0o755), ("control", 0o660), ("holdfast.toml", 0o644)] {
        std::fs::set_permissions(unit.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut daemon = Process(unit.start(&[]));
    unit.await_notification("READY=1");
    // As the package makes it.
    std::fs::set_permissions(unit.path("data"), std::fs::Permissions::from_mode(0o750)).unwrap();
    expect_refusals(&unit);
    // The same while it sleeps: no one may start it, and no second registry begins.
    signal(&daemon.0, "-TERM");
    assert!(daemon.0.wait().unwrap().success());
    expect_refusals(&unit);
}
