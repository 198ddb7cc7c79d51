//! Detection of JSON text that has no representation in Unicode: invalid UTF-8 and lone surrogates.
//!
//! A parser that skips unknown fields accepts both there, while parsers in other languages fail on them or read another
//! text. A push with such text is refused, so that all clients read a stored manifest alike.

/// Invalid text and its position in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonTextError {
    /// The bytes are not UTF-8.
    #[error("the bytes at position {0} are not UTF-8")]
    Utf8(usize),
    /// An escape is half of a surrogate pair, which is not a character.
    #[error("the escape at position {0} is a lone surrogate")]
    Surrogate(usize),
}

/// Validates the text in a JSON document; the parser reports syntax errors.
///
/// # Errors
/// Returns [`JsonTextError`] with the position of the first invalid byte.
pub(super) fn check(bytes: &[u8]) -> Result<(), JsonTextError> {
    std::str::from_utf8(bytes).map_err(|error| JsonTextError::Utf8(error.valid_up_to()))?;
    // Valid JSON has backslashes only in strings, so that the scan needs no knowledge of the structure.
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += next;
        match code_unit(&bytes[at..]) {
            Some(0xd800..=0xdbff) => {
                let low = code_unit(&bytes[at + ESCAPE..]);
                if !matches!(low, Some(0xdc00..=0xdfff)) {
                    return Err(JsonTextError::Surrogate(at));
                }
                at += 2 * ESCAPE;
            }
            Some(0xdc00..=0xdfff) => return Err(JsonTextError::Surrogate(at)),
            Some(_) => at += ESCAPE,
            // A two-byte escape. The parser reports a backslash at the end.
            None => at = bytes.len().min(at + 2),
        }
    }
    Ok(())
}

/// The length of an escape such as `\u0041`.
const ESCAPE: usize = 6;

/// Returns the UTF-16 code unit if the bytes begin with a `\u` escape.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.get(..ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit: u16, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_refused_and_pairs_accepted() {
        let check = |text: &str| check(text.as_bytes());
        for text in [
            r#"{"a":"A\ud83d\ude00\n"}"#,
            r#"{"a":"\\ud800"}"#,
            r#"{"a":"\\\\ud800\""}"#,
            r#"{"a":"\uffff\ue000\ud7ff"}"#,
            r"\",
            r"\u12",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, at) in [
            (r#"{"a":"\ud800"}"#, 6),
            (r#"{"a":"\uDFFF"}"#, 6),
            (r#"{"a":"\ud800\ud800\udc00"}"#, 6),
            (r#"{"a":"\ud800\\udc00"}"#, 6),
            (r#"{"a":"\\\udc00"}"#, 8),
            (r#"{"\ud800"#, 2),
        ] {
            assert_eq!(check(text), Err(JsonTextError::Surrogate(at)), "{text}");
        }
    }

    #[test]
    fn invalid_utf8_is_refused() {
        assert_eq!(check(b"{\"a\":\"\xff\"}"), Err(JsonTextError::Utf8(6)));
        assert_eq!(check(b"{\"a\":\"\xed\xa0\x80\"}"), Err(JsonTextError::Utf8(6)));
    }
}
