//! The generated pages of the reference: command line and configuration.
//!
//! `HOLDFAST_WRITE_DOCUMENTS=1 cargo test --test tests documents::quick::reference` writes them again.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::arguments::CommandLine;
use crate::documents::{blocks, pages, source};
use crate::support::*;

/// Compares a page with its text, or writes it.
#[track_caller]
fn assert_generated(path: &str, expected: &str) {
    let file = source().join(path);
    if std::env::var_os("HOLDFAST_WRITE_DOCUMENTS").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        text == expected,
        "{path} is out of date; HOLDFAST_WRITE_DOCUMENTS=1 cargo test --test tests documents::quick::reference writes it"
    );
}

fn program(arguments: &[&str]) -> String {
    run(Command::new(BINARY).env_clear().args(arguments))
}

/// Removes the paragraph of the global options, which the page has once.
fn without_global_options(help: &str) -> String {
    let paragraphs = help.trim_end().split("\n\n");
    let mut inside = false;
    let kept = paragraphs.filter(|paragraph| {
        let begins_section = !paragraph.starts_with(' ');
        inside = paragraph.starts_with("Global options:") || (inside && !begins_section);
        !inside
    });
    kept.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn the_command_line_is_that_of_the_program() {
    let mut page = String::from(
        "# The command line\n\n\
         These are the help texts of the program: `holdfast help COMMAND`. The manual page holdfast(1) has the same words.\n\n\
         With the Debian package, run the commands with `sudo`: they continue as the user that owns the data. Members of\n\
         the group `holdfast` need no `sudo`. Commands ask the running daemon through its [control socket](local-api.md);\n\
         without a daemon they open the data themselves.\n\n\
         The exit status is 0 for success, 1 for a failure and 2 for wrong usage, unless a command says otherwise.\n\n\
         These options work with every command:\n\n\
         | option | meaning |\n|---|---|\n\
         | `--config FILE` | the configuration file: TOML, or YAML of registry:2. The default is `/etc/holdfast/holdfast.toml` if it exists |\n\
         | `--data DIR` | the data directory. The default is `storage.path` |\n\
         | `-h`, `--help` | help; `--help` tells more than `-h` |\n",
    );
    for command in CommandLine::of_the_program().visible() {
        let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        let help = without_global_options(&program(&arguments));
        write!(page, "\n## {command}\n\n```text\n{help}\n```\n").unwrap();
    }
    assert_generated("docs/reference/command-line.md", &page);
}

/// One key of the manual page holdfast.toml(5).
#[derive(Default)]
struct Key {
    section: String,
    name: String,
    default: Option<String>,
    paragraphs: Vec<String>,
}

/// A section of the manual page, with its keys.
#[derive(Default)]
struct Section {
    title: String,
    text: Vec<String>,
    keys: Vec<Key>,
}

fn plain(line: &str) -> String {
    ["\\fB", "\\fR", "\\fI"]
        .iter()
        .fold(line.to_owned(), |text, font| text.replace(font, ""))
        .replace("\\-", "-")
}

/// Reads the manual page, which is made from the definitions of the keys.
fn sections() -> Vec<Section> {
    let page = program(&["man", "holdfast.toml"]);
    let mut sections = vec![Section::default()];
    let mut is_head = false;
    for line in page.lines().skip_while(|line| !line.starts_with(".SH DESCRIPTION")).skip(1) {
        let section = sections.last_mut().unwrap();
        if let Some(title) = line.strip_prefix(".SH ") {
            sections.push(Section { title: plain(title), ..Section::default() });
        } else if line == ".TP" {
            is_head = true;
        } else if is_head {
            let head = plain(line);
            let (name, default) = head
                .split_once(" = ")
                .map_or((head.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
            let section_name = section.title.trim_matches(['[', ']']).to_owned();
            section.keys.push(Key {
                section: section_name,
                name: name.to_owned(),
                default,
                ..Key::default()
            });
            is_head = false;
        } else if !line.starts_with('.') {
            match section.keys.last_mut() {
                Some(key) => key.paragraphs.push(plain(line)),
                None => section.text.push(plain(line)),
            }
        }
    }
    sections.retain(|section| section.title != "\"SEE ALSO\"");
    sections
}

/// Escapes what Markdown would read as a list, an HTML tag or emphasis.
fn markdown(text: &str) -> String {
    text.replace('*', "\\*").replace('<', "\\<")
}

fn configuration_page() -> String {
    let mut page = String::from(
        "# The configuration\n\n\
         The file is `/etc/holdfast/holdfast.toml`, or that of `--config FILE`. A key that is not set has its default. The\n\
         manual page holdfast.toml(5) has the same words, and [config/holdfast.toml](../../config/holdfast.toml) is a file\n\
         with all keys. The Debian package sets `listen`, `storage.path` and `tls.mode`; the container image sets `listen`,\n\
         `storage.path` and `registry.compatible_files`.\n\n\
         Each key can be set in the environment, except for those in tables with double brackets and `[http.headers]`. The\n\
         command line wins over `HOLDFAST_*`, then come `REGISTRY_*` ([From registry:2](../how-to/from-registry-2.md)), the file\n\
         and the default.\n\n\
         `holdfast config check` checks the file and warns of likely mistakes, and `holdfast config show` prints the values in\n\
         effect. A change takes effect with `systemctl try-reload-or-restart holdfast`, which interrupts no transfer. A wrong\n\
         configuration is refused, and the old one stays. Keys that need a restart say so.\n",
    );
    for section in sections() {
        let title = if section.title.is_empty() { "Top level" } else { &section.title };
        write!(page, "\n## {title}\n").unwrap();
        for line in section.text.iter().filter(|_| !section.title.is_empty()) {
            if line.contains(" = [") && !line.contains(". ") {
                write!(page, "\n- `{line}`").unwrap();
            } else {
                write!(page, "\n{}\n", markdown(line)).unwrap();
            }
        }
        if section.title == "[http.headers]" {
            page.push('\n');
        }
        for key in &section.keys {
            key_entry(&mut page, key, section.title.starts_with("[["));
        }
    }
    page
}

fn key_entry(page: &mut String, key: &Key, is_rule: bool) {
    let full =
        if key.section.is_empty() { key.name.clone() } else { format!("{}.{}", key.section, key.name) };
    write!(page, "\n### {full}\n").unwrap();
    for text in &key.paragraphs {
        let Some((value, environment)) =
            text.strip_prefix("Value: ").and_then(|rest| rest.split_once(" Environment: "))
        else {
            match text.strip_prefix("Example: ") {
                Some(example) => writeln!(page, "- Example: `{example}`").unwrap(),
                None => write!(page, "\n{}\n", markdown(text)).unwrap(),
            }
            continue;
        };
        let default = key.default.as_ref().map_or("not set".to_owned(), |default| format!("`{default}`"));
        writeln!(page, "\n- Value: {}", markdown(value.trim_end_matches('.'))).unwrap();
        writeln!(page, "- Default: {default}").unwrap();
        writeln!(page, "- Environment: `{}`", environment.trim_end_matches('.')).unwrap();
    }
    if is_rule {
        let example = key.default.as_deref().unwrap_or_default();
        write!(page, "\n- Example: `{} = {example}`\n", key.name).unwrap();
    }
}

#[test]
fn the_configuration_is_that_of_the_program() {
    assert_generated("docs/reference/configuration.md", &configuration_page());
}

#[test]
fn keys_and_variables_in_the_documents_exist() {
    let sections = sections();
    let keys = sections.iter().flat_map(|section| &section.keys);
    let names: BTreeSet<String> = keys.map(|key| format!("{}.{}", key.section, key.name)).collect();
    let titles: BTreeSet<&str> =
        sections.iter().map(|section| section.title.trim_matches(['[', ']'])).collect();
    let tops: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    let variables: BTreeSet<String> = names
        .iter()
        .map(|name| format!("HOLDFAST_{}", name.trim_start_matches('.').replace('.', "_").to_uppercase()))
        .collect();
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut checked = 0;
    for page in pages() {
        for span in blocks::spans(&blocks::prose(&page.text)) {
            let key = span.split(" = ").next().unwrap();
            // The page about registry:2 has its settings, and some file names look like keys.
            let is_key = key.split_once('.').is_some_and(|(top, rest)| tops.contains(top) && is_word(rest));
            if is_key
                && !key.starts_with('.')
                && !page.name.ends_with("from-registry-2.md")
                && !key.ends_with(".rs")
            {
                assert!(names.contains(key) || titles.contains(key), "{}: there is no key {key}", page.name);
                checked += 1;
            }
        }
        for part in page.text.split("HOLDFAST_").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(part.len());
            let variable = format!("HOLDFAST_{}", &part[..end]);
            let is_pattern =
                end == 0 || variable.starts_with("HOLDFAST_TEST") || variable.starts_with("HOLDFAST_WRITE");
            assert!(is_pattern || variables.contains(&variable), "{}: there is no {variable}", page.name);
        }
    }
    assert!(checked > 50, "{checked}");
}
