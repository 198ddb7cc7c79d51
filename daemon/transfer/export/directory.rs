//! An export as an image layout in a directory.
//!
//! Blobs come first and `index.json` last, so that the directory is never a layout whose content is not there. It replaces an
//! older export in the same directory: content that only the older one has is removed at the end.

use std::collections::BTreeSet;
use std::io::Read;

use super::archive::check_space;
use super::content::{BlobRef, Fetcher};
use super::documents::{INDEX, LAYOUT, MANIFEST};
use super::error::ExportError;
use super::files::{FileContent, blob_path};
use super::layout::Layout;
use super::medium::Medium;
use super::meter::Meter;
use super::parts::{PartFiles, is_unfinished};
use super::plan::ExportPlan;
use super::write::{Segment, Written, verify_segments, write_segments};
use crate::transfer::content_list::{CONTENT_LIST, ContentList, MAX_LIST, SIGNATURE};
use crate::transfer::progress::Phase;

/// Files of an export that are no blobs, in the order in which they are written.
const DOCUMENTS: [&str; 5] = [CONTENT_LIST, SIGNATURE, MANIFEST, LAYOUT, INDEX];

/// A blob of the export, and whether it was there.
struct PlacedBlob<'a> {
    blob: &'a BlobRef,
    layout: Layout,
    state: BlobState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlobState {
    /// It has its final name, and was compared.
    Kept,
    /// It has a name with `.new`; bytes up to this position were compared.
    New(u64),
}

