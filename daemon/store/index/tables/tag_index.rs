//! The tables `tags_by_digest` and `tags_by_time`, which are derived from the table `tags`.
//!
//! Lists of tags hide an attachment tag while its manifest is in the repository: the page of the manifest shows it.
//!
//! An index of an earlier release gets the derived rows in steps, in the order of the tags. Until the last step the row
//! `tags_indexed` in `meta` has the key of the last tag that has them, and all lookups here read the table `tags` instead.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::keys;
use super::lookups::Lookups;
use super::meta;
use super::port::{ReadTables, Row, Table};
use super::rows::{ManifestRow, RepositoryRow, digest_of};
use crate::oci::{AttachmentTarget, Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

/// The tags that the derived tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum IndexedTags<'a> {
    /// All.
    All,
    /// Those up to the tag with this key.
    Until(&'a [u8]),
}

impl IndexedTags<'_> {
    /// Returns true if the derived tables have the tag with this key.
    pub(in crate::store) fn include(self, key: &[u8]) -> bool {
        match self {
            IndexedTags::All => true,
            IndexedTags::Until(last) => key <= last,
        }
    }
}

/// Parts of keys, which are computed where the tables lack them.
type Parts<'a> = Box<dyn Iterator<Item = Result<Cow<'a, [u8]>, IndexError>> + 'a>;

