//! Concurrent pushes, mounts, moves of tags, deletes and collections of the same content, with `holdfast gc` beside the
//! daemon: every acknowledged change lasts.
//!
//! `HOLDFAST_TEST_ROUNDS=500 cargo test races` runs more rounds.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::load::Client;
use crate::support::*;

const CLIENTS: u64 = 4;
const STEPS: usize = 40;

fn rounds() -> usize {
    let more = std::env::var("HOLDFAST_TEST_ROUNDS").ok();
    more.map_or(6, |text| text.parse().expect("a number of rounds"))
}

/// Runs `holdfast gc` until `stop`; returns the number of collections.
fn collect_beside(daemon: &Daemon, stop: &AtomicBool) -> usize {
    let mut collections = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(BINARY);
        run(command.env_clear().args(["gc", "--grace", "2s", "--data"]).arg(&daemon.data));
        collections += 1;
    }
    collections
}

#[test]
fn acknowledged_changes_last_through_concurrent_pushes_deletes_and_collections() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "20ms"), ("HOLDFAST_GC_GRACE", "2s")]);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(daemon.address, number, seed)).collect();
    for _ in 0..rounds() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| collect_beside(&daemon, &stop));
            let working: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    scope.spawn(|| (0..STEPS).for_each(|_| assert!(client.step(), "a request failed")))
                })
                .collect();
            let ended: Vec<_> = working.into_iter().map(|client| client.join()).collect();
            stop.store(true, Ordering::Relaxed);
            assert!(beside.join().unwrap() > 0);
            ended.into_iter().for_each(|client| client.unwrap());
        });
        for client in &mut clients {
            client.verify();
        }
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    let acknowledged: u64 = clients.iter().map(|client| client.acknowledged).sum();
    println!("{} rounds, {acknowledged} changes acknowledged", rounds());
}
