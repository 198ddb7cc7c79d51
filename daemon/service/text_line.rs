//! A log record as one line of text. Client input cannot start a new line, move the cursor or forge a field (log injection).

use std::fmt::Write;

use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::human::is_deceptive;

/// Maximum length of a message, in bytes; the daemon's own errors fit.
const MAX_MESSAGE: usize = 4096;
/// Maximum length of a field's value, in bytes.
const MAX_VALUE: usize = 256;

/// Returns the line: the time unless it is `None`, the level, the message and the fields.
pub(super) fn line(record: &Record, now: Option<OffsetDateTime>) -> String {
    let mut line = String::new();
    if let Some(now) = now {
        let seconds = now.replace_nanosecond(0).unwrap_or(now);
        // RFC 3339 has no years before 0 or after 9999.
        line += &seconds.format(&Rfc3339).unwrap_or_default();
        line.push(' ');
    }
    line += &format!("{:5} ", record.level());
    text(record, &mut line);
    line.push('\n');
    line
}

/// Appends the message, then `key=value` for each non-empty field. Values are escaped, quoted if needed, and cut.
pub(super) fn text(record: &Record, out: &mut String) {
    escape(cut(&record.args().to_string(), MAX_MESSAGE), out);
    // Fields that cannot be formatted are left out.
    let _ = record.key_values().visit(&mut Fields(out));
}

/// Returns the message alone, escaped and cut.
pub(super) fn message(record: &Record) -> String {
    let mut text = String::new();
    escape(cut(&record.args().to_string(), MAX_MESSAGE), &mut text);
    text
}

/// Returns a field's value, escaped and cut.
pub(super) fn value(value: &str) -> String {
    let mut text = String::new();
    escape(cut(value, MAX_VALUE), &mut text);
    text
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let text = value.to_string();
        if text.is_empty() {
            return Ok(());
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, " {key}=");
        if !text.contains(|letter: char| letter.is_whitespace() || "\"=\\".contains(letter)) {
            escape(cut(&text, MAX_VALUE), self.0);
            return Ok(());
        }
        let text = self::value(&text.replace('\\', "\\\\").replace('"', "\\\""));
        self.0.push('"');
        self.0.push_str(&text);
        self.0.push('"');
        Ok(())
    }
}

/// Cuts a text at a character boundary; returns it with an ellipsis if it was cut.
fn cut(text: &str, longest: usize) -> (&str, &'static str) {
    if text.len() <= longest { (text, "") } else { (&text[..text.floor_char_boundary(longest)], "…") }
}

fn escape((text, ellipsis): (&str, &str), line: &mut String) {
    for letter in text.chars() {
        if is_deceptive(letter) { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line.push_str(ellipsis);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str, fields: &[(&str, &str)]) -> String {
        let level = log::Level::Info;
        let message = format_args!("{message}");
        line(&Record::builder().level(level).args(message).key_values(&fields).build(), None)
    }

    #[test]
    fn record_is_one_line_with_its_fields() {
        let fields = [("user", "alice"), ("empty", "")];
        assert_eq!(shown("a\nb\x1b[2J", &fields), "INFO  a\\nb\\u{1b}[2J user=alice\n");
    }

    #[test]
    fn time_comes_first() {
        let now = time::macros::datetime!(2026-11-26 20:15:07.25 UTC);
        let line = line(&Record::builder().args(format_args!("a")).build(), Some(now));
        assert_eq!(line, "2026-11-26T20:15:07Z INFO  a\n");
    }

    #[test]
    fn value_cannot_forge_another_field() {
        let fields = [("user", "x client=192.0.2.1"), ("name", "a\"b\\"), ("more", "c\nd")];
        let line = shown("m", &fields);
        assert_eq!(line, "INFO  m user=\"x client=192.0.2.1\" name=\"a\\\"b\\\\\" more=\"c\\nd\"\n");
    }

    #[test]
    fn long_messages_and_values_are_cut() {
        let fields = [("user", "ä".repeat(5000)), ("agent", "a ".repeat(5000))];
        let fields = fields.each_ref().map(|(key, value)| (*key, value.as_str()));
        let line = shown(&"m".repeat(100_000), &fields);
        let [message, user, agent] = [MAX_MESSAGE, MAX_VALUE, MAX_VALUE];
        let (message, user) = ("m".repeat(message), "ä".repeat(user / 2));
        assert_eq!(line, format!("INFO  {message}… user={user}… agent=\"{}…\"\n", "a ".repeat(agent / 2)));
    }

    #[test]
    fn text_direction_marks_are_escaped() {
        assert_eq!(shown("a\u{202e}b\u{2028}c\u{feff}é", &[]), "INFO  a\\u{202e}b\\u{2028}c\\u{feff}é\n");
    }
}
