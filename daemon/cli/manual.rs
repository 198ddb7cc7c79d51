//! `holdfast man`: the manual pages, made from what the program knows of itself.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use roff::{Roff, bold, italic, roman};

use super::{Failure, print};

/// The documented configuration, which holdfast.toml(5) is made of.
const CONFIGURATION: &str = include_str!("../../config/holdfast.toml");
/// Options of every command, which are explained once.
const GLOBAL: [&str; 4] = ["config", "data", "help", "version"];

/// A manual page.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Page {
    /// The command line
    #[value(name = "holdfast")]
    Command,
    /// The configuration file
    #[value(name = "holdfast.toml")]
    Configuration,
}

/// Prints a manual page.
pub(super) fn run(page: Page, command: clap::Command) -> Result<(), Failure> {
    print(&match page {
        Page::Command => command_line(command),
        Page::Configuration => configuration(CONFIGURATION),
    })
}

/// holdfast(1).
fn command_line(mut command: clap::Command) -> String {
    command.build();
    let mut page = begin("holdfast", "1", &command.get_about().map(ToString::to_string).unwrap_or_default());
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("holdfast"), roman(" [--config FILE] [--data DIR] [COMMAND]")]);
    page.control("SH", ["DESCRIPTION"]);
    paragraph(
        &mut page,
        "Without a command it runs the registry. The other commands work beside a running one, on the same data \
         directory; root works there as its owner.",
    );
    page.control("SH", ["OPTIONS"]);
    arguments(&mut page, &command, &[]);
    page.control("SH", ["COMMANDS"]);
    commands(&mut page, &command, "holdfast");
    page.control("SH", ["EXIT STATUS"]);
    paragraph(&mut page, "0 done, 1 failed, 2 wrong use or wrong configuration.");
    page.control("SH", ["FILES"]);
    for (file, what) in [
        ("/etc/holdfast/holdfast.toml", "The configuration; see holdfast.toml(5)."),
        ("/var/lib/holdfast", "The data directory of the packaged service: an OCI Image Layout."),
        ("/run/holdfast/control.sock", "Through this the command line asks the running service how it is."),
    ] {
        entry(&mut page, file, what);
    }
    page.control("SH", ["EXAMPLES"]);
    for (line, what) in [
        (
            "sudo holdfast user add alice",
            "Adds the first user; a registry without one refuses everybody from outside.",
        ),
        (
            "sudo systemctl try-reload-or-restart holdfast",
            "Takes a changed configuration, without dropping a transfer.",
        ),
        ("sudo holdfast gc --dry-run", "Shows what a collection would free."),
        ("journalctl -u holdfast REPOSITORY=team/app", "Shows who did what with a repository."),
    ] {
        entry(&mut page, line, what);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("holdfast.toml"),
        roman("(5), "),
        bold("systemctl"),
        roman("(1), "),
        bold("journalctl"),
        roman("(1)"),
    ]);
    page.to_roff()
}

/// The commands below a command, with their arguments.
fn commands(page: &mut Roff, command: &clap::Command, above: &str) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        let name = format!("{above} {}", below.get_name());
        if below.has_subcommands() {
            commands(page, below, &name);
            continue;
        }
        let positionals: String = below.get_positionals().map(|argument| format!(" {argument}")).collect();
        page.control("SS", [format!("{name}{positionals}").as_str()]);
        paragraph(page, &below.get_about().map(ToString::to_string).unwrap_or_default());
        arguments(page, below, &GLOBAL);
    }
}

fn arguments(page: &mut Roff, command: &clap::Command, known: &[&str]) {
    for argument in command.get_arguments().filter(|argument| !known.contains(&argument.get_id().as_str())) {
        let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values = argument.get_possible_values();
        if !values.is_empty() {
            let names: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
            text += &format!(": {}", names.join(", "));
        }
        entry(page, &argument.to_string(), &text);
    }
}

/// holdfast.toml(5): the comments of the file, and under each what they explain.
fn configuration(file: &str) -> String {
    let mut page = begin("holdfast.toml", "5", "the configuration of Holdfast");
    page.control("SH", ["DESCRIPTION"]);
    let (mut text, mut sample) = (String::new(), Vec::new());
    for line in file.lines() {
        let content = line.trim_start_matches("# ").trim_end();
        if is_sample(line, content) {
            sample.push(content);
            continue;
        }
        if !sample.is_empty() || line.is_empty() {
            explain(&mut page, &std::mem::take(&mut text), &std::mem::take(&mut sample));
        }
        if line.starts_with('[') {
            page.control("SH", [line]);
        } else if !content.is_empty() {
            text += content;
            text.push(' ');
        }
    }
    explain(&mut page, &text, &sample);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("holdfast"), roman("(1)")]);
    page.to_roff()
}

/// Whether a line sets a key, or shows in a comment how to.
fn is_sample(line: &str, content: &str) -> bool {
    let key = content.split(" = ").next().unwrap_or_default();
    let sets = content.contains(" = ")
        && key.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.' | b'-'));
    sets || (line.starts_with("# [[") && content.ends_with("]]"))
}

fn explain(page: &mut Roff, text: &str, sample: &[&str]) {
    if sample.is_empty() {
        return paragraph(page, text);
    }
    page.control("PP", []);
    page.control("nf", []);
    for line in sample {
        page.text([bold(*line)]);
    }
    page.control("fi", []);
    page.control("RS", ["4"]);
    page.text([roman(text.trim_end())]);
    page.control("RE", []);
}

fn begin(name: &str, section: &str, about: &str) -> Roff {
    let mut page = Roff::new();
    let version = concat!("holdfast ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, section, "", version, "Holdfast"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page
}

fn paragraph(page: &mut Roff, text: &str) {
    if !text.trim().is_empty() {
        page.control("PP", []);
        page.text([roman(text.trim())]);
    }
}

fn entry(page: &mut Roff, name: &str, text: &str) {
    page.control("TP", []);
    page.text([bold(name)]);
    page.text([if text.is_empty() { italic("") } else { roman(text) }]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_key_has_its_place() {
        let page = command_line(crate::cli::arguments::command());
        for name in [
            "holdfast user add",
            "holdfast gc",
            "holdfast check",
            "dry",
            "holdfast status",
            "zsh",
            "holdfast, holdfast.toml",
        ] {
            assert!(page.contains(name), "{name} is not in {page}");
        }
        assert!(!page.contains("inspect"), "what nobody calls by hand is not explained");
        let page = configuration(CONFIGURATION);
        for line in CONFIGURATION.lines().filter(|line| line.starts_with('[')) {
            assert!(page.contains(&format!(".SH {line}")), "{line}");
        }
        let samples = CONFIGURATION.lines().filter(|line| line.contains(" = "));
        for key in samples.filter_map(|line| line.trim_start_matches("# ").split(" = ").next()) {
            assert!(page.contains(key.replace('-', "\\-").as_str()), "{key} is not explained");
        }
    }
}
