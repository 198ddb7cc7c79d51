//! Rows of the report, from the answers of a sink.

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

pub(super) fn missing_rows(target: &Target, digest: &Digest, missing: &[Item]) -> Vec<Row> {
    let of = |name| Row {
        name,
        digest: Some(digest.clone()),
        outcome: Outcome::Missing,
        reason: None,
        old: None,
        missing: missing.to_vec(),
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
            missing: tag.missing.clone(),
        });
    }
    // Nothing follows a manifest that is not complete.
    if answer.tags.is_empty() {
        let is_incomplete = |manifest: &&ManifestAnswer| manifest.outcome != ManifestOutcome::Stored;
        if let Some(manifest) = answer.manifests.iter().find(is_incomplete) {
            return missing_rows(target, digest, &manifest.missing);
        }
        rows.extend(target.names(Some(digest)).into_iter().map(|name| Row {
            name,
            digest: Some(digest.clone()),
            outcome: Outcome::Taken,
            reason: None,
            old: None,
            missing: Vec::new(),
        }));
    }
    rows
}
