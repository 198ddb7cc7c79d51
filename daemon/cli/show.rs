//! `holdfast config`.

use clap::Subcommand;

use super::{Failure, look_at_certificate, look_at_files, may_write, owner, print, warn};
use crate::config::Config;
use crate::store;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Says whether the configuration is valid, and what it names can be used by the data's owner
    Check,
    /// Prints the configuration that is in effect
    Show,
}

/// Looks at what a daemon needs. Whoever is not the daemon's user cannot say what that one may do.
fn check(config: &Config) -> Result<(), Failure> {
    let data = &config.storage.path;
    if !owner::owns(data) {
        return look_at_certificate(config);
    }
    // A disk that fails under a running daemon is no fault of the configuration, and no reason to keep the old one.
    if !store::daemon_runs(data) {
        may_write(data)?;
    }
    look_at_files(config)
}

/// Runs `holdfast config`; a configuration that is wrong has been refused before.
pub(super) fn run(command: &Command, config: &Config) -> Result<(), Failure> {
    warn(config);
    match command {
        Command::Check => {
            // What root may read the daemon may not.
            owner::become_owner_if_any(&config.storage.path)?;
            check(config)?;
            print("the configuration is valid\n")
        }
        Command::Show => print(&config.show()),
    }
}
