//! Forms with a file (`multipart/form-data`, RFC 7578), read in pieces. Pure.
//!
//! Memory is bounded: a head has at most [`MAX_HEAD`] bytes, and of a body only the bytes are kept that may begin a delimiter.

use bytes::{Buf, Bytes, BytesMut};

/// The maximum length of the head of a part, in bytes.
const MAX_HEAD: usize = 4096;
/// The maximum length of what stands before the first part, in bytes.
const MAX_PREAMBLE: usize = 4096;
/// The maximum length of a boundary, by RFC 2046.
const MAX_BOUNDARY: usize = 70;
/// The most white space behind a delimiter.
const MAX_PADDING: usize = 70;
/// The longest file name that is kept, in characters.
const MAX_FILE_NAME: usize = 200;

/// A piece of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A field begins.
    Field {
        /// Its name.
        name: String,
        /// The name of the file, for a field with one.
        file: Option<String>,
    },
    /// Bytes of the field.
    Content(Bytes),
    /// The field ends.
    EndOfField,
    /// The form ends.
    End,
}

/// Reason why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The media type is not `multipart/form-data`, or has no valid boundary.
    #[error("the form has to be sent as multipart/form-data, with a boundary")]
    MediaType,
    /// The bytes are not those of a form.
    #[error("the form is malformed")]
    Malformed,
    /// The head of a part is too long.
    #[error("the head of a field is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// The body ended before the form did.
    #[error("the form ended early")]
    Truncated,
}

/// Reads a form.
#[derive(Debug)]
pub struct Multipart {
    /// Line end, two dashes and the boundary.
    delimiter: Vec<u8>,
    received: BytesMut,
    state: State,
    /// Bytes before the first part.
    preamble: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Behind a delimiter.
    Delimiter,
    Head,
    Content,
    End,
}

impl Multipart {
    /// Begins to read a form with this `Content-Type`.
    ///
    /// # Errors
    /// [`MultipartError::MediaType`].
    pub fn new(content_type: &str) -> Result<Self, MultipartError> {
        let boundary = boundary(content_type).ok_or(MultipartError::MediaType)?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter may stand at the very beginning, without a line end before it.
        Ok(Multipart {
            delimiter,
            received: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            preamble: 0,
        })
    }

    /// Adds bytes of the body. To be called only when [`Multipart::take`] has returned `None`.
    pub fn push(&mut self, bytes: &[u8]) {
        // What follows the end is ignored.
        if self.state != State::End {
            self.received.extend_from_slice(bytes);
        }
    }

    /// Returns the next piece; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`MultipartError`]; no piece follows it.
    pub fn take(&mut self) -> Result<Option<Piece>, MultipartError> {
        loop {
            match self.state {
                State::Preamble => {
                    let (skipped, is_end) = self.content();
                    self.preamble += skipped.len();
                    if self.preamble > MAX_PREAMBLE {
                        return Err(MultipartError::Malformed);
                    }
                    if !is_end {
                        return Ok(None);
                    }
                    self.state = State::Delimiter;
                }
                State::Delimiter => match self.after_delimiter()? {
                    None => return Ok(None),
                    Some(State::End) => {
                        self.state = State::End;
                        self.received.clear();
                        return Ok(Some(Piece::End));
                    }
                    Some(state) => self.state = state,
                },
                State::Head => {
                    let piece = self.head()?;
                    if piece.is_some() {
                        self.state = State::Content;
                    }
                    return Ok(piece);
                }
                State::Content => {
                    let (content, is_end) = self.content();
                    if !content.is_empty() {
                        if is_end {
                            // The delimiter is found again, at the beginning.
                            let rest = std::mem::take(&mut self.received);
                            self.received.extend_from_slice(&self.delimiter);
                            self.received.unsplit(rest);
                        }
                        return Ok(Some(Piece::Content(content)));
                    }
                    if !is_end {
                        return Ok(None);
                    }
                    self.state = State::Delimiter;
                    return Ok(Some(Piece::EndOfField));
                }
                State::End => return Ok(None),
            }
        }
    }

