//! Output of commands: results on stdout, warnings on stderr.

use std::io::Write;

use serde_json::{Value, json};

use super::failure::Failure;
use crate::config::{self, Config};

/// Prints to stdout. A closed pipe, as `head` leaves it, is not a failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
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
    format!("{object}\n")
}

/// Prints warnings to stderr, for commands without a log.
pub(super) fn print_warnings(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "holdfast: warning: {warning}");
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
    fn events_are_lines() {
        assert_eq!(event_line("item", json!({ "a": 1 })), "{\"a\":1,\"event\":\"item\"}\n");
    }
}
