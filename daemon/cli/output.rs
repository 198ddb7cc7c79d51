//! Output of commands: results on stdout, warnings on stderr.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::base::human::{is_deceptive, printable, printable_lines};
use crate::config::{self, Config};

/// Prints to stdout. Clients and archives decide a part of the text, so that characters which could control a terminal or
/// reorder the text are replaced. A closed pipe, as `head` leaves it, is not a failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_verbatim(&printable_lines(text))
}

/// Prints a value as JSON to stdout.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&json_text(value))
}

/// Formats a value as indented JSON.
pub(super) fn json_text(value: &impl Serialize) -> String {
    // Only maps with other keys than strings fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    escape(&format!("{text}\n"))
}

/// Prints a line of a command that works on. A closed pipe must not stop the work.
pub(super) fn print_line(text: &str) {
    let _ = print(&format!("{text}\n"));
}

/// Prints a remark or an error to stderr, a closed one of which cannot be reported anywhere.
pub(super) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "holdfast: {}", printable(text));
}

/// Escapes, in JSON, the characters that [`print`] replaces, which only strings can have.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Prints to stdout without a change: text of this program, or a document that a digest or a signature covers.
pub(super) fn print_verbatim(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Formats an event as one line of JSON.
pub(super) fn event_line(event: &str, fields: Value) -> String {
    let mut object = json!({ "event": event });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    escape(&format!("{object}\n"))
}

/// Prints warnings to stderr, for commands without a log.
pub(super) fn print_warnings(warnings: &[String]) {
    for warning in warnings {
        remark(&format!("warning: {warning}"));
    }
}

/// Returns a warning if the data directory has content of registry:2, which is not served.
pub(super) fn foreign_content(config: &Config) -> Option<String> {
    let foreign = config.storage.path.join(config::REGISTRY_2_DATA);
    foreign.is_dir().then(|| {
        format!(
            "{} has content of registry:2, which Holdfast neither serves nor changes; take it over with `holdfast adopt {}`, or \
             run registry:2 on another port and copy the images (skopeo sync, crane copy), see docs/how-to/from-registry-2.md",
            foreign.display(),
            config.storage.path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_character_that_controls_a_terminal() {
        let value = json!({ "a": "\u{202e}\u{9b}\u{e0001}ä\n" });
        let line = event_line("item", value.clone());
        assert_eq!(line, "{\"a\":\"\\u202e\\u009b\\udb40\\udc01ä\\n\",\"event\":\"item\"}\n");
        let text = json_text(&value);
        assert_eq!(text, printable_lines(&text));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "the value is the same");
    }

    #[test]
    fn events_are_lines() {
        assert_eq!(event_line("item", json!({ "a": 1 })), "{\"a\":1,\"event\":\"item\"}\n");
    }
}
