//! A log record that owns its memory, so that it can be sent to another thread.

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Record};

use super::text_line::{self, text};

/// An owned log record.
pub(super) struct Entry {
    level: Level,
    target: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    /// Copies a record. The message contains the fields as text, for readers; the non-empty fields are kept as well, for
    /// filters.
    pub(super) fn of(record: &Record) -> Self {
        let mut message = String::new();
        text(record, &mut message);
        let mut fields = Fields(Vec::new());
        // Fields that cannot be formatted are left out.
        let _ = record.key_values().visit(&mut fields);
        Entry { level: record.level(), target: record.target().to_owned(), message, fields: fields.0 }
    }

    /// Returns a warning of the log about itself.
    pub(super) fn warning(message: String) -> Self {
        Entry { level: Level::Warn, target: module_path!().into(), message, fields: Vec::new() }
    }

    /// Returns the approximate size, in bytes.
    pub(super) fn size(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.target.len() + self.message.len() + fields
    }

    /// Lends the entry as a record.
    pub(super) fn with_record<T>(&self, take: impl FnOnce(&Record) -> T) -> T {
        take(
            &Record::builder()
                .level(self.level)
                .target(&self.target)
                .args(format_args!("{}", self.message))
                .key_values(&self.fields)
                .build(),
        )
    }
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push((key.to_string(), text_line::value(&value)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_restores_the_record() {
        let fields = [("user", "alice"), ("empty", "")];
        let record = Record::builder()
            .level(Level::Info)
            .target("access")
            .args(format_args!("GET /v2/"))
            .key_values(&fields)
            .build();
        let entry = Entry::of(&record);
        assert_eq!(entry.message, "GET /v2/ user=alice");
        assert_eq!(entry.fields, [("user".to_owned(), "alice".to_owned())]);
        let copied = entry.with_record(|record| (record.level(), record.target().to_owned()));
        assert_eq!(copied, (Level::Info, "access".to_owned()));
    }
}
