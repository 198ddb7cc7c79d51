//! A log record as a JSON object on one line, with registry:2's names for time, level and message.

use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::text_line;

/// Returns the line of a record.
pub(super) fn line_at(record: &Record, now: OffsetDateTime) -> String {
    let mut object = String::from("{\"time\":");
    // RFC 3339 has no years before 0 or after 9999.
    text(&now.format(&Rfc3339).unwrap_or_default(), &mut object);
    object += ",\"level\":";
    let level = match record.level() {
        // registry:2 writes it out.
        log::Level::Warn => "warning",
        log::Level::Error => "error",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    };
    text(level, &mut object);
    object += ",\"msg\":";
    text(&text_line::message(record), &mut object);
    // Fields that cannot be formatted are left out.
    let _ = record.key_values().visit(&mut Fields(&mut object));
    object.push_str("}\n");
    object
}

fn text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let shown = value.to_string();
        if shown.is_empty() {
            return Ok(());
        }
        self.0.push(',');
        text(key.as_str(), self.0);
        self.0.push(':');
        match value.to_u64() {
            Some(number) => self.0.push_str(&number.to_string()),
            None => text(&text_line::value(&shown), self.0),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(message: &str, user: &str) -> String {
        let fields = [("user", Value::from(user)), ("status", Value::from(404)), ("empty", Value::from(""))];
        line_at(
            &Record::builder()
                .level(log::Level::Warn)
                .args(format_args!("{message}"))
                .key_values(&fields)
                .build(),
            OffsetDateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn line_is_an_object_with_its_fields() {
        let expected = r#"{"time":"1970-01-01T00:00:00Z","level":"warning","msg":"GET \"x\"","user":"al\\nice","status":404}"#;
        assert_eq!(shown("GET \"x\"", "al\nice"), format!("{expected}\n"));
    }

    proptest! {
        #[test]
        fn any_record_is_one_line_of_json(message in any::<String>(), user in any::<String>()) {
            let line = shown(&message, &user);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&object["level"], "warning");
        }
    }
}
