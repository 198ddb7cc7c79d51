//! Notifications to systemd (`sd_notify`); without systemd they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Extension of the start timeout with each progress report: reading an index on a slow card takes minutes.
const START_EXTENSION: Duration = Duration::from_mins(5);

/// Reports that the daemon serves: after the start, and after each reload.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports the progress of the start, and extends its timeout.
pub fn starting(status: &str) {
    let extension = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(extension)]);
}

/// Reports that a reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Sets the status line of `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Resets the watchdog.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Reports that the daemon is shutting down.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Returns the watchdog timeout, within which systemd expects [`alive`]; `None` without a watchdog.
pub fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds))
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        log::warn!("cannot notify systemd: {error}");
    }
}