/// Lookups of tags by digest and by time.
pub(in crate::store) trait TagIndex: ReadTables {
    /// Returns the tags that the derived tables have.
    fn indexed_tags(&self) -> Result<IndexedTags<'_>, IndexError> {
        if let Some(last) = self.get(Table::Meta, meta::TAGS_INDEXED)? {
            return Ok(IndexedTags::Until(last));
        }
        // An index of an earlier release without room for the tables keeps its version.
        let version: Option<u32> = self.row(Table::Meta, meta::FORMAT)?;
        let has_tables = version.is_none_or(|version| version == meta::VERSION);
        Ok(if has_tables { IndexedTags::All } else { IndexedTags::Until(b"") })
    }

    /// Returns true if the derived tables have all tags.
    fn has_all_tags_indexed(&self) -> Result<bool, IndexError> {
        Ok(self.indexed_tags()? == IndexedTags::All)
    }

    /// Returns the tags that name a manifest, in byte order.
    fn tags_naming<'a>(
        &'a self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Parts<'a>, IndexError> {
        if self.has_all_tags_indexed()? {
            let prefix = keys::content_key(repository, digest);
            let rows = self.prefix(Table::TagsByDigest, &prefix)?;
            return Ok(parts(rows, prefix.len()));
        }
        let (prefix, wanted) = (keys::repository_prefix(repository), keys::digest_key(digest));
        let rows = self.prefix(Table::Tags, &prefix)?.filter_map(move |row| {
            let named = row.and_then(|(key, value)| Ok((digest_of(self, value)? == wanted).then_some(key)));
            named.transpose()
        });
        Ok(Box::new(rows.map(move |key| Ok(Cow::Borrowed(&key?[prefix.len()..])))))
    }

    /// Returns the tags that name a manifest, parsed.
    fn parsed_tags_naming<'a>(
        &'a self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<impl Iterator<Item = Result<Tag, IndexError>> + 'a, IndexError> {
        let tag = |part: Cow<'a, [u8]>| keys::text_after(&part, 0).and_then(|tag| tag.parse().ok());
        Ok(self.tags_naming(repository, digest)?.filter_map(move |part| part.map(tag).transpose()))
    }

    /// Returns true if a tag names a manifest.
    fn has_tag(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, IndexError> {
        Ok(self.tags_naming(repository, digest)?.next().transpose()?.is_some())
    }

    /// Returns those of some manifests that a tag names, other than tags whose keys `is_removed` accepts.
    fn tagged_among<'a>(
        &self,
        repository: &RepositoryName,
        digests: impl Iterator<Item = &'a Digest>,
        is_removed: &dyn Fn(&[u8]) -> bool,
    ) -> Result<BTreeSet<&'a Digest>, IndexError> {
        let (prefix, mut tagged) = (keys::repository_prefix(repository), BTreeSet::new());
        if self.has_all_tags_indexed()? {
            for digest in digests {
                for tag in self.tags_naming(repository, digest)? {
                    if !is_removed(&[&prefix, &*tag?].concat()) {
                        tagged.insert(digest);
                        break;
                    }
                }
            }
            return Ok(tagged);
        }
        // One pass for all of them.
        let wanted: BTreeMap<_, _> = digests.map(|digest| (keys::digest_key(digest), digest)).collect();
        for row in self.prefix(Table::Tags, &prefix)? {
            let (key, value) = row?;
            let digest = wanted.get(digest_of(self, value)?);
            tagged.extend(digest.filter(|_| !is_removed(key)));
        }
        Ok(tagged)
    }

    /// Returns the number of tags that name a manifest.
    fn count_tags_naming(&self, repository: &RepositoryName, digest: &Digest) -> Result<usize, IndexError> {
        if self.has_all_tags_indexed()? {
            let key = keys::content_key(repository, digest);
            if let Some(count) = self.row::<u32>(Table::TagsByDigest, &key)? {
                return Ok(usize::try_from(count).unwrap_or(usize::MAX));
            }
        }
        let mut count = 0;
        for tag in self.tags_naming(repository, digest)? {
            tag?;
            count += 1;
        }
        Ok(count)
    }

    /// Returns the digests that tags of a repository name, as keys have them and in their order; some of them repeatedly.
    fn tagged_digests<'a>(&'a self, repository: &RepositoryName) -> Result<Parts<'a>, IndexError> {
        let prefix = keys::repository_prefix(repository);
        if self.has_all_tags_indexed()? {
            let rows = self.prefix(Table::TagsByDigest, &prefix)?;
            return Ok(Box::new(rows.map(move |row| {
                let key = &row?.0[prefix.len()..];
                let rest = keys::split_digest(key).map(|(_, rest)| rest.len());
                Ok(Cow::Borrowed(&key[..key.len() - rest.unwrap_or_default()]))
            })));
        }
        let mut digests = BTreeSet::new();
        for row in self.prefix(Table::Tags, &prefix)? {
            digests.insert(digest_of(self, row?.1)?);
        }
        Ok(Box::new(digests.into_iter().map(|digest| Ok(Cow::Borrowed(digest)))))
    }

    /// Returns the tags of a repository that lists show, the newest first.
    fn shown_tags<'a>(&'a self, repository: &RepositoryName) -> Result<Parts<'a>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let length = prefix.len() + keys::TIME;
        if self.has_all_tags_indexed()? {
            return Ok(parts(self.prefix(Table::TagsByTime, &prefix)?, length));
        }
        let mut all = Vec::new();
        for row in self.prefix(Table::Tags, &prefix)? {
            let (key, value) = row?;
            let Some(tag) = keys::text_after(key, prefix.len()) else { continue };
            if !self.is_hidden(repository, tag)? {
                let row: ManifestRow = self.decode(value)?;
                all.push(keys::time_tag_key(repository, (row.pushed, row.order), tag));
            }
        }
        all.sort_unstable();
        Ok(Box::new(all.into_iter().map(move |key| Ok(Cow::Owned(key[length..].to_vec())))))
    }

    /// Returns the number of tags of a repository that lists show.
    fn count_shown_tags(&self, repository: &RepositoryName) -> Result<usize, StoreError> {
        if !self.has_all_tags_indexed()? {
            return Ok(self.shown_tags(repository)?.count());
        }
        let row: Option<RepositoryRow> = self.row(Table::Repositories, repository.as_str().as_bytes())?;
        let hidden = self.count_hidden_tags(repository)?;
        let shown = row.unwrap_or_default().tags.saturating_sub(hidden);
        Ok(usize::try_from(shown).unwrap_or(usize::MAX))
    }

    /// Returns the number of tags that the derived tables have and lists hide.
    fn count_hidden_tags(&self, repository: &RepositoryName) -> Result<u32, IndexError> {
        Ok(self.row(Table::TagsByTime, &keys::repository_prefix(repository))?.unwrap_or_default())
    }

    /// Returns true for an attachment tag of a manifest that the repository has.
    fn is_hidden(&self, repository: &RepositoryName, tag: &str) -> Result<bool, StoreError> {
        // Cheaper than parsing each tag.
        if !tag.starts_with("sha") {
            return Ok(false);
        }
        let target = tag.parse().ok().and_then(|tag| AttachmentTarget::of(&tag));
        target.map_or(Ok(false), |target| self.has_attached_subject(repository, &target))
    }
}

impl<T: ReadTables> TagIndex for T {}

/// Returns the keys of rows after a prefix, without the rows that have nothing more, which are counts.
fn parts<'a>(rows: impl Iterator<Item = Result<Row<'a>, IndexError>> + 'a, prefix: usize) -> Parts<'a> {
    let parts = rows.map(move |row| Ok(Cow::Borrowed(row?.0.get(prefix..).unwrap_or_default())));
    Box::new(
        parts.filter(|part: &Result<Cow<'_, [u8]>, _>| part.as_ref().map_or(true, |part| !part.is_empty())),
    )
}
