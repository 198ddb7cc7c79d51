//! Holdfast beside Debian's `docker-registry` (registry:2) and nginx with static files, in one run.
//!
//! All servers run the whole time, idle except for the one that is measured. Each case measures them one after the other, in
//! an order that rotates with the round; the report has medians and ratios. Machines differ and are noisy: the ratios count,
//! and no time fails the benchmark.

#![expect(clippy::disallowed_methods, reason = "a benchmark creates and removes its own data")]
#![expect(clippy::cast_precision_loss, reason = "measured values are far below 2^52")]

mod cases;
mod layout;
mod load;
mod maintenance;
mod pages;
mod peers;
mod push;
mod report;
mod tables;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;

use tables::{Setting, Table};

/// Measure Holdfast beside registry:2 and nginx
#[derive(Parser)]
struct Arguments {
    /// Number of rounds, each of which measures every case once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Run only cases whose name contains this text
    #[arg(long, default_value = "")]
    only: String,
    /// Binary of an earlier build to measure in the same rounds
    #[arg(long)]
    before: Option<PathBuf>,
    /// Size of the archive that is imported and exported, in GiB; three times as much space is needed
    #[arg(long, default_value_t = 4)]
    archive: u64,
    /// Print these tables in Markdown instead of running the cases; all of them if none is named
    #[arg(long, num_args = 0.., value_delimiter = ',', default_missing_values = ["wear", "growth", "rates", "cipher"])]
    tables: Vec<Table>,
    /// Small registries and few operations for the tables: a trial of the benchmark itself
    #[arg(long)]
    quick: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    empty(&data)?;
    if !arguments.tables.is_empty() {
        let setting = Setting::new(&data, arguments.before.as_deref(), arguments.quick);
        tables::print(&arguments.tables, &setting)?;
        return std::fs::remove_dir_all(&data);
    }
    let mut report = report::Report::default();
    {
        let mut servers = cases::Servers::start(&data, &arguments.only, arguments.before.as_deref())?;
        servers.archive = arguments.archive;
        for round in 0..arguments.rounds {
            eprintln!("round {} of {}", round + 1, arguments.rounds);
            servers.round(round, &arguments.only, &mut report)?;
        }
        servers.memory(&mut report);
    }
    print!("{report}");
    std::fs::remove_dir_all(&data)
}

fn empty(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(directory)
}