    /// Checks that the form has ended, once the body has.
    ///
    /// # Errors
    /// [`MultipartError::Truncated`].
    pub fn finish(&self) -> Result<(), MultipartError> {
        if self.state == State::End { Ok(()) } else { Err(MultipartError::Truncated) }
    }

    /// Takes the bytes before the next delimiter; true if it was found, and removed.
    fn content(&mut self) -> (Bytes, bool) {
        let mut from = 0;
        while let Some(at) = self.received[from..].iter().position(|byte| *byte == b'\r').map(|at| from + at)
        {
            let rest = &self.received[at..];
            if rest.starts_with(&self.delimiter) {
                let content = self.received.split_to(at).freeze();
                self.received.advance(self.delimiter.len());
                return (content, true);
            }
            if self.delimiter.starts_with(rest) {
                return (self.received.split_to(at).freeze(), false);
            }
            from = at + 1;
        }
        (self.received.split().freeze(), false)
    }

    /// Reads what follows a delimiter: two dashes at the end of the form, else white space and a line end.
    fn after_delimiter(&mut self) -> Result<Option<State>, MultipartError> {
        if self.received.starts_with(b"--") {
            return Ok(Some(State::End));
        }
        let padding = self.received.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if padding > MAX_PADDING {
            return Err(MultipartError::Malformed);
        }
        let rest = &self.received[padding..];
        if rest.starts_with(b"\r\n") {
            self.received.advance(padding + 2);
            return Ok(Some(State::Head));
        }
        let is_begun = (padding == 0 && rest == b"-") || rest.is_empty() || rest == b"\r";
        if is_begun { Ok(None) } else { Err(MultipartError::Malformed) }
    }

    /// Reads the head of a part, up to its empty line.
    fn head(&mut self) -> Result<Option<Piece>, MultipartError> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(length) = self.received.windows(END.len()).position(|window| window == END) else {
            let is_too_long = self.received.len() > MAX_HEAD + END.len();
            return if is_too_long { Err(MultipartError::HeadTooLong) } else { Ok(None) };
        };
        if length > MAX_HEAD {
            return Err(MultipartError::HeadTooLong);
        }
        let head = self.received.split_to(length + END.len());
        let text = String::from_utf8_lossy(&head);
        let disposition = text.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.trim())
        });
        let disposition = disposition.ok_or(MultipartError::Malformed)?;
        let (kind, parameters) = disposition.split_once(';').ok_or(MultipartError::Malformed)?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(MultipartError::Malformed);
        }
        let name = parameter(parameters, "name").ok_or(MultipartError::Malformed)?;
        let file = parameter(parameters, "filename").map(|file| file.chars().take(MAX_FILE_NAME).collect());
        Ok(Some(Piece::Field { name, file }))
    }
}

/// Returns the boundary of a media type.
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let is_valid = (1..=MAX_BOUNDARY).contains(&boundary.len())
        && boundary.bytes().all(is_allowed)
        && !boundary.ends_with(' ');
    is_valid.then_some(boundary)
}

