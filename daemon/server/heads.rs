//! Observations on the bytes that a connection receives, from which a refusal of hyper can be explained: hyper does not say
//! why it refuses a head, and keeps the head to itself. Takes a fixed amount of memory for each connection.

/// Beginning of the two lengths that hyper parses and refuses, 2^64 - 2 and 2^64 - 1; they differ in the last digit.
const DIGITS: &[u8] = b"1844674407370955161";
/// Beginning of the line with the length.
const FIELD: &[u8] = b"\ncontent-length:";
/// How many bytes are kept to find a line that comes in pieces.
const TAIL: usize = 64;
/// Beginning of a request whose answer has no body.
const HEAD: &[u8] = b"HEAD ";

/// Bytes of a connection as far as they explain a refusal.
#[derive(Default)]
pub(super) struct Heads {
    /// The last bytes that were read.
    tail: Vec<u8>,
    has_huge_length: bool,
    /// The first bytes since the last answer, at most as many as [`HEAD`] has.
    start: Vec<u8>,
}

impl Heads {
    /// Notes bytes that were read. While a request is in progress they may be a part of its body.
    pub(super) fn read(&mut self, bytes: &[u8], is_busy: bool) {
        if !is_busy && self.start.len() < HEAD.len() {
            let is_empty = self.start.is_empty();
            // A request may begin with empty lines.
            let rest = bytes.iter().skip_while(|byte| is_empty && matches!(byte, b'\r' | b'\n'));
            self.start.extend(rest.take(HEAD.len() - self.start.len()));
        }
        if self.has_huge_length || bytes.is_empty() {
            return;
        }
        self.tail.extend(&bytes[..bytes.len().min(TAIL)]);
        self.has_huge_length = has_huge_length(&self.tail) || has_huge_length(bytes);
        if bytes.len() > TAIL {
            self.tail.clear();
            self.tail.extend(&bytes[bytes.len() - TAIL..]);
        }
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// Notes that an answer begins.
    pub(super) fn answered(&mut self) {
        self.start.clear();
    }

    /// Returns true if the connection has sent a `Content-Length` that hyper refuses as too large. Bytes of a body that look
    /// like one count as well: their sender gets a wrong explanation if one of its next heads is too long.
    pub(super) fn have_huge_length(&self) -> bool {
        self.has_huge_length
    }

    /// Returns true if the request that has not been answered is a HEAD; false as well if that is not known, because the
    /// request came before the answer to the one before it.
    pub(super) fn begin_with_head(&self) -> bool {
        self.start == HEAD
    }
}

/// Returns true if there is a complete line with a length that hyper refuses. Looks at few of the bytes (the search of
/// Horspool), because the bytes of all uploads pass here.
fn has_huge_length(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(window) = bytes.get(at..at + DIGITS.len()) {
        if window == DIGITS && is_length(&bytes[..at], &bytes[at + DIGITS.len()..]) {
            return true;
        }
        let (last, others) = (window[DIGITS.len() - 1], &DIGITS[..DIGITS.len() - 1]);
        let same = others.iter().rev().position(|digit| *digit == last && last.is_ascii_digit());
        at += same.map_or(DIGITS.len(), |distance| distance + 1);
    }
    false
}

/// Returns true if digits between these bytes are such a length.
fn is_length(before: &[u8], after: &[u8]) -> bool {
    let ends = matches!(after, [b'4' | b'5', b' ' | b'\t' | b'\r' | b'\n', ..]);
    let zeros = before.iter().rev().take_while(|byte| **byte == b'0').count();
    let name = before[..before.len() - zeros].trim_ascii_end();
    ends && name.len() >= FIELD.len() && name[name.len() - FIELD.len()..].eq_ignore_ascii_case(FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(bytes: &[u8], piece: usize) -> Heads {
        let mut heads = Heads::default();
        for part in bytes.chunks(piece) {
            heads.read(part, false);
            assert!(heads.tail.len() <= TAIL && heads.start.len() <= HEAD.len());
        }
        heads
    }

    fn has(field: &str, piece: usize) -> bool {
        let padding = "x".repeat(100);
        let head = format!("PUT / HTTP/1.1\r\nX-Padding: {padding}\r\n{field}\r\nHost: {padding}\r\n\r\n");
        heads(head.as_bytes(), piece).have_huge_length()
    }

    #[test]
    fn a_length_that_hyper_refuses_is_found_however_it_comes() {
        for piece in (1..70).chain([100, 130, 1000]) {
            for length in ["18446744073709551615", "18446744073709551614", "0018446744073709551615 "] {
                assert!(has(&format!("Content-Length: {length}"), piece), "{length} {piece}");
                assert!(has(&format!("content-length:{length}"), piece), "{length} {piece}");
            }
            for field in [
                "Content-Length: 18446744073709551613",
                "Content-Length: 184467440737095516150",
                "Content-Length: 118446744073709551615",
                "Content-Length: 1000",
                "X-Content-Length: 18446744073709551615",
                "X: 18446744073709551615",
                "X: 1844674407370955161844674407370955161",
            ] {
                assert!(!has(field, piece), "{field} {piece}");
            }
        }
    }

    #[test]
    fn a_request_for_a_head_is_known_by_its_first_bytes() {
        for piece in [1, 2, 3, 5, 100] {
            assert!(heads(b"HEAD / HTTP/1.1\r\n\r\n", piece).begin_with_head());
            assert!(heads(b"\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", piece).begin_with_head());
            for other in ["GET /HEAD HTTP/1.1\r\n", "HEADER / HTTP/1.1\r\n", "HEAD", "head / HTTP/1.1\r\n"] {
                assert!(!heads(other.as_bytes(), piece).begin_with_head(), "{other}");
            }
        }
        let mut heads = heads(b"HEAD / HTTP/1.1\r\n\r\n", 100);
        heads.answered();
        heads.read(b"HEAD ", true);
        assert!(!heads.begin_with_head());
        heads.read(b"HEAD ", false);
        assert!(heads.begin_with_head());
    }
}
