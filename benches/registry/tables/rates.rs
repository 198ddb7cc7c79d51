//! Rates: manifests by HEAD and by GET, and small images pushed in the orders of different clients.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::load;
use super::super::peers::{self, REGISTRY_2, Server};
use super::super::push::{self, Kind, Upload};
use super::super::report::{median, number};
use super::Setting;
use super::content::Content;
use super::markdown::Grid;

/// The content: more manifests than a server keeps in memory.
const CONTENT: Content = Content { repositories: 100, tags_each: 50 };
const ROUNDS: usize = 5;

/// A row: its name, and the measurement of one server.
type Row = (&'static str, fn(&Setting, &Server) -> io::Result<f64>);

const ROWS: [Row; 11] = [
    ("HEAD of a manifest by tag, 32 connections, /s", |setting, server| rate(setting, server, "HEAD", 1)),
    ("GET of it, /s", |setting, server| rate(setting, server, "GET", 1)),
    ("GET of 5,000 manifests in turn, /s", |setting, server| rate(setting, server, "GET", ALL)),
    ("GET beside HEAD of one manifest", |setting, server| get_beside_head(setting, server, 1)),
    ("GET beside HEAD of 5,000 manifests", |setting, server| get_beside_head(setting, server, ALL)),
    ("CPU time of a HEAD, 5,000 manifests, µs", |setting, server| cpu_time(setting, server, "HEAD")),
    ("CPU time of a GET, 5,000 manifests, µs", |setting, server| cpu_time(setting, server, "GET")),
    ("small images as Docker pushes them, /s", |setting, server| images(setting, server, Upload::Docker, 1)),
    ("the same, 4 at once, /s", |setting, server| images(setting, server, Upload::Docker, 4)),
    ("small images with single requests, /s", |setting, server| images(setting, server, Upload::Single, 1)),
    ("the same, 4 at once, /s", |setting, server| images(setting, server, Upload::Single, 4)),
];

const ALL: usize = CONTENT.repositories * CONTENT.tags_each;

pub fn print(setting: &Setting) -> io::Result<()> {
    let servers = start(&setting.data.join("rates"), setting)?;
    let columns = servers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut grid = Grid::new("Rates, medians of rounds in which the servers take turns", "measure", columns);
    for (name, measure) in ROWS {
        eprintln!("{name}");
        let mut samples = vec![Vec::new(); servers.len()];
        for round in 0..setting.choose(ROUNDS, 1) {
            for place in 0..servers.len() {
                let place = (place + round) % servers.len();
                samples[place].push(measure(setting, &servers[place].1)?);
            }
        }
        grid.row(name, samples.into_iter().map(|samples| number(median(samples))).collect());
    }
    print!("{grid}");
    Ok(())
}

fn start(data: &Path, setting: &Setting) -> io::Result<Vec<(&'static str, Server)>> {
    let mut servers = Vec::new();
    for (name, binary) in &setting.builds {
        CONTENT.fill(binary, &data.join(name))?;
        servers.push((*name, peers::build_of_holdfast(binary, &data.join(name))?));
    }
    CONTENT.fill_registry_2(&data.join("registry"))?;
    if let Some(registry) = peers::registry_2(&data.join("registry"))? {
        servers.push((REGISTRY_2, registry));
    }
    Ok(servers)
}

/// Returns requests per second for the first manifests of the content.
fn rate(setting: &Setting, server: &Server, method: &str, manifests: usize) -> io::Result<f64> {
    let time = Duration::from_secs(setting.choose(2, 1));
    let paths: Vec<_> = CONTENT.images().take(manifests).map(|image| CONTENT.manifest_path(image)).collect();
    load::manifest_rate(&server.target, method, &paths, 32, time)
}

/// Measures GET between two measurements of HEAD, so that a machine that becomes slower does not decide the ratio.
fn get_beside_head(setting: &Setting, server: &Server, manifests: usize) -> io::Result<f64> {
    let before = rate(setting, server, "HEAD", manifests)?;
    let get = rate(setting, server, "GET", manifests)?;
    let after = rate(setting, server, "HEAD", manifests)?;
    Ok(2.0 * get / (before + after))
}

/// Returns the server's CPU time of one request, which other work on the machine distorts less than a rate.
fn cpu_time(setting: &Setting, server: &Server, method: &str) -> io::Result<f64> {
    let (before, begun) = (server.cpu_seconds(), Instant::now());
    let requests = rate(setting, server, method, ALL)? * begun.elapsed().as_secs_f64();
    Ok((server.cpu_seconds() - before) * 1e6 / requests)
}

fn images(setting: &Setting, server: &Server, upload: Upload, connections: usize) -> io::Result<f64> {
    push::images(&server.target, connections, setting.choose(200, 20), Kind { layers: 2, upload })
}
