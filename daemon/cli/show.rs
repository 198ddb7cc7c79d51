//! `holdfast config`.

use clap::Subcommand;

use super::{Failure, could_take, look_at_certificate, metrics, owner, print, warn};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Says whether the configuration is valid, and what it names can be used by the data's owner
    Check,
    /// Prints the configuration that is in effect
    Show,
}

/// Looks at what a daemon needs. Whoever is not the daemon's user cannot say what that one may do.
fn check(config: &Config) -> Result<(), Failure> {
    if owner::owns(&config.storage.path) { could_take(config) } else { look_at_certificate(config) }
}

/// Runs `holdfast config`; a configuration that is wrong has been refused before.
pub(super) fn run(command: &Command, config: &Config) -> Result<(), Failure> {
    warn(config);
    match command {
        Command::Check => {
            // What root may read the daemon may not.
            owner::become_owner_if_any(&config.storage.path)?;
            check(config)?;
            metrics::check_file(config)?;
            print("the configuration is valid\n")
        }
        Command::Show => print(&config.show()),
    }
}
