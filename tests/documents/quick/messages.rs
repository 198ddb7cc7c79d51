//! The error messages that the page about troubleshooting quotes.

use std::fs;
use std::path::Path;

use crate::documents::{blocks, source};

/// Messages of clients, of proxies and of systemd.
const OF_OTHERS: [&str; 14] = [
    "x509: certificate signed by unknown authority",
    "tls: failed to verify certificate",
    "x509: certificate is valid for pi, pi.local, not registry.home",
    "no alternative certificate subject name matches",
    "x509: certificate has expired or is not yet valid",
    "http: server gave HTTP response to HTTPS client",
    "x509: certificate relies on legacy Common Name field",
    "no basic auth credentials",
    "413 Request Entity Too Large",
    "no such host",
    "dial tcp: lookup pi.local",
    "connection refused",
    "217/USER",
    "226/NAMESPACE",
];

fn read_all(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else if let Ok(content) = fs::read_to_string(&path) {
            // A backslash joins the lines of a long message.
            let mut lines = content.split("\\\n");
            text.push_str(lines.next().unwrap_or_default());
            lines.for_each(|line| text.push_str(line.trim_start()));
        }
    }
}

#[test]
fn quoted_messages_are_in_the_program() {
    let mut program = String::new();
    read_all(&source().join("daemon"), &mut program);
    read_all(&source().join("packaging/debian"), &mut program);
    let page = fs::read_to_string(source().join("docs/how-to/troubleshooting.md")).unwrap();
    let mut quoted = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| message")) {
        let cell = row.trim_start_matches("| ").split(" | ").next().unwrap();
        for message in blocks::spans(cell).iter().filter(|message| !OF_OTHERS.contains(&message.as_str())) {
            quoted += 1;
            for part in message.split("...").map(str::trim) {
                assert!(program.contains(part), "{message:?} is not a message of the program: {part:?}");
            }
        }
    }
    assert!(quoted > 40, "{quoted}");
}
