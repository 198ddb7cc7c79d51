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
fn config_check_warns_of_likely_mistakes() {
    let unit = Unit::new("");
    let file = unit.path("htpasswd");
    let text = format!(
        "[auth]\nhtpasswd = {file:?}\n[[auth.rule]]\nusers = [\"ghost\", \"alice\", \"*\", \"-\"]\nrepositories = [\"*\"]\n\
         allow = [\"pull\"]\n"
    );
    unit.configure(&text);
    let warnings = || {
        let output = unit.command().args(["config", "check"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = warnings();
    assert!(missing.contains("does not exist, so that no user can log in"), "{missing}");
    std::fs::write(&file, "alice:{SHA}8lGLHpFkYOPw\n").unwrap();
    let unusable = warnings();
    assert!(unusable.contains("user alice cannot log in: the hash is not bcrypt"), "{unusable}");
    assert!(unusable.contains("[[auth.rule]] names ghost, but there is no such user"), "{unusable}");
    assert_eq!(unusable.lines().count(), 2, "{unusable}");
}

#[test]
fn the_start_warns_of_what_config_check_warns_of() {
    let rules = "[[auth.rule]]\nusers = [\"ghost\"]\nrepositories = [\"*\"]\nallow = [\"pull\"]\n\
                 [[retention]]\nrepositories = [\"ci/*\"]\nkeep_younger = \"30d\"\n";
    let mut daemon = Daemon::with_config(rules);
    std::fs::write(daemon.data.join("htpasswd"), "alice:{SHA}8lGLHpFkYOPw\n").unwrap();
    daemon.stop();
    let log = daemon.start_again_with_log(&[]);
    daemon.stop();
    let started = std::fs::read_to_string(log.path()).unwrap();
    let unit = Unit::new("");
    unit.configure(&format!("{rules}\n[auth]\nhtpasswd = {:?}\n", daemon.data.join("htpasswd")));
    let checked =
        String::from_utf8(unit.command().args(["config", "check"]).output().unwrap().stderr).unwrap();
    for warning in [
        "[[auth.rule]] names ghost, but there is no such user",
        "[[retention]] for ci/* keeps tags by keep_younger only",
        "user alice cannot log in: the hash is not bcrypt",
    ] {
        assert!(started.contains(warning) && checked.contains(warning), "{warning}\n{started}\n{checked}");
    }
    // A missing file is a warning of both as well.
    let missing = daemon.data.join("nowhere");
    daemon.start_again_with_env(&[]);
    daemon.stop();
    let log = daemon.start_again_with_log(&[("HOLDFAST_AUTH_HTPASSWD", missing.to_str().unwrap())]);
    daemon.stop();
    let started = std::fs::read_to_string(log.path()).unwrap();
    assert!(started.contains("does not exist, so that no user can log in"), "{started}");
}

#[test]
fn config_check_takes_the_file_as_an_argument() {
    let directory = tempfile::tempdir().unwrap();
    let [file, data] = ["other.toml", "data"].map(|name| directory.path().join(name));
    std::fs::write(&file, "listen = \":5000\"\n").unwrap();
    let check = |more: &[&std::path::Path]| {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["config", "check"]).arg(&file).arg("--data").arg(&data).args(more);
        command
    };
    assert_eq!(run(&mut check(&[])), "the configuration is valid\n");
    let twice = refusal(check(&["--config".as_ref(), &file]).env("LC_ALL", "C"));
    assert!(twice.contains("two configuration files"), "{twice}");
    std::fs::write(&data, "").unwrap();
    assert!(refusal(&mut check(&[])).contains("is a file; set another path"));
    // Below a file of another user, too, and before the directory exists.
    let impossible =
        refusal(Command::new(BINARY).env_clear().args(["config", "check", "--data", "/dev/null/data"]));
    assert!(impossible.contains("/dev/null is a file; set another path"), "{impossible}");
}

#[test]
fn config_check_reads_the_allowed_signers_and_the_start_warns_of_them() {
    let unit = Unit::new("");
    let signers = unit.path("signers");
    unit.configure(&format!("[import]\nsigners = {signers:?}\n"));
    let check = || {
        let mut command = unit.command();
        command.args(["config", "check"]);
        command
    };
    let text = refusal(&mut check());
    assert!(text.contains(signers.to_str().unwrap()) && text.contains("No such file"), "{text}");
    for (content, reason) in [("# nothing\n", "names no signer"), ("\nops ssh-ed25519 AAAA\n", "line 2: ")] {
        std::fs::write(&signers, content).unwrap();
        let text = refusal(&mut check());
        assert!(text.contains("import.signers") && text.contains(reason), "{text}");
    }
    let mut daemon = Daemon::start();
    daemon.kill();
    let log = daemon.start_again_with_log(&[("HOLDFAST_IMPORT_SIGNERS", signers.to_str().unwrap())]);
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("all imports are refused"), "{text}");
    let key = unit.path("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    std::fs::write(&signers, format!("ops {public}")).unwrap();
    assert_eq!(run(&mut check()), "the configuration is valid\n");
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
