//! Taking what nobody needs: short transactions that check again what `garbage` has found.

use std::collections::BTreeSet;
use std::time::Duration;

use super::garbage::{TagAge, Unneeded};
use super::schema::{self, BlobRow, LeftRow, LinkRow, ManifestRow, UploadRow};
use super::writer::Batch;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;

/// A manifest that was collected, and the tags that went with it: those that were attached to it.
pub(in crate::store) struct CollectedManifest {
    pub digest: Digest,
    pub tags: Vec<(Tag, Digest)>,
}

impl Batch<'_> {
    /// Takes files that nobody needs out of `blobs/`, gives those that it took; they lie in `trash/` then.
    pub(in crate::store) fn discard_blobs(
        &mut self,
        blobs: &[(Digest, u64)],
        grace: Duration,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut taken = Vec::new();
        for (digest, _) in blobs {
            let (table, key) = (self.index.tables.blobs, schema::digest_key(digest));
            let row: Option<BlobRow> = schema::row(table, &self.txn, &key)?;
            let Some(row) = row.filter(|row| row.counted_on.age(self.moment) >= grace) else { continue };
            if self.index.tables.is_needed(&self.txn, digest, &key)? {
                continue;
            }
            self.forget_blob(digest, row.size)?;
            self.discard(digest)?;
            taken.push((digest.clone(), row.size));
        }
        Ok(taken)
    }

    /// Forgets a file in `blobs/`, everywhere.
    pub(super) fn forget_blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, schema::digest_key(digest));
        for repository in self.homes_of(digest)? {
            self.unlink_blob(&repository, digest)?;
        }
        self.count_bytes(0, size)?;
        tables.blobs.delete(&mut self.txn, &key)?;
        Ok(())
    }

    /// Lets repositories forget blobs that others keep.
    pub(in crate::store) fn forget_strays(
        &mut self,
        strays: &[(Digest, RepositoryName)],
        grace: Duration,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for (digest, repository) in strays {
            let key = schema::content_key(repository, digest);
            let row: Option<LinkRow> = schema::row(tables.links, &self.txn, &key)?;
            let old = row.is_none_or(|row| row.counted_on.age(self.moment) >= grace);
            if old && !tables.is_needed_in(&self.txn, repository, digest)? {
                self.unlink_blob(repository, digest)?;
            }
        }
        Ok(())
    }

    /// Removes tags that still are what they were, gives those that it removed.
    pub(in crate::store) fn retire_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[TagAge],
    ) -> Result<Vec<TagAge>, StoreError> {
        let mut retired = Vec::new();
        for wanted in tags {
            let key = schema::tag_key(repository, &wanted.tag);
            let row: Option<ManifestRow> = schema::row(self.index.tables.tags, &self.txn, &key)?;
            let Some(row) = row else { continue };
            if (row.since, row.order) == (wanted.since, wanted.order) && row.digest()? == wanted.digest {
                self.delete_tag(repository, &wanted.tag)?;
                retired.push(wanted.clone());
            }
        }
        Ok(retired)
    }

    /// Removes manifests that are still unneeded, each with its subject, and with `attached` the tags that are attached to
    /// them. Returns what it removed.
    pub(in crate::store) fn collect_manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: &[(Unneeded, Option<Digest>)],
        attached: bool,
    ) -> Result<Vec<CollectedManifest>, StoreError> {
        let tables = self.index.tables;
        let mut taken = Vec::new();
        let digests = manifests.iter().map(|(one, _)| &one.digest);
        let unneeded = self.index.unneeded_among(&self.txn, repository, digests)?;
        for (one, subject) in manifests.iter().filter(|(one, _)| unneeded.contains(&one.digest)) {
            let key = schema::content_key(repository, &one.digest);
            let left: Option<LeftRow> = schema::row(tables.left, &self.txn, &key)?;
            let row: Option<ManifestRow> = schema::row(tables.manifests, &self.txn, &key)?;
            let newest = left.map(|row| row.since).max(row.map(|row| row.since));
            let about_something = match subject {
                Some(subject) => {
                    let key = schema::content_key(repository, subject);
                    tables.manifests.get(&self.txn, &key)?.is_some()
                }
                None => false,
            };
            if newest.is_none_or(|newest| newest <= one.since) && !about_something {
                let since = if one.deleted { one.since } else { self.moment };
                self.delete_untagged(repository, &one.digest, subject.as_ref(), since)?;
                let tags = if attached { self.delete_attached(repository, &one.digest)? } else { Vec::new() };
                taken.push(CollectedManifest { digest: one.digest.clone(), tags });
            }
        }
        Ok(taken)
    }

    /// Makes files known that lie in `blobs/` and that the index does not know; gives how many there were.
    pub(in crate::store) fn adopt_blobs(&mut self, blobs: &[(Digest, u64)]) -> Result<u64, StoreError> {
        let mut adopted = 0;
        for (digest, size) in blobs {
            let known = self.index.tables.blobs.get(&self.txn, &schema::digest_key(digest))?.is_some();
            if !known && self.disk.blob_path(digest).exists() {
                self.know_blob(digest, *size)?;
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    /// Sees to what an interrupted collection left in `trash/`: what the index still names goes back, the rest
    /// can be removed and is given.
    pub(in crate::store) fn sort_trash(&mut self, trash: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut removable = Vec::new();
        for digest in trash {
            let known = self.index.tables.blobs.get(&self.txn, &schema::digest_key(digest))?.is_some();
            if known && !self.disk.blob_path(digest).exists() {
                self.disk.restore(digest)?;
                self.renamed(digest.algorithm());
            } else {
                removable.push(digest.clone());
            }
        }
        Ok(removable)
    }

    /// Notes how long these uploads are, and since when; forgets those that are not among them.
    pub(in crate::store) fn note_uploads(&mut self, uploads: &[(String, u64)]) -> Result<(), StoreError> {
        let table = self.index.tables.uploads;
        let there: BTreeSet<&[u8]> = uploads.iter().map(|(name, _)| name.as_bytes()).collect();
        let mut gone = Vec::new();
        for row in table.rows(&self.txn)? {
            let (name, _) = row?;
            if !there.contains(name) {
                gone.push(name.to_vec());
            }
        }
        for name in gone {
            table.delete(&mut self.txn, &name)?;
        }
        for (name, length) in uploads {
            let known: Option<UploadRow> = schema::row(table, &self.txn, name.as_bytes())?;
            if known.is_none_or(|row| row.length != *length) {
                let row = UploadRow { length: *length, since: self.moment };
                schema::put_row(table, &mut self.txn, name.as_bytes(), &row)?;
            }
        }
        Ok(())
    }
}
