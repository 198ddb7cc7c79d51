//! The liveness probe: resets systemd's watchdog from a thread of its own, while the daemon serves.
//!
//! Three parts have to answer: the accept loops, the index writer, and a read from the disk in the pool that pulls use. A
//! writer that waits for a sync counts as alive while reads answer: pulls still work, and a restart would wait for the same
//! disk. If reads hang, too, for longer than the watchdog timeout, systemd restarts the daemon.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::app::App;
use crate::service;

/// Number of probes per watchdog timeout.
const PROBES: u32 = 4;
/// Interval at which the answers of the accept loops are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts the thread, if the watchdog is on.
pub(super) fn start(app: &Arc<App>) -> std::io::Result<()> {
    let Some(timeout) = service::watchdog() else { return Ok(()) };
    let (app, every, runtime) = (Arc::downgrade(app), timeout / PROBES, Handle::current());
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(move || {
        // The weak reference ends the thread with the daemon.
        while let Some(app) = app.upgrade() {
            let began = Instant::now();
            match find_hung(&app, &runtime, every) {
                None => service::alive(),
                Some(hung) => log::warn!("{hung} within {} s", every.as_secs_f32()),
            }
            drop(app);
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    })?;
    Ok(())
}

/// Returns the part that does not answer in time, as the start of a sentence.
fn find_hung(app: &App, runtime: &Handle, within: Duration) -> Option<&'static str> {
    let end = Instant::now() + within;
    let left = || end.saturating_duration_since(Instant::now());
    let probe = app.server.probe_liveness();
    let (wrote, written) = sync_channel(1);
    app.store.ping(wrote);
    let (store, (did_read, read)) = (app.store.clone(), sync_channel(1));
    runtime.spawn(async move {
        // A read that fails is an answer as well. The receiver may have timed out.
        let _ = store.probe().await;
        let _ = did_read.try_send(());
    });
    if read.recv_timeout(left()).is_err() {
        return Some("the disk does not answer a read");
    }
    while !app.server.is_alive(probe) {
        if left().is_zero() {
            return Some("the daemon does not accept connections");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let is_writing = written.recv_timeout(left()).is_ok() || app.store.disk_delay().write.is_some();
    (!is_writing).then_some("the index writer does not answer")
}
