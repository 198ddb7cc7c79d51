//! Kills the process, or makes the disk fail, at every step of an operation in turn. Afterwards the store is in the
//! old state or the new one, and in the new one if the operation was acknowledged.
//!
//! A step is a system call that changes or syncs a file, counted by strace in each thread.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::*;

/// The system calls that change or sync a file.
const CALLS: [&str; 7] = ["rename", "fdatasync", "fsync", "pwrite64", "writev", "unlink", "ftruncate"];
const NEW_LAYER: &[u8] = b"the new layer";
/// The time that strace may take to detach.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);
/// An upper bound of the calls of one kind in one thread.
const MAX_STEPS: usize = 200;

/// The fault at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Kill,
    Fails(&'static str),
}

impl Effect {
    fn injection(self, call: &str, number: usize) -> String {
        let effect = match self {
            Effect::Kill => "signal=SIGKILL".to_owned(),
            Effect::Fails(error) => format!("error={error}"),
        };
        format!("inject={call}:{effect}:when={number}")
    }
}

/// An strace that injects a fault into a process, and records whether it did.
struct Strace {
    child: Child,
    injected: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Strace {
    fn attach(process: u32, effect: Effect, call: &str, number: usize) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &process.to_string(), "-e", &format!("trace={call}")]);
        command.args(["-e", &effect.injection(call, number)]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("strace must be installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("attached")), "strace did not attach");
        let injected = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&injected);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.fetch_or(line.contains("INJECTED") || line.contains("killed by"), Ordering::Relaxed);
            }
        });
        Strace { child, injected, reader: Some(reader) }
    }

    /// Detaches. Returns true if the fault was injected.
    fn end(mut self) -> bool {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).output();
        let began = Instant::now();
        // strace may wait forever for a thread of a process that it has killed.
        while self.child.try_wait().unwrap().is_none() && began.elapsed() < DETACH_TIMEOUT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reader.take().unwrap().join().unwrap();
        self.injected.load(Ordering::Relaxed)
    }
}

/// Runs a command with an injected fault. Returns true if the fault was injected.
fn run_with_fault(arguments: &[&str], daemon: &Daemon, effect: Effect, call: &str, number: usize) -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={call}"), "-e", &effect.injection(call, number), BINARY]);
    let output = command.env_clear().args(arguments).arg("--data").arg(&daemon.data).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    text.contains("INJECTED") || text.contains("killed by SIGKILL")
}

/// The state before each operation.
struct Before {
    daemon: Daemon,
    old: Vec<u8>,
    other: String,
}

impl Before {
    fn new() -> Self {
        let daemon = Daemon::with_env(&[("HOLDFAST_GC_INTERVAL", "off")]);
        let (_, old) = daemon.push_image("a", "t", b"the old layer");
        let (other, _) = daemon.push_image("a", "other", b"another layer");
        Before { daemon, old, other }
    }

    /// Restarts the daemon, whether it is dead or read-only.
    fn restart(&mut self) {
        self.daemon.kill_and_restart();
    }

    /// Pulls the image of a tag completely; returns its manifest.
    fn read(&self, tag: &str) -> Vec<u8> {
        let manifest = self.daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200);
        let image = manifest.json();
        for blob in [&image["config"]["digest"], &image["layers"][0]["digest"]] {
            self.daemon.get(&format!("/v2/a/blobs/{}", blob.as_str().unwrap())).expect(200);
        }
        manifest.body
    }

    /// Checks that the store has no fault and that pushes work.
    fn assert_healthy(&self, what: &str) {
        let mut check = Command::new(BINARY);
        let check = check.env_clear().args(["check", "--data"]).arg(&self.daemon.data).output().unwrap();
        assert!(check.status.success(), "{what}: {}", String::from_utf8_lossy(&check.stdout));
        self.daemon.push_image("a", "after", b"a layer for after");
        self.read("after");
    }
}

/// An operation with a fault at a step; returns true if that step exists.
type Operation = fn(Effect, &str, usize) -> bool;

