//! `holdfast config check` and the start validate what the configuration refers to, and say what to do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::unit::Unit;
use crate::support::*;

/// Runs a command that has to fail with one line on stderr; returns that line.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.trim_end().lines().count() == 1, "{text}");
    text
}

/// Returns a command line without capabilities, even if root runs the tests.
fn without_capabilities(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.env_clear().args(["--bounding-set=-all", "--inh-caps=-all", BINARY]).args(arguments);
    command
}

#[test]
fn config_check_reads_the_certificate_and_its_key() {
    let unit = Unit::new("");
    let made = |name: &str| {
        let files = [unit.path("certificate"), unit.path(name)].map(|path| path.to_str().unwrap().to_owned());
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", "/CN=localhost", "-out", &files[0], "-keyout", &files[1]]));
    };
    made("another");
    made("key");
    let check = |key: &str| {
        let tls =
            format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", unit.path("certificate"), unit.path(key));
        unit.configure(&tls);
        let mut command = unit.command();
        command.args(["config", "check"]);
        command
    };
    assert_eq!(run(&mut check("key")), "the configuration is valid\n");
    assert!(refusal(&mut check("another")).contains("is not the key of"));
    assert!(refusal(&mut check("nowhere")).contains("cannot read"));
    // As the service, which may not read another user's key.
    check("key");
    run(Command::new("chown").arg("65534").arg(unit.path("key")));
    let mut check_as_service = without_capabilities(&["config", "check", "--config"]);
    let text = refusal(check_as_service.arg(unit.path("holdfast.toml")));
    assert!(text.contains("key may not be read by the user") && text.contains("mode 640"), "{text}");
    // A key that only root may read is not valid for the service.
    run(Command::new("chown").arg("0").arg(unit.path("key")));
    std::fs::create_dir(unit.path("data")).unwrap();
    run(Command::new("chown").arg("65534").arg(unit.path("data")));
    for (name, mode) in [("", "755"), ("certificate", "644"), ("key", "600")] {
        run(Command::new("chmod").arg(mode).arg(unit.path(name)));
    }
    assert!(refusal(&mut check("key")).contains("key may not be read by the user"));
    run(Command::new("chmod").arg("644").arg(unit.path("key")));
    run(&mut check("key"));
}

#[test]
fn unwritable_data_directory_is_refused_with_instructions() {
    let unit = Unit::new("");
    std::fs::create_dir(unit.path("disk")).unwrap();
    run(Command::new("chown").arg("65534").arg(unit.path("disk")));
    let mut serve = without_capabilities(&["serve", "--data"]);
    serve.arg(unit.path("disk/data")).env("HOLDFAST_LISTEN", "127.0.0.1:0");
    let text = refusal(&mut serve);
    assert!(text.contains("ReadWritePaths=") && text.contains("systemctl edit holdfast"), "{text}");
    // A check as the owner reports it; a check as another user cannot know, and does not.
    std::fs::set_permissions(unit.path(""), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(unit.path("disk"), Permissions::from_mode(0o555)).unwrap();
    let disk = unit.path("disk");
    let check = ["config", "check", "--data", disk.to_str().unwrap()];
    let mut owner = Command::new(BINARY);
    assert!(refusal(owner.env_clear().args(check)).contains("cannot write to"));
    let mut other = Command::new("setpriv");
    other.env_clear().args(["--reuid=65533", "--regid=65533", "--clear-groups", BINARY]).args(check);
    assert_eq!(run(&mut other), "the configuration is valid\n");
}
