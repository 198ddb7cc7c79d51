//! Fuzzes the form of an upload: no bytes panic, and the pieces do not depend on how the bytes arrive.
#![no_main]

use holdfast::intake::{Multipart, MultipartError, Piece};
use libfuzzer_sys::fuzz_target;

/// Reads a form that arrives in chunks; content is joined.
fn read(content_type: &str, form: &[u8], chunk: usize) -> Result<Vec<Piece>, MultipartError> {
    let mut multipart = Multipart::new(content_type)?;
    let (mut pieces, mut chunks): (Vec<Piece>, _) = (Vec::new(), form.chunks(chunk));
    loop {
        match (multipart.take()?, pieces.last_mut()) {
            (Some(Piece::Content(more)), Some(Piece::Content(content))) => {
                *content = [&content[..], &more[..]].concat().into();
            }
            (Some(piece), _) => pieces.push(piece),
            (None, _) => match chunks.next() {
                Some(chunk) => multipart.push(chunk),
                None => return multipart.finish().map(|()| pieces),
            },
        }
    }
}

// The length of the chunks, a line with a content type, and the form.
fuzz_target!(|bytes: &[u8]| {
    let Some((chunk, rest)) = bytes.split_first() else { return };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let _ = Multipart::new(&String::from_utf8_lossy(&rest[..end]));
    let (kind, form) = ("multipart/form-data; boundary=x", &rest[end + 1..]);
    let whole = read(kind, form, form.len().max(1));
    let pieces = read(kind, form, usize::from(*chunk).max(1));
    // A head that is too long may be found in another order.
    if whole.is_ok() {
        assert_eq!(whole, pieces);
    }
});
