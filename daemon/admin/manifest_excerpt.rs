//! The beginning of a manifest, formatted for people.

use super::limits::shorten;

/// Returns the beginning of a manifest in at most `longest` bytes of HTML. One that was pushed in a single line gets line
/// breaks and indentation; the order of its members stays.
pub(super) fn manifest_excerpt(bytes: &[u8], longest: usize) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(longest.saturating_mul(4))]);
    let text = if start.trim().contains('\n') { start.into_owned() } else { indented(&start) };
    shorten(&text, longest)
}

/// Formats JSON, which may break off anywhere, with a line for each item.
fn indented(text: &str) -> String {
    let (mut lines, mut depth, mut quoted, mut escaped) = (String::new(), 0usize, false, false);
    let new_line = |lines: &mut String, depth: usize| {
        lines.push('\n');
        // Deeper levels would be mostly spaces.
        lines.extend(std::iter::repeat_n("  ", depth.min(20)));
    };
    for c in text.chars() {
        if quoted {
            lines.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut lines, depth);
                lines.push(c);
            }
            '{' | '[' => {
                depth += 1;
                lines.push(c);
                new_line(&mut lines, depth);
            }
            ',' => {
                lines.push(c);
                new_line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            c => {
                quoted = c == '"';
                lines.push(c);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_in_one_line_is_indented_and_cut() {
        let text = manifest_excerpt(br#"{"b":[1,"a,\"{"],"a":{}}"#, 8000);
        assert_eq!(text, "{\n  \"b\": [\n    1,\n    \"a,\\\"{\"\n  ],\n  \"a\": {\n    \n  }\n}");
        let cut = manifest_excerpt(format!("\"{}\"", "x".repeat(8000)).as_bytes(), 8000);
        assert!(cut.ends_with('…') && cut.len() == 8000 - 4, "a quote counts five bytes");
        let formatted = "{\n\"a\":1}";
        assert_eq!(manifest_excerpt(formatted.as_bytes(), 8000), formatted);
    }
}
