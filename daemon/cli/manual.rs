//! `holdfast man`: the manual pages. holdfast(1) is made from the definition of the command line, holdfast.toml(5) from the
//! definitions of the configuration keys.

use clap::ValueEnum;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use super::Failure;
use super::examples::{EXAMPLES, GROUPS};
use super::output::print_verbatim;
use crate::config::{KeyReference, SectionReference, reference};

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
    print_verbatim(&match page {
        Page::Command => command_line(command).map_err(Failure::failed)?,
        Page::Configuration => configuration(&reference()),
    })
}

/// A section of holdfast(1): its heading and its entries.
type Entries = (&'static str, &'static [(&'static str, &'static str)]);

const FILES: Entries = (
    "FILES",
    &[
        ("/etc/holdfast/holdfast.toml", "The configuration; see holdfast.toml(5)."),
        ("/var/lib/holdfast", "The data directory of the packaged service: an OCI image layout."),
        (
            "/run/holdfast/control.sock",
            "The socket through which the commands reach the service; systemd starts it on the first connection. Root and the \
             members of the group holdfast may connect, and have full rights.",
        ),
        (
            "control.sock in the data directory",
            "The same, of a daemon that systemd passes no sockets, as in a container.",
        ),
        (
            "status.json in the data directory",
            "The state at the last exit, for holdfast status, and the time of the next background job, for holdfast wake.",
        ),
    ],
);

/// Returns holdfast(1): one page for all commands.
fn command_line(command: clap::Command) -> std::io::Result<String> {
    let command = command.subcommand_value_name("command");
    let page = Man::new(command.clone()).title("holdfast").manual("Holdfast");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    let mut description = Roff::new();
    description.control("SH", ["DESCRIPTION"]);
    description.text([roman(
        "Without a command it runs the registry. Commands that need its content ask the running daemon through its control \
         socket. While no daemon runs they open the data directory themselves; root does that as its owner.",
    )]);
    description.to_writer(&mut text)?;
    page.render_options_section(&mut text)?;
    heading("SH", "COMMANDS").to_writer(&mut text)?;
    for name in GROUPS.iter().flat_map(|(_, names)| names.iter()) {
        if let Some(below) = command.find_subcommand(name) {
            commands(&mut text, below, "holdfast")?;
        }
    }
    let mut rest = heading("SH", "EXIT STATUS");
    rest.text([roman(
        "0: success; 1: failure; 2: wrong usage or invalid configuration; 130: interrupted by a signal.",
    )]);
    let (name, entries) = FILES;
    section(&mut rest, name, entries.iter().copied());
    section(&mut rest, "EXAMPLES", EXAMPLES.iter().map(|example| (example.line, example.purpose)));
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("holdfast.toml"), roman("(5), "), bold("systemctl"), roman("(1), ")]);
    rest.text([bold("journalctl"), roman("(1)")]);
    rest.to_writer(&mut text)?;
    let text = String::from_utf8(text).map_err(std::io::Error::other)?;
    Ok(without_repeated_preamble(&text))
}

/// Adds a section of terms with their explanations.
fn section<'a>(page: &mut Roff, name: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) {
    page.control("SH", [name]);
    for (term, text) in entries {
        page.control("TP", []);
        page.text([bold(term)]);
        page.text([roman(text)]);
    }
}

/// Removes the definition of the apostrophe from all parts but the first: each part is rendered like a page of its own.
fn without_repeated_preamble(page: &str) -> String {
    let is_preamble = |line: &str| line.starts_with(".ie \\n(.g .ds Aq") || line.starts_with(".el .ds Aq");
    let lines = page.lines().enumerate().filter(|(number, line)| *number < 2 || !is_preamble(line));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// Writes a subsection for a command, or for each of its subcommands; hidden commands are for the daemon itself.
fn commands(text: &mut Vec<u8>, command: &clap::Command, above: &str) -> std::io::Result<()> {
    let name = format!("{above} {}", command.get_name());
    if command.is_hide_set() {
        return Ok(());
    }
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|below| commands(text, below, &name));
    }
    heading("SS", &name).to_writer(text)?;
    // The page explains the global options once: clap adds them to a subcommand only in `build`, which is not called here.
    let page = Man::new(command.clone().disable_help_flag(true).display_name(&name).bin_name(&name));
    let has_arguments = command.get_arguments().any(|argument| !argument.is_hide_set());
    let mut sections = Vec::new();
    page.render_synopsis_section(&mut sections)?;
    page.render_description_section(&mut sections)?;
    if has_arguments {
        page.render_options_section(&mut sections)?;
    }
    let sections = String::from_utf8(sections).map_err(std::io::Error::other)?;
    // Under the name of the command its parts are paragraphs, not sections of the page.
    for line in sections.lines() {
        let line = if line.starts_with(".SH ") { ".PP" } else { line };
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    Ok(())
}

