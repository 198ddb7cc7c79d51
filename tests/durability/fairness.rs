//! Fairness between clients: content that a malicious user pushed decides neither how long others wait nor how much
//! memory the daemon uses.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::*;

/// Many times the duration of a pull on an idle machine, and less than the timeout of clients.
const LONGEST_PULL: Duration = Duration::from_secs(15);
/// Bound of the median pull under attack: this multiple of the median at rest, or this duration, whichever is longer.
const SLOWDOWN: (u32, Duration) = (10, Duration::from_millis(250));
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Returns a field of `/proc/PID/status`, in KiB.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn missing_digest(number: usize) -> String {
    digest(format!("content number {number}").as_bytes())
}

/// Returns an image index of `first`, which exists, and more entries, padded to `size` bytes.
fn index(first: &str, entries: impl Iterator<Item = String>, size: usize) -> Vec<u8> {
    let entry = |digest: String| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
    let entries: Vec<Value> = std::iter::once(first.to_owned()).chain(entries).map(entry).collect();
    let mut index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "padding": ""});
    let length = serde_json::to_vec(&index).unwrap().len();
    index["padding"] = "x".repeat(size.saturating_sub(length)).into();
    serde_json::to_vec(&index).unwrap()
}

fn fallback_tag(subject: &str) -> String {
    subject.replace(':', "-")
}

#[test]
fn manifest_with_too_many_descriptors_is_refused_with_the_limit() {
    let daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "3")]);
    let (image, _) = daemon.push_image("a", "1", b"layer");
    let fits = index(&image, (0..2).map(missing_digest), 0);
    daemon.put_manifest("a", "fits", OCI_INDEX, &fits).expect(201);
    for size in [0, 200_000] {
        let refused =
            daemon.put_manifest("a", "many", OCI_INDEX, &index(&image, (0..3).map(missing_digest), size));
        let refused = refused.expect(400);
        assert_eq!(refused.error_code(), "MANIFEST_INVALID");
        let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("4 descriptors, and this registry takes 3"), "{message}");
    }
    let annotated = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{image}"}}],"annotations":{{"a":"","b":"","c":"","d":""}}}}"#
    );
    daemon.put_manifest("a", "noted", OCI_INDEX, annotated.as_bytes()).expect(400);
}

#[test]
fn fallback_tag_list_is_truncated_at_the_limit_and_deduplicated() {
    let mut daemon = Daemon::with_env(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "100000")]);
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let images: Vec<String> =
        (0..4).map(|number| daemon.push_image("a", &format!("s{number}"), &[number]).0).collect();
    let others = images[1..].iter().flat_map(|image| std::iter::repeat_n(image.clone(), 9_000));
    let list = index(&images[0], others, 0);
    daemon.put_manifest("a", &fallback_tag(&subject), OCI_INDEX, &list).expect(201);
    let path = format!("/v2/a/referrers/{subject}");
    let listed = |daemon: &Daemon| -> Vec<String> {
        let manifests = daemon.get(&path).expect(200).json()["manifests"].as_array().unwrap().clone();
        manifests.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
    };
    let mut sorted = images.clone();
    sorted.sort();
    assert_eq!(listed(&daemon), sorted);
    daemon.stop();
    daemon.start_again_with_env(&[("HOLDFAST_LIMITS_MANIFEST_DESCRIPTORS", "2")]);
    let mut first = images[..2].to_vec();
    first.sort();
    assert_eq!(listed(&daemon), first);
}

/// Returns a page of referrers, and the path of the next one.
fn page(daemon: &Daemon, path: &str) -> (Vec<String>, Option<String>) {
    let answer = daemon.get(path).expect(200);
    let manifests = answer.json()["manifests"].as_array().unwrap().clone();
    let digests = manifests.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect();
    let next = answer.header("link").map(|link| link[1..].split('>').next().unwrap().to_owned());
    (digests, next)
}

