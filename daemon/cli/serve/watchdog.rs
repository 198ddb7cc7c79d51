//! Feeds the watchdog of systemd from a thread of its own, while the daemon serves.
//!
//! Three things have to answer: the loops that accept connections, the writer of the index, and a read from the disk in
//! the pool that pulls use. A writer that waits for a sync counts as alive while reads answer: pulls go on, and a restart
//! would wait for the same disk. Where reads hang, too, for longer than systemd waits, it restarts the daemon.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::House;
use crate::service;

/// How often a question is asked within the time in which systemd wants to hear something.
const QUESTIONS: u32 = 4;
const LOOK: Duration = Duration::from_millis(20);

/// Starts the thread, if systemd watches.
pub(super) fn start(house: &Arc<House>) -> std::io::Result<()> {
    let Some(within) = service::watchdog() else { return Ok(()) };
    let (house, every, runtime) = (Arc::downgrade(house), within / QUESTIONS, Handle::current());
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(move || {
        // It ends with what it watches.
        while let Some(house) = house.upgrade() {
            let began = Instant::now();
            match find_hung(&house, &runtime, every) {
                None => service::alive(),
                Some(hung) => log::warn!("{hung} within {} s", every.as_secs_f32()),
            }
            drop(house);
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    })?;
    Ok(())
}

/// Returns what does not answer in time, if anything.
fn find_hung(house: &House, runtime: &Handle, within: Duration) -> Option<&'static str> {
    let end = Instant::now() + within;
    let left = || end.saturating_duration_since(Instant::now());
    let asked = house.server.ask();
    let (wrote, written) = sync_channel(1);
    house.store.ping(wrote);
    let (store, (did_read, read)) = (house.store.clone(), sync_channel(1));
    runtime.spawn(async move {
        // A disk that fails has answered. The thread may have given up.
        let _ = store.probe().await;
        let _ = did_read.try_send(());
    });
    if read.recv_timeout(left()).is_err() {
        return Some("the disk does not answer a read");
    }
    while !house.server.is_alive(asked) {
        if left().is_zero() {
            return Some("the daemon accepts no connection");
        }
        std::thread::sleep(LOOK);
    }
    let writes = written.recv_timeout(left()).is_ok() || house.store.disk_delay().write.is_some();
    (!writes).then_some("the writer of the index does not answer")
}
