//! The cases, and the content that they need.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::load::{self, Connection, Target};
use super::maintenance;
use super::peers::{self, BEFORE, HOLDFAST, NGINX, REGISTRY_2, Server};
use super::push::{self, Large};
use super::report::{Goal, Measure, Report, milliseconds};
use super::transfer;

static START: Measure = Measure { name: "start to first answer, ms", goal: Goal::Most(7.0) };
static BINARY: Measure = Measure { name: "binary, MiB", goal: Goal::Most(8.0) };
static HEAD: Measure =
    Measure { name: "HEAD manifest by tag, 32 connections, /s", goal: Goal::PartOf(0.5, NGINX) };
/// Column of Holdfast's rate without TLS, beside the one with TLS and users.
const OWN_PLAIN: &str = "own plain rate";
static HEAD_USERS: Measure =
    Measure { name: "the same with TLS and users, /s", goal: Goal::PartOf(1.0 / 3.0, OWN_PLAIN) };
static PUSH_CPU: Measure = Measure { name: "push of 512 MiB, server CPU s", goal: Goal::Most(0.65) };
static PUSH_WALL: Measure = Measure { name: "push of 512 MiB, durable, wall s", goal: Goal::Most(0.75) };
static PULL_CPU: Measure = Measure { name: "pull of 512 MiB by 8, server CPU s/GiB", goal: Goal::Most(0.36) };
static PULL_WALL: Measure =
    Measure { name: "pull of 512 MiB by 8, wall s", goal: Goal::PartOf(0.0, REGISTRY_2) };
static SMALL: Measure = Measure { name: "small images pushed, 4 at once, /s", goal: Goal::Least(400.0) };
static TAGS: Measure = Measure { name: "tags list n=100 of 10,000, ms", goal: Goal::Most(1.0) };
static CATALOG: Measure = Measure { name: "catalog n=100 of 2,000, ms", goal: Goal::Most(0.3) };
static PEAK: Measure = Measure { name: "peak memory over all of this, MiB", goal: Goal::Most(16.0) };
static IDLE: Measure = Measure { name: "memory before the first request, MiB", goal: Goal::Most(8.0) };

const LARGE: usize = 512 << 20;
const TAGS_IN_ONE: usize = 10_000;
const REPOSITORIES: usize = 2_000;

/// Path of the HEAD requests; nginx has a file there.
const IMAGE: &str = "/v2/app/web/manifests/latest";

