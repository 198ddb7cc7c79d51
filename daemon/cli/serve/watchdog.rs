//! The watchdog of systemd is fed by a thread that asks the loops for a sign of life: those that accept connections,
//! and the writer of the index.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::House;
use crate::service;

/// How often a question is asked within the time in which systemd wants to hear something.
const QUESTIONS: u32 = 4;
const LOOK: Duration = Duration::from_millis(20);

/// Starts the thread, if systemd watches.
pub(super) fn start(house: &Arc<House>) -> std::io::Result<()> {
    let Some(within) = service::watchdog() else { return Ok(()) };
    let (house, every) = (Arc::downgrade(house), within / QUESTIONS);
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(move || {
        // It ends with what it watches.
        while let Some(house) = house.upgrade() {
            let began = Instant::now();
            if is_alive(&house, every) {
                service::alive();
            } else {
                log::warn!("the daemon does not answer itself within {} s", every.as_secs_f32());
            }
            drop(house);
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    })?;
    Ok(())
}

fn is_alive(house: &House, within: Duration) -> bool {
    let began = Instant::now();
    let asked = house.server.ask();
    let (answer, answered) = sync_channel(1);
    house.store.ping(answer);
    if answered.recv_timeout(within).is_err() {
        return false;
    }
    while !house.server.is_alive(asked) {
        if began.elapsed() >= within {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