#[test]
fn paginated_referrers_of_subjects_and_fallback_tags_are_each_listed_once() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("a", "1", b"layer");
    let mut all = Vec::new();
    let config = daemon.push_blob("a", b"{}");
    for number in 0..24 {
        // Two of these fill a page.
        let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "x/own",
            "config": {"mediaType": "x/y", "digest": config, "size": 2}, "layers": [],
            "annotations": {"number": number.to_string(), "long": "x".repeat(60_000)}});
        if number % 2 == 0 {
            manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
        }
        let bytes = serde_json::to_vec(&manifest).unwrap();
        daemon.put_manifest("a", &digest(&bytes), OCI_MANIFEST, &bytes).expect(201);
        all.push((digest(&bytes), number % 2 == 0));
    }
    let entries = all.iter().map(|(digest, _)| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "artifactType": "x/listed",
            "annotations": {"long": "y".repeat(60_000)}})
    });
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries.collect::<Vec<_>>()});
    let list = serde_json::to_vec(&list).unwrap();
    daemon.put_manifest("a", &fallback_tag(&subject), OCI_INDEX, &list).expect(201);
    for (filter, wanted) in [("", None), ("?artifactType=x%2Fown", Some(true)), ("?artifactType=no", None)] {
        let mut expected: Vec<String> = all
            .iter()
            .filter(|(_, own)| wanted.is_none_or(|wanted| *own == wanted))
            .map(|(digest, _)| digest.clone())
            .filter(|_| filter != "?artifactType=no")
            .collect();
        expected.sort();
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut next = Some(format!("/v2/a/referrers/{subject}{filter}"));
        while let Some(path) = next.take() {
            let (digests, following) = page(&daemon, &path);
            found.extend(digests);
            next = following;
            pages += 1;
            assert!(pages < 50, "the pagination does not end");
        }
        assert_eq!(found, expected, "{filter}");
        assert!(pages > 2 || wanted.is_some() || filter.ends_with("no"), "{filter}: {pages} pages");
    }
}

