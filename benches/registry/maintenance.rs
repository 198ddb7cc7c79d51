//! Cost of maintenance: collections, checks, and opening a large store.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast::oci::{Algorithm, Hasher};
use serde_json::{Value, json};

use super::layout::{self, Layout};
use super::load::{self, Connection, Target};
use super::peers::{self, HOLDFAST};
use super::push::{self, Large};
use super::report::{Goal, Measure, Report, milliseconds};

static COLLECT: Measure = Measure { name: "collection of 100 of 200 images, ms", goal: Goal::Most(100.0) };
static SLOWEST: Measure = Measure { name: "slowest request meanwhile, ms", goal: Goal::Most(50.0) };
static OPEN: Measure = Measure { name: "opening 100,000 blobs, ms", goal: Goal::Most(100.0) };
static OPEN_AFTER_CRASH: Measure = Measure { name: "the same after a crash, ms", goal: Goal::Most(1000.0) };
static COLLECT_LARGE: Measure = Measure { name: "collecting them, ms", goal: Goal::Most(2000.0) };
static REBUILD: Measure = Measure { name: "rebuilding their index, ms", goal: Goal::Most(60_000.0) };
/// Column of the hash of the same bytes in memory.
const HASH: &str = "hash alone";
static CHECK: Measure = Measure { name: "check, MiB/s", goal: Goal::PartOf(0.5, HASH) };

const MANIFESTS: usize = 10_000;
const LAYERS_EACH: usize = 9;
const CHECKED: usize = 512 << 20;

/// Pushes 200 images, deletes 100 and collects them, while another client sends requests.
pub fn collect(data: &Path, report: &mut Report) -> io::Result<()> {
    let server = peers::holdfast(data)?;
    let mut connection = Connection::open(&server.target)?;
    let mut manifests = Vec::new();
    for number in 0..200 {
        manifests.push(push::small_image(&mut connection, "app/web", &format!("t{number}"))?);
    }
    let kept = manifests.remove(1);
    for manifest in manifests.iter().take(100) {
        let digest = Hasher::digest(Algorithm::Sha256, manifest);
        let path = format!("/v2/app/web/manifests/{digest}");
        let head = connection.head_of("DELETE", &path, "");
        connection.exchange(&head, &[], 202)?;
    }
    let stop = AtomicBool::new(false);
    let (gc, slowest) = std::thread::scope(|scope| {
        let requests = scope.spawn(|| slowest_request(&server.target, &kept, &stop));
        std::thread::sleep(Duration::from_millis(50));
        let gc = run_gc(peers::own_binary(), data);
        stop.store(true, Ordering::Relaxed);
        (gc, load::join(requests))
    });
    report.add(&COLLECT, HOLDFAST, gc?);
    report.add(&SLOWEST, HOLDFAST, slowest?);
    Ok(())
}

/// Moves a tag and requests another until `stop` is set; returns the longest response time, in milliseconds.
fn slowest_request(target: &Target, manifest: &[u8], stop: &AtomicBool) -> io::Result<f64> {
    let mut connection = Connection::open(target)?;
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        push::put_manifest(&mut connection, "app/web", "moved", manifest)?;
        slowest = slowest.max(begun.elapsed());
        let head = connection.head_of("HEAD", "/v2/app/web/manifests/t1", "");
        let begun = Instant::now();
        connection.send(&head)?;
        connection.head()?;
        slowest = slowest.max(begun.elapsed());
    }
    Ok(milliseconds(slowest))
}

/// Collects without a grace period; returns the reported duration, in milliseconds.
pub fn run_gc(binary: &Path, data: &Path) -> io::Result<f64> {
    let output = Command::new(binary)
        .env_clear()
        .args(["gc", "--grace", "0s", "--json", "--data"])
        .arg(data)
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["milliseconds"].as_f64().ok_or_else(|| io::Error::other("the collection reports no duration"))
}

/// Opens and collects a store of 100,000 blobs and 10,000 tags.
pub fn large_store(data: &Path, report: &mut Report) -> io::Result<()> {
    make_layout(data)?;
    let begun = Instant::now();
    // Dropping the server shuts it down cleanly.
    drop(peers::holdfast(data)?);
    report.add(&REBUILD, HOLDFAST, milliseconds(begun.elapsed()));
    let server = peers::holdfast(data)?;
    report.add(&OPEN, HOLDFAST, milliseconds(server.start));
    server.kill()?;
    let server = peers::holdfast(data)?;
    report.add(&OPEN_AFTER_CRASH, HOLDFAST, milliseconds(server.start));
    report.add(&COLLECT_LARGE, HOLDFAST, run_gc(peers::own_binary(), data)?);
    Ok(())
}

/// Writes an image layout, from which the daemon rebuilds its index.
fn make_layout(data: &Path) -> io::Result<()> {
    let mut layout = Layout::create(data)?;
    for number in 0..MANIFESTS {
        let layers =
            (0..LAYERS_EACH).map(|layer| layout.store("a/b", format!("layer {number} {layer}").as_bytes()));
        let layers = layers.collect::<io::Result<Vec<_>>>()?;
        let config = layout.store("a/b", b"{}")?;
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let manifest = layout.store(layout::MANIFEST, manifest.to_string().as_bytes())?;
        layout.name(manifest, &format!("team/app{}", number % 100), &format!("t{number}"))?;
    }
    layout.finish()
}

/// Checks a large blob, and hashes the same number of bytes in memory.
pub fn check(data: &Path, report: &mut Report) -> io::Result<()> {
    let server = peers::holdfast(data)?;
    Large::new(CHECKED).push(&server.target, "app/large")?;
    let mebibytes = (CHECKED >> 20) as f64;
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let status = command.env_clear().args(["check", "--data"]).arg(data).stdout(Stdio::null()).status()?;
    report.add(&CHECK, HOLDFAST, mebibytes / begun.elapsed().as_secs_f64());
    if !status.success() {
        return Err(io::Error::other("the check found faults"));
    }
    let block = push::noise(1 << 20);
    let begun = Instant::now();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..CHECKED >> 20).for_each(|_| hasher.update(&block));
    std::hint::black_box(hasher.finish());
    report.add(&CHECK, HASH, mebibytes / begun.elapsed().as_secs_f64());
    Ok(())
}
