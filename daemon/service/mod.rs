//! What systemd is told and asks: inherited sockets, readiness, the journal. Without systemd all of it is quiet.

mod descriptors;
mod entry;
mod json;
mod limit;
mod line;
mod log;
mod sockets;

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

pub use self::descriptors::{DescriptorBudget, raise_descriptor_limit};
pub use self::log::{LogGuard, LogSettings, has_journal, set_level, start_logging, start_logging_as};
pub use self::sockets::Sockets;

/// How much longer a start may take after each step that it tells of: an index on a slow card is read for minutes.
const LONGER: Duration = Duration::from_mins(5);

/// What the surroundings of the daemon did not give.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A socket that was handed over is no listener for streams.
    #[error(
        "the inherited socket number {0} ({1}) cannot be used: {2}; the daemon takes listeners for TCP, named registry, and \
         for streams of Unix, named control"
    )]
    Socket(usize, String, io::Error),
    /// There is no log.
    #[error("cannot start the log: {0}")]
    Log(String),
}

/// Tells systemd that the daemon serves, for the first time or again after a reload.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd how far the start has come, and that it takes a while longer.
pub fn starting(status: &str) {
    let longer = u32::try_from(LONGER.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(longer)]);
}

/// Tells systemd that the configuration is read again, until [`ready`] says that it is.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Tells systemd how the daemon is.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tells systemd that the daemon is alive.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Tells systemd that the daemon ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often systemd wants to hear [`alive`] at the least, if it does.
pub fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds))
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        ::log::warn!("systemd cannot be told how it goes: {error}");
    }
}
