//! The command line, one file per subcommand.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage or invalid configuration. An error is one line on stderr: what failed, for
//! which object, and what to do next.

mod arguments;
mod check;
mod completions;
mod control_client;
mod daemon_status;
mod failure;
mod format;
mod gc;
mod inspect;
mod manual;
mod metrics;
mod offline;
mod output;
mod privileges;
mod serve;
mod settings;
mod show;
mod status;
mod user;
mod validate;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use self::arguments::{Arguments, Command};
use self::failure::Failure;
use self::offline::{recover_offline, runtime};
use self::output::{print, print_warnings};
use self::settings::store_settings;
use self::validate::{validate_certificate, validate_for_reload};
use crate::config::{self, Overrides};

/// Runs a command line in an environment; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: Vec<(String, String)>) -> u8 {
    let arguments = match Arguments::try_parse_from(with_serve(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout and are no errors. A failure to print cannot be reported anywhere.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    match dispatch(arguments, environment) {
        Ok(()) => 0,
        Err(failure) => {
            for line in failure.line.lines() {
                // A closed stderr cannot be reported anywhere.
                let _ = writeln!(std::io::stderr(), "holdfast: {line}");
            }
            failure.code
        }
    }
}

/// Inserts the command `serve` before a file of registry:2, whose image is run with the file as its only argument.
fn with_serve(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
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
    let is_service_data = arguments.data.is_none();
    let overrides = Overrides { data: arguments.data };
    let command = arguments.command.unwrap_or(Command::Serve(serve::Options::default()));
    let file = match &command {
        Command::Serve(serve::Options { file: Some(_) }) if arguments.config.is_some() => {
            return Err(Failure::misuse("two configuration files; name one, after serve or with --config"));
        }
        Command::Serve(serve::Options { file: Some(file) }) => Some(file.clone()),
        Command::Serve(serve::Options { file: None })
        | Command::User { .. }
        | Command::Config { .. }
        | Command::Status(_)
        | Command::Metrics
        | Command::Gc(_)
        | Command::Check(_)
        | Command::InspectIndex(_)
        | Command::Completions { .. }
        | Command::Man { .. } => arguments.config,
    };
    let read = move || config::load(file.as_deref(), environment.clone(), &overrides);
    let load = || read().map_err(|error| Failure::configuration(&error));
    match command {
        Command::Serve(_) => serve::run(Box::new(read)),
        Command::User { command } => user::run(command, &load()?),
        Command::Config { command } => show::run(&command, load),
        Command::Status(options) => status::run(&options, &load()?, is_service_data),
        Command::Metrics => metrics::run(&load()?),
        Command::Gc(options) => gc::run(&options, &load()?),
        Command::Check(options) => check::run(&options, &load()?),
        Command::InspectIndex(options) => inspect::run(&options),
        Command::Completions { shell } => completions::run(shell, &arguments::command()),
        Command::Man { page } => manual::run(page, arguments::command()),
    }
}
