//! `holdfast completions`.

use clap::Command;

use super::failure::Failure;
use super::output::print_verbatim;

/// Prints the completion script of a shell.
pub(super) fn run(shell: clap_complete::Shell, command: &Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(command), "holdfast", &mut script);
    print_verbatim(&String::from_utf8_lossy(&script))
}

/// Returns the command line without its hidden commands, which `clap_complete` would offer all the same.
fn visible(command: &Command) -> Command {
    Command::new("holdfast")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn hidden_commands_are_not_offered() {
        let command = Command::new("holdfast")
            .arg(Arg::new("config").long("config"))
            .subcommands([Command::new("status"), Command::new("inspect-index").hide(true)]);
        let visible = visible(&command);
        let offered: Vec<_> = visible.get_subcommands().map(Command::get_name).collect();
        assert_eq!(offered, ["status"]);
        assert!(visible.get_arguments().any(|argument| argument.get_id() == "config"));
    }
}
