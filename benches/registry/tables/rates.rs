//! Rates: manifests by HEAD and by GET, and small images pushed in the orders of different clients.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::super::load::{self, Connection};
use super::super::peers::{self, REGISTRY_2, Server};
use super::super::push::{self, Kind, Upload};
use super::super::report::{median, number};
use super::Setting;
use super::markdown::Grid;

const MANIFEST: &str = "/v2/app/web/manifests/latest";
const ROUNDS: usize = 5;

/// A row: its name, and the measurement of one server.
type Row = (&'static str, fn(&Setting, &Server) -> io::Result<f64>);

const ROWS: [Row; 7] = [
    ("HEAD of a manifest by tag, 32 connections, /s", |setting, server| manifests(setting, server, "HEAD")),
    ("GET of it, /s", |setting, server| manifests(setting, server, "GET")),
    ("GET beside HEAD", get_beside_head),
    ("small images as Docker pushes them, /s", |setting, server| images(setting, server, Upload::Docker, 1)),
    ("the same, 4 at once, /s", |setting, server| images(setting, server, Upload::Docker, 4)),
    ("small images with single requests, /s", |setting, server| images(setting, server, Upload::Single, 1)),
    ("the same, 4 at once, /s", |setting, server| images(setting, server, Upload::Single, 4)),
];

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
        servers.push((*name, peers::build_of_holdfast(binary, &data.join(name))?));
    }
    if let Some(registry) = peers::registry_2(&data.join("registry"))? {
        servers.push((REGISTRY_2, registry));
    }
    for (_, server) in &servers {
        push::small_image(&mut Connection::open(&server.target)?, "app/web", "latest")?;
    }
    Ok(servers)
}

fn manifests(setting: &Setting, server: &Server, method: &str) -> io::Result<f64> {
    let time = Duration::from_secs(setting.choose(2, 1));
    load::manifest_rate(&server.target, method, MANIFEST, 32, time)
}

/// Measures GET between two measurements of HEAD, so that a machine that becomes slower does not decide the ratio.
fn get_beside_head(setting: &Setting, server: &Server) -> io::Result<f64> {
    let before = manifests(setting, server, "HEAD")?;
    let get = manifests(setting, server, "GET")?;
    let after = manifests(setting, server, "HEAD")?;
    Ok(2.0 * get / (before + after))
}

fn images(setting: &Setting, server: &Server, upload: Upload, connections: usize) -> io::Result<f64> {
    push::images(&server.target, connections, setting.choose(200, 20), Kind { layers: 2, upload })
}
