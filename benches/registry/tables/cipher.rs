//! Instructions of the TLS ciphers on ARM: a crate of its own, cross-compiled and counted by a script.

use std::io;
use std::process::Command;

/// Prints the table of the script; a machine without its tools gets a line that says so.
pub fn print() -> io::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cipher/count");
    let output = Command::new(script).output()?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        println!(
            "Instructions of the ciphers: not counted ({})\n",
            reason.lines().last().unwrap_or_default()
        );
        return Ok(());
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
