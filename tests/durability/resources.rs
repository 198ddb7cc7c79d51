//! A lack of descriptors or memory: requests get 503 while it lasts, and the store works afterwards.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::fault_injection::FaultInjection;
use crate::support::*;

const ERRORS: [&str; 4] = ["EMFILE", "ENFILE", "ENOMEM", "EAGAIN"];

/// The steps of a push: the system call that fails, on which file, and whether the client has to start the upload
/// again. It has to after a failed sync of the file, and after a failed change that had renamed the file to its blob.
const STEPS: [(&str, Where, bool); 8] = [
    ("openat", Where::Anywhere, false),
    ("pwrite64", Where::Upload, false),
    ("fdatasync", Where::Anywhere, true),
    ("rename", Where::Anywhere, false),
    ("fsync", Where::Anywhere, true),
    ("writev", Where::Index, true),
    ("fdatasync", Where::Index, true),
    ("mmap", Where::Anywhere, false),
];

#[derive(Clone, Copy, Debug)]
enum Where {
    Anywhere,
    Upload,
    Index,
}

fn start(daemon: &Daemon) -> String {
    daemon.start_upload("a")
}

/// Returns true if the request succeeded; a refusal has to be a 503 with Retry-After.
#[track_caller]
fn expect_done_or_unavailable(answer: Response, done: u16, case: &str) -> bool {
    if answer.status != done {
        assert_eq!(answer.status, 503, "{case}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.header("retry-after").is_some(), "{case}");
    }
    answer.status == done
}

#[test]
fn lack_of_descriptors_or_memory_fails_requests_and_not_the_store() {
    let mut daemon = Daemon::start();
    let (old, bytes) = daemon.push_image("a", "old", b"old layer");
    let mut acknowledged = vec![("old".to_owned(), bytes)];
    for (call, place, starts_again) in STEPS {
        for error in ERRORS {
            let case = format!("{call} {place:?} {error}");
            let content = format!("the layer of {case}").into_bytes();
            let (half, rest) = content.split_at(9);
            let location = start(&daemon);
            daemon.request("PATCH", &location).body(half).send().expect(202);
            let put = format!("{location}?digest={}", digest(&content));
            let file = match place {
                Where::Anywhere => None,
                Where::Upload => Some(daemon.data.join("uploads").join(location.rsplit('/').next().unwrap())),
                Where::Index => Some(daemon.data.join("index/data.mdb")),
            };
            let file = file.map(|file| file.to_str().unwrap().to_owned());
            let tag = case.replace(' ', "-");
            let failing = FaultInjection::fail_with(error, daemon.pid(), call, file.as_deref());
            let ended = expect_done_or_unavailable(daemon.request("PUT", &put).body(rest).send(), 201, &case);
            let manifest = image(&digest(b"old layer"), &digest(b"old layer"), None);
            let answer = daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest);
            if expect_done_or_unavailable(answer, 201, &case) {
                acknowledged.push((tag.clone(), manifest));
            }
            // A lookup in the index needs neither.
            daemon.request("HEAD", &format!("/v2/a/manifests/{old}")).send().expect(200);
            drop(failing);
            if !ended {
                let range = format!("{}-{}", half.len(), content.len() - 1);
                let again = daemon.request("PUT", &put).header("Content-Range", &range).body(rest).send();
                // The failed request may have written the rest already.
                let is_whole = again.status == 416;
                let again = if is_whole { daemon.request("PUT", &put).body(b"").send() } else { again };
                again.expect(if starts_again { 404 } else { 201 });
            }
            let (_, manifest) = daemon.push_image("a", &format!("after-{tag}"), &content);
            acknowledged.push((format!("after-{tag}"), manifest));
            assert_eq!(daemon.get(&format!("/v2/a/blobs/{}", digest(&content))).expect(200).body, content);
        }
    }
    let status = run(Command::new(BINARY).env_clear().args(["status", "--data"]).arg(&daemon.data));
    assert!(!status.contains("read-only"), "{status}");
    daemon.kill_and_restart();
    for (tag, manifest) in acknowledged {
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200).body, manifest, "{tag}");
    }
    run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
}