/// Writes an export to a directory; continues an earlier run.
///
/// # Errors
/// [`ExportError`]; what was written stays, so that the next run continues it.
pub fn write_directory(
    medium: &Medium,
    plan: &ExportPlan,
    verify: bool,
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<Written, ExportError> {
    let old = old_list(medium)?;
    let blobs: Vec<(&BlobRef, Layout)> = blobs(plan).collect();
    check_blobs_space(medium, plan, &blobs)?;
    for folder in ["blobs/sha256", "holdfast"] {
        medium.create_folder(folder)?;
    }
    let total: u64 = blobs.iter().map(|(blob, _)| blob.size).sum();
    meter.begin(Phase::Write, total);
    let mut placed = Vec::with_capacity(blobs.len());
    for (blob, layout) in blobs {
        if let Some((folder, _)) =
            layout.name.rsplit_once('/').filter(|(folder, _)| *folder != "blobs/sha256")
        {
            medium.create_folder(folder)?;
        }
        let state = place(medium, blob, &layout, fetcher, meter)?;
        placed.push(PlacedBlob { blob, layout, state });
    }
    medium.sync()?;
    if verify {
        verify_blobs(medium, &placed, meter)?;
    }
    let mut kept = 0;
    for PlacedBlob { blob, layout, state } in &placed {
        match state {
            BlobState::Kept => kept += blob.size,
            BlobState::New(begun) => {
                kept += begun;
                PartFiles::resume(medium, layout.clone())?.finish()?;
            }
        }
    }
    medium.sync()?;
    let documents = write_documents(medium, plan)?;
    remove_old(medium, plan, old.as_ref())?;
    medium.sync()?;
    let written = total - kept + documents;
    Ok(Written { files: vec![String::new()], written, kept, verified: verify })
}

fn blobs(plan: &ExportPlan) -> impl Iterator<Item = (&BlobRef, Layout)> {
    plan.files.iter().filter_map(|file| match &file.content {
        FileContent::Blob(blob) => {
            Some((blob, Layout { name: file.path.clone(), total: blob.size, part: file.part }))
        }
        FileContent::Bytes(_) => None,
    })
}

/// Reads the list of an older export. Refuses a directory with a layout that another tool made.
fn old_list(medium: &Medium) -> Result<Option<ContentList>, ExportError> {
    let Some(file) = medium.open_file(CONTENT_LIST)? else {
        if medium.length(INDEX)?.is_some() {
            return Err(ExportError::Refused(format!(
                "{} has an image layout that is no export of holdfast; choose another directory",
                medium.path().display()
            )));
        }
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_LIST as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| medium.failed("read", CONTENT_LIST, error))?;
    // A list that is damaged is replaced, and its content stays.
    Ok(ContentList::parse(&bytes).ok())
}

fn check_blobs_space(
    medium: &Medium,
    plan: &ExportPlan,
    blobs: &[(&BlobRef, Layout)],
) -> Result<(), ExportError> {
    let space = medium.space()?;
    let mut needed = 0;
    for (blob, layout) in blobs {
        layout.check()?;
        let mut begun = 0;
        for name in layout.names() {
            let found = match medium.length(&name)? {
                Some(length) => Some(length),
                None => medium.length(&format!("{name}.new"))?,
            };
            begun += found.map_or(0, |length| space.of_file(length));
        }
        needed += space.of_file(blob.size).saturating_sub(begun);
    }
    for file in &plan.files {
        if let FileContent::Bytes(bytes) = &file.content {
            needed += space.of_file(bytes.len() as u64);
        }
    }
    check_space(medium, needed)
}

/// Brings a blob to the medium.
fn place(
    medium: &Medium,
    blob: &BlobRef,
    layout: &Layout,
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<BlobState, ExportError> {
    let segment = || std::iter::once(Segment::Content(blob));
    if let Some(mut finished) = PartFiles::finished(medium, layout)? {
        finished.drop_caches()?;
        match verify_segments(segment(), 0, &mut finished, meter) {
            Ok(()) => return Ok(BlobState::Kept),
            // It is written again.
            Err(ExportError::Differs { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let mut files = PartFiles::resume(medium, layout.clone())?;
    let kept = write_segments(segment(), &mut files, fetcher, meter)?;
    files.end_writing(false)?;
    Ok(BlobState::New(kept))
}

fn verify_blobs(medium: &Medium, placed: &[PlacedBlob<'_>], meter: &mut Meter) -> Result<(), ExportError> {
    let new = || {
        placed.iter().filter(|one| match one.state {
            BlobState::New(kept) => kept < one.blob.size,
            BlobState::Kept => false,
        })
    };
    meter.begin(Phase::Verify, new().map(|one| one.blob.size).sum());
    for PlacedBlob { blob, layout, .. } in new() {
        let mut files = PartFiles::resume(medium, layout.clone())?;
        verify_segments(std::iter::once(Segment::Content(blob)), 0, &mut files, meter)?;
    }
    Ok(())
}

/// Writes the files that are no blobs; returns their length.
fn write_documents(medium: &Medium, plan: &ExportPlan) -> Result<u64, ExportError> {
    let mut length = 0;
    for name in DOCUMENTS {
        let planned = plan.files.iter().find(|file| file.path == name);
        let Some(FileContent::Bytes(bytes)) = planned.map(|file| &file.content) else {
            // Of an older export, which had one.
            medium.remove(name)?;
            continue;
        };
        medium.replace(name, bytes)?;
        length += bytes.len() as u64;
    }
    Ok(length)
}

/// Removes what earlier runs and the older export left, but nothing of other origin.
fn remove_old(medium: &Medium, plan: &ExportPlan, old: Option<&ContentList>) -> Result<(), ExportError> {
    for algorithm in ["sha256", "sha512"] {
        let folder = format!("blobs/{algorithm}");
        for name in medium.list(&folder)?.iter().filter(|name| is_unfinished(name)) {
            medium.remove(&format!("{folder}/{name}"))?;
        }
    }
    let current: BTreeSet<String> = blobs(plan).flat_map(|(_, layout)| layout.names()).collect();
    for listed in old.iter().flat_map(|list| &list.blobs) {
        let layout = Layout {
            name: blob_path(&listed.digest),
            total: listed.size,
            part: listed.part.filter(|part| *part > 0),
        };
        // A list that claims a blob of countless parts must not keep the export busy.
        for name in layout.names_up_to(1000).filter(|name| !current.contains(name)) {
            medium.remove(&name)?;
        }
    }
    Ok(())
}
