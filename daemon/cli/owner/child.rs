//! The store in a child process: root keeps its rights for the files that a command reads and writes, while the child has
//! become the owner of the data directory, so that the daemon can read what it writes there.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::super::failure::Failure;
use super::super::offline::runtime;
use super::super::privileges;
use super::Invocation;
use super::local::{Local, recover};
use crate::config::Config;
use crate::store::Role;

/// The exit code of a child that found the store taken by another process: the parent searches again.
const TAKEN: u8 = 75;

/// Options of the hidden command `own-store`.
#[derive(Args)]
pub(in crate::cli) struct Options {
    /// Rebuild the index
    #[arg(long)]
    rebuild: bool,
}

/// A child process and the end of a socket pair to it.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) stream: UnixStream,
}

/// Starts the child.
pub(super) fn start(invocation: &Invocation, role: Role) -> Result<Started, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot start a process for the store: {error}"));
    let (near, far) = UnixStream::pair().map_err(failed)?;
    near.set_nonblocking(true).map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    for (option, value) in [("--config", &invocation.config), ("--data", &invocation.data)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    command.arg("own-store").args((role == Role::Rebuild).then_some("--rebuild"));
    command.stdin(OwnedFd::from(far)).stdout(Stdio::null());
    Ok(Started { child: command.spawn().map_err(failed)?, stream: near })
}

/// Waits for the end of the child.
pub(super) async fn wait(mut child: Child) -> Result<bool, Failure> {
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.map_err(Failure::failed)?;
    let status = ended.map_err(Failure::failed)?;
    match status.code() {
        Some(0) => Ok(true),
        Some(code) if code == i32::from(TAKEN) => Ok(false),
        // The child has said why.
        Some(code) => Err(Failure { code: u8::try_from(code).unwrap_or(1), line: String::new() }),
        None => Err(Failure::failed(format!("the process with the store was killed ({status})"))),
    }
}

/// Runs the child: becomes the owner of the data, opens the store, and serves the connection on standard input to its end.
pub(in crate::cli) fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let role = if options.rebuild { Role::Rebuild } else { Role::Command };
    let stream = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::failed)?;
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(true).map_err(Failure::failed)?;
    privileges::enter(config)?;
    if options.rebuild {
        recover(config)?;
    }
    runtime()?.block_on(async {
        // A signal of the terminal reaches the parent as well, whose end of the connection then closes: the store is closed in
        // good order.
        let _signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let stream = tokio::net::UnixStream::from_std(stream).map_err(Failure::failed)?;
        let user = stream
            .peer_cred()
            .map_err(|_| Failure::misuse("standard input is not a connection of holdfast"))?;
        let Some(mut local) = Local::open(config, role).await? else {
            return Err(Failure { code: TAKEN, line: String::new() });
        };
        local.serve_to_end(stream, user.uid()).await;
        local.close().await
    })
}
