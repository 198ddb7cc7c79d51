//! Arguments of the command line. Help, manual pages and completions are generated from these definitions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::help::with_groups_and_examples;
use super::{
    adopt, check, export, gc, import, inspect, inventory, jobs, ls, manual, owner, rm, serve, show, status,
    user,
};

/// Container registry for the edge: one static daemon with TLS, users and durable storage
#[derive(Parser)]
#[command(name = "holdfast", version, arg_required_else_help = false)]
pub(super) struct Arguments {
    /// Configuration file, TOML or registry:2 YAML [default: /etc/holdfast/holdfast.toml if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(super) config: Option<PathBuf>,
    /// Data directory [default: storage.path, else ./holdfast-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(super) data: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the registry [default command]
    Serve(serve::Options),
    /// Manage users
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Check or print the configuration
    Config {
        #[command(subcommand)]
        command: show::Command,
    },
    /// Show the state of the daemon and what the registry holds
    Status(status::Options),
    /// Print the metrics of the running daemon, else those of its last exit
    Metrics,
    /// List repositories, the tags of a repository, or the platforms of an image
    Ls(ls::Options),
    /// Adopt the images of registry:2 from its data directory
    Adopt(adopt::Options),
    /// Delete tags, or whole repositories
    Rm(rm::Options),
    /// Import images from archives, directories and pipes
    #[command(after_help = import::HELP)]
    Import(import::Options),
    /// Delete unreferenced content; the daemon does this by itself every gc.interval
    Gc(gc::Options),
    /// Verify blobs, manifests and the index
    Check(check::Options),
    /// Show background jobs: what ran, what runs, what is due; start or cancel one
    Jobs(jobs::Options),
    /// Start a daemon that sleeps if a background job is due; holdfast-wake.timer runs this every 15 minutes
    Wake,
    /// Write images to a medium: a directory or a tar that docker, podman, skopeo and containerd read
    Export(export::Options),
    /// Print the digests of all content, so that an export for this registry leaves it out
    Inventory(inventory::Options),
    /// Read an index to its end; the daemon runs this after a crash
    #[command(hide = true)]
    InspectIndex(inspect::Options),
    /// Open the store as the owner of the data, for a command of root
    #[command(hide = true)]
    OwnStore(owner::ChildOptions),
    /// Print a shell completion script
    Completions {
        /// Shell to generate the script for
        shell: clap_complete::Shell,
    },
    /// Print a manual page in roff format
    Man {
        /// Manual page to print
        #[arg(value_enum, default_value_t = manual::Page::Command)]
        page: manual::Page,
    },
}

/// Returns the definition of the command line, for completions and manual pages.
pub(super) fn command() -> clap::Command {
    with_groups_and_examples(Arguments::command())
}

/// Parses a command line.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let mut matches = command().try_get_matches_from(arguments)?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))
}
