//! An export as one tar, in a file, in parts of a file, or on a pipe.

use std::io::Write;

use bytes::Bytes;

use super::content::Fetcher;
use super::error::ExportError;
use super::files::{FileContent, archive_length};
use super::layout::{Layout, PartSize};
use super::medium::Medium;
use super::meter::Meter;
use super::parts::{PartFiles, Pipe};
use super::plan::ExportPlan;
use super::tar;
use super::write::{Segment, Written, verify_segments, write_segments};
use crate::oci::Digest;
use crate::transfer::progress::Phase;

/// Returns the segments of the archive.
fn segments(plan: &ExportPlan) -> impl Iterator<Item = Segment<'_>> {
    let files = plan.files.iter().flat_map(|file| {
        let head = Segment::Bytes(tar::header(&file.path, file.size()).into());
        let body = match &file.content {
            FileContent::Bytes(bytes) => Segment::Bytes(bytes.clone()),
            FileContent::Blob(blob) => Segment::Content(blob),
        };
        let padding = Segment::Bytes(zeros(tar::padding(file.size())));
        [head, body, padding]
    });
    let end = usize::try_from(tar::END).unwrap_or_default();
    files.chain(std::iter::once(Segment::Bytes(zeros(end))))
}

/// A piece of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Content of the registry, with its length.
    Content(Digest, u64),
}

/// Returns the pieces of the archive, for a receiver that reads the content itself.
pub fn pieces(plan: &ExportPlan) -> impl Iterator<Item = Piece> {
    segments(plan).map(|segment| match segment {
        Segment::Bytes(bytes) => Piece::Bytes(bytes),
        Segment::Content(blob) => Piece::Content(blob.digest.clone(), blob.size),
    })
}

fn zeros(count: usize) -> Bytes {
    static ZEROS: [u8; 1024] = [0; 1024];
    Bytes::from_static(&ZEROS[..count])
}

/// Writes an archive to a file of a medium, or to parts of it; continues an earlier run.
///
/// # Errors
/// [`ExportError`]; what was written stays, so that the next run continues it.
pub fn write_archive(
    medium: &Medium,
    name: &str,
    plan: &ExportPlan,
    (parts, verify): (Option<PartSize>, bool),
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<Written, ExportError> {
    let total = archive_length(&plan.files);
    let layout = Layout { name: name.into(), total, part: parts.and_then(|size| size.for_length(total)) };
    layout.check()?;
    meter.begin(Phase::Write, total);
    if let Some(mut finished) = PartFiles::finished(medium, &layout)? {
        finished.drop_caches()?;
        match verify_segments(segments(plan), 0, &mut finished, meter) {
            Ok(()) => {
                finished.remove_others()?;
                return Ok(Written { files: layout.names(), written: 0, kept: total, verified: true });
            }
            // It is another export, and is replaced once this one is complete.
            Err(ExportError::Differs { .. }) => {}
            Err(error) => return Err(error),
        }
        meter.begin(Phase::Write, total);
    }
    let mut files = PartFiles::resume(medium, layout.clone())?;
    check_space(medium, total - super::parts::Output::existing(&files))?;
    let kept = write_segments(segments(plan), &mut files, fetcher, meter)?;
    files.end_writing(true)?;
    if verify {
        meter.begin(Phase::Verify, total - kept);
        medium.sync()?;
        files.drop_caches()?;
        verify_segments(segments(plan), kept, &mut files, meter)?;
    }
    files.finish()?;
    medium.sync()?;
    Ok(Written { files: layout.names(), written: total - kept, kept, verified: verify })
}

/// Writes an archive to a pipe.
///
/// # Errors
/// [`ExportError`].
pub fn write_pipe(
    pipe: &mut dyn Write,
    plan: &ExportPlan,
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<Written, ExportError> {
    let total = archive_length(&plan.files);
    meter.begin(Phase::Write, total);
    write_segments(segments(plan), &mut Pipe(pipe), fetcher, meter)?;
    pipe.flush().map_err(|error| ExportError::medium("write to", "standard output", error))?;
    Ok(Written { files: vec!["-".into()], written: total, kept: 0, verified: false })
}

/// Refuses an export for which the medium has too little space.
pub(super) fn check_space(medium: &Medium, needed: u64) -> Result<(), ExportError> {
    let free = medium.space()?.free;
    if needed <= free {
        return Ok(());
    }
    Err(ExportError::Space { path: medium.path().display().to_string(), needed, free })
}
