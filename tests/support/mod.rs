//! The test harness: a daemon for each test, and clients that send exactly the bytes of a request.

use std::process::{Command, Output, Stdio};

pub mod browser;
pub mod bulk;
mod content;
pub mod contents;
mod daemon;
pub mod fault_injection;
mod http;
pub mod images;
pub mod index_rows;
pub mod kill_points;
pub mod load;
pub mod media;
mod port;
pub mod registry2;
pub mod small_disk;
pub mod tools;
pub mod unit;

pub use self::content::{digest, image, noise};
pub use self::daemon::{Daemon, add_user, startup_line};
pub use self::http::{Request, Response, connect_from};
pub use self::port::unused_address;

pub const BINARY: &str = env!("CARGO_BIN_EXE_holdfast");
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Runs a program to its end; returns its output. Panics if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Runs a command with this input. The command may end before it has read everything.
pub fn with_input(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
    child.wait_with_output().unwrap()
}
