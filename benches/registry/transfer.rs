//! Import and export of a large archive, beside `cp` and `sha256sum` on the same disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::oci::{Algorithm, Digest, Hasher};
use nix::sys::statvfs::statvfs;
use serde_json::json;

use super::peers::{self, HOLDFAST};
use super::push;
use super::report::{Goal, Measure, Report};

/// Column of a copy of the archive, synced, and the hash of the copy.
const COPY: &str = "cp, sha256sum";
static IMPORT: Measure = Measure { name: "import of an archive, MiB/s", goal: Goal::PartOf(0.8, COPY) };
static EXPORT: Measure = Measure { name: "export with reading back, MiB/s", goal: Goal::PartOf(0.8, COPY) };
static IMPORTING: Measure = Measure { name: "memory of the import, MiB", goal: Goal::Most(32.0) };
static EXPORTING: Measure = Measure { name: "memory of the export, MiB", goal: Goal::Most(32.0) };
static SERVING: Measure = Measure { name: "memory of the daemon in both, MiB", goal: Goal::Most(32.0) };
static EXTRA: Measure = Measure { name: "disk beyond the images, MiB", goal: Goal::Most(32.0) };

/// Rounds in which transfers are measured.
pub const ROUNDS: usize = 3;

const MIB: u64 = 1 << 20;
/// Layers of each GiB.
const LAYERS_EACH: u64 = 4;
/// The time between two looks at a command, and its limit.
const PERIOD: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_hours(1);

/// Measures one import into an empty registry, one export from it, and one copy.
pub fn measure(data: &Path, round: usize, gibibytes: u64, report: &mut Report) -> io::Result<()> {
    let archive = data.join("archive.tar");
    if round == 0 {
        fs::create_dir_all(data)?;
        write_archive(&archive, gibibytes)?;
    }
    let size = fs::metadata(&archive)?.len() as f64 / MIB as f64;
    let store = data.join(format!("store-{round}"));
    let server = peers::holdfast(&store)?;
    let holdfast = |arguments: &[&str], path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.env_clear().args(arguments).arg(path).arg("--data").arg(&store);
        command
    };
    prepare(&archive)?;
    let imported = Run::of(holdfast(&["import"], &archive), data)?;
    report.add(&IMPORT, HOLDFAST, size / imported.seconds);
    report.add(&IMPORTING, HOLDFAST, imported.memory);
    report.add(&EXTRA, HOLDFAST, imported.extra_disk);
    let output = data.join("exported");
    drop_caches(&store.join("blobs/sha256"))?;
    let exported = Run::of(holdfast(&["export", "--all", "-o"], &output), data)?;
    report.add(&EXPORT, HOLDFAST, size / exported.seconds);
    report.add(&EXPORTING, HOLDFAST, exported.memory);
    report.add(&SERVING, HOLDFAST, server.memory("VmHWM"));
    drop(server);
    fs::remove_dir_all(&output)?;
    fs::remove_dir_all(&store)?;
    let copied = copy(&archive, &data.join("copy"))?;
    report.add(&IMPORT, COPY, size / copied);
    report.add(&EXPORT, COPY, size / copied);
    Ok(())
}

