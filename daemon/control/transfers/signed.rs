//! The limits that signed lists set on the names of an import.

use std::path::PathBuf;

use uuid::Uuid;

use super::export::{forbidden, unsigned};
use crate::control::ControlError;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{SignedPush, Transfer, WantedTag};

/// A tag with its name in the archive.
pub(super) struct NamedTag {
    pub(super) tag: WantedTag,
    pub(super) source: (RepositoryName, Option<Tag>),
}

/// Refuses manifests and tags that the signed lists do not name, if signers are configured. Then the tags get the times of the
/// lists. Returns the registry that has pushed them; the requested one without signers.
pub(super) fn check_signed<'a>(
    transfer: &Transfer,
    signers: Option<&PathBuf>,
    mut manifests: impl Iterator<Item = &'a Digest>,
    tags: &mut [NamedTag],
    registry: Option<Uuid>,
) -> Result<Option<Uuid>, ControlError> {
    if signers.is_none() {
        return Ok(registry);
    }
    if !transfer.has_signature()? {
        return Err(unsigned());
    }
    manifests.try_for_each(|digest| {
        if transfer.is_signed(digest)? { Ok(()) } else { Err(not_listed(&digest.to_string())) }
    })?;
    let mut pushes = Vec::with_capacity(tags.len());
    for NamedTag { tag, source: (repository, source_tag) } in tags.iter() {
        let name = (repository.clone(), source_tag.clone(), tag.digest.clone());
        let push = latest(&transfer.signed_pushes(&name)?, registry);
        pushes.push(push.ok_or_else(|| {
            let shown = source_tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
            not_listed(&format!("{repository}{shown} with {}", tag.digest))
        })?);
    }
    let Some(first) = pushes.first() else { return Ok(registry) };
    // Times of several registries cannot be compared: without one, existing tags stay.
    let registry = first.registry.filter(|_| pushes.iter().all(|push| push.registry == first.registry));
    for (named, push) in tags.iter_mut().zip(&pushes) {
        named.tag.pushed = push.pushed.filter(|_| registry.is_some());
    }
    Ok(registry)
}

/// Returns the latest push, if possible at the requested registry.
fn latest(pushes: &[SignedPush], registry: Option<Uuid>) -> Option<SignedPush> {
    let requested = pushes.iter().rfind(|push| push.registry == registry);
    requested.or(pushes.last()).copied()
}

fn not_listed(what: &str) -> ControlError {
    forbidden("not_listed", format!("the signed list of contents does not name {what}"))
}
