//! Observes the bytes that a connection receives, to explain requests that hyper refuses: hyper reports neither the reason nor
//! the head. Uses a fixed amount of memory per connection.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Common prefix of the two lengths that hyper parses and refuses, 2^64 - 2 and 2^64 - 1; they differ in the last digit.
const DIGITS: &[u8] = b"1844674407370955161";
static DIGITS_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(DIGITS));
/// Start of the line with the length.
const FIELD: &[u8] = b"\ncontent-length:";
/// Number of bytes kept to find a line that arrives in several reads.
const TAIL: usize = 64;
/// Bytes at the end of a read that are searched while a request is in progress: those before are of its body, unless the
/// client pipelines longer heads.
const SEARCHED: usize = 8 << 10;
/// Start of a HEAD request, whose response has no body.
const HEAD: &[u8] = b"HEAD ";

/// Facts about the request heads of a connection.
#[derive(Default)]
pub(super) struct RequestHeads {
    /// The last bytes read.
    tail: Vec<u8>,
    has_oversized_length: bool,
    /// The first bytes since the last response, at most as many as [`HEAD`] has.
    start: Vec<u8>,
}

impl RequestHeads {
    /// Observes received bytes. While a request is in progress they may be part of its body.
    pub(super) fn observe(&mut self, bytes: &[u8], is_busy: bool) {
        if !is_busy && self.start.len() < HEAD.len() {
            let is_empty = self.start.is_empty();
            // Empty lines before a request are allowed (RFC 9112, section 2.2).
            let rest = bytes.iter().skip_while(|byte| is_empty && matches!(byte, b'\r' | b'\n'));
            self.start.extend(rest.take(HEAD.len() - self.start.len()));
        }
        if self.has_oversized_length || bytes.is_empty() {
            return;
        }
        self.tail.extend(&bytes[..bytes.len().min(TAIL)]);
        let searched = if is_busy { &bytes[bytes.len().saturating_sub(SEARCHED)..] } else { bytes };
        self.has_oversized_length = has_oversized_length(&self.tail) || has_oversized_length(searched);
        if bytes.len() > TAIL {
            self.tail.clear();
            self.tail.extend(&bytes[bytes.len() - TAIL..]);
        }
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// Records that a response begins.
    pub(super) fn response_started(&mut self) {
        self.start.clear();
    }

    /// Returns true if the client has sent a `Content-Length` that hyper refuses as too large. Body bytes that look like one
    /// count as well: their sender only gets a wrong explanation if a later head is too long.
    pub(super) fn have_oversized_length(&self) -> bool {
        self.has_oversized_length
    }

    /// Returns true if the pending request is a HEAD. False if that is unknown, because the request was pipelined before the
    /// response to the previous one.
    pub(super) fn is_head_request(&self) -> bool {
        self.start == HEAD
    }
}

/// Returns true if the bytes contain a complete `Content-Length` line that hyper refuses.
fn has_oversized_length(bytes: &[u8]) -> bool {
    // Occurrences that overlap an earlier one follow digits, so that they are no length.
    let mut found = DIGITS_FINDER.find_iter(bytes);
    found.any(|at| is_length(&bytes[..at], &bytes[at + DIGITS.len()..]))
}

/// Returns true if digits between these bytes are the value of a `Content-Length` that hyper refuses.
fn is_length(before: &[u8], after: &[u8]) -> bool {
    let ends = matches!(after, [b'4' | b'5', b' ' | b'\t' | b'\r' | b'\n', ..]);
    let zeros = before.iter().rev().take_while(|byte| **byte == b'0').count();
    let name = before[..before.len() - zeros].trim_ascii_end();
    ends && name.len() >= FIELD.len() && name[name.len() - FIELD.len()..].eq_ignore_ascii_case(FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(bytes: &[u8], piece: usize) -> RequestHeads {
        let mut heads = RequestHeads::default();
        for part in bytes.chunks(piece) {
            heads.observe(part, false);
            assert!(heads.tail.len() <= TAIL && heads.start.len() <= HEAD.len());
        }
        heads
    }

    fn has(field: &str, piece: usize) -> bool {
        let padding = "x".repeat(100);
        let head = format!("PUT / HTTP/1.1\r\nX-Padding: {padding}\r\n{field}\r\nHost: {padding}\r\n\r\n");
        heads(head.as_bytes(), piece).have_oversized_length()
    }

    #[test]
    fn oversized_length_is_found_across_reads() {
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
    fn a_head_after_a_body_is_searched_and_the_body_is_not() {
        let line = b"\r\nContent-Length: 18446744073709551615\r\n";
        let body = vec![b'x'; 4 * SEARCHED];
        for (bytes, is_found) in
            [([&body[..], line].concat(), true), ([&body[..], line, &body].concat(), false)]
        {
            let mut heads = RequestHeads::default();
            heads.observe(&bytes, true);
            assert_eq!(heads.have_oversized_length(), is_found);
        }
    }

    #[test]
    fn head_request_is_detected_by_its_first_bytes() {
        for piece in [1, 2, 3, 5, 100] {
            assert!(heads(b"HEAD / HTTP/1.1\r\n\r\n", piece).is_head_request());
            assert!(heads(b"\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", piece).is_head_request());
            for other in ["GET /HEAD HTTP/1.1\r\n", "HEADER / HTTP/1.1\r\n", "HEAD", "head / HTTP/1.1\r\n"] {
                assert!(!heads(other.as_bytes(), piece).is_head_request(), "{other}");
            }
        }
        let mut heads = heads(b"HEAD / HTTP/1.1\r\n\r\n", 100);
        heads.response_started();
        heads.observe(b"HEAD ", true);
        assert!(!heads.is_head_request());
        heads.observe(b"HEAD ", false);
        assert!(heads.is_head_request());
    }
}
