//! `holdfast completions`.

use clap::{Command, CommandFactory};

use super::{Arguments, Failure, print};

/// Prints the completions for a shell.
pub(super) fn run(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "holdfast", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// The command line without the commands that nobody calls by hand, which a shell would offer all the same.
fn visible() -> Command {
    let whole = Arguments::command();
    Command::new("holdfast")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_calls_by_hand_is_not_offered() {
        let visible = visible();
        let offered: Vec<_> = visible.get_subcommands().map(Command::get_name).collect();
        assert!(offered.contains(&"status") && !offered.contains(&"inspect-index"), "{offered:?}");
        assert!(visible.get_arguments().any(|argument| argument.get_id() == "config"));
    }
}
