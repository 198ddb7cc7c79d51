//! The command line: one small file for each command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration. An error is one line that says what
//! happened, to what, and what to do next.

mod ask;
mod check;
mod completions;
mod gc;
mod inspect;
mod live;
mod manual;
mod metrics;
mod owner;
mod serve;
mod show;
mod status;
mod user;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::access::Htpasswd;
use crate::config::{self, Config, ConfigError, Overrides, TlsMode};
use crate::{service, store, tls};

/// A container registry for the edge: one daemon with TLS, users and durable storage.
#[derive(Parser)]
#[command(name = "holdfast", version, about, arg_required_else_help = false)]
pub struct Arguments {
    /// The configuration file; one of registry:2 if it ends in .yml or .yaml [default: /etc/holdfast/holdfast.toml if it
    /// exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [default: storage.path of the configuration, or ./holdfast-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the registry; this is what happens without a command, too
    Serve(serve::Options),
    /// Adds, changes, removes and lists users
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Checks the configuration, or shows what is in effect
    Config {
        #[command(subcommand)]
        command: show::Command,
    },
    /// Shows what is in the registry
    Status(status::Options),
    /// Prints the metrics of the running daemon, or those of its end
    Metrics,
    /// Frees what nobody needs any more; the daemon does it by itself, too
    Gc(gc::Options),
    /// Reads everything that is stored and says what is wrong with it: each blob against its digest, each manifest against
    /// what it names, the index against the files and against itself, and index.json against the index
    Check(check::Options),
    /// Reads an index to its end; the daemon runs this after a crash
    #[command(hide = true)]
    InspectIndex(inspect::Options),
    /// Prints the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints a manual page
    Man {
        /// Which page
        #[arg(value_enum, default_value_t = manual::Page::Command)]
        page: manual::Page,
    },
}

/// Why a command was not done: its exit code and its line; a configuration has a line for each mistake.
struct Failure {
    code: u8,
    line: String,
}

#[expect(clippy::needless_pass_by_value, reason = "so that both can be given to map_err")]
impl Failure {
    fn failed(error: impl ToString) -> Self {
        Failure { code: 1, line: error.to_string().replace('\n', " ") }
    }

    fn misuse(error: impl ToString) -> Self {
        Failure { code: 2, line: error.to_string().replace('\n', " ") }
    }

    /// Reports each mistake of a configuration in a line of its own.
    fn configuration(error: &ConfigError) -> Self {
        Failure { code: 2, line: error.lines().collect::<Vec<_>>().join("\n") }
    }
}

/// Runs a command line in an environment; gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: Vec<(String, String)>) -> u8 {
    let arguments = match Arguments::try_parse_from(with_command(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors and go to stdout; nothing can be said if that is closed.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    match dispatch(arguments, environment) {
        Ok(()) => 0,
        Err(failure) => {
            for line in failure.line.lines() {
                // There is nowhere left to say that stderr is closed.
                let _ = writeln!(std::io::stderr(), "holdfast: {line}");
            }
            failure.code
        }
    }
}

/// Adds the command `serve` before a file of registry:2, since the image of that is run with the file alone.
fn with_command(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_file = |argument: &OsString| {
        let text = argument.to_string_lossy();
        !text.starts_with('-') && (text.ends_with(".yml") || text.ends_with(".yaml"))
    };
    if arguments.get(1).is_some_and(is_file) {
        arguments.insert(1, "serve".into());
    }
    arguments
}

fn dispatch(arguments: Arguments, environment: Vec<(String, String)>) -> Result<(), Failure> {
    let is_the_services = arguments.data.is_none();
    let overrides = Overrides { data: arguments.data };
    let command = arguments.command.unwrap_or(Command::Serve(serve::Options::default()));
    let file = match &command {
        Command::Serve(serve::Options { file: Some(_) }) if arguments.config.is_some() => {
            return Err(Failure::misuse("name the configuration once: after serve, or with --config"));
        }
        Command::Serve(serve::Options { file: Some(file) }) => Some(file.clone()),
        _ => arguments.config,
    };
    let read = move || config::load(file.as_deref(), environment.clone(), &overrides);
    let load = || read().map_err(|error| Failure::configuration(&error));
    match command {
        Command::Serve(_) => serve::run(Box::new(read)),
        Command::User { command } => user::run(command, &load()?),
        Command::Config { command } => show::run(&command, load),
        Command::Status(options) => status::run(&options, &load()?, is_the_services),
        Command::Metrics => metrics::run(&load()?),
        Command::Gc(options) => gc::run(&options, &load()?),
        Command::Check(options) => check::run(&options, &load()?),
        Command::InspectIndex(options) => inspect::run(&options),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { page } => manual::run(page),
    }
}

/// Prints to stdout; a reader that has gone away, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// The store as the configuration has it.
fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        path: config.storage.path.clone(),
        index_map_size: config.storage.index_map_size,
        uploads: config.limits.uploads,
        ages: store::Ages {
            grace: config.gc.policy.grace,
            retention: config.gc.policy.retention.as_slice().into(),
        },
        immutable: config.immutable.clone(),
        inspect: inspect::in_own_process,
        failed: service::status,
        opening: service::starting,
        room: config.storage.capacity,
    }
}

