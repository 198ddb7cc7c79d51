//! The result of an import as text, beside the archive that was moved.

use std::fmt::Write;

use crate::base::human::{count, printable, size};
use crate::transfer::{Item, Outcome, Report, Row};

/// Missing content that is listed for an image.
const LISTED: usize = 20;
/// All outcomes, in the order of a summary.
const OUTCOMES: [Outcome; 6] =
    [Outcome::Taken, Outcome::Present, Outcome::Moved, Outcome::Kept, Outcome::Missing, Outcome::Refused];

/// Returns true if no image is missing and none was refused.
pub fn is_done(report: &Report) -> bool {
    report.images.iter().all(|row| row.outcome.is_done())
}

/// Returns the counts of the outcomes: `2 taken, 1 missing`.
pub fn summary(report: &Report) -> String {
    let of = |outcome: Outcome| {
        let number = report.images.iter().filter(|row| row.outcome == outcome).count();
        (number > 0).then(|| format!("{number} {}", outcome.as_str()))
    };
    OUTCOMES.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

/// Returns the report of an import.
pub fn result_report(archive: &str, report: &Report) -> String {
    let mut text = format!("{}: {}\n\n", printable(archive), summary(report));
    for row in &report.images {
        add_row(&mut text, row);
    }
    if let Some(signer) = &report.signer {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\nsigned by {}", printable(signer));
    }
    let _ = writeln!(
        text,
        "\nstored {} ({}); {} already there",
        count(report.blobs, "blob"),
        size(report.bytes),
        count(report.present, "blob")
    );
    text
}

/// Returns the report of an archive that could not be imported.
pub fn error_report(archive: &str, reason: &str) -> String {
    format!("{}: not imported\n\n{}\n", printable(archive), printable(reason))
}

fn add_row(text: &mut String, row: &Row) {
    let digest = row.digest.as_ref().map(|digest| format!("  {digest}")).unwrap_or_default();
    let _ = writeln!(text, "{:<7}  {}{digest}", row.outcome.as_str(), printable(&row.name));
    if let Some(old) = &row.old {
        let verb = if row.outcome == Outcome::Kept { "is" } else { "was" };
        let _ = writeln!(text, "         {verb} {old}");
    }
    if let Some(reason) = &row.reason {
        let _ = writeln!(text, "         {}", printable(reason));
    }
    for Item { digest, size: length } in row.missing.iter().take(LISTED) {
        let length = length.map(|length| format!(" ({})", size(length))).unwrap_or_default();
        let _ = writeln!(text, "         lacks {digest}{length}");
    }
    if row.missing.len() > LISTED {
        let _ = writeln!(text, "         and {} more", row.missing.len() - LISTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_a_line_and_control_characters_have_none() {
        let refused = Row::refused("a\n:1", None, "no\u{1b}[0m");
        let taken = Row { outcome: Outcome::Taken, reason: None, ..Row::refused("b:1", None, "") };
        let report = Report { images: vec![taken, refused], blobs: 1, bytes: 10, ..Report::default() };
        let text = result_report("x.tar", &report);
        assert!(text.starts_with(
            "x.tar: 1 taken, 1 refused\n\ntaken    b:1\nrefused  a\u{fffd}:1\n         no\u{fffd}[0m\n"
        ));
        assert!(text.ends_with("\nstored 1 blob (10 B); 0 blobs already there\n"), "{text}");
        assert!(!is_done(&report));
        assert_eq!(error_report("x", "bad"), "x: not imported\n\nbad\n");
    }
}
