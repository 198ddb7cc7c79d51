//! `POST transfers/ID/need`: which content of a transfer is missing.
//!
//! Each line of the body is `{"digest":"sha256:...","size":N}`; the size is null or absent if it is not known. The answer is a
//! stream with an item for each digest that the store does not have. It is refused before the first item if the missing
//! content exceeds the disk or the quota.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::super::body::Body;
use super::super::error::ControlError;
use super::super::events::{End, respond};
use super::super::request::Request;
use crate::store::SizedDigest;
use crate::transfer::Item;

/// The maximum number of lines in a request.
const MAX_LINES: usize = 100_000;
/// The maximum length of a line, in bytes.
const MAX_LINE: usize = 1024;

/// Answers with the missing content.
pub(super) async fn need(mut request: Request, id: Uuid) -> Result<http::Response<Body>, ControlError> {
    let transfer = request.host.store().transfer(id)?;
    let wanted = wanted(&mut request).await?;
    let missing = transfer.missing(wanted).await?;
    let bytes = missing.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(size.unwrap_or(0)));
    transfer.check_room(bytes).await?;
    let activity = request.activity.clone();
    Ok(respond(false, |reporter| async move {
        let (_activity, _transfer) = (activity, transfer);
        let count = missing.len();
        for (digest, size) in missing {
            if reporter.is_cancelled() {
                return Ok(End::Cancelled);
            }
            reporter.item(&Item { digest, size }).await;
        }
        Ok(End::Ok(json!({ "missing": count, "bytes": bytes })))
    }))
}

/// Reads the lines of the body, each digest once.
async fn wanted(request: &mut Request) -> Result<Vec<SizedDigest>, ControlError> {
    let mut lines = Lines::default();
    while let Some(chunk) = request.body.chunk().await? {
        lines.add(&chunk)?;
    }
    lines.finish()
}

/// The lines that have arrived.
#[derive(Default)]
struct Lines {
    wanted: Vec<SizedDigest>,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Lines {
    fn add(&mut self, mut chunk: &[u8]) -> Result<(), ControlError> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.extend(&chunk[..end])?;
            self.end_line()?;
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), ControlError> {
        if self.begun.len() + part.len() > MAX_LINE {
            let message = format!("line {} is longer than {MAX_LINE} bytes", self.wanted.len() + 1);
            return Err(ControlError::malformed(message));
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), ControlError> {
        let line = Bytes::from(std::mem::take(&mut self.begun));
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.wanted.len() == MAX_LINES {
            let message = format!("a request can have at most {MAX_LINES} lines; send several requests");
            return Err(ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many", message));
        }
        let Item { digest, size } = serde_json::from_slice(&line).map_err(|error| {
            let number = self.wanted.len() + 1;
            ControlError::malformed(format!("line {number} is not {{\"digest\",\"size\"}}: {error}"))
        })?;
        self.wanted.push((digest, size));
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<SizedDigest>, ControlError> {
        self.end_line()?;
        self.wanted.sort_unstable();
        // The last one of equal digests is the one with a size.
        self.wanted.reverse();
        self.wanted.dedup_by(|one, other| one.0 == other.0);
        self.wanted.reverse();
        Ok(self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fill: char, size: &str) -> String {
        format!("{{\"digest\":\"sha256:{}\",\"size\":{size}}}\n", fill.to_string().repeat(64))
    }

    #[test]
    fn lines_arrive_in_any_pieces() {
        let text =
            format!("{}\r\n{}{}", line('b', "null"), line('a', "7"), line('b', "18446744073709551615"));
        for piece in [1, 7, 1000] {
            let mut lines = Lines::default();
            text.as_bytes().chunks(piece).try_for_each(|chunk| lines.add(chunk)).unwrap();
            let wanted: Vec<_> = lines.finish().unwrap().into_iter().map(|(_, size)| size).collect();
            assert_eq!(wanted, [Some(7), Some(u64::MAX)]);
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for text in ["x", "{}", "[]", &line('a', "-1"), &line('a', "18446744073709551616"), &line('G', "1")] {
            let mut lines = Lines::default();
            assert!(lines.add(text.as_bytes()).and_then(|()| lines.finish()).is_err(), "{text}");
        }
        let mut lines = Lines::default();
        assert!((0..MAX_LINE).all(|_| lines.add(b" ").is_ok()));
        assert!(lines.add(b" ").is_err());
    }
}
