//! The binary: passes arguments and environment to the command line, and exits with its code.
#![expect(clippy::disallowed_methods, reason = "the only place that reads the environment")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    ExitCode::from(holdfast::cli::run(std::env::args_os(), environment))
}
