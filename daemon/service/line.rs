//! A record of the log as text.

use std::fmt::Write;

use log::Record;
use log::kv::{Error, Key, Value, VisitSource};

/// The line: level and text.
pub(super) fn line(record: &Record) -> String {
    let mut line = format!("{:5} ", record.level());
    text(record, &mut line);
    line.push('\n');
    line
}

/// The message, then `key=value` for each field that has one. Whatever a client sent cannot begin a new line or
/// move the cursor.
pub(super) fn text(record: &Record, out: &mut String) {
    escape(&record.args().to_string(), out);
    // Fields that cannot be shown are left out.
    let _ = record.key_values().visit(&mut Fields(out));
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(self.0, " {key}=");
            escape(&value, self.0);
        }
        Ok(())
    }
}

fn escape(text: &str, line: &mut String) {
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_line_with_its_fields() {
        let fields = [("user", "alice"), ("empty", "")];
        let shown = line(
            &Record::builder()
                .level(log::Level::Info)
                .args(format_args!("a\nb\x1b[2J"))
                .key_values(&fields)
                .build(),
        );
        assert_eq!(shown, "INFO  a\\nb\\u{1b}[2J user=alice\n");
    }
}
