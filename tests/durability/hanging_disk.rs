//! A disk whose syncs hang: pulls, lists and pages are still served, and the overview warns of it.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::browser::Browser;
use crate::support::fault_injection::FaultInjection;
use crate::support::*;

/// The delay of each sync, far longer than the test.
const HANGS: Duration = Duration::from_secs(100);
/// More pushes than blocking threads.
const PUSHERS: usize = 100;

/// Waits until the condition is true; returns false after 30 seconds.
fn wait_for(mut is_true: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if is_true() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

fn uploads(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.data.join("uploads")).unwrap().count()
}

#[test]
fn reads_are_answered_while_syncs_hang() {
    let daemon = Daemon::with_user("ann", "secret of ann", &[("HOLDFAST_AUTH_ANONYMOUS", "full")]);
    let content = vec![7; 300 << 10];
    let (image, bytes) = daemon.push_image("a", "1", &content);
    let blob = digest(&content);
    let (acknowledged, address) = (AtomicUsize::new(0), daemon.address);
    std::thread::scope(|scope| {
        let hanging = FaultInjection::delay(daemon.pid(), "fdatasync,fsync", None, HANGS);
        for number in 0..PUSHERS {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                let content = format!("content {number}").into_bytes();
                let path = format!("/v2/b/blobs/uploads/?digest={}", digest(&content));
                // Answered at the end of the test, when the disk stops hanging.
                let answer = Request::new(address, "POST", &path).body(&content).try_send();
                acknowledged.fetch_add(
                    usize::from(answer.is_ok_and(|answer| answer.status == 201)),
                    Ordering::Relaxed,
                );
            });
        }
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert!(wait_for(|| uploads(&daemon) >= 20), "{} pushes wait for syncs", uploads(&daemon));
            assert_eq!(daemon.get("/v2/a/manifests/1").expect(200).body, bytes);
            assert_eq!(daemon.get(&format!("/v2/a/manifests/{image}")).expect(200).body, bytes);
            assert_eq!(daemon.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, content);
            daemon.request("HEAD", &format!("/v2/a/blobs/{blob}")).send().expect(200);
            daemon.request("GET", "/v2/").login("ann", "secret of ann").send().expect(200);
            // A request with a password waits for no sync either.
            let by_user = daemon.request("GET", "/v2/a/tags/list").login("ann", "secret of ann");
            assert_eq!(by_user.send().expect(200).json()["tags"][0], "1");
            daemon.get("/v2/_catalog").expect(200);
            daemon.get(&format!("/v2/a/referrers/{image}")).expect(200);
            let mut browser = Browser::new(&daemon);
            for path in ["/", "/repositories", "/repository/a", "/image/a:1"] {
                browser.page(path);
            }
            let warned = || Browser::new(&daemon).page("/").contains("the disk has not answered a write for");
            assert!(wait_for(warned), "the overview does not warn of the hanging disk");
            assert_eq!(
                acknowledged.load(Ordering::Relaxed),
                0,
                "a sync was done before the reads were answered"
            );
        }));
        drop(hanging);
        read.unwrap();
    });
    assert!(acknowledged.into_inner() > 0, "no push succeeds after the disk answers again");
    daemon.push_image("a", "2", b"another layer");
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}