#[test]
fn catalog_of_a_user_with_few_of_many_repositories_is_complete() {
    let rule = "[auth]\nanonymous = \"none\"\n[[auth.rule]]\nusers = [\"ann\"]\nrepositories = [\"r*5\"]\n\
                allow = [\"pull\", \"catalog\"]\n[[auth.rule]]\nusers = [\"bob\"]\nrepositories = [\"*\"]\n\
                allow = [\"pull\", \"push\"]\n";
    let daemon = Daemon::with_config(rule);
    add_user(&daemon.data, "ann", "secret of ann");
    add_user(&daemon.data, "bob", "secret of bob");
    let bob = |method: &str, path: &str| daemon.request(method, path).login("bob", "secret of bob");
    for number in 0..30 {
        let layer = digest(b"layer");
        bob("POST", &format!("/v2/r{number:02}/blobs/uploads/?digest={layer}"))
            .body(b"layer")
            .send()
            .expect(201);
        let put = bob("PUT", &format!("/v2/r{number:02}/manifests/1")).header("Content-Type", OCI_MANIFEST);
        put.body(&image(&layer, &layer, None)).send().expect(201);
    }
    let ann = |path: &str| daemon.request("GET", path).login("ann", "secret of ann").send().expect(200);
    assert_eq!(ann("/v2/_catalog").json()["repositories"], json!(["r05", "r15", "r25"]));
    let first = ann("/v2/_catalog?n=2");
    assert_eq!(first.json()["repositories"], json!(["r05", "r15"]));
    let next = first.required_header("link");
    let last = ann(next[1..].split('>').next().unwrap());
    assert_eq!((last.json()["repositories"].clone(), last.header("link")), (json!(["r25"]), None));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Returns how many of these connections have an answer with this status.
fn answered(streams: &[TcpStream], status: &str) -> usize {
    let is_answered = |stream: &&TcpStream| {
        let mut start = [0; 12];
        stream.set_nonblocking(true).unwrap();
        let read = stream.peek(&mut start).unwrap_or(0);
        stream.set_nonblocking(false).unwrap();
        start[..read] == *format!("HTTP/1.1 {status}").as_bytes()
    };
    streams.iter().filter(is_answered).count()
}

#[test]
fn list_request_overtakes_queued_lists_of_another_client() {
    let daemon = Daemon::start();
    let (subject, _) = daemon.push_image("hostile", "1", b"layer");
    let list = index(&subject, (0..9_990).map(missing_digest), 4 << 20);
    daemon.put_manifest("hostile", &fallback_tag(&subject), OCI_INDEX, &list).expect(201);
    let (own, _) = daemon.push_image("victim", "1", b"layer");
    let expensive = format!("/v2/hostile/referrers/{subject}?artifactType=none");
    let mut many: Vec<TcpStream> = (0..300)
        .map(|_| daemon.request("GET", &expensive).from(Ipv4Addr::new(127, 0, 0, 2)).open())
        .collect();
    // Once the queue of the client is full, further requests are refused at once.
    let begun = Instant::now();
    while answered(&many, "429") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no request is refused");
        std::thread::sleep(Duration::from_millis(1));
    }
    for path in [format!("/v2/victim/referrers/{own}"), "/v2/_catalog".into()] {
        let before = answered(&many, "200");
        daemon.request("GET", &path).from(CLIENT).send().expect(200);
        // Running lists, and those that end while the answer is in transit.
        let overtaken = answered(&many, "200") - before;
        assert!(overtaken <= 16, "{overtaken} lists were answered first");
    }
    // A pull never waits for lists, not even to find out whether a lease has to be renewed.
    daemon.request("GET", &format!("/v2/victim/manifests/{own}")).from(CLIENT).send().expect(200);
    let (mut listed, mut refused) = (0, 0);
    for stream in &mut many {
        let answer = Response::read(stream, false);
        match answer.status {
            200 => listed += 1,
            429 => {
                assert_eq!(answer.error_code(), "TOOMANYREQUESTS");
                assert!(answer.required_header("retry-after").parse::<u32>().unwrap() > 0);
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(listed >= 64 && refused > 0, "{listed} are answered and {refused} refused");
}

/// Sends one request of a malicious client.
fn attack(daemon: &Daemon, repository: &str, subject: &str, large: &[u8], number: usize) {
    let get = |path: &str| Request::new(daemon.address, "GET", path).try_send().map(drop);
    let _ = match number % 9 {
        0 => get(&format!("/v2/{repository}/referrers/{subject}")),
        1 => get(&format!("/v2/{repository}/referrers/{subject}?artifactType=none")),
        2 => get(&format!("/v2/{repository}/tags/list")),
        3 => get("/v2/_catalog"),
        4 => {
            let put = format!("/v2/{repository}/manifests/large");
            let put = Request::new(daemon.address, "PUT", &put).header("Content-Type", OCI_INDEX);
            put.body(large).try_send().map(drop)
        }
        5 => {
            // Reads the beginning of an answer, and disconnects.
            let mut stream: TcpStream =
                daemon.request("GET", &format!("/v2/{repository}/manifests/large")).open();
            stream.read_exact(&mut [0; 100])
        }
        6 => {
            // Disconnects at once.
            drop(daemon.request("GET", &format!("/v2/{repository}/referrers/{subject}")).open());
            Ok(())
        }
        7 => Browser::new(daemon).request("GET", &format!("/image/{repository}:large")).try_send().map(drop),
        _ => {
            let mut browser = Browser::new(daemon);
            for path in ["/", "/repositories?q=a", &format!("/repository/{repository}")] {
                browser.get(path);
            }
            Ok(())
        }
    };
}

/// Pushes manifests to the repository `hostile` that are expensive to list and to read. Returns the digest of an image
/// with many referrers, and a large image index.
fn push_expensive_content(daemon: &Daemon) -> (String, Vec<u8>) {
    let (subject, _) = daemon.push_image("hostile", "1", b"layer");
    let padded = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}], "x": "x".repeat(4_000_000)});
    let padded = serde_json::to_vec(&padded).unwrap();
    daemon.put_manifest("hostile", "padded", OCI_INDEX, &padded).expect(201);
    let padded = digest(&padded);
    // One digest many times, and many digests that do not exist.
    let entries =
        (0..9_990).map(|number| if number % 2 == 0 { padded.clone() } else { missing_digest(number) });
    let list = index(&subject, entries, 4 << 20);
    daemon.put_manifest("hostile", &fallback_tag(&subject), OCI_INDEX, &list[..]).expect(201);
    let large = index(&subject, (0..9_990).map(missing_digest), 4 << 20);
    daemon.put_manifest("hostile", "large", OCI_INDEX, &large).expect(201);
    let annotated = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
        "annotations": (0..9_000).map(|number| (format!("annotation {number}"), "x".repeat(300).into()))
            .collect::<serde_json::Map<_, _>>()});
    for number in 0..20 {
        let mut one = annotated.clone();
        one["number"] = number.into();
        daemon
            .put_manifest("hostile", &format!("a{number}"), OCI_INDEX, &serde_json::to_vec(&one).unwrap())
            .expect(201);
    }
    (subject, large)
}

