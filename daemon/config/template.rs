//! The commented `config/holdfast.toml`, generated from the definitions.

use super::definitions::SECTIONS;
use super::format::RuleKey;
use super::item::Shape;
use super::key::{Initial, Key};
use super::settings::Config;

/// The width of the file, in characters.
const WIDTH: usize = 110;
/// The column of comments behind the keys of a rule.
const COMMENT_COLUMN: usize = 36;

const HEADER: &str = "Holdfast's configuration. It lists every key with its default; a key that is not set has the same value.\n\
    Each key can also be set in the environment: HOLDFAST_STORAGE_PATH sets storage.path; lists are written with commas. \
    Only [[auth.rule]], [[retention]], [[immutable]] and [http.headers] cannot.\n\
    `holdfast config check` checks this file, `holdfast config show` prints the configuration in effect.";

/// Returns the commented configuration file with the default of each key.
pub fn template() -> String {
    let mut text = comment(HEADER);
    for section in &SECTIONS {
        text.push('\n');
        text += &comment(section.doc);
        if !section.name.is_empty() {
            text += &format!("[{}]\n", section.name);
        }
        for (number, key) in section.keys.iter().enumerate() {
            let is_table = matches!((key.shape)(), Shape::Table | Shape::Rules);
            if is_table && number > 0 {
                text.push('\n');
            }
            text += &comment(&key.documentation());
            text += &sample(key);
        }
    }
    text
}

/// Returns the lines that set a key, in comments unless they set it to its default.
fn sample(key: &Key<Config>) -> String {
    let example = match key.initial {
        Initial::Value(text) => return format!("{} = {text}\n", key.short_name()),
        Initial::Machine(_, text) | Initial::Unset(text) | Initial::Required(text) => text,
    };
    match (key.shape)() {
        Shape::Table => {
            let rows: String = example.lines().map(|line| format!("# {line}\n")).collect();
            format!("[{}]\n{rows}", key.name)
        }
        Shape::Rules => {
            let row = |key: &RuleKey| {
                let setting = format!("# {} = {}", key.name, key.example);
                format!("{setting:COMMENT_COLUMN$}# {}\n", key.doc)
            };
            format!("# [[{}]]\n{}", key.name, (key.rule)().iter().map(row).collect::<String>())
        }
        Shape::Text | Shape::Number | Shape::Flag | Shape::List => {
            format!("# {} = {example}\n", key.short_name())
        }
    }
}

/// Wraps paragraphs into lines of comments.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
                lines += &line;
                lines.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line += word;
        }
        lines += &line;
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_the_generated_one() {
        let committed = include_str!("../../config/holdfast.toml");
        assert!(
            template() == committed,
            "config/holdfast.toml differs from the definitions in daemon/config/keys; write it again with: \
             cargo run -- config template >config/holdfast.toml"
        );
    }

    #[test]
    fn comments_are_wrapped_between_words() {
        let text = comment(&"word ".repeat(50));
        assert!(text.lines().count() == 3 && text.lines().all(|line| line.starts_with("# word")), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(comment(""), "");
    }
}
