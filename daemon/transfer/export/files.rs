//! The files of an export.

use bytes::Bytes;

use super::content::BlobRef;
use super::tar;
use crate::oci::Digest;

/// Returns the path of a blob in an image layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// A file of an export.
#[derive(Clone, Debug)]
pub(super) struct PlannedFile {
    pub(super) path: String,
    pub(super) content: FileContent,
    /// The length of its parts, if it is cut.
    pub(super) part: Option<u64>,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(super) enum FileContent {
    Bytes(Bytes),
    Blob(BlobRef),
}

impl PlannedFile {
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            FileContent::Bytes(bytes) => bytes.len() as u64,
            FileContent::Blob(blob) => blob.size,
        }
    }
}

/// Returns the length of an archive of these files.
pub(super) fn archive_length(files: &[PlannedFile]) -> u64 {
    let of = |file: &PlannedFile| {
        let header = tar::header(&file.path, file.size()).len() as u64;
        header + file.size() + tar::padding(file.size()) as u64
    };
    files.iter().map(of).sum::<u64>() + tar::END
}
