//! Signatures that `ssh-keygen` makes and checks.

use std::process::Stdio;

use super::*;

fn key(directory: &Path, name: &str, passphrase: &str) -> PathBuf {
    let path = directory.join(name);
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-C", "us", "-f"])
        .arg(&path));
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    std::fs::write(directory.join(format!("{name}.signers")), format!("ops {public}")).unwrap();
    path
}

/// Checks the signature of an export as an operator does without Holdfast.
fn is_signed(stick: &Path, signers: &Path) -> bool {
    let list = std::fs::File::open(stick.join("holdfast/export.json")).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-n", "holdfast-export", "-I", "ops", "-f"]).arg(signers);
    command
        .arg("-s")
        .arg(stick.join("holdfast/export.json.sig"))
        .stdin(list)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn signature_is_checked_by_ssh_keygen_alone() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", b"one");
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (key(directory.path(), "ours", ""), key(directory.path(), "other", ""));
    let (stick, signers) = (directory.path().join("stick"), directory.path().join("ours.signers"));
    run(&mut export(&daemon, &["--all", "--sign", ours.to_str().unwrap()], &stick));
    assert!(is_signed(&stick, &signers));
    assert!(!is_signed(&stick, &directory.path().join("other.signers")));
    let signed = files(&stick);
    run(&mut export(&daemon, &["--all", "--sign", ours.to_str().unwrap()], &stick));
    assert_eq!(files(&stick), signed);
    run(&mut export(&daemon, &["--all", "--sign", other.to_str().unwrap(), "--comment", "b"], &stick));
    assert!(!is_signed(&stick, &signers) && is_signed(&stick, &directory.path().join("other.signers")));
    // An export without a signature leaves none of an older one.
    run(&mut export(&daemon, &["--all"], &stick));
    assert!(!stick.join("holdfast/export.json.sig").exists());
}

#[test]
fn key_with_a_passphrase_is_refused_with_the_command_that_signs() {
    let daemon = Daemon::start();
    push(&daemon, "a", "1", b"one");
    let directory = tempfile::tempdir().unwrap();
    let locked = key(directory.path(), "locked", "secret");
    let stick = directory.path().join("stick");
    let refused = export(&daemon, &["--all", "--sign", locked.to_str().unwrap()], &stick).output().unwrap();
    assert_eq!(code(&refused), 1);
    let text = stderr(&refused);
    let command = text.split("then run: ").nth(1).unwrap().trim();
    assert!(command.starts_with("ssh-keygen -Y sign -n holdfast-export -f "), "{text}");
    run(&mut export(&daemon, &["--all"], &stick));
    // The same command, with the passphrase from a program.
    let ask = directory.path().join("ask");
    std::fs::write(&ask, "#!/bin/sh\necho secret\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(&ask));
    let environment =
        [("SSH_ASKPASS", ask.to_str().unwrap()), ("SSH_ASKPASS_REQUIRE", "force"), ("DISPLAY", ":")];
    run(Command::new("sh").args(["-c", command]).envs(environment).stdin(Stdio::null()));
    assert!(is_signed(&stick, &directory.path().join("locked.signers")));
}
