//! The access log on a disk of its own that is full: it has no part of a line, and goes on when there is space.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::small_disk::SmallDisk;
use crate::support::*;

#[test]
fn access_log_on_a_full_disk_keeps_whole_lines_and_goes_on() {
    let disk = SmallDisk::mount(1);
    let file = disk.path().join("access.log");
    let mut daemon = Daemon::start();
    daemon.stop();
    disk.leave_free(3 * 4096);
    let environment = [
        ("HOLDFAST_LOG_LEVEL", "info"),
        ("HOLDFAST_LOG_FORMAT", "json"),
        ("HOLDFAST_LOG_ACCESS", file.to_str().unwrap()),
        ("HOLDFAST_LOG_LINES_PER_ADDRESS", "1000000"),
    ];
    let log = daemon.start_again_with_log(&environment);
    let await_logged = |words: &str| {
        let begun = Instant::now();
        while !fs::read_to_string(log.path()).unwrap().contains(words) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{words} is not logged");
            daemon.get("/v2/").expect(200);
        }
    };
    let whole_lines = || {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        let is_whole = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert_eq!(text.lines().find(|line| !is_whole(line)), None);
        text.lines().count()
    };
    await_logged("cannot write the access log");
    let lines = whole_lines();
    disk.drop_ballast();
    await_logged("the access log is written again");
    daemon.stop();
    assert!(whole_lines() > lines);
}
