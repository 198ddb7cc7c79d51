//! `holdfast inspect-index`, which the daemon runs to look at an index that may end whoever reads it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use crate::store;

/// How long looking may take: pages that point at each other could go on for ever.
const LONGEST: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(1);

#[derive(Args)]
pub(super) struct Options {
    /// The directory of the index
    directory: PathBuf,
    /// How large the index may get, in bytes
    map_size: usize,
    /// Looks at the snapshot before the newest
    #[arg(long)]
    previous: bool,
}

/// Reads an index to its end.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    store::inspect(&options.directory, options.map_size, options.previous).map_err(Failure::failed)
}

/// Whether an index reads to its end, as a process of its own finds. Where none can be started it is taken to do so.
pub(super) fn in_own_process(directory: &Path, map_size: usize, previous: bool) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.arg("inspect-index").arg(directory).arg(map_size.to_string());
    command.args(previous.then_some("--previous"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            log::warn!("the index is not looked at before it is used: {error}");
            return true;
        }
    };
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(POLL),
            Err(_) => break,
        }
    }
    // Whether it can be killed or not: it is no answer.
    let _ = child.kill();
    let _ = child.wait();
    false
}
