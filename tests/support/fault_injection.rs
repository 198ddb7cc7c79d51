//! A failing or hanging disk: strace injects errors or delays into system calls of the running daemon.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Timeout of strace's detach.
const DETACH_TIME: Duration = Duration::from_secs(5);

/// An injection into system calls of a process, ended on drop.
pub struct FaultInjection(Child);

impl FaultInjection {
    /// Makes `call` fail with EIO, everywhere or only on this file.
    pub fn fail(process: u32, call: &str, file: Option<&str>) -> Self {
        Self::fail_with("EIO", process, call, file)
    }

    /// As [`FaultInjection::fail`], with another error.
    pub fn fail_with(error: &str, process: u32, call: &str, file: Option<&str>) -> Self {
        Self::inject(&format!("error={error}"), process, call, file)
    }

    /// Delays `calls`.
    pub fn delay(process: u32, calls: &str, file: Option<&str>, by: Duration) -> Self {
        Self::inject(&format!("delay_enter={}", by.as_micros()), process, calls, file)
    }

    /// Kills the process when one of its threads makes one of these calls for the given time.
    pub fn kill(process: u32, calls: &str, number: usize) -> Self {
        Self::inject(&format!("signal=KILL:when={number}"), process, calls, None)
    }

    fn inject(how: &str, process: u32, call: &str, file: Option<&str>) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &process.to_string(), "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:{how}")]);
        command.args(file.into_iter().flat_map(|file| ["-P", file]));
        let mut child =
            command.stderr(Stdio::piped()).spawn().expect("the package strace has to be installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("attached")), "strace did not attach");
        std::thread::spawn(move || lines.for_each(drop));
        FaultInjection(child)
    }
}

impl Drop for FaultInjection {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let began = Instant::now();
        // strace may wait forever for a thread of a process that was killed.
        while self.0.try_wait().unwrap().is_none() && began.elapsed() < DETACH_TIME {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
