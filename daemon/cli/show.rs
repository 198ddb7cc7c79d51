//! `holdfast config`: checks or prints the configuration.

use std::path::PathBuf;

use clap::Subcommand;

use super::config_warnings::{unusable_logins, warnings};
use super::validate::{require_access_log_directory, require_possible};
use super::{
    Failure, import_folder_problem, metrics, print, print_warnings, privileges, signers_problem,
    validate_certificate, validate_for_reload,
};
use crate::config::{self, Config};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Check the configuration, and whether the owner of the data can use the files that it names
    Check {
        /// Configuration file, as with --config
        file: Option<PathBuf>,
    },
    /// Print the configuration in effect
    Show,
    /// Print the commented configuration file with all defaults
    #[command(hide = true)]
    Template,
}

/// Checks the files that a daemon needs. Only the owner of the data can tell what the daemon may read and write.
fn check(config: &Config) -> Result<(), Failure> {
    require_possible(&config.storage.path)?;
    require_access_log_directory(config)?;
    if privileges::owns(&config.storage.path) {
        validate_for_reload(config)
    } else {
        validate_certificate(config)
    }
}

/// Runs `holdfast config` with a configuration that is valid by itself; `load` has refused any other.
pub(super) fn run(command: &Command, load: impl FnOnce() -> Result<Config, Failure>) -> Result<(), Failure> {
    match command {
        Command::Check { file: _ } => {
            let config = load()?;
            print_warnings(&warnings(&config));
            print_warnings(&unusable_logins(&config));
            // Root can read files that the daemon cannot.
            privileges::become_owner_if_any(&config.storage.path)?;
            check(&config)?;
            signers_problem(&config).map_or(Ok(()), |problem| Err(Failure::misuse(problem)))?;
            import_folder_problem(&config).map_or(Ok(()), |problem| Err(Failure::misuse(problem)))?;
            metrics::check_file(&config)?;
            print("the configuration is valid\n")
        }
        Command::Show => {
            let config = load()?;
            print_warnings(&warnings(&config));
            print(&config.show())
        }
        Command::Template => print(&config::template()),
    }
}
