//! Guessing passwords is slow, and locks nobody out.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::browser::Browser;
use crate::support::images::with_images;
use crate::support::*;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn ping(daemon: &Daemon, from: Ipv4Addr, name: &str, password: &str) -> u16 {
    daemon.request("GET", "/v2/").from(from).login(name, password).send().status
}

/// The statuses of so many guesses at once.
fn guesses(count: usize, guess: impl Fn(usize) -> u16 + Sync) -> Vec<u16> {
    std::thread::scope(|scope| {
        let guess = &guess;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || guess(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn guessing_is_slowed_down() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let statuses = guesses(60, |number| ping(&daemon, ATTACKER, "alice", &format!("x{number}")));
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    let verified = statuses.iter().filter(|status| **status == 401).count();
    // Twenty at once, and then one every three seconds.
    assert!((20..40).contains(&verified), "{statuses:?}");
    // From elsewhere the right password is right, at the first try.
    assert_eq!(ping(&daemon, Ipv4Addr::new(127, 0, 0, 3), "alice", "secret"), 200);
}

#[test]
fn guessing_on_the_form_is_slowed_down() {
    let daemon = with_images();
    let mut browser = Browser::new(&daemon);
    browser.get("/login");
    let browser = &browser;
    let statuses = guesses(60, |number| {
        let form = format!("name=alice&password=x{number}&token={}", browser.token);
        let request = browser.request("POST", "/login").header("Origin", "http://registry");
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.body(form.as_bytes()).send().status
    });
    assert!(statuses.contains(&422) && statuses.contains(&429), "{statuses:?}");
    // It is one throttle for the form and for the API.
    let statuses = guesses(20, |number| ping(&daemon, Ipv4Addr::LOCALHOST, "alice", &format!("y{number}")));
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn guesses_of_one_address_delay_no_other() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..200 {
            let (daemon, ended) = (&daemon, &ended);
            scope.spawn(move || {
                for round in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = daemon.request("GET", "/v2/").from(ATTACKER);
                    let guess = format!("{number}.{round}");
                    // The registry may close what an attacker has too many of.
                    let _ = request.login(&format!("user{}", number % 50), &guess).try_send();
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for last in 10..20 {
                let began = Instant::now();
                add_user(&daemon.data, &format!("new{last}"), "secret");
                let status = ping(&daemon, Ipv4Addr::new(127, 0, 0, last), &format!("new{last}"), "secret");
                assert_eq!(status, 200, "after {:?}", began.elapsed());
                // The guesses that wait would take longer than that, one after the other.
                assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            }
        }));
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn robots_with_an_old_password_lock_out_none_with_the_new_one() {
    let daemon = Daemon::with_user("ci", "new", &[]);
    for _ in 0..3 {
        let statuses = guesses(70, |_| ping(&daemon, ATTACKER, "ci", "old"));
        assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    }
    assert_eq!(ping(&daemon, ATTACKER, "ci", "new"), 200);
}

#[test]
fn the_right_password_gets_in_behind_an_address_that_guesses() {
    let daemon = Daemon::with_user("ci", "secret", &[]);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (daemon, ended) = (&daemon, &ended);
            scope.spawn(move || {
                for round in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    ping(daemon, ATTACKER, "ci", &format!("{number}.{round}"));
                }
            });
        }
        // The budget of the address is used up by now.
        std::thread::sleep(Duration::from_secs(4));
        let began = Instant::now();
        let gets_in = || ping(&daemon, ATTACKER, "ci", "secret") == 200;
        while !gets_in() && began.elapsed() < Duration::from_secs(300) {}
        // Once it was right, no guesses can keep it out.
        let stays = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..5).all(|_| gets_in())));
        ended.store(true, Ordering::Relaxed);
        assert!(began.elapsed() < Duration::from_secs(300) && stays.unwrap());
    });
}
