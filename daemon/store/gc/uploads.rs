//! Collection of uploads that their clients have abandoned.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::collection::Collection;
use super::decide;
use super::report::CollectedItem;
use crate::store::error::StoreError;
use crate::store::index::changes::sweep::{RecordUploads, RemoveUploadRows};
use crate::store::work::Kind;
use crate::store::{Store, blocking};

/// The number of uploads that one transaction notes.
const NOTED_PER_TRANSACTION: usize = 512;

impl Collection<'_> {
    /// Frees the uploads that have not grown for `uploads_expire`.
    pub(super) async fn uploads(&mut self) -> Result<(), StoreError> {
        self.safe_point().await?;
        let (store, expire, dry_run) = (self.store.clone(), self.policy.uploads_expire, self.dry_run);
        let (uploads, gone, expired) = blocking(move || {
            if !dry_run {
                store.0.disk.set_obstacles_in_uploads_aside()?;
            }
            let uploads = store.0.disk.uploads()?;
            // Another process may have removed files, whose bytes must no longer be counted.
            store.0.uploads.recount(&uploads);
            let index = &store.0.index;
            let (now, mut expired) = (index.clock.now(), BTreeSet::new());
            for (name, length) in &uploads {
                if decide::is_upload_due(index.upload_row(name)?.as_ref(), *length, now, expire) {
                    expired.insert(name.clone());
                }
            }
            let gone = index.vanished_uploads(&uploads)?;
            Ok((uploads, gone, expired))
        })
        .await?;
        if !self.dry_run {
            match self.store.note_uploads(&uploads, gone).await {
                // Their time begins when a later collection notes them.
                Err(error) if error.is_lack_of_space() => {
                    log::warn!("cannot record the unfinished uploads, so they will expire later: {error}");
                }
                done => done?,
            }
        }
        for (id, bytes) in uploads {
            self.safe_point().await?;
            // A client that continues its upload at this moment wins.
            let is_taken = expired.contains(&id)
                && (self.dry_run || self.store.expire_upload(id.clone(), bytes).await?);
            if is_taken {
                self.report.freed_uploads.add(bytes);
                (self.observe)(CollectedItem::Upload { id, bytes });
            } else {
                self.report.kept_uploads.add(bytes);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Notes the lengths of uploads, and forgets the uploads that are gone.
    async fn note_uploads(&self, uploads: &[(String, u64)], gone: Vec<Vec<u8>>) -> Result<(), StoreError> {
        for part in gone.chunks(NOTED_PER_TRANSACTION) {
            self.writer()?.submit(RemoveUploadRows(part.to_vec())).await?;
        }
        for part in uploads.chunks(NOTED_PER_TRANSACTION) {
            self.writer()?.submit(RecordUploads(part.to_vec())).await?;
        }
        Ok(())
    }

    /// Removes an upload unless a request has continued it; returns true if it was removed.
    async fn expire_upload(&self, name: String, length: u64) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.0);
        self.0.work.run(Kind::Write, move || inner.uploads.expire(&name, length)).await
    }
}
