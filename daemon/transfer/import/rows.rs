//! Rows of the report, from the answers of a sink.

use std::sync::Arc;

use super::super::image_set::{ImagesAnswer, Item, ManifestAnswer, ManifestOutcome, SetTag, TagOutcome};
use super::plan::Target;
use super::report::{Outcome, Row};
use crate::oci::Digest;

pub(super) fn tags(target: &Target, digest: &Digest) -> Vec<SetTag> {
    let of = |(tag, pushed): (&crate::oci::Tag, &Option<u64>)| SetTag {
        tag: tag.to_string(),
        digest: digest.clone(),
        pushed: *pushed,
        source: target.source_names.get(tag).cloned(),
    };
    target.tags.iter().map(of).collect()
}

pub(super) fn refused(target: &Target, reason: &str) -> Vec<Row> {
    let digest = target.digest();
    target.names(digest).into_iter().map(|name| Row::refused(name, digest.cloned(), reason)).collect()
}

pub(super) fn missing_rows(target: &Target, digest: &Digest, missing: &Arc<[Item]>) -> Vec<Row> {
    let of = |name| Row {
        name,
        digest: Some(digest.clone()),
        outcome: Outcome::Missing,
        reason: None,
        old: None,
        missing: Arc::clone(missing),
    };
    target.names(Some(digest)).into_iter().map(of).collect()
}

/// Returns the rows of an answer.
pub(super) fn rows(target: &Target, digest: &Digest, answer: &ImagesAnswer) -> Vec<Row> {
    let mut rows = Vec::new();
    for tag in &answer.tags {
        let outcome = match tag.outcome {
            TagOutcome::Set => Outcome::Taken,
            TagOutcome::Moved => Outcome::Moved,
            TagOutcome::Unchanged => Outcome::Present,
            TagOutcome::Kept => Outcome::Kept,
            TagOutcome::Incomplete => Outcome::Missing,
        };
        rows.push(Row {
            name: format!("{}:{}", target.repository, tag.tag),
            digest: Some(digest.clone()),
            outcome,
            reason: tag.reason.clone(),
            old: tag.old.clone().filter(|old| old != digest),
            missing: tag.missing.clone().into(),
        });
    }
    // Nothing follows a manifest that is not complete.
    if answer.tags.is_empty() {
        let is_incomplete = |manifest: &&ManifestAnswer| manifest.outcome != ManifestOutcome::Stored;
        if let Some(manifest) = answer.manifests.iter().find(is_incomplete) {
            return missing_rows(target, digest, &manifest.missing.clone().into());
        }
        rows.extend(target.names(Some(digest)).into_iter().map(|name| Row {
            name,
            digest: Some(digest.clone()),
            outcome: Outcome::Taken,
            reason: None,
            old: None,
            missing: Arc::default(),
        }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::source::Root;
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn names_of_one_image_share_the_missing_content() {
        let digest = Hasher::digest(Algorithm::Sha256, b"x");
        let target = Target {
            repository: "a".parse().unwrap(),
            tags: ["1", "2", "3"].into_iter().map(|tag| (tag.parse().unwrap(), None)).collect(),
            root: Root::Manifest { digest: digest.clone(), media_type: None },
            sources: Vec::new(),
            source_names: BTreeMap::new(),
            origin: None,
        };
        let missing = [Item::of_digest(digest.clone())].into();
        let rows = missing_rows(&target, &digest, &missing);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| Arc::ptr_eq(&row.missing, &missing)));
    }
}
