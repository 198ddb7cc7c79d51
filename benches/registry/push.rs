//! Pushes: one large blob as Docker streams it, and many small images.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdfast::oci::{Algorithm, Digest, Hasher};

use super::load::{Connection, Target, join};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Length of a small image's layer, in bytes.
const SMALL_LAYER: usize = 4 << 10;

/// Number that makes the content of each push unique.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Returns incompressible bytes of a fixed generator, the same in every run.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A large blob: a block with a unique beginning, repeated.
pub struct Large {
    block: Vec<u8>,
    blocks: usize,
    pub digest: Digest,
}

impl Large {
    pub fn new(size: usize) -> Self {
        let mut block = noise(1 << 20);
        block[..8].copy_from_slice(&SERIAL.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let blocks = size / block.len();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        (0..blocks).for_each(|_| hasher.update(&block));
        Large { block, blocks, digest: hasher.finish() }
    }

    /// Pushes the blob as Docker does: POST, one PATCH, PUT without a body. Returns the seconds until the 201.
    pub fn push(&self, target: &Target, repository: &str) -> io::Result<f64> {
        let begun = Instant::now();
        let mut connection = Connection::open(target)?;
        let location = start(&mut connection, repository)?;
        let length = self.block.len() * self.blocks;
        let head = connection.head_of("PATCH", &location, &format!("Content-Length: {length}\r\n"));
        connection.send(&head)?;
        for _ in 0..self.blocks {
            connection.send(&self.block)?;
        }
        let head = connection.head()?;
        connection.discard(&head)?;
        let location = path(head.location.as_deref().unwrap_or(&location));
        finish(&mut connection, &location, &self.digest, &[])?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// Pushes `each` small images on each of `connections` connections; returns images per second.
pub fn small_images(target: &Target, connections: usize, each: usize) -> io::Result<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let work = |number: usize| {
            move || {
                let mut connection = Connection::open(target)?;
                (0..each).try_for_each(|_| {
                    small_image(&mut connection, &format!("small/{number}"), "latest").map(drop)
                })
            }
        };
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(work(number))).collect();
        threads.into_iter().try_for_each(join)
    })?;
    Ok((connections * each) as f64 / begun.elapsed().as_secs_f64())
}

/// Pushes an image with a unique config and layer; returns its manifest.
pub fn small_image(connection: &mut Connection, repository: &str, tag: &str) -> io::Result<Vec<u8>> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let config = format!("{{\"architecture\":\"arm64\",\"os\":\"linux\",\"author\":\"{serial}\"}}");
    let mut layer = noise(SMALL_LAYER);
    layer[..8].copy_from_slice(&serial.to_le_bytes());
    let config = blob(connection, repository, config.as_bytes())?;
    let layer = blob(connection, repository, &layer)?;
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",{config}}},\
         \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",{layer}}}]}}"
    );
    put_manifest(connection, repository, tag, manifest.as_bytes())?;
    Ok(manifest.into_bytes())
}

/// Puts a manifest under a tag.
pub fn put_manifest(
    connection: &mut Connection,
    repository: &str,
    tag: &str,
    manifest: &[u8],
) -> io::Result<()> {
    let headers = format!("Content-Type: {MANIFEST}\r\nContent-Length: {}\r\n", manifest.len());
    let head = connection.head_of("PUT", &format!("/v2/{repository}/manifests/{tag}"), &headers);
    connection.exchange(&head, manifest, 201)?;
    Ok(())
}

/// Pushes a small blob by POST and PUT; returns `"digest":…,"size":…` for a manifest.
fn blob(connection: &mut Connection, repository: &str, content: &[u8]) -> io::Result<String> {
    let digest = Hasher::digest(Algorithm::Sha256, content);
    let location = start(connection, repository)?;
    finish(connection, &location, &digest, content)?;
    Ok(format!("\"digest\":\"{digest}\",\"size\":{}", content.len()))
}

fn start(connection: &mut Connection, repository: &str) -> io::Result<String> {
    let path_of_uploads = format!("/v2/{repository}/blobs/uploads/");
    let head = connection.head_of("POST", &path_of_uploads, "Content-Length: 0\r\n");
    let response = connection.exchange(&head, &[], 202)?;
    response.location.as_deref().map(path).ok_or_else(|| io::Error::other("no Location"))
}

fn finish(connection: &mut Connection, location: &str, digest: &Digest, content: &[u8]) -> io::Result<()> {
    let separator = if location.contains('?') { '&' } else { '?' };
    let headers = format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", content.len());
    let head = connection.head_of("PUT", &format!("{location}{separator}digest={digest}"), &headers);
    connection.exchange(&head, content, 201)?;
    Ok(())
}

/// Returns the path of a `Location`, which may be an absolute URL.
fn path(location: &str) -> String {
    let rest = location.strip_prefix("http://").or_else(|| location.strip_prefix("https://"));
    match rest {
        Some(rest) => rest[rest.find('/').unwrap_or(rest.len())..].to_owned(),
        None => location.to_owned(),
    }
}
