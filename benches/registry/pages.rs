//! Cost of the admin pages with much content: 10,000 repositories, and 10,000 tags in one.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use holdfast::oci::{Algorithm, Hasher};
use serde_json::{Value, json};

use super::load::{Connection, Target};
use super::peers::{self, HOLDFAST};
use super::report::{Goal, Measure, Report, milliseconds};

const REPOSITORIES: usize = 10_000;
const TAGS: usize = 10_000;
/// Number of different images that the tags name.
const IMAGES: usize = 500;
/// Number of requests per page.
const ROUNDS: usize = 21;

const fn page(name: &'static str) -> Measure {
    Measure { name, goal: Goal::Most(10.0) }
}

static MEASURES: [(Measure, &str); 7] = [
    (page("page: overview of 10,000 repositories, ms"), "/"),
    (page("page: 10,000 repositories, ms"), "/repositories"),
    (page("page: the same by size, in the middle, ms"), "/repositories?sort=size&dir=down&page=60"),
    (page("page: the same searched, ms"), "/repositories?q=app77"),
    (page("page: 10,000 tags, ms"), "/repository/many/tags"),
    (page("page: the same, in the middle, ms"), "/repository/many/tags?page=125"),
    (page("page: an image of 20 tags, ms"), "/image/many/tags:1.0.0"),
];

/// Measures each page with a store created for it.
pub fn measure(data: &Path, report: &mut Report) -> io::Result<()> {
    make_layout(data)?;
    // The first start rebuilds the index.
    drop(peers::holdfast(data)?);
    let server = peers::holdfast(data)?;
    for (measure, path) in &MEASURES {
        report.add(measure, HOLDFAST, response_time(&server.target, path)?);
    }
    Ok(())
}

/// Returns the median response time for a browser, in milliseconds.
fn response_time(target: &Target, path: &str) -> io::Result<f64> {
    let mut connection = Connection::open(target)?;
    let request = connection.head_of("GET", path, "Accept: text/html\r\n");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        connection.exchange(&request, &[], 200)?;
        times.push(milliseconds(begun.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Writes an image layout, from which the daemon rebuilds its index.
fn make_layout(data: &Path) -> io::Result<()> {
    let blobs = data.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::create_dir_all(data.join("index"))?;
    // An invalid index, so that the daemon rebuilds it.
    fs::write(data.join("index/data.mdb"), b"no index")?;
    let mut index = io::BufWriter::new(fs::File::create(data.join("index.json"))?);
    index.write_all(b"{\"schemaVersion\":2,\"manifests\":[")?;
    let mut first = true;
    let mut name = |mut entry: Value, repository: &str, tag: &str| {
        entry["annotations"] = json!({
            "io.holdfast.repository": repository,
            "org.opencontainers.image.ref.name": format!("{repository}:{tag}"),
        });
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        write!(index, "{comma}{entry}")
    };
    for number in 0..REPOSITORIES {
        let repository = format!("team{}/part{}/app{number}", number % 10, number % 300);
        name(image(&blobs, number)?, &repository, "latest")?;
    }
    let images = (0..IMAGES).map(|number| image(&blobs, number)).collect::<io::Result<Vec<_>>>()?;
    for number in 0..TAGS {
        let tag = format!("{}.{}.{}", number / 1000 + 1, number / 10 % 100, number % 10);
        name(images[number % IMAGES].clone(), "many/tags", &tag)?;
    }
    index.write_all(b"]}")?;
    index.flush()
}

/// Writes an image of three layers; returns its descriptor.
fn image(blobs: &Path, number: usize) -> io::Result<Value> {
    let store = |media_type: &str, content: &[u8]| -> io::Result<Value> {
        let digest = Hasher::digest(Algorithm::Sha256, content);
        fs::write(blobs.join(digest.hex()), content)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    };
    let config =
        json!({"os": "linux", "architecture": "arm64", "created": "2026-01-02T03:04:05Z", "number": number});
    let config = store("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let layers = (0..3).map(|layer| store("a/b", format!("layer {} {layer}", number % 1000).as_bytes()));
    let layers = layers.collect::<io::Result<Vec<_>>>()?;
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    store("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
}
