//! `holdfast inspect-index`, which the daemon runs to look at an index that may end whoever reads it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;

use super::Failure;
use crate::service;
use crate::store::{self, IndexHealth, Inspection};

/// How long looking may take: pages that point at each other could go on for ever. The slowest card has read the
/// largest index long before.
const TIMEOUT: Duration = Duration::from_mins(15);
/// How often it is told that it goes on.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// The exit code of a reader that could not read, for reasons of its own.
const UNKNOWN_HEALTH: u8 = 3;
const POLL: Duration = Duration::from_millis(1);

#[derive(Args)]
pub(super) struct Options {
    /// The directory of the index
    directory: PathBuf,
    /// How large the index may get, in bytes
    map_size: usize,
    /// Of which change of names it has to be at the least
    least_change: u64,
    /// Looks at the snapshot before the newest
    #[arg(long)]
    previous: bool,
    /// Where a copy of it goes
    #[arg(long)]
    copy: Option<PathBuf>,
}

/// Reads an index to its end.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    // A daemon that is killed takes its inspection along: nothing else ends one that goes on beside it, and the index
    // stays open as long. Where the system refuses, it ends by itself.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let (directory, copy) = (options.directory.as_path(), options.copy.as_deref());
    let Options { map_size, least_change, previous, .. } = *options;
    let inspection = Inspection { directory, map_size, previous, least_change, copy };
    store::inspect(&inspection).map_err(|error| Failure {
        code: if error.says_nothing_of_the_index() { UNKNOWN_HEALTH } else { 1 },
        line: error.to_string(),
    })
}

/// Whether an index reads to its end, as a process of its own finds.
pub(super) fn in_own_process(inspection: &Inspection) -> IndexHealth {
    let mut command = Command::new("/proc/self/exe");
    command.arg("inspect-index").arg(inspection.directory);
    command.args([inspection.map_size.to_string(), inspection.least_change.to_string()]);
    command.args(inspection.previous.then_some("--previous"));
    inspection.copy.map(|copy| command.arg("--copy").arg(copy));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => match wait(child) {
            // Who writes to a mapped file then is killed by the same signal as who reads a damaged one.
            IndexHealth::Corrupt if is_full(inspection.directory) => IndexHealth::Unknown(
                "it does not read to its end, but the disk is full: make room first".into(),
            ),
            health => health,
        },
        Err(error) => IndexHealth::Unknown(format!("it cannot be looked at: {error}")),
    }
}

fn is_full(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|disk| disk.blocks_available() == 0)
}

fn wait(mut child: Child) -> IndexHealth {
    let (began, mut told) = (Instant::now(), Instant::now());
    while began.elapsed() < TIMEOUT {
        match child.try_wait() {
            Ok(Some(status)) => return verdict(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return IndexHealth::Unknown(error.to_string()),
        }
        if told.elapsed() > HEARTBEAT {
            told = Instant::now();
            service::starting("reading the index to its end");
        }
    }
    // Whether it can be killed or not: nothing is ever read for so long that can be read.
    let _ = child.kill();
    let _ = child.wait();
    IndexHealth::Corrupt
}

/// A reader that fails or crashes has met damage; one that somebody has ended says nothing.
fn verdict(status: ExitStatus) -> IndexHealth {
    let crashes = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGABRT, Signal::SIGILL, Signal::SIGFPE];
    match (status.code(), status.signal()) {
        (Some(0), _) => IndexHealth::Healthy,
        (Some(code), _) if code == i32::from(UNKNOWN_HEALTH) => IndexHealth::Unknown(
            "it may not be read, or there is no room for it, or somebody else holds it".into(),
        ),
        (Some(_), _) => IndexHealth::Corrupt,
        (None, Some(signal)) if crashes.iter().any(|crash| *crash as i32 == signal) => IndexHealth::Corrupt,
        (None, _) => IndexHealth::Unknown(format!("the process that looks at it was ended ({status})")),
    }
}
