//! The error messages that the page about troubleshooting quotes.

use std::fs;
use std::path::Path;

use crate::documents::{blocks, source};

/// Errors that no client or user sees with these words, with the reason.
const INTERNAL: [(&str, &str); 6] = [
    ("too many unfinished uploads", "the row of busy registries has the remedy, and clients try again"),
    ("the store is shutting down", "the connection ends with it"),
    ("the system returned no random bytes", "Linux has them"),
    ("cannot hash the password", "bcrypt fails for no password that is accepted"),
    ("the index failed", "the log line ends with the cause, which has a row of its own or none"),
    ("the htpasswd file cannot be read", "names the log, which has the cause"),
];

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

fn page() -> String {
    fs::read_to_string(source().join("docs/how-to/troubleshooting.md")).unwrap()
}

/// Returns the parts of the messages of an error type that are the same for every object, longest first.
fn messages(file: &str) -> Vec<String> {
    let text = fs::read_to_string(source().join(file)).unwrap();
    let after = text.split("#[error(").skip(1);
    let literals = after.filter_map(|rest| Some(rest.split_once('"')?.1.split_once('"')?.0.to_owned()));
    // A backslash joins the lines of a long message.
    let joined = literals.map(|text| text.split("\\\n").map(str::trim_start).collect::<String>());
    joined.filter(|text| text.split(['{', '}']).any(|part| part.trim().len() > 8)).collect()
}

/// Returns true if a span of the page is a part of the message; `...` in a span and `{}` in the message are any text.
fn quotes(spans: &[String], message: &str) -> bool {
    spans.iter().filter(|span| span.len() > 8).any(|span| {
        let mut rest = message;
        span.split("...").map(str::trim).filter(|part| !part.is_empty()).all(|part| {
            match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            }
        })
    })
}

#[test]
fn every_error_of_store_users_and_certificates_has_a_remedy() {
    let page = page();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let spans: Vec<String> = cells.flat_map(blocks::spans).collect();
    let files = [
        "daemon/store/error.rs",
        "daemon/access/identity.rs",
        "daemon/access/htpasswd.rs",
        "daemon/tls/error.rs",
    ];
    let all: Vec<String> = files.iter().flat_map(|file| messages(file)).collect();
    assert!(all.len() > 25, "{all:#?}");
    let is_internal = |message: &String| INTERNAL.iter().any(|(part, _)| message.contains(part));
    let missing: Vec<&String> =
        all.iter().filter(|message| !is_internal(message) && !quotes(&spans, message)).collect();
    assert!(missing.is_empty(), "docs/how-to/troubleshooting.md has no row for {missing:#?}");
}

#[test]
fn every_status_and_code_of_the_api_has_a_row() {
    let page = page();
    let table = fs::read_to_string(source().join("daemon/wire/status.rs")).unwrap();
    let names: Vec<&str> =
        table.split("StatusCode::").skip(1).filter_map(|rest| rest.split([',', '\n']).next()).collect();
    let numbers = (400..600u16).filter(|number| {
        let reason = http::StatusCode::from_u16(*number).unwrap().canonical_reason().unwrap_or_default();
        names.contains(&reason.to_uppercase().replace(' ', "_").as_str())
    });
    let numbers: Vec<u16> = numbers.collect();
    assert!(numbers.len() > 15, "{numbers:?} of {names:?}");
    let reference = fs::read_to_string(source().join("docs/reference/api.md")).unwrap();
    for number in numbers {
        assert!(page.contains(&format!("status {number}")), "the page has no row for status {number}");
        let is_listed = reference.lines().any(|line| {
            line.strip_prefix("| ")
                .is_some_and(|row| row.split(" | ").next().unwrap().contains(&number.to_string()))
        });
        assert!(is_listed, "docs/reference/api.md has no row for {number}");
    }
    let codes = fs::read_to_string(source().join("daemon/oci/error_code.rs")).unwrap();
    let is_code =
        |text: &&str| text.len() > 4 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let codes: Vec<&str> = codes.split('"').filter(is_code).collect();
    assert!(codes.len() >= 14, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "the page has no row for {code}");
    }
}