/// Does what a daemon does first, where none runs: sees to it that the index is in order and `index.json` says all that
/// it says. A daemon that a connection starts meanwhile waits for no longer than that. Returns true if the index was made
/// again and names may be lost.
async fn put_in_order(config: &Config) -> Result<bool, store::StoreError> {
    if store::daemon_runs(&config.storage.path) {
        return Ok(false);
    }
    match store::Store::open(store_settings(config), store::Role::Daemon).await {
        Ok(store) => {
            store.close().await?;
            Ok(store.may_lack_names())
        }
        // There is one by now.
        Err(store::StoreError::InUse(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Looks at what a configuration names and a daemon cannot start without.
fn could_start(config: &Config) -> Result<(), Failure> {
    may_write(&config.storage.path)?;
    look_at_files(config)
}

/// The same of a configuration that a daemon may be about to take. A disk that fails under a running one is no fault of the
/// configuration, and no reason to keep the old one.
fn could_take(config: &Config) -> Result<(), Failure> {
    if !store::daemon_runs(&config.storage.path) {
        may_write(&config.storage.path)?;
    }
    look_at_files(config)
}

/// Looks at the files beside the data, as whoever the daemon is.
fn look_at_files(config: &Config) -> Result<(), Failure> {
    Htpasswd::read(&config.auth.htpasswd).map_err(Failure::misuse)?;
    look_at_certificate(config)
}

fn look_at_certificate(config: &Config) -> Result<(), Failure> {
    match &config.tls.mode {
        TlsMode::Files { certificate, key } => tls::look_at(certificate, key).map_err(Failure::misuse)?,
        TlsMode::Auto => {}
        TlsMode::Off => return Ok(()),
    }
    config.tls.clients.look_at().map_err(Failure::misuse)
}

/// Refuses a data directory that cannot be written, and says what to do: in the service's sandbox only one can be.
fn may_write(data: &Path) -> Result<(), Failure> {
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(data);
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Err(error @ (Errno::EROFS | Errno::EACCES)) => Err(Failure::failed(format!(
            "cannot write to {}: {}; it has to belong to the registry's user, and a service has to be told of one outside \
             of /var/lib/holdfast: systemctl edit holdfast, with ReadWritePaths={0} in [Service]",
            absolute(data),
            error.desc()
        ))),
        // Whatever else there is, who needs it finds.
        _ => Ok(()),
    }
}

/// A path that does not depend on where the daemon runs.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// A runtime for commands that use the store beside the daemon.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
}

/// Returns a warning if the data directory has content of registry:2, which is not served.
fn foreign_content(config: &Config) -> Option<String> {
    let foreign = config.storage.path.join(config::REGISTRY_2_DATA);
    foreign.is_dir().then(|| {
        format!(
            "{} has content of registry:2, which Holdfast does not read: none of its images is served, and it is left as it \
             is; let registry:2 run on another port and copy the images over (skopeo sync, crane copy), as \
             docs/from-registry-2.md says",
            foreign.display()
        )
    })
}

/// Warnings of the configuration, for commands that have no log.
fn warn(config: &Config) {
    for warning in config.warnings.iter().chain(&foreign_content(config)) {
        let _ = writeln!(std::io::stderr(), "holdfast: warning: {warning}");
    }
}
