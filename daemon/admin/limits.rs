//! The length limits that keep every page below 60 KiB, style sheet and script included.
//!
//! Each list has a fixed number of rows per page, a constant beside its template. Each text that clients or images
//! provide is cut to a fixed length, which counts an escaped character with the five bytes of its HTML entity. The size
//! of a page is therefore bounded by its constants alone, whatever was pushed; `worst_case.rs` builds the largest page
//! of each template in a unit test.

use super::escape::is_hidden;

/// The longest text of an image on an overview page: a command, a value of a label, an environment variable.
pub(super) const TEXT: usize = 160;
/// The longest text of an image on a page that shows one list only.
pub(super) const LONG_TEXT: usize = 400;
/// The longest name of a label or annotation, title of a file, or platform.
pub(super) const NAME: usize = 96;
/// The longest sentence in an error page, a warning or a list of faults.
pub(super) const SENTENCE: usize = 640;

/// Shortens a text to at most `longest` bytes of HTML, with an ellipsis in place of the rest. Characters without a shape become
/// U+FFFD, other than line breaks and tabs.
pub(super) fn shorten(text: &str, longest: usize) -> String {
    // Each character has at least one byte.
    let beginning = text.chars().take(longest + 1);
    let text: String =
        beginning.map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let (mut used, mut cut) = (0, 0);
    for (at, c) in text.char_indices() {
        used += html_length(c);
        if used > longest {
            return format!("{}…", &text[..cut]);
        }
        // Leave room for the ellipsis.
        if used + '…'.len_utf8() <= longest {
            cut = at + c.len_utf8();
        }
    }
    text
}

/// Returns the bytes of a text in a rendered template.
pub(super) fn html_bytes(text: &str) -> usize {
    text.chars().map(html_length).sum()
}

/// Returns the bytes of a character in a rendered template; askama escapes with numeric entities of five bytes.
fn html_length(c: char) -> usize {
    if matches!(c, '"' | '\'' | '&' | '<' | '>') { "&#34;".len() } else { c.len_utf8() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shortened_to_their_length_in_html() {
        assert_eq!(
            (shorten("abc", 3), shorten("abcdef", 5), shorten("", 0)),
            ("abc".into(), "ab…".into(), String::new())
        );
        assert_eq!((shorten("a<<", 11), shorten("a<<", 10)), ("a<<".into(), "a<…".into()));
        assert_eq!((shorten("äöü", 6), shorten("äöü", 5)), ("äöü".into(), "ä…".into()));
        assert_eq!(shorten("a\u{202e}\0\n\tb", 20), "a\u{fffd}\u{fffd}\n\tb");
        assert_eq!(shorten("\0\0\0", 6), "\u{fffd}…");
    }
}
