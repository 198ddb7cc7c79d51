//! `holdfast config`: checks the configuration, or shows it.

use clap::Subcommand;

use super::{Failure, could_take, look_at_certificate, metrics, owner, print, warn};
use crate::config::{self, Config};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Checks the configuration, and whether the owner of the data can use the files that it names
    Check,
    /// Prints the configuration in effect
    Show,
    /// Prints the commented configuration file with all defaults
    #[command(hide = true)]
    Template,
}

/// Checks the files that a daemon needs. Only the owner of the data can tell what the daemon may read and write.
fn check(config: &Config) -> Result<(), Failure> {
    if owner::owns(&config.storage.path) { could_take(config) } else { look_at_certificate(config) }
}

/// Runs `holdfast config` with a configuration that is valid by itself; `load` has refused any other.
pub(super) fn run(command: &Command, load: impl FnOnce() -> Result<Config, Failure>) -> Result<(), Failure> {
    match command {
        Command::Check => {
            let config = load()?;
            warn(&config);
            // Root can read files that the daemon cannot.
            owner::become_owner_if_any(&config.storage.path)?;
            check(&config)?;
            metrics::check_file(&config)?;
            print("the configuration is valid\n")
        }
        Command::Show => {
            let config = load()?;
            warn(&config);
            print(&config.show())
        }
        Command::Template => print(&config::template()),
    }
}