/// Copies the archive, syncs and hashes the copy; returns the seconds.
fn copy(archive: &Path, copy: &Path) -> io::Result<f64> {
    prepare(archive)?;
    let begun = Instant::now();
    for (program, paths) in [("cp", vec![archive, copy]), ("sync", vec![copy]), ("sha256sum", vec![copy])] {
        if !Command::new(program).args(paths).stdout(Stdio::null()).status()?.success() {
            return Err(io::Error::other(format!("{program} fails")));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_file(copy)?;
    Ok(seconds)
}

/// Syncs the disk, and drops the archive from the page cache.
fn prepare(archive: &Path) -> io::Result<()> {
    let _ = Command::new("sync").status();
    forget(archive)
}

fn drop_caches(folder: &Path) -> io::Result<()> {
    let _ = Command::new("sync").status();
    fs::read_dir(folder)?.try_for_each(|entry| forget(&entry?.path()))
}

fn forget(file: &Path) -> io::Result<()> {
    Ok(rustix::fs::fadvise(File::open(file)?, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// The measures of a command.
struct Run {
    seconds: f64,
    /// Peak memory, in MiB.
    memory: f64,
    /// Disk that was in use in between and is free again at the end, in MiB.
    extra_disk: f64,
}

impl Run {
    /// Runs a command to its end.
    fn of(mut command: Command, disk: &Path) -> io::Result<Self> {
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut child = KilledOnDrop(child);
        let process = PathBuf::from(format!("/proc/{}", child.0.id()));
        let (mut memory, mut least) = (0.0_f64, f64::MAX);
        let status = loop {
            if let Some(status) = child.0.try_wait()? {
                break status;
            }
            memory = memory.max(peers::status_of(&process, "VmHWM").unwrap_or(0.0) / 1024.0);
            least = least.min(free(disk)?);
            if begun.elapsed() > LIMIT {
                return Err(io::Error::other("a transfer has no end"));
            }
            std::thread::sleep(PERIOD);
        };
        if !status.success() {
            return Err(io::Error::other(format!("{command:?} fails: {status}")));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let extra_disk = (free(disk)? - least).max(0.0);
        Ok(Run { seconds, memory, extra_disk })
    }
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the free space of a disk, in MiB.
fn free(disk: &Path) -> io::Result<f64> {
    let statistics = statvfs(disk)?;
    Ok(statistics.blocks_free() as f64 * statistics.fragment_size() as f64 / MIB as f64)
}

/// The content of a layer: a block that does not compress, again and again, each time with another beginning.
struct LayerContent {
    block: Vec<u8>,
    number: u64,
    at: usize,
    rest: u64,
}

impl LayerContent {
    fn new(layer: u64, size: u64) -> Self {
        let block = push::noise(usize::try_from(MIB).unwrap_or(usize::MAX));
        let mut content = LayerContent { block, number: layer << 32, at: 0, rest: size };
        content.begin_block();
        content
    }

    fn begin_block(&mut self) {
        self.number += 1;
        self.at = 0;
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
    }
}

impl Read for LayerContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.begin_block();
        }
        let rest = usize::try_from(self.rest).unwrap_or(usize::MAX);
        let count = buffer.len().min(self.block.len() - self.at).min(rest);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        self.rest -= count as u64;
        Ok(count)
    }
}

/// Writes an image layout with one image as a tar.
fn write_archive(path: &Path, gibibytes: u64) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, File::create(path)?));
    let mut layers = Vec::new();
    for layer in 0..gibibytes.max(1) * LAYERS_EACH {
        let size = 1024 * MIB / LAYERS_EACH;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut content, mut buffer) = (LayerContent::new(layer, size), vec![0; 1 << 20]);
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let digest = hasher.finish();
        add(&mut tar, &blob(&digest), size, LayerContent::new(layer, size))?;
        layers.push(
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}),
        );
    }
    let mut text = |content: &str| -> io::Result<Digest> {
        let digest = Hasher::digest(Algorithm::Sha256, content.as_bytes());
        add(&mut tar, &blob(&digest), content.len() as u64, content.as_bytes())?;
        Ok(digest)
    };
    let config =
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": text("{}")?, "size": 2});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}).to_string();
    let digest = text(&manifest)?;
    let annotations = json!({"io.containerd.image.name": "docker.io/library/large:1"});
    let entry =
        json!({"mediaType": kind, "digest": digest, "size": manifest.len(), "annotations": annotations});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    for (name, content) in [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)] {
        add(&mut tar, name, content.len() as u64, content.as_bytes())?;
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn add<W: io::Write>(tar: &mut tar::Builder<W>, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content)
}
