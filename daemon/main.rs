//! The binary: hands arguments and environment to the command line, and exits with what it says.
#![expect(clippy::disallowed_methods, reason = "the environment comes in here and nowhere else")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    ExitCode::from(holdfast::cli::run(std::env::args_os(), environment))
}