fn heading(kind: &str, text: &str) -> Roff {
    let mut heading = Roff::new();
    heading.control(kind, [text]);
    heading
}

/// Returns holdfast.toml(5): each key with its default, its allowed values and its documentation.
fn configuration(sections: &[SectionReference]) -> String {
    let mut page = Roff::new();
    let version = concat!("holdfast ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["holdfast.toml", "5", "", version, "Holdfast"]);
    page.control("SH", ["NAME"]);
    page.text([roman("holdfast.toml - the configuration of Holdfast")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The file is TOML. A key that is not set has its default. Each key that is not a table can also be set by a variable \
         of the environment, which overrides the file; lists are written with commas there.",
    )]);
    page.control("PP", []);
    page.text([
        bold("holdfast config check"),
        roman(" checks the file, "),
        bold("holdfast config show"),
        roman(" prints the configuration in effect."),
    ]);
    for section in sections {
        if !section.name.is_empty() {
            page.control("SH", [format!("[{}]", section.name).as_str()]);
        }
        if !section.doc.is_empty() {
            page.text([roman(section.doc)]);
        }
        for key in &section.keys {
            match &key.environment_name {
                Some(variable) => plain_key(&mut page, key, variable),
                None => table(&mut page, key),
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("holdfast"), roman("(1)")]);
    page.to_roff()
}

fn plain_key(page: &mut Roff, key: &KeyReference, variable: &str) {
    let short = key.name.rsplit('.').next().unwrap_or(key.name);
    let value = match key.default {
        Some(default) => format!(" = {default}"),
        None => String::new(),
    };
    page.control("TP", []);
    page.text([bold(short), roman(value)]);
    page.text([roman(key.doc.as_str())]);
    page.control("IP", []);
    page.text([roman(format!("Value: {}. Environment: ", key.allowed)), italic(variable), roman(".")]);
    if key.default.is_none() {
        page.text([roman(format!("Example: {} = {}", short, key.example))]);
    }
}

/// Writes a table, or an array of tables with keys of their own.
fn table(page: &mut Roff, key: &KeyReference) {
    let (open, close) = if key.rule.is_empty() { ("[", "]") } else { ("[[", "]]") };
    page.control("SH", [format!("{open}{}{close}", key.name).as_str()]);
    page.text([roman(key.doc.as_str())]);
    for line in key.example.lines() {
        page.control("IP", []);
        page.text([bold(line)]);
    }
    for (name, example, doc) in &key.rule {
        page.control("TP", []);
        page.text([bold(*name), roman(format!(" = {example}"))]);
        page.text([roman(*doc)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holdfast_1_explains_every_command() {
        let page = command_line(crate::cli::arguments::command()).unwrap();
        for name in [
            "holdfast user add",
            "holdfast gc",
            "holdfast check",
            "holdfast config check",
            "dry",
            "holdfast status",
            "zsh",
            "holdfast.toml: The configuration file",
        ] {
            assert!(page.contains(name), "{name} is not in {page}");
        }
        for hidden in ["inspect", "template"] {
            assert!(!page.contains(hidden), "hidden commands are not for operators");
        }
        let explained = "Data directory [default";
        assert_eq!(page.matches(explained).count(), 1, "options of all commands are explained once: {page}");
        assert_eq!(page.matches(".ds Aq").count(), 2, "one page has one preamble: {page}");
    }

    #[test]
    fn holdfast_toml_5_explains_every_key() {
        let sections = reference();
        let page = configuration(&sections);
        for section in sections.iter().filter(|section| !section.name.is_empty()) {
            assert!(page.contains(&format!(".SH [{}]", section.name)), "{}", section.name);
        }
        for key in sections.iter().flat_map(|section| &section.keys) {
            let short = key.name.rsplit('.').next().unwrap();
            assert!(page.contains(&format!("fB{short}\\fR")) || page.contains(&format!("[{}]", key.name)));
            assert!(key.doc.ends_with('.'), "{} has no documentation", key.name);
        }
        for table in ["[http.headers]", "[[auth.rule]]", "[[retention]]", "[[immutable]]"] {
            assert!(page.contains(&format!(".SH {table}")), "{table}");
        }
        assert!(page.contains("keep_newest") && page.contains("HOLDFAST_LIMITS_CONNECTIONS"), "{page}");
    }
}
