//! `holdfast config`.

use clap::Subcommand;

use super::{Failure, could_start, owner, print, warn};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Says whether the configuration is valid, and what it names can be used
    Check,
    /// Prints the configuration that is in effect
    Show,
}

/// Runs `holdfast config`; a configuration that is wrong has been refused before.
pub(super) fn run(command: &Command, config: &Config) -> Result<(), Failure> {
    warn(config);
    match command {
        Command::Check => {
            // What root may read the daemon may not.
            owner::become_owner_if_any(&config.storage.path)?;
            could_start(config)?;
            print("the configuration is valid\n")
        }
        Command::Show => print(&config.show()),
    }
}
