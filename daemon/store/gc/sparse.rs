//! Removal of the marks of sparse manifests whose holes were filled, where the push that filled the last one had too
//! many references to look at.

use std::sync::Arc;

use super::collection::{Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
use crate::store::blocking;
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::index::changes::sparse::RemoveSparseMarks;
use crate::store::index::tables::sparse::SparseManifest;

impl Collection<'_> {
    /// Removes the marks of manifests without holes.
    pub(super) async fn sparse_marks(&mut self) -> Result<(), StoreError> {
        if self.dry_run {
            return Ok(());
        }
        let mut after = None;
        loop {
            let (index, last) = (Arc::clone(&self.store.0.index), after.take());
            let (complete, next) = blocking(move || complete_page(&index, last.as_ref())).await?;
            for part in complete.chunks(ITEMS_PER_TRANSACTION) {
                self.safe_point().await?;
                let remove = |part: &[SparseManifest]| RemoveSparseMarks(part.to_vec());
                self.store.change(part.to_vec(), remove).await?;
            }
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Returns the manifests without holes among the next page of marked ones, and the last one of the page.
fn complete_page(
    index: &Index,
    after: Option<&SparseManifest>,
) -> Result<(Vec<SparseManifest>, Option<SparseManifest>), StoreError> {
    let page = index.sparse_after(after, ROWS_PER_READ)?;
    let last = page.last().cloned();
    let mut complete = Vec::new();
    for one in page {
        if !index.may_have_holes(&one.repository, &one.digest, &mut u32::MAX.clone())? {
            complete.push(one);
        }
    }
    Ok((complete, last))
}
