//! Cost of the admin pages with much content: 10,000 repositories, and 10,000 tags in one.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::layout::{self, Layout};
use super::load::response_time;
use super::peers::{self, HOLDFAST};
use super::report::{Goal, Measure, Report};

const REPOSITORIES: usize = 10_000;
const TAGS: usize = 10_000;
/// Number of different images that the tags name.
const IMAGES: usize = 500;

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

/// Writes an image layout, from which the daemon rebuilds its index.
fn make_layout(data: &Path) -> io::Result<()> {
    let mut layout = Layout::create(data)?;
    for number in 0..REPOSITORIES {
        let repository = format!("team{}/part{}/app{number}", number % 10, number % 300);
        let image = image(&layout, number)?;
        layout.name(image, &repository, "latest")?;
    }
    let images = (0..IMAGES).map(|number| image(&layout, number)).collect::<io::Result<Vec<_>>>()?;
    for number in 0..TAGS {
        let tag = format!("{}.{}.{}", number / 1000 + 1, number / 10 % 100, number % 10);
        layout.name(images[number % IMAGES].clone(), "many/tags", &tag)?;
    }
    layout.finish()
}

/// Writes an image of three layers; returns its descriptor.
fn image(layout: &Layout, number: usize) -> io::Result<Value> {
    let config =
        json!({"os": "linux", "architecture": "arm64", "created": "2026-01-02T03:04:05Z", "number": number});
    let config = layout.store(layout::CONFIG, config.to_string().as_bytes())?;
    let layers =
        (0..3).map(|layer| layout.store("a/b", format!("layer {} {layer}", number % 1000).as_bytes()));
    let layers = layers.collect::<io::Result<Vec<_>>>()?;
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    layout.store(layout::MANIFEST, manifest.to_string().as_bytes())
}
