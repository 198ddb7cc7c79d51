//! The changes of a rebuild: rows are restored from `index.json`, the manifests and the files. They are no events.

use super::applier::Applier;
use super::apply::Apply;
use super::push::NewManifest;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::index::tables::WriteTables;
use crate::store::index::tables::rows::NameTimestamps;

/// Adds rows for files in `blobs/`, with their lengths.
#[derive(Debug)]
pub(in crate::store) struct RecordBlobs(pub(in crate::store) Vec<(Digest, u64)>);

impl Apply for RecordBlobs {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|(digest, size)| to.record_blob(digest, *size))
    }
}

/// A name to restore.
#[derive(Debug)]
pub(in crate::store) enum RestoredName {
    /// A manifest, with its tag if the name has one.
    Manifest(Box<NewManifest>),
    /// Another tag of a manifest that an earlier name restored.
    Tag { repository: RepositoryName, tag: Tag, digest: Digest, timestamps: Option<NameTimestamps> },
}

/// Restores names.
#[derive(Debug)]
pub(in crate::store) struct RestoreNames(pub(in crate::store) Vec<RestoredName>);

impl Apply for RestoreNames {
    type Reply = u64;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<u64, StoreError> {
        to.mute();
        let mut restored = 0;
        for name in &self.0 {
            restored += match name {
                RestoredName::Manifest(new) => {
                    to.record_blob(&new.digest, new.size)?;
                    to.link_children(&new.repository, new.manifest.references())?;
                    to.index_manifest(new)?;
                    1
                }
                RestoredName::Tag { repository, tag, digest, timestamps } => {
                    u64::from(to.restore_tag(repository, tag, digest, *timestamps)?)
                }
            };
        }
        Ok(restored)
    }
}