#[test]
fn reads_without_descriptors_get_503_and_no_blob_counts_as_damaged() {
    let daemon = Daemon::start();
    daemon.push_image("a", "1", b"layer");
    let blob = format!("/v2/a/blobs/{}", digest(b"layer"));
    for error in ERRORS {
        // Another manifest each time: the daemon keeps the ones that it has read.
        let (image, bytes) = daemon.push_image("a", error, error.as_bytes());
        let failing = FaultInjection::fail_with(error, daemon.pid(), "openat,openat2", None);
        assert!(!expect_done_or_unavailable(daemon.get(&blob), 200, error));
        assert!(!expect_done_or_unavailable(daemon.get(&format!("/v2/a/manifests/{image}")), 200, error));
        drop(failing);
        assert_eq!(daemon.get(&format!("/v2/a/manifests/{image}")).expect(200).body, bytes);
        // A check stops instead of reporting intact blobs as unreadable, and a repair sets none of them aside.
        let file = daemon.data.join("blobs/sha256").join(&digest(b"layer")["sha256:".len()..]);
        // The daemon makes the check.
        let failing = FaultInjection::fail_with(error, daemon.pid(), "openat", file.to_str());
        let mut command = Command::new(BINARY);
        command.args(["check", "--repair", "--data"]).arg(&daemon.data).env_clear();
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("unreadable"), "{output:?}");
        drop(failing);
        daemon.get(&blob).expect(200);
    }
}

fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

#[test]
fn idle_uploads_hold_no_descriptors() {
    for (limit, uploads) in [(64, 150), (256, 300), (1024, 1100)] {
        let mut daemon = Daemon::with_descriptors(limit);
        daemon.push_image("a", "0", b"layer");
        let before = descriptors(&daemon);
        let locations: Vec<_> = (0..uploads)
            .map(|number| {
                let location = start(&daemon);
                let body = format!("{number}");
                daemon.request("PATCH", &location).body(body.as_bytes()).send().expect(202);
                location
            })
            .collect();
        assert!(descriptors(&daemon) < before + 10, "{} after {before}", descriptors(&daemon));
        // Opens as many stalled requests as there are descriptors, and closes them.
        let stalled: Vec<_> = locations
            .iter()
            .take(uploads.min(200) - 10)
            .map(|location| {
                let mut stream = daemon.request("PATCH", location).header("Content-Length", "10").open();
                let _ = stream.write_all(b"x");
                stream
            })
            .collect();
        drop(stalled);
        // Until the daemon has noticed, another connection of this address may get no slot and no place for an upload.
        let (began, mut served) = (Instant::now(), 0);
        while served < 20 {
            assert!(began.elapsed() < Duration::from_secs(60), "the slots stay taken");
            let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"probe"));
            let status = daemon.request("POST", &path).body(b"probe").send().status;
            served = if status == 201 { served + 1 } else { 0 };
        }
        daemon.push_image("a", "1", b"another layer");
        let last = locations.last().unwrap();
        let body = (uploads - 1).to_string();
        let put = format!("{last}?digest={}", digest(body.as_bytes()));
        daemon.request("PUT", &put).body(b"").send().expect(201);
        daemon.kill_and_restart();
        daemon.get("/v2/a/manifests/1").expect(200);
    }
}

#[test]
fn a_record_whose_sync_failed_is_written_again() {
    for error in ["EMFILE", "ENOMEM", "EAGAIN", "ENOSPC", "EDQUOT"] {
        let mut daemon = Daemon::start();
        let (_, manifest) = daemon.push_image("a", "old", b"old layer");
        let log = daemon.data.join("index/wal.0").to_str().unwrap().to_owned();
        let put = |tag: &str| daemon.put_manifest("a", tag, OCI_MANIFEST, &manifest).status;
        let fails = |when: &str| {
            let how = format!("{error}:when={when}");
            FaultInjection::fail_with(&how, daemon.pid(), "fdatasync", Some(&log))
        };
        // Fails once: the second makes the change durable.
        let failing = fails("1");
        assert_eq!(put("once"), 201, "{error}");
        drop(failing);
        // Fails each time: the change is refused, and the store works afterwards.
        let failing = fails("1+1");
        let status = put("each");
        assert!(matches!(status, 503 | 507), "{error}: {status}");
        drop(failing);
        assert_eq!(put("after"), 201, "{error}");
        let status = run(Command::new(BINARY).env_clear().args(["status", "--data"]).arg(&daemon.data));
        assert!(!status.contains("read-only"), "{error}: {status}");
        daemon.kill_and_restart();
        for tag in ["old", "once", "after"] {
            assert_eq!(
                daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200).body,
                manifest,
                "{error} {tag}"
            );
        }
        run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    }
}

