//! The configuration as the operator meets it: errors on the terminal, and the files that packages install.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::*;

fn check(directory: &Path, text: &str) -> Output {
    let file = directory.join("holdfast.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(BINARY);
    // This machine may have a file of registry:2 where the container image would find one.
    command.env_clear().env("HOLDFAST_REGISTRY_COMPATIBLE_FILES", "");
    command.args(["config", "check", "--config"]).arg(&file).arg("--data").arg(directory);
    command.output().unwrap()
}

#[test]
fn config_check_reports_each_mistake_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(
        directory.path(),
        "[storage]\npaht = \"/x\"\n[limits]\nconnections = \"many\"\n[log]\nlevel = \"loud\"\n",
    );
    let (text, file) = (String::from_utf8(output.stderr).unwrap(), directory.path().join("holdfast.toml"));
    let file = file.display();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let expected = [
        format!("holdfast: {file}:2:1: unknown key storage.paht; did you mean storage.path?"),
        format!(
            "holdfast: {file}:4:15: limits.connections is \"many\", but must be a number from 1 to 1000000"
        ),
        format!(
            "holdfast: {file}:6:9: log.level is \"loud\", but must be off, error, warn, info, debug or trace"
        ),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_daemon_reports_each_mistake_in_a_line_and_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOLDFAST_LISTNE", ":1").env("HOLDFAST_TLS_MODE", "on").arg("--data");
    let output = command.arg(directory.path()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let suggested = "holdfast: HOLDFAST_LISTNE is not a setting of Holdfast; did you mean HOLDFAST_LISTEN?";
    assert!(text.lines().any(|line| line == suggested), "{text}");
    assert!(text.contains("HOLDFAST_TLS_MODE (tls.mode) is \"on\"") && text.lines().count() == 2, "{text}");
}

#[test]
fn the_committed_file_is_the_template_and_packages_make_valid_files_of_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = source.join("config/holdfast.toml");
    let template = run(Command::new(BINARY).env_clear().args(["config", "template"]));
    assert!(template == fs::read_to_string(&committed).unwrap(), "write it again, as CONTRIBUTING.md says");
    let directory = tempfile::tempdir().unwrap();
    for (kind, keys) in [
        ("package", &["path = \"/var/lib/holdfast\"", "mode = \"auto\"", "listen = [\":5000\"]"][..]),
        ("image", &["path = \"/var/lib/registry\"", "/etc/distribution/config.yml", "listen = [\":5000\"]"]),
    ] {
        let text = run(Command::new(source.join("packaging/configuration")).arg(kind).arg(&committed));
        assert!(keys.iter().all(|key| text.contains(key)), "{kind}: {text}");
        let output = check(directory.path(), &text);
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
