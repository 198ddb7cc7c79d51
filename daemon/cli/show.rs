//! `holdfast config`.

use clap::Subcommand;

use super::{Failure, metrics, print, print_warnings, privileges, validate_certificate, validate_for_reload};
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
    if privileges::owns(&config.storage.path) {
        validate_for_reload(config)
    } else {
        validate_certificate(config)
    }
}

/// Runs `holdfast config`; a configuration that is wrong has been refused before.
pub(super) fn run(command: &Command, config: &Config) -> Result<(), Failure> {
    print_warnings(config);
    match command {
        Command::Check => {
            // What root may read the daemon may not.
            privileges::become_owner_if_any(&config.storage.path)?;
            check(config)?;
            metrics::check_file(config)?;
            print("the configuration is valid\n")
        }
        Command::Show => print(&config.show()),
    }
}
