//! Commands under strace: killed at one of their system calls, or given an error by one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The calls by which a command reads, sends, writes and removes.
const CALLS: &str = "openat,openat2,read,pread64,recvfrom,write,writev,sendto,sendmsg,fsync,fdatasync,\
                     renameat,renameat2,mkdirat,unlinkat,unlink,rmdir";

/// A system call of a run: its name, and its number among those of this name in one thread, as strace counts them.
pub struct Point {
    call: String,
    number: usize,
}

/// Returns `count` calls, spread over a whole run of the command, which is run to its end.
pub fn points(command: &Command, stdin: Option<&Path>, count: usize) -> Vec<Point> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let options = ["-o", log.path().to_str().unwrap(), "-e", &format!("trace={CALLS}")];
    let output = under_strace(command, stdin, &options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut numbers, mut all): (BTreeMap<(String, String), usize>, Vec<Point>) = Default::default();
    for line in std::fs::read_to_string(log.path()).unwrap().lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if call.chars().all(|c| c.is_ascii_alphanumeric()) {
            let number = numbers.entry((thread.to_owned(), call.to_owned())).or_default();
            *number += 1;
            all.push(Point { call: call.to_owned(), number: *number });
        }
    }
    let step = all.len() / count;
    assert!(step > 0, "a run of {} calls has no {count} points", all.len());
    all.into_iter().step_by(step).take(count).collect()
}

/// Runs a command that is killed at a call; returns true if it was killed before its end.
pub fn is_killed_at(command: &Command, stdin: Option<&Path>, point: &Point) -> bool {
    let Point { call, number } = point;
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}"));
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    under_strace(command, stdin, &options).output().unwrap().status.code().is_none()
}

/// Returns a command in which the first call with this number, among those of its name, fails with EIO. It counts only calls on
/// these files, if there are any.
pub fn failing(command: &Command, calls: &str, number: usize, files: &[impl AsRef<Path>]) -> Command {
    let inject = format!("inject={calls}:error=EIO:when={number}");
    let trace = format!("trace={calls}");
    let mut options = vec!["-o", "/dev/null", "-e", &trace, "-e", &inject];
    options.extend(files.iter().flat_map(|file| ["-P", file.as_ref().to_str().unwrap()]));
    under_strace(command, None, &options)
}

fn under_strace(command: &Command, stdin: Option<&Path>, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.arg("-f").args(options).env_clear();
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    match stdin {
        Some(file) => strace.stdin(std::fs::File::open(file).unwrap()),
        None => strace.stdin(Stdio::null()),
    };
    strace
}
