//! Text of JSON that cannot be represented: invalid UTF-8 and lone surrogates.
//!
//! A parser that skips fields it does not know lets both through there, and clients in other languages fail on them, or
//! read different text than others do.

/// Text that is invalid, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonTextError {
    /// Bytes that are no UTF-8.
    #[error("the bytes at position {0} are not UTF-8")]
    Utf8(usize),
    /// Half of a surrogate pair, which stands for no character.
    #[error("the escape at position {0} is a lone surrogate")]
    Surrogate(usize),
}

/// Checks the text of JSON. Other errors are left to the parser.
///
/// # Errors
/// [`JsonTextError`] with the position of the first byte that is wrong.
pub(super) fn check(bytes: &[u8]) -> Result<(), JsonTextError> {
    std::str::from_utf8(bytes).map_err(|error| JsonTextError::Utf8(error.valid_up_to()))?;
    // In JSON a backslash stands only in strings.
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
            // Another escape, of two bytes; a backslash at the end is for the parser.
            None => at = bytes.len().min(at + 2),
        }
    }
    Ok(())
}

/// The length of an escape such as `\u0041`.
const ESCAPE: usize = 6;

/// Returns the code unit of the escape that bytes begin with.
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
    fn lone_surrogates_are_found_and_pairs_are_text() {
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
    fn bytes_that_are_no_utf8_are_found() {
        assert_eq!(check(b"{\"a\":\"\xff\"}"), Err(JsonTextError::Utf8(6)));
        assert_eq!(check(b"{\"a\":\"\xed\xa0\x80\"}"), Err(JsonTextError::Utf8(6)));
    }
}
