//! The command lines of the documents against the parser of the program: subcommands and options exist.

use std::collections::BTreeMap;
use std::process::Command;

use crate::documents::{blocks, pages};
use crate::support::*;

/// A hidden command that explanations name.
const HIDDEN: &str = "inspect-index";

/// The command line as the completions of bash know it: for each command its options and subcommands.
pub struct CommandLine(BTreeMap<String, Vec<String>>);

impl CommandLine {
    pub fn of_the_program() -> Self {
        let script = run(Command::new(BINARY).env_clear().args(["completions", "bash"]));
        let mut commands = BTreeMap::new();
        let mut current = None;
        for line in script.lines().map(str::trim) {
            if let Some(label) = line.strip_suffix(')').filter(|label| label.starts_with("holdfast")) {
                current = Some(label.replace("__subcmd__", " "));
            } else if let (Some(words), Some(name)) = (line.strip_prefix("opts=\""), &current) {
                let words = words.trim_end_matches('"').split_whitespace().map(str::to_owned);
                commands.entry(name.clone()).or_insert_with(|| words.collect());
            }
        }
        CommandLine(commands)
    }

    /// Returns the commands that `--help` shows, such as `holdfast user add`.
    pub fn visible(&self) -> Vec<String> {
        let mut found = vec!["holdfast".to_owned()];
        let mut next = 0;
        while let Some(name) = found.get(next).cloned() {
            let below =
                self.0[&name].iter().filter(|word| *word != "help").map(|word| format!("{name} {word}"));
            found.extend(below.filter(|command| self.0.contains_key(command)));
            next += 1;
        }
        found.sort();
        found
    }

    /// Returns what is wrong with the words after `holdfast`.
    fn mistake(&self, words: &[String]) -> Option<String> {
        let mut command = "holdfast".to_owned();
        for (position, word) in words.iter().enumerate() {
            let below = format!("{command} {word}");
            if self.0.contains_key(&below) {
                command = below;
            } else if word.starts_with('-') && word.len() > 1 {
                let option = word.split('=').next().unwrap();
                if !self.0[&command].iter().any(|known| known == option) {
                    return Some(format!("{command} has no option {option}"));
                }
            } else if position == 0 && word != HIDDEN {
                return Some(format!("there is no command {word}"));
            }
        }
        None
    }
}

/// Splits a command line into words, as a shell does for the simple cases of the documents. Operators are words.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => (quote, is_word) = (Some(c), true),
            (c, None) if c.is_whitespace() || "|;&()<>".contains(c) => {
                if is_word || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
            }
            (c, None) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Returns the arguments of each call of the program in a line.
fn calls(line: &str) -> Vec<Vec<String>> {
    let is_operator = |word: &str| word.len() == 1 && "|;&()<>#".contains(word);
    let words = words(line);
    let mut calls = Vec::new();
    for (position, word) in words.iter().enumerate() {
        let before = position.checked_sub(1).map_or("", |before| words[before].as_str());
        let is_command = matches!(before, "" | "sudo" | "holdfast" | "site" | "|" | "&" | ";" | "(" | "exec")
            || (before.contains('=') && position == 1);
        let is_program = word == "holdfast" || word.ends_with("/release/holdfast");
        if is_program && is_command {
            let arguments = words[position + 1..].iter().take_while(|word| !is_operator(word));
            let arguments: Vec<String> = arguments.cloned().collect();
            // `docker exec holdfast holdfast`: the first one is a container.
            if !arguments.is_empty() && arguments[0] != "holdfast" {
                calls.push(arguments);
            }
        }
    }
    calls
}

#[test]
fn command_lines_in_the_documents_exist() {
    let command_line = CommandLine::of_the_program();
    let (mut checked, mut mistakes) = (0, Vec::new());
    for page in pages() {
        let spans = blocks::spans(&blocks::prose(&page.text));
        let typed = page.blocks.iter().filter(|block| block.is_commands()).map(|block| {
            // A backslash continues a line.
            block.commands().replace("\\\n", " ")
        });
        let lines: Vec<String> =
            typed.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).chain(spans).collect();
        for line in lines {
            for call in calls(&line) {
                checked += 1;
                mistakes.extend(
                    command_line.mistake(&call).map(|mistake| format!("{}: {line}: {mistake}", page.name)),
                );
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(checked > 100, "{checked}");
}

#[test]
fn mistakes_in_command_lines_are_found() {
    let command_line = CommandLine::of_the_program();
    let mistakes = |line: &str| calls(line).iter().filter_map(|call| command_line.mistake(call)).count();
    assert_eq!(mistakes("docker save a | sudo holdfast import - --as team/app:1"), 0);
    assert_eq!(mistakes("systemctl restart holdfast"), 0);
    assert_eq!(mistakes("sudo holdfast frobnicate"), 1);
    assert_eq!(mistakes("holdfast gc --graze 0s && holdfast check --repare"), 2);
}
