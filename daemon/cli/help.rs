//! The help: `holdfast --help` lists the commands in groups and shows examples, the help of a command shows its own.

use std::fmt::Write;

use clap::Command;
use clap::builder::Styles;

use super::examples::{EXAMPLES, Example, FIRST, GROUPS};

/// Adds groups and examples to the definition of the command line.
pub(super) fn with_groups_and_examples(command: Command) -> Command {
    let styles = command.get_styles().clone();
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{}\n{}\n{{options}}\n\n{}{{after-help}}",
        groups(&command, &styles),
        heading("Options", &styles),
        examples(EXAMPLES.iter().take(FIRST), &styles).trim_end()
    );
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = command.help_template(template).after_help(
        "Without a command holdfast runs the registry. `holdfast help COMMAND` explains a command; see also man holdfast and \
         man holdfast.toml.",
    );
    names.into_iter().fold(command, |command, name| {
        let own: Vec<&Example> = EXAMPLES.iter().filter(|example| example.command == name).collect();
        if own.is_empty() {
            return command;
        }
        let text = examples(own.into_iter(), &styles);
        command.mut_subcommand(name, |below| {
            let after =
                below.get_after_help().map_or_else(String::new, |after| format!("{}\n\n", after.ansi()));
            below.after_help(after + text.trim_end())
        })
    })
}

fn heading(text: &str, styles: &Styles) -> String {
    let style = styles.get_header();
    format!("{style}{text}:{style:#}")
}

/// Lists the commands by their groups, each with the first line of its help.
fn groups(command: &Command, styles: &Styles) -> String {
    let names = GROUPS.iter().flat_map(|(_, names)| names.iter());
    let width = names.map(|name| name.len()).max().unwrap_or_default();
    let literal = styles.get_literal();
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(text, "\n{}", heading(group, styles));
        for below in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{:width$}{literal:#}  {about}", below.get_name());
        }
    }
    text
}

fn examples<'a>(examples: impl Iterator<Item = &'a Example>, styles: &Styles) -> String {
    let literal = styles.get_literal();
    let mut text = format!("{}\n", heading("Examples", styles));
    for Example { line, purpose, .. } in examples {
        let _ = writeln!(text, "  {literal}{line}{literal:#}\n      {purpose}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments;

    #[test]
    fn each_command_is_in_one_group_and_each_example_is_of_a_command() {
        let command = arguments::command();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.sort_unstable();
        let visible = command.get_subcommands().filter(|below| !below.is_hide_set());
        let mut names: Vec<&str> = visible.map(Command::get_name).collect();
        names.sort_unstable();
        assert_eq!(grouped, names);
        for Example { command: name, line, .. } in EXAMPLES {
            assert!(name.is_empty() || command.find_subcommand(name).is_some(), "{name}");
            assert!(line.contains(&format!("holdfast {name}")) || name.is_empty(), "{line}");
        }
    }

    #[test]
    fn examples_are_valid_command_lines() {
        for Example { command, line, .. } in EXAMPLES.iter().filter(|example| !example.command.is_empty()) {
            let line = line.strip_prefix("sudo ").unwrap_or(line).split(" | ").next().unwrap();
            let parsed = arguments::command().try_get_matches_from(line.split(' '));
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn help_has_groups_and_three_examples() {
        let help = arguments::command().render_help().to_string();
        for (group, _) in GROUPS {
            assert!(help.contains(&format!("\n{group}:\n")), "{help}");
        }
        assert_eq!(help.matches("holdfast user add").count(), 1, "{help}");
        assert!(help.contains("--config <FILE>") && help.contains("holdfast help COMMAND"), "{help}");
        let gc = arguments::command().find_subcommand_mut("gc").unwrap().render_help().to_string();
        assert!(gc.contains("Examples:") && gc.contains("holdfast gc --dry-run"), "{gc}");
    }
}
