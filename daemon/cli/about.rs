//! `holdfast completions` and `holdfast man`.

use clap::CommandFactory;

use super::{Arguments, Failure, print};

/// Prints the completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "holdfast", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints holdfast(1).
pub(super) fn manual() -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(Failure::failed)?;
    print(&String::from_utf8_lossy(&page))
}
