//! `holdfast inspect-index`, which the daemon runs to look at an index that may end whoever reads it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use crate::store::{self, Inspection};

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
    /// Where a copy of it goes
    #[arg(long)]
    copy: Option<PathBuf>,
}

/// Reads an index to its end.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let (directory, copy) = (options.directory.as_path(), options.copy.as_deref());
    let inspection = Inspection { directory, map_size: options.map_size, previous: options.previous, copy };
    store::inspect(&inspection).map_err(Failure::failed)
}

/// Whether an index reads to its end, as a process of its own finds. Where none can be started it is taken to do so.
pub(super) fn in_own_process(inspection: &Inspection) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.arg("inspect-index").arg(inspection.directory).arg(inspection.map_size.to_string());
    command.args(inspection.previous.then_some("--previous"));
    inspection.copy.map(|copy| command.arg("--copy").arg(copy));
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
