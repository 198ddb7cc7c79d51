//! The tables in the order of digests: blobs, the repositories that have them, and the references of manifests.

use super::super::keys;
use super::super::port::{ReadTables, Table};
use super::super::rows::BlobRow;
use super::cursor::{Cursor, corrupt};
use super::sum::{Difference, Sums};
use crate::store::error::StoreError;

/// Checks that content which a repository has is in `blobs`, and that manifests have their references. Returns the total
/// length of all blobs.
pub(super) fn check(tables: &impl ReadTables, sums: &mut Sums) -> Result<u64, StoreError> {
    let mut blobs = Cursor::open(tables, Table::Blobs)?;
    let mut manifests = Cursor::open(tables, Table::ManifestRepositories)?;
    let mut links = Cursor::open(tables, Table::BlobRepositories)?;
    let mut children = Children { rows: Cursor::open(tables, Table::Children)?, list: Vec::new() };
    let mut bytes: u64 = 0;
    while let Some((digest, value)) = blobs.next()? {
        let size = tables.decode::<BlobRow>(value)?.size;
        bytes = bytes.saturating_add(size);
        let mut is_manifest = false;
        while let Some((repository, _)) = manifests.next_if(|key| key.strip_prefix(digest))? {
            sums.manifests.backward(&[digest, repository], size);
            is_manifest = true;
        }
        if is_manifest && !children.skip_to(digest, &mut sums.edges)? {
            return Err(corrupt(Table::Children));
        }
        while let Some((repository, _)) = links.next_if(|key| key.strip_prefix(digest))? {
            sums.blobs.backward(&[digest, repository], size);
        }
    }
    // A row that is left has a digest without a blob.
    manifests.is_read()?;
    links.is_read()?;
    while children.next(&mut sums.edges)?.is_some() {}
    Ok(bytes)
}

/// The references of all manifests.
struct Children<'a> {
    rows: Cursor<'a>,
    /// The references of a manifest.
    list: Vec<&'a [u8]>,
}

impl<'a> Children<'a> {
    /// Reads up to a manifest; returns true if it has a row.
    fn skip_to(&mut self, digest: &[u8], edges: &mut Difference) -> Result<bool, StoreError> {
        while self.rows.key().is_some_and(|key| key < digest) {
            self.next(edges)?;
        }
        Ok(self.rows.key() == Some(digest) && self.next(edges)?.is_some())
    }

    /// Returns the next manifest, and adds its references to the sum: each digest once, as in `parents`.
    fn next(&mut self, edges: &mut Difference) -> Result<Option<&'a [u8]>, StoreError> {
        let Some((parent, mut rest)) = self.rows.next()? else { return Ok(None) };
        self.list.clear();
        while let Some((child, behind)) =
            keys::digest_length(rest).and_then(|length| rest.split_at_checked(length))
        {
            self.list.push(child);
            rest = behind;
        }
        self.list.sort_unstable();
        self.list.dedup();
        for child in &self.list {
            edges.forward(&[child, parent], 0);
        }
        Ok(Some(parent))
    }
}
