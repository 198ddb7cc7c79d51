//! `holdfast inspect-index`: the inspection of an index in a child process, since reading a corrupt one may kill the
//! reader.

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

/// The longest that an inspection may take: pages that link to each other in a circle never end, and the slowest card
/// has read the largest index long before.
const TIMEOUT: Duration = Duration::from_mins(15);
/// The interval at which systemd is told that the start goes on.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// The exit code of an inspection that failed for reasons other than the index.
const UNKNOWN_HEALTH: u8 = 3;
const POLL: Duration = Duration::from_millis(1);

#[derive(Args)]
pub(super) struct Options {
    /// Directory of the index
    directory: PathBuf,
    /// Size limit of the index, in bytes
    map_size: usize,
    /// Smallest acceptable change number
    least_change: u64,
    /// Inspect the previous snapshot instead of the newest
    #[arg(long)]
    previous: bool,
    /// File to copy the index to
    #[arg(long)]
    copy: Option<PathBuf>,
}

/// Inspects an index in this process.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    // When the daemon is killed, the kernel kills its inspection: otherwise that would run on, with the index open.
    // If the system refuses this, the inspection ends by itself.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let (directory, copy) = (options.directory.as_path(), options.copy.as_deref());
    let Options { map_size, least_change, previous, .. } = *options;
    let inspection = Inspection { directory, map_size, previous, least_change, copy };
    store::inspect(&inspection).map_err(|error| Failure {
        code: if error.is_environment_error() { UNKNOWN_HEALTH } else { 1 },
        line: error.to_string(),
    })
}

/// Inspects an index in a child process.
pub(super) fn in_own_process(inspection: &Inspection) -> IndexHealth {
    let mut command = Command::new("/proc/self/exe");
    command.arg("inspect-index").arg(inspection.directory);
    command.args([inspection.map_size.to_string(), inspection.least_change.to_string()]);
    command.args(inspection.previous.then_some("--previous"));
    inspection.copy.map(|copy| command.arg("--copy").arg(copy));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => match wait(child) {
            // On a full disk, writing to the mapped lock file raises the same signal as reading a corrupt file.
            IndexHealth::Corrupt if is_full(inspection.directory) => {
                IndexHealth::Unknown("the inspection crashed, but the disk is full: make room first".into())
            }
            health => health,
        },
        Err(error) => IndexHealth::Unknown(format!("the inspection could not be started: {error}")),
    }
}

fn is_full(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|disk| disk.blocks_available() == 0)
}

fn wait(mut child: Child) -> IndexHealth {
    let (began, mut last_heartbeat) = (Instant::now(), Instant::now());
    while began.elapsed() < TIMEOUT {
        match child.try_wait() {
            Ok(Some(status)) => return verdict(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return IndexHealth::Unknown(error.to_string()),
        }
        if last_heartbeat.elapsed() > HEARTBEAT {
            last_heartbeat = Instant::now();
            service::starting("inspecting the index");
        }
    }
    // The child may hang in the kernel and not end; the index counts as corrupt in any case.
    let _ = child.kill();
    let _ = child.wait();
    IndexHealth::Corrupt
}

/// Maps the exit of an inspection: failures and crashes mean corruption, a child that was killed from outside says
/// nothing.
fn verdict(status: ExitStatus) -> IndexHealth {
    let crashes = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGABRT, Signal::SIGILL, Signal::SIGFPE];
    match (status.code(), status.signal()) {
        (Some(0), _) => IndexHealth::Healthy,
        (Some(code), _) if code == i32::from(UNKNOWN_HEALTH) => IndexHealth::Unknown(
            "it cannot be read, the disk or memory has no room for that, or another process holds it".into(),
        ),
        (Some(_), _) => IndexHealth::Corrupt,
        (None, Some(signal)) if crashes.iter().any(|crash| *crash as i32 == signal) => IndexHealth::Corrupt,
        (None, _) => IndexHealth::Unknown(format!("the inspection was killed ({status})")),
    }
}
