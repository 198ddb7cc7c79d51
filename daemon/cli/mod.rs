//! The command line, one file per subcommand.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage or invalid configuration, 130 interrupted by a signal. An error is one line on stderr: what failed, for
//! which object, and what to do next.

mod adopt;
mod arguments;
mod background;
mod check;
mod completions;
mod config_warnings;
mod control_client;
mod control_sink;
mod examples;
mod export;
mod failure;
mod format;
mod gc;
mod help;
mod import;
mod inspect;
mod inventory;
mod job_report;
mod jobs;
mod ls;
mod manual;
mod metrics;
mod name;
mod next_due;
mod offline;
mod output;
mod own_import;
mod owner;
mod privileges;
mod progress;
mod questions;
mod remote;
mod rm;
mod serve;
mod settings;
mod show;
mod status;
mod user;
mod validate;
mod wake;

use std::ffi::OsString;

use self::arguments::{Arguments, Command};
use self::failure::Failure;
use self::output::{print, print_warnings};
use self::owner::Invocation;
use self::validate::{import_folder_problem, signers_problem, validate_certificate, validate_for_reload};
use crate::config::{self, Overrides};
use crate::service;

/// Runs a command line in an environment; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: Vec<(String, String)>) -> u8 {
    let arguments = match arguments::parse(with_serve(arguments)) {
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
                output::remark(line);
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

/// Returns true for commands that open the store while no daemon runs.
fn may_open_store(command: &Command) -> bool {
    match command {
        Command::Ls(_)
        | Command::Adopt(_)
        | Command::Rm(_)
        | Command::Import(_)
        | Command::Gc(_)
        | Command::Check(_)
        | Command::Jobs(_)
        | Command::Export(_)
        | Command::Inventory(_)
        | Command::OwnStore(_) => true,
        Command::Serve(_)
        | Command::User { .. }
        | Command::Config { .. }
        | Command::Status(_)
        | Command::Metrics
        | Command::Wake
        | Command::InspectIndex(_)
        | Command::Completions { .. }
        | Command::Man { .. } => false,
    }
}

fn dispatch(arguments: Arguments, environment: Vec<(String, String)>) -> Result<(), Failure> {
    let is_service_data = arguments.data.is_none();
    let command = arguments.command.unwrap_or(Command::Serve(serve::Options::default()));
    let listen = match &command {
        Command::Serve(options) => options.listen.clone(),
        _ => Vec::new(),
    };
    let invocation = Invocation {
        config: arguments.config.clone(),
        data: arguments.data.clone(),
        environment: environment.clone(),
    };
    let (has_listen_option, overrides) = (!listen.is_empty(), Overrides { data: arguments.data, listen });
    let file = match &command {
        Command::Serve(serve::Options { file: Some(file), .. })
        | Command::Config { command: show::Command::Check { file: Some(file) } } => {
            if arguments.config.is_some() {
                return Err(Failure::misuse(
                    "two configuration files; name one, after the command or with --config",
                ));
            }
            Some(file.clone())
        }
        Command::Serve(serve::Options { file: None, .. })
        | Command::User { .. }
        | Command::Config { .. }
        | Command::Status(_)
        | Command::Metrics
        | Command::Ls(_)
        | Command::Adopt(_)
        | Command::Rm(_)
        | Command::Import(_)
        | Command::Gc(_)
        | Command::Check(_)
        | Command::Jobs(_)
        | Command::Wake
        | Command::Export(_)
        | Command::Inventory(_)
        | Command::InspectIndex(_)
        | Command::OwnStore(_)
        | Command::Completions { .. }
        | Command::Man { .. } => arguments.config,
    };
    let read = move || config::load(file.as_deref(), environment.clone(), &overrides);
    let load = || read().map_err(|error| Failure::configuration(&error));
    let _log = if may_open_store(&command) {
        // A recovery of the index logs what it drops, and where it keeps the previous one.
        Some(service::start_logging(log::LevelFilter::Warn).map_err(Failure::failed)?)
    } else {
        None
    };
    match command {
        Command::Serve(_) => serve::run(Box::new(read), has_listen_option),
        Command::User { command } => user::run(command, &load()?),
        Command::Config { command } => show::run(&command, load),
        Command::Status(options) => status::run(&options, &load()?, is_service_data),
        Command::Metrics => metrics::run(&load()?),
        Command::Ls(options) => ls::run(&options, &load()?, &invocation),
        Command::Adopt(options) => adopt::run(&options, &load()?, &invocation),
        Command::Rm(options) => rm::run(&options, &load()?, &invocation),
        Command::Import(options) => import::run(&options, &load()?, &invocation),
        Command::Gc(options) => gc::run(&options, &load()?, &invocation),
        Command::Check(options) => check::run(&options, &load()?, &invocation),
        Command::Jobs(options) => jobs::run(&options, &load()?, &invocation),
        Command::Wake => wake::run(&load()?),
        Command::Export(options) => export::run(&options, &load()?, &invocation),
        Command::Inventory(options) => inventory::run(&options, &load()?, &invocation),
        Command::InspectIndex(options) => inspect::run(&options),
        Command::OwnStore(options) => owner::run_child(&options, &load()?),
        Command::Completions { shell } => completions::run(shell, &arguments::command()),
        Command::Man { page } => manual::run(page, arguments::command()),
    }
}