/// Pulls at least 20 times, then until 15 seconds have passed or 1,000 pulls are done. Returns the duration of each.
fn pull_repeatedly(pull: impl Fn() -> Duration) -> Vec<Duration> {
    let end = Instant::now() + Duration::from_secs(15);
    (0..1000).take_while(|number| *number < 20 || Instant::now() <= end).map(|_| pull()).collect()
}

#[test]
fn malicious_client_neither_blocks_pulls_nor_exhausts_memory() {
    // The allocator of debug builds keeps freed memory for each thread; that of the releases does not.
    let mut daemon = Daemon::with_env(&[("MALLOC_ARENA_MAX", "2")]);
    let (_, victim) = daemon.push_image("victim", "1", b"a small layer");
    let layer = digest(b"a small layer");
    let (subject, large) = push_expensive_content(&daemon);
    let pull = || {
        let get = |path: &str| daemon.request("GET", path).from(CLIENT).send().expect(200).body;
        let began = Instant::now();
        assert_eq!(get("/v2/victim/manifests/1"), victim);
        assert_eq!(get(&format!("/v2/victim/blobs/{layer}")), b"a small layer");
        began.elapsed()
    };
    let at_rest = median((0..50).map(|_| pull()).collect());
    let (done, attacks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut longest, most) = (Duration::ZERO, AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let number = attacks.fetch_add(1, Ordering::Relaxed);
                    // A busy daemon may evict the connection.
                    attack(&daemon, "hostile", &subject, &large, number);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(usize::try_from(memory(&daemon, "RssAnon")).unwrap(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // All threads are attacking.
        while attacks.load(Ordering::Relaxed) < 128 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pulls = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pull_repeatedly(pull)));
        done.store(true, Ordering::Relaxed);
        let pulls = pulls.unwrap();
        longest = pulls.iter().max().copied().unwrap_or_default();
        let attacked = median(pulls);
        println!("the median of pulls is {attacked:?}, and {at_rest:?} at rest");
        assert!(attacked <= SLOWDOWN.1.max(at_rest * SLOWDOWN.0), "{attacked:?}, and {at_rest:?} at rest");
    });
    let attacks = attacks.into_inner();
    let (peak, most) = (memory(&daemon, "VmHWM"), most.into_inner());
    println!(
        "{attacks} attacks, the longest pull took {longest:?}, {most} KiB of memory, {peak} KiB with what is mapped"
    );
    assert!(longest < LONGEST_PULL, "a pull took {longest:?}");
    // Without mapped files, which the kernel can reclaim at any time.
    assert!(most < 128 << 10, "{most} KiB");
    // Running requests delay the shutdown no longer than a pull may take.
    let running: Vec<TcpStream> =
        (0..64).map(|_| daemon.request("GET", &format!("/v2/hostile/referrers/{subject}")).open()).collect();
    let began = Instant::now();
    daemon.stop();
    drop(running);
    assert!(began.elapsed() < LONGEST_PULL, "it took {:?} to stop", began.elapsed());
}
