//! Tables in Markdown: what a push costs, and how every cost grows with the registry.
//!
//! They are printed in place of the cases, and take minutes: registries of 100,000 tags are filled for them, and deferred
//! writes are waited for.

mod cipher;
mod content;
mod disk;
mod growth;
mod markdown;
mod rates;
mod wear;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::peers::{self, BEFORE, HOLDFAST};
use disk::Disk;

/// A table to print.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Table {
    /// Bytes written per push, per move of a tag and per delete, at three sizes of the registry
    Wear,
    /// Every cost at three numbers of tags, and at three numbers of repositories
    Growth,
    /// Manifests by HEAD and by GET, and small images pushed
    Rates,
    /// Instructions of the TLS ciphers on ARM without crypto extensions
    Cipher,
}

/// The measured builds, and the place for their data.
pub struct Setting {
    data: PathBuf,
    /// Name of the column, and binary.
    builds: Vec<(&'static str, PathBuf)>,
    /// True if this process may mount disks of its own.
    mounts: bool,
    /// Small registries and few operations: a trial of the benchmark itself.
    quick: bool,
}

impl Setting {
    pub fn new(data: &Path, before: Option<&Path>, quick: bool) -> Self {
        let mut builds = vec![(HOLDFAST, peers::own_binary().to_owned())];
        builds.extend(before.map(|binary| (BEFORE, binary.to_owned())));
        Setting { data: data.to_owned(), builds, mounts: disk::own_mounts(), quick }
    }

    /// Returns a place for the data of a server: on a disk of its own if this process may mount one. A disk is also removed
    /// at once, however many files it has.
    fn place(&self, name: &str) -> io::Result<(PathBuf, Option<Disk>)> {
        let mount = self.data.join(name);
        let disk = self.mounts.then(|| Disk::mount(&mount)).transpose()?;
        Ok((mount.join("data"), disk))
    }

    /// Returns the full value, or that of a trial.
    fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Measures and prints each of the tables.
pub fn print(tables: &[Table], setting: &Setting) -> io::Result<()> {
    for table in tables {
        let begun = Instant::now();
        match table {
            Table::Wear => wear::print(setting),
            Table::Growth => growth::print(setting),
            Table::Rates => rates::print(setting),
            Table::Cipher => cipher::print(),
        }?;
        eprintln!("{table:?}: {} s", begun.elapsed().as_secs());
    }
    Ok(())
}