/// Returns the value of a parameter, in quotes or without. Browsers write a quote within a value as `%22`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, value) = rest.split_once('=')?;
        let name = name.trim_start_matches([';', ' ', '\t']).trim_end();
        let (value, more) = if let Some(quoted) = value.trim_start().strip_prefix('"') {
            quoted.split_once('"')?
        } else {
            let (value, more) = value.split_once(';').unwrap_or((value, ""));
            (value.trim(), more)
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.replace("%22", "\""));
        }
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xyz";

    /// Name, file and content.
    type Field = (String, Option<String>, Vec<u8>);

    /// Reads a form that arrives in chunks; returns the fields with their content.
    fn read(form: &[u8], chunk: usize) -> Result<Vec<Field>, MultipartError> {
        let mut multipart = Multipart::new(TYPE)?;
        let (mut fields, mut chunks) = (Vec::new(), form.chunks(chunk.max(1)));
        loop {
            match multipart.take()? {
                Some(Piece::Field { name, file }) => fields.push((name, file, Vec::new())),
                Some(Piece::Content(bytes)) => fields.last_mut().unwrap().2.extend_from_slice(&bytes),
                Some(Piece::EndOfField) => {}
                Some(Piece::End) => return multipart.finish().map(|()| fields),
                None => {
                    let Some(chunk) = chunks.next() else { return multipart.finish().map(|()| fields) };
                    multipart.push(chunk);
                }
            }
            assert!(multipart.received.len() <= MAX_HEAD + chunk + 200, "{}", multipart.received.len());
        }
    }

    fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut form = Vec::new();
        for (head, content) in fields {
            form.extend(format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes());
            form.extend(*content);
            form.extend(b"\r\n");
        }
        form.extend(b"--xyz--\r\n");
        form
    }

    #[test]
    fn fields_and_files_are_read_in_any_pieces() {
        let content = b"a\r\n--xy\r\n--xy\r\r\n\r\n--";
        let form = form(&[
            ("name=\"token\"", b"secret"),
            ("name=file; filename=\"a%22b.tar\"", content),
            ("name=\"x\"", b""),
        ]);
        for chunk in [1, 2, 3, 7, 1000] {
            let fields = read(&form, chunk).unwrap();
            assert_eq!(fields[0], ("token".into(), None, b"secret".to_vec()));
            assert_eq!(fields[1], ("file".into(), Some("a\"b.tar".into()), content.to_vec()));
            assert_eq!(fields[2].2, b"");
            assert_eq!(fields.len(), 3);
        }
        let spaced = b"before\r\n--xyz \t\r\ncontent-disposition: FORM-DATA; name=\"a\"\r\nX: y\r\n\r\nb\r\n--xyz--after";
        assert_eq!(read(spaced, 1).unwrap(), [("a".into(), None, b"b".to_vec())]);
    }

    #[test]
    fn hostile_forms_are_refused() {
        for kind in [
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a",
            "multipart/mixed; boundary=a",
        ] {
            assert!(Multipart::new(kind).is_err(), "{kind}");
        }
        assert!(Multipart::new(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
        assert!(Multipart::new("multipart/form-data; charset=x; boundary=\"a b\"").is_ok());
        let whole = form(&[("name=\"a\"", b"b")]);
        for length in 0..whole.len() - 4 {
            assert_eq!(read(&whole[..length], 5), Err(MultipartError::Truncated), "{length}");
        }
        let head = format!("--xyz\r\nX: {}", "y".repeat(10_000));
        assert_eq!(read(head.as_bytes(), 100), Err(MultipartError::HeadTooLong));
        assert_eq!(read(&b"x".repeat(10_000), 100), Err(MultipartError::Malformed));
        for text in [
            "--xyz\r\n\r\n\r\n",
            "--xyzz\r\n",
            "--xyz\r\nContent-Disposition: form-data\r\n\r\n",
            "--xyz\r\nContent-Disposition: inline; name=a\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes(), 100), Err(MultipartError::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_content_comes_back(content in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'x'), any::<u8>()], 0..300), chunk in 1_usize..50) {
            prop_assume!(!content.windows(7).any(|window| window == b"\r\n--xyz"));
            let form = form(&[("name=\"a\"", &content)]);
            prop_assert_eq!(&read(&form, chunk).unwrap()[0].2, &content);
        }

        #[test]
        fn never_panics(form in prop::collection::vec(any::<u8>(), 0..300), kind in "\\PC{0,80}") {
            let _ = read(&form, 7);
            let _ = Multipart::new(&kind);
        }
    }
}
