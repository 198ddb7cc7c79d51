//! Pushes: one large blob as Docker streams it, and many small images.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdfast::oci::{Algorithm, Digest, Hasher};

use super::layout::{CONFIG, MANIFEST};
use super::load::{Connection, Target, join};
use super::report::milliseconds;

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

/// A kind of small image, and the order of the requests that push it.
#[derive(Clone, Copy)]
pub struct Kind {
    pub layers: usize,
    pub upload: Upload,
}

/// The requests that upload one blob.
#[derive(Clone, Copy)]
pub enum Upload {
    /// POST, and PUT with the content.
    Put,
    /// HEAD, POST, PATCH with the content, and PUT, as Docker sends them.
    Docker,
    /// POST with the digest and the content; then PUT with the content where the server answers with an upload.
    Single,
}

/// An image of one layer.
pub const SMALL: Kind = Kind { layers: 1, upload: Upload::Put };

/// Pushes small images on `connections` connections, each with a repository of its own; returns images per second.
pub fn images(target: &Target, connections: usize, total: usize, kind: Kind) -> io::Result<f64> {
    let place = |number| (format!("small/{}", number % connections), "latest".to_owned());
    let begun = Instant::now();
    images_at(target, connections, total, kind, place)?;
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

/// Pushes small images on `connections` connections, each to the repository and tag of its number; returns the
/// milliseconds of each push.
pub fn images_at(
    target: &Target,
    connections: usize,
    total: usize,
    kind: Kind,
    place: impl Fn(usize) -> (String, String) + Sync,
) -> io::Result<Vec<f64>> {
    let place = &place;
    std::thread::scope(|scope| {
        let work = |first: usize| {
            move || {
                let mut connection = Connection::open(target)?;
                let push = |number| {
                    let (repository, tag) = place(number);
                    let begun = Instant::now();
                    image(&mut connection, &repository, &tag, kind)?;
                    Ok(milliseconds(begun.elapsed()))
                };
                (first..total).step_by(connections).map(push).collect::<io::Result<Vec<_>>>()
            }
        };
        let threads: Vec<_> = (0..connections).map(|first| scope.spawn(work(first))).collect();
        Ok(threads.into_iter().map(join).collect::<io::Result<Vec<_>>>()?.concat())
    })
}

/// Pushes an image with a unique config and layer; returns its manifest.
pub fn small_image(connection: &mut Connection, repository: &str, tag: &str) -> io::Result<Vec<u8>> {
    image(connection, repository, tag, SMALL)
}

/// Pushes an image with a unique config and unique layers; returns its manifest.
pub fn image(connection: &mut Connection, repository: &str, tag: &str, kind: Kind) -> io::Result<Vec<u8>> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let config = format!("{{\"architecture\":\"arm64\",\"os\":\"linux\",\"author\":\"{serial}\"}}");
    let config = blob(connection, repository, config.as_bytes(), kind.upload)?;
    let mut layers = Vec::new();
    for number in 0..kind.layers {
        let mut layer = noise(SMALL_LAYER);
        layer[..8].copy_from_slice(&serial.to_le_bytes());
        layer[8..16].copy_from_slice(&number.to_le_bytes());
        let layer = blob(connection, repository, &layer, kind.upload)?;
        layers.push(format!("{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",{layer}}}"));
    }
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\
         \"config\":{{\"mediaType\":\"{CONFIG}\",{config}}},\"layers\":[{}]}}",
        layers.join(",")
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

/// Pushes a small blob; returns `"digest":…,"size":…` for a manifest.
fn blob(connection: &mut Connection, repository: &str, content: &[u8], upload: Upload) -> io::Result<String> {
    let digest = Hasher::digest(Algorithm::Sha256, content);
    match upload {
        Upload::Put => {
            let location = start(connection, repository)?;
            finish(connection, &location, &digest, content)?;
        }
        Upload::Docker => {
            let head = connection.head_of("HEAD", &format!("/v2/{repository}/blobs/{digest}"), "");
            connection.exchange(&head, &[], 404)?;
            let location = start(connection, repository)?;
            let head = connection.head_of("PATCH", &location, &length_of(content));
            let response = connection.exchange(&head, content, 202)?;
            let location = response.location.as_deref().map_or(location, path);
            finish(connection, &location, &digest, &[])?;
        }
        Upload::Single => single(connection, repository, &digest, content)?,
    }
    Ok(format!("\"digest\":\"{digest}\",\"size\":{}", content.len()))
}

/// Pushes a blob with one POST, or with a PUT after it if the server does not take the content of a POST.
fn single(connection: &mut Connection, repository: &str, digest: &Digest, content: &[u8]) -> io::Result<()> {
    let place = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let head = connection.head_of("POST", &place, &length_of(content));
    let response = connection.exchange_any(&head, content)?;
    match (response.status, response.location.as_deref()) {
        (201, _) => Ok(()),
        (202, Some(location)) => finish(connection, &path(location), digest, content),
        (status, _) => Err(io::Error::other(format!("status {status} for POST of a blob"))),
    }
}

fn length_of(content: &[u8]) -> String {
    format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", content.len())
}

fn start(connection: &mut Connection, repository: &str) -> io::Result<String> {
    let path_of_uploads = format!("/v2/{repository}/blobs/uploads/");
    let head = connection.head_of("POST", &path_of_uploads, "Content-Length: 0\r\n");
    let response = connection.exchange(&head, &[], 202)?;
    response.location.as_deref().map(path).ok_or_else(|| io::Error::other("no Location"))
}

fn finish(connection: &mut Connection, location: &str, digest: &Digest, content: &[u8]) -> io::Result<()> {
    let separator = if location.contains('?') { '&' } else { '?' };
    let place = format!("{location}{separator}digest={digest}");
    let head = connection.head_of("PUT", &place, &length_of(content));
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