/// Every second `fdatasync` of LMDB's file is that of the meta page; LMDB's own precedes it.
#[test]
fn failed_syncs_of_a_checkpoint_lose_nothing() {
    // Segments of the log have sixteen records.
    let environment = [("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "1MiB")];
    for (error, when, latches) in [
        ("ENOMEM", "1+1", false),
        ("ENOMEM", "2+2", false),
        ("ENOSPC", "2+2", false),
        ("EIO", "1+1", true),
        ("EIO", "2+2", true),
    ] {
        let mut daemon = Daemon::with_env(&environment);
        let (_, manifest) = daemon.push_image("a", "old", b"old layer");
        let index = daemon.data.join("index/data.mdb").to_str().unwrap().to_owned();
        let how = format!("{error}:when={when}");
        let failing = FaultInjection::fail_with(&how, daemon.pid(), "fdatasync", Some(&index));
        // The tags that were acknowledged, and the answers to the others.
        let put = |count: usize| -> (Vec<String>, Vec<String>) {
            let tags = (0..count).map(|number| format!("{count}-{number}"));
            let answers = tags.map(|tag| (daemon.put_manifest("a", &tag, OCI_MANIFEST, &manifest), tag));
            let (set, refused): (Vec<_>, Vec<_>) = answers.partition(|(answer, _)| answer.status == 201);
            let text = |(answer, _): (Response, String)| String::from_utf8_lossy(&answer.body).into_owned();
            (set.into_iter().map(|(_, tag)| tag).collect(), refused.into_iter().map(text).collect())
        };
        let (mut acknowledged, refused) = put(60);
        assert!((5..60).contains(&acknowledged.len()), "{how}: {} {refused:?}", acknowledged.len());
        drop(failing);
        let (after, refused) = put(40);
        assert_eq!(after.len() == 40, !latches, "{how}: {} {refused:?}", after.len());
        acknowledged.extend(after);
        daemon.kill();
        daemon.start_again_with_env(&environment);
        for tag in &acknowledged {
            daemon.get(&format!("/v2/a/manifests/{tag}")).expect(200);
        }
        run(Command::new(BINARY).env_clear().args(["check", "--data"]).arg(&daemon.data));
    }
}

#[test]
fn an_io_error_in_the_sync_of_the_log_closes_the_latch() {
    let mut daemon = Daemon::start();
    let (_, manifest) = daemon.push_image("a", "old", b"old layer");
    let log = daemon.data.join("index/wal.0").to_str().unwrap().to_owned();
    let failing = FaultInjection::fail_with("EIO:when=1", daemon.pid(), "fdatasync", Some(&log));
    assert!(daemon.put_manifest("a", "new", OCI_MANIFEST, &manifest).status >= 500);
    drop(failing);
    daemon.put_manifest("a", "after", OCI_MANIFEST, &manifest).expect(503);
    daemon.kill_and_restart();
    daemon.put_manifest("a", "after", OCI_MANIFEST, &manifest).expect(201);
}

#[test]
fn users_stay_valid_while_the_htpasswd_file_cannot_be_read() {
    let daemon = Daemon::with_user("ann", "secret", &[]);
    let get = |name: &str, password: &str| daemon.request("GET", "/v2/").login(name, password).send().status;
    assert_eq!(get("ann", "secret"), 200);
    let file = daemon.data.join("htpasswd").to_str().unwrap().to_owned();
    let failing = FaultInjection::fail_with("EMFILE", daemon.pid(), "openat", Some(&file));
    add_user(&daemon.data, "bob", "hidden");
    assert_eq!(get("ann", "secret"), 200, "the users that were read before stay valid");
    drop(failing);
    // The file does not change again, but the daemon retries the read.
    let began = Instant::now();
    while get("bob", "hidden") != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "the file is not read again");
        std::thread::sleep(Duration::from_millis(1200));
    }
    assert_eq!(get("ann", "secret"), 200);
}

#[test]
fn a_fifo_in_the_place_of_the_htpasswd_file_blocks_no_request() {
    let daemon = Daemon::with_user("ann", "secret", &[]);
    let get = || daemon.request("GET", "/v2/").login("ann", "secret").send().status;
    assert_eq!(get(), 200);
    let (file, kept) = (daemon.data.join("htpasswd"), daemon.data.join("htpasswd.kept"));
    std::fs::rename(&file, &kept).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for _ in 0..3 {
        assert_eq!(get(), 503);
    }
    std::fs::rename(&kept, &file).unwrap();
    let began = Instant::now();
    while get() != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "the file is not read again");
        std::thread::sleep(Duration::from_millis(100));
    }
}
