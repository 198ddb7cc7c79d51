//! Holdfast beside Debian's `docker-registry` (registry:2) and nginx with static files, in one run.
//!
//! All servers run the whole time, idle but for the one that is measured; each case asks them one after the other,
//! in an order that changes by the round, and the report has the medians and their ratios. Machines differ and are
//! noisy: the ratios are what counts, and nothing here fails because of a time.

#![expect(clippy::disallowed_methods, reason = "a benchmark makes and removes what it measures")]
#![expect(clippy::cast_precision_loss, reason = "what is measured is far below 2^52")]

mod cases;
mod load;
mod pages;
mod peers;
mod push;
mod report;
mod upkeep;

use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;

/// Measures Holdfast beside registry:2 and nginx.
#[derive(Parser)]
struct Arguments {
    /// How often each case is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// The binary of an earlier build, which is measured in the same rounds.
    #[arg(long)]
    before: Option<PathBuf>,
    /// What `cargo bench` adds of its own.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    empty(&data)?;
    let mut report = report::Report::default();
    {
        let servers = cases::Servers::start(&data, &arguments.only, arguments.before.as_deref())?;
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