/// A case: its name for `--only`, and its measurement in one round.
type Case = (&'static str, fn(&Servers, usize, &mut Report) -> io::Result<()>);

const CASES: [Case; 11] = [
    ("start", Servers::measure_start),
    ("head", Servers::measure_head),
    ("users", Servers::measure_head_with_users),
    ("large", Servers::measure_large),
    ("small", Servers::measure_small),
    ("lists", Servers::measure_lists),
    ("collection", Servers::measure_collection),
    ("check", Servers::measure_check),
    ("store", Servers::measure_large_store),
    ("pages", Servers::measure_pages),
    ("transfer", Servers::measure_transfer),
];

/// The compared servers, all running, with the same content.
pub struct Servers {
    holdfast: Server,
    with_users: Server,
    before: Option<Server>,
    before_binary: Option<PathBuf>,
    registry_2: Option<Server>,
    nginx: Option<Server>,
    idle: [Option<f64>; 3],
    /// Size of the archive of the case `transfer`, in GiB.
    pub archive: u64,
}

impl Servers {
    /// Starts the servers and pushes the content that the chosen cases need.
    pub fn start(data: &Path, only: &str, before: Option<&Path>) -> io::Result<Self> {
        let mut servers = Servers {
            holdfast: peers::holdfast(&data.join("holdfast"))?,
            before: before
                .map(|binary| peers::build_of_holdfast(binary, &data.join("before")))
                .transpose()?,
            before_binary: before.map(Path::to_owned),
            with_users: peers::holdfast_with_users(&data.join("users"))?,
            registry_2: peers::registry_2(&data.join("registry"))?,
            nginx: peers::nginx(&data.join("nginx"))?,
            idle: [None; 3],
            archive: 1,
        };
        servers.idle = servers.registries().map(|(_, server)| server.map(|server| server.memory("VmRSS")));
        servers.fill()?;
        if "lists".contains(only) {
            fill_holdfast(&servers.holdfast.target)?;
            if let Some(before) = &servers.before {
                fill_holdfast(&before.target)?;
            }
            if let Some(registry) = &servers.registry_2 {
                fill_registry_2(registry)?;
            }
        }
        Ok(servers)
    }

    /// Pushes one image to every registry, and creates files of the pulled sizes for nginx.
    fn fill(&self) -> io::Result<()> {
        for target in [&self.with_users.target, &self.holdfast.target]
            .into_iter()
            .chain(self.before.iter().chain(&self.registry_2).map(|server| &server.target))
        {
            push::small_image(&mut Connection::open(target)?, "app/web", "latest")?;
        }
        if let Some(nginx) = &self.nginx {
            let file = nginx.data.join("files").join(&IMAGE[1..]);
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            fs::write(file, push::noise(400))?;
            let block = push::noise(LARGE);
            fs::write(nginx.data.join("files/large"), block)?;
        }
        Ok(())
    }

    /// Measures each chosen case once.
    pub fn round(&self, round: usize, only: &str, report: &mut Report) -> io::Result<()> {
        for (_, case) in CASES.iter().filter(|(name, _)| name.contains(only)) {
            case(self, round, report)?;
        }
        Ok(())
    }

    /// Reports the memory of each registry.
    pub fn memory(&self, report: &mut Report) {
        for ((name, server), idle) in self.registries().into_iter().zip(self.idle) {
            if let (Some(server), Some(idle)) = (server, idle) {
                report.add(&PEAK, name, server.memory("VmHWM"));
                report.add(&IDLE, name, idle);
            }
        }
    }

    fn registries(&self) -> [(&'static str, Option<&Server>); 3] {
        [
            (HOLDFAST, Some(&self.holdfast)),
            (BEFORE, self.before.as_ref()),
            (REGISTRY_2, self.registry_2.as_ref()),
        ]
    }

    /// Returns the running registries, in an order that rotates with the round.
    fn registries_in_turn(&self, round: usize) -> Vec<(&'static str, &Server)> {
        in_turn(self.registries().to_vec(), round)
    }

    fn all_in_turn(&self, round: usize) -> Vec<(&'static str, &Server)> {
        let mut all = self.registries().to_vec();
        all.push((NGINX, self.nginx.as_ref()));
        in_turn(all, round)
    }

    fn measure_start(&self, round: usize, report: &mut Report) -> io::Result<()> {
        let size = fs::metadata(env!("CARGO_BIN_EXE_holdfast"))?.len();
        report.add(&BINARY, HOLDFAST, size as f64 / f64::from(1 << 20));
        let data = self.holdfast.data.with_file_name(format!("start-{round}"));
        let holdfast = peers::holdfast(&data.join("holdfast"))?;
        report.add(&START, HOLDFAST, milliseconds(holdfast.start));
        if let Some(binary) = &self.before_binary {
            let before = peers::build_of_holdfast(binary, &data.join("before"))?;
            report.add(&START, BEFORE, milliseconds(before.start));
        }
        if let Some(registry) = peers::registry_2(&data.join("registry"))? {
            report.add(&START, REGISTRY_2, milliseconds(registry.start));
        }
        Ok(())
    }

    fn measure_head(&self, round: usize, report: &mut Report) -> io::Result<()> {
        for (name, server) in self.all_in_turn(round) {
            report.add(&HEAD, name, heads(&server.target)?);
        }
        Ok(())
    }

    fn measure_head_with_users(&self, _round: usize, report: &mut Report) -> io::Result<()> {
        report.add(&HEAD_USERS, OWN_PLAIN, heads(&self.holdfast.target)?);
        report.add(&HEAD_USERS, HOLDFAST, heads(&self.with_users.target)?);
        Ok(())
    }

    fn measure_large(&self, round: usize, report: &mut Report) -> io::Result<()> {
        let large = Large::new(LARGE);
        for (name, server) in self.registries_in_turn(round) {
            settle();
            let before = server.cpu_seconds();
            report.add(&PUSH_WALL, name, large.push(&server.target, "app/large")?);
            report.add(&PUSH_CPU, name, server.cpu_seconds() - before);
        }
        for (name, server) in self.all_in_turn(round) {
            let path = match name {
                NGINX => "/large".to_owned(),
                _ => format!("/v2/app/large/blobs/{}", large.digest),
            };
            settle();
            let before = server.cpu_seconds();
            report.add(&PULL_WALL, name, load::pull(&server.target, &path, LARGE as u64, 8)?);
            let pulled = (8 * LARGE) as f64 / f64::from(1 << 30);
            report.add(&PULL_CPU, name, (server.cpu_seconds() - before) / pulled);
        }
        Ok(())
    }

    fn measure_small(&self, round: usize, report: &mut Report) -> io::Result<()> {
        for (name, server) in self.registries_in_turn(round) {
            settle();
            report.add(&SMALL, name, push::images(&server.target, 4, 400, push::SMALL)?);
        }
        Ok(())
    }

    fn measure_lists(&self, round: usize, report: &mut Report) -> io::Result<()> {
        for (name, server) in self.registries_in_turn(round) {
            report.add(&TAGS, name, load::response_time(&server.target, "/v2/app/web/tags/list?n=100")?);
            report.add(&CATALOG, name, load::response_time(&server.target, "/v2/_catalog?n=100")?);
        }
        Ok(())
    }
}

impl Servers {
    fn measure_collection(&self, round: usize, report: &mut Report) -> io::Result<()> {
        maintenance::collect(&self.holdfast.data.with_file_name(format!("collection-{round}")), report)
    }

    fn measure_check(&self, round: usize, report: &mut Report) -> io::Result<()> {
        settle();
        maintenance::check(&self.holdfast.data.with_file_name(format!("check-{round}")), report)
    }

    /// Measures the admin pages in the first round only, since their content takes long to create.
    fn measure_pages(&self, round: usize, report: &mut Report) -> io::Result<()> {
        if round > 0 {
            return Ok(());
        }
        super::pages::measure(&self.holdfast.data.with_file_name("pages"), report)
    }

    /// Measures transfers in the first rounds only, since each of them writes many gigabytes.
    fn measure_transfer(&self, round: usize, report: &mut Report) -> io::Result<()> {
        if round >= transfer::ROUNDS {
            return Ok(());
        }
        settle();
        transfer::measure(&self.holdfast.data.with_file_name("transfer"), round, self.archive, report)
    }

    /// Measures a large store in the first round only, since its content takes long to create.
    fn measure_large_store(&self, round: usize, report: &mut Report) -> io::Result<()> {
        if round > 0 {
            return Ok(());
        }
        maintenance::large_store(&self.holdfast.data.with_file_name("store"), report)
    }
}

fn in_turn<'a>(
    servers: Vec<(&'static str, Option<&'a Server>)>,
    round: usize,
) -> Vec<(&'static str, &'a Server)> {
    let mut running: Vec<_> =
        servers.into_iter().filter_map(|(name, server)| Some((name, server?))).collect();
    let turn = round % running.len();
    running.rotate_left(turn);
    running
}

fn heads(target: &Target) -> io::Result<f64> {
    load::manifest_rate(target, "HEAD", &[IMAGE.to_owned()], 32, Duration::from_secs(2))
}

/// Flushes the disk, and touches memory for the page cache: on a virtual machine the first touch of memory that the host has
/// not provided yet costs more than the rest of a push.
fn settle() {
    let _ = Command::new("sync").status();
    drop(std::hint::black_box(vec![1_u8; 2 * LARGE]));
}

/// Pushes 10,000 tags to one repository, and 2,000 repositories.
fn fill_holdfast(target: &Target) -> io::Result<()> {
    const THREADS: usize = 16;
    std::thread::scope(|scope| {
        let work = |thread: usize| {
            move || {
                let mut connection = Connection::open(target)?;
                for number in (thread..REPOSITORIES).step_by(THREADS) {
                    push::small_image(&mut connection, &format!("many/{number:05}"), "latest")?;
                }
                let manifest = push::small_image(&mut connection, "app/web", "latest")?;
                (thread..TAGS_IN_ONE).step_by(THREADS).try_for_each(|number| {
                    push::put_manifest(&mut connection, "app/web", &format!("t{number:05}"), &manifest)
                })
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().try_for_each(load::join)
    })
}

/// Creates the same content as files of registry:2, whose API would take minutes.
fn fill_registry_2(registry: &Server) -> io::Result<()> {
    let repositories = registry.data.join("data/docker/registry/v2/repositories");
    let web = repositories.join("app/web");
    let link = fs::read(web.join("_manifests/tags/latest/current/link"))?;
    for number in 0..TAGS_IN_ONE {
        let current = web.join(format!("_manifests/tags/t{number:05}/current"));
        fs::create_dir_all(&current)?;
        fs::write(current.join("link"), &link)?;
    }
    let digest = String::from_utf8_lossy(&link).into_owned();
    let hexadecimal = digest.trim_start_matches("sha256:");
    for number in 0..REPOSITORIES {
        let repository = repositories.join(format!("many/{number:05}"));
        let revision = repository.join("_manifests/revisions/sha256").join(hexadecimal);
        let tag = repository.join("_manifests/tags/latest/current");
        fs::create_dir_all(repository.join("_layers"))?;
        for directory in [revision, tag] {
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("link"), &link)?;
        }
    }
    Ok(())
}
