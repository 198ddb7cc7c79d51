//! The setup guide of registry:2 with a Docker engine that trusts no certificate by default.

use std::process::Command;

use crate::support::*;

#[test]
fn the_setup_guide_of_registry_2_works_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["--kill-after=10", "120", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["sh", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/exercise.sh")])
        .arg(directory.path())
        .arg(BINARY)
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{text}");
}
