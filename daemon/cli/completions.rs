//! `holdfast completions`.

use clap::CommandFactory;

use super::{Arguments, Failure, print};

/// Prints the completions for a shell.
pub(super) fn run(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "holdfast", &mut script);
    print(&String::from_utf8_lossy(&script))
}
