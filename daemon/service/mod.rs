//! What systemd is told and asks: inherited sockets, readiness, the journal. Without systemd all of it is quiet.

mod entry;
mod line;
mod log;

use std::io;
use std::net::TcpListener;

pub use self::log::{LogGuard, start_logging};

/// What the surroundings of the daemon did not give.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A socket that was handed over is not a TCP listener.
    #[error("the inherited socket number {0} cannot be used: {1}; the daemon takes TCP listeners")]
    Socket(usize, io::Error),
    /// There is no log.
    #[error("cannot start the log: {0}")]
    Log(String),
}

/// The listening sockets that systemd holds for the daemon; none when it was started by hand.
///
/// # Errors
/// [`ServiceError::Socket`].
pub fn inherited_sockets() -> Result<Vec<TcpListener>, ServiceError> {
    let mut inherited = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for number in 0..inherited.len() {
        let socket = inherited.take_tcp_listener(number);
        let socket = socket.map_err(|error| ServiceError::Socket(number, error))?;
        if let Some(socket) = socket {
            socket.set_nonblocking(true).map_err(|error| ServiceError::Socket(number, error))?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Tells systemd that the daemon serves.
pub fn ready(status: &str) {
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

/// Tells systemd how the daemon is.
pub fn status(status: &str) {
    notify(&[sd_notify::NotifyState::Status(status)]);
}

/// Tells systemd that the daemon ends.
pub fn stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        ::log::warn!("systemd cannot be told how it goes: {error}");
    }
}
