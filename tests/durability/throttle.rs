//! The throttle: guessing passwords is slow, and locks out no other client and no right password.

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

/// Sends guesses concurrently, and returns their statuses.
fn guess_concurrently(count: usize, guess: impl Fn(usize) -> u16 + Sync) -> Vec<u16> {
    std::thread::scope(|scope| {
        let guess = &guess;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || guess(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs `check` after `delay`, while threads guess; each calls `guess` with its number and the number of its attempt. A
/// panic of `check` ends the threads before it is passed on.
fn while_guessing(
    threads: usize,
    guess: impl Fn(usize, usize) + Sync,
    delay: Duration,
    check: impl FnOnce(),
) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (guess, ended) = (&guess, &ended);
            scope.spawn(move || {
                let attempts = (0..).take_while(|_| !ended.load(Ordering::Relaxed));
                attempts.for_each(|attempt| guess(thread, attempt));
            });
        }
        std::thread::sleep(delay);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn guesses_at_the_api_are_throttled() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let statuses = guess_concurrently(60, |number| ping(&daemon, ATTACKER, "alice", &format!("x{number}")));
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    let verified = statuses.iter().filter(|status| **status == 401).count();
    // A burst of twenty, and then one every three seconds.
    assert!((20..40).contains(&verified), "{statuses:?}");
    // From another address the right password is accepted at the first attempt.
    assert_eq!(ping(&daemon, Ipv4Addr::new(127, 0, 0, 3), "alice", "secret"), 200);
}

#[test]
fn guesses_at_the_login_form_are_throttled() {
    let daemon = with_images();
    let mut browser = Browser::new(&daemon);
    browser.get("/login");
    let browser = &browser;
    let statuses = guess_concurrently(60, |number| {
        let form = format!("name=alice&password=x{number}&token={}", browser.token);
        let request = browser.request("POST", "/login").header("Origin", "http://registry");
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.body(form.as_bytes()).send().status
    });
    assert!(statuses.contains(&422) && statuses.contains(&429), "{statuses:?}");
    // The form and the API share one throttle.
    let statuses =
        guess_concurrently(20, |number| ping(&daemon, Ipv4Addr::LOCALHOST, "alice", &format!("y{number}")));
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn guesses_from_one_address_do_not_delay_others() {
    let daemon = Daemon::with_user("alice", "secret", &[]);
    let guess = |thread: usize, round: usize| {
        let request = daemon.request("GET", "/v2/").from(ATTACKER);
        // The registry may close connections of an address that has too many.
        let _ = request.login(&format!("user{}", thread % 50), &format!("{thread}.{round}")).try_send();
    };
    while_guessing(200, guess, Duration::from_millis(300), || {
        for last in 10..20 {
            let began = Instant::now();
            add_user(&daemon.data, &format!("new{last}"), "secret");
            let status = ping(&daemon, Ipv4Addr::new(127, 0, 0, last), &format!("new{last}"), "secret");
            assert_eq!(status, 200, "after {:?}", began.elapsed());
            // All waiting guesses one after the other would take longer.
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
    });
}

#[test]
fn clients_with_an_old_password_do_not_lock_out_the_new_one() {
    let daemon = Daemon::with_user("ci", "new", &[]);
    for _ in 0..3 {
        let statuses = guess_concurrently(70, |_| ping(&daemon, ATTACKER, "ci", "old"));
        assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    }
    assert_eq!(ping(&daemon, ATTACKER, "ci", "new"), 200);
}

#[test]
fn right_password_is_accepted_from_an_address_that_guesses() {
    let daemon = Daemon::with_user("ci", "secret", &[]);
    let guess = |thread: usize, round: usize| {
        ping(&daemon, ATTACKER, "ci", &format!("{thread}.{round}"));
    };
    // After four seconds the budget of the address is exhausted.
    while_guessing(8, guess, Duration::from_secs(4), || {
        let began = Instant::now();
        let is_accepted = || ping(&daemon, ATTACKER, "ci", "secret") == 200;
        while !is_accepted() && began.elapsed() < Duration::from_secs(300) {}
        // Once verified, the password is recognised, and guesses cannot lock it out.
        assert!(began.elapsed() < Duration::from_secs(300) && (0..5).all(|_| is_accepted()));
    });
}