fn push(effect: Effect, call: &str, number: usize) -> bool {
    let mut before = Before::new();
    let new = image(&digest(NEW_LAYER), &digest(NEW_LAYER), None);
    let strace = Strace::attach(before.daemon.pid(), effect, call, number);
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(NEW_LAYER));
    let blob = before.daemon.request("POST", &path).body(NEW_LAYER).try_send();
    let done = blob.is_ok_and(|answer| answer.status == 201) && {
        let put = before.daemon.request("PUT", "/v2/a/manifests/t").header("Content-Type", OCI_MANIFEST);
        put.body(&new).try_send().is_ok_and(|answer| answer.status == 201)
    };
    let met = strace.end();
    before.restart();
    let found = before.read("t");
    assert!(found == new || (!done && found == before.old), "{effect:?} at {call} {number}, done: {done}");
    before.read("other");
    before.assert_healthy(&format!("{effect:?} at {call} {number}"));
    met
}

fn delete(effect: Effect, call: &str, number: usize) -> bool {
    let mut before = Before::new();
    let strace = Strace::attach(before.daemon.pid(), effect, call, number);
    let path = format!("/v2/a/manifests/{}", before.other);
    let answer = before.daemon.request("DELETE", &path).try_send();
    let done = answer.is_ok_and(|answer| answer.status == 202);
    let met = strace.end();
    before.restart();
    let there = before.daemon.get(&path).status == 200;
    assert!(!(done && there), "{call} {number}");
    assert_eq!(there, before.daemon.get("/v2/a/manifests/other").status == 200, "{call} {number}");
    if there {
        before.read("other");
    }
    assert_eq!(before.read("t"), before.old);
    before.assert_healthy(&format!("{effect:?} at {call} {number}"));
    met
}

fn collection(effect: Effect, call: &str, number: usize) -> bool {
    let mut before = Before::new();
    let path = format!("/v2/a/manifests/{}", before.other);
    before.daemon.request("DELETE", &path).send().expect(202);
    let met = run_with_fault(&["gc", "--grace", "0s"], &before.daemon, effect, call, number);
    // Checked beside the running daemon, and after its restart.
    assert_eq!(before.read("t"), before.old);
    before.restart();
    assert_eq!(before.read("t"), before.old);
    run(Command::new(BINARY).env_clear().args(["gc", "--grace", "0s", "--data"]).arg(&before.daemon.data));
    let files = std::fs::read_dir(before.daemon.data.join("blobs/sha256")).unwrap().count();
    assert_eq!(files, 3, "{effect:?} at {call} {number}: the collection kept an orphan");
    before.assert_healthy(&format!("{effect:?} at {call} {number}"));
    met
}

fn rebuild(effect: Effect, call: &str, number: usize) -> bool {
    let mut before = Before::new();
    before.daemon.stop();
    let met = run_with_fault(&["check", "--rebuild"], &before.daemon, effect, call, number);
    before.daemon.start_again();
    assert_eq!(before.read("t"), before.old, "{effect:?} at {call} {number}");
    before.read("other");
    before.assert_healthy(&format!("{effect:?} at {call} {number}"));
    met
}

/// Injects a fault at each step in turn, until the operation has no more.
fn at_every_step(operation: Operation, effects: &[Effect]) {
    let mut steps = 0;
    for effect in effects {
        for call in CALLS {
            let mut number = 1;
            while operation(*effect, call, number) {
                steps += 1;
                number += 1;
                assert!(number < MAX_STEPS, "{call} has too many steps");
            }
        }
    }
    println!("{steps} steps");
    assert!(steps >= effects.len(), "only {steps} faults were injected");
}

const KILL: [Effect; 1] = [Effect::Kill];
const FAILS: [Effect; 2] = [Effect::Fails("EIO"), Effect::Fails("ENOSPC")];

#[test]
fn push_survives_kills() {
    at_every_step(push, &KILL);
}

#[test]
fn push_survives_disk_errors() {
    at_every_step(push, &FAILS);
}

#[test]
fn delete_survives_kills_and_disk_errors() {
    at_every_step(delete, &[KILL[0], FAILS[0], FAILS[1]]);
}

#[test]
fn collection_survives_kills() {
    at_every_step(collection, &KILL);
}

#[test]
fn collection_survives_disk_errors() {
    at_every_step(collection, &FAILS);
}

#[test]
fn rebuild_survives_kills_and_disk_errors() {
    at_every_step(rebuild, &[KILL[0], FAILS[0], FAILS[1]]);
}
