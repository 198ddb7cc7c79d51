//! Manifests and tags of an import on their way to another registry: children first, tags last.

use std::collections::HashMap;

use bytes::Bytes;

use crate::client::{ClientError, PutAnswer, RegistryClient};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::transfer::{
    ImageSet, ImagesAnswer, ManifestAnswer, ManifestOutcome, Policy, SetTag, TagAnswer, TagOutcome,
};

/// A manifest of the set.
struct Pushed {
    media_type: MediaType,
    bytes: Bytes,
}

/// Pushes the manifests of a set, then its tags. `texts` are those that the set has only by digest.
pub(super) async fn store_images(
    client: &RegistryClient,
    repository: &RepositoryName,
    set: &ImageSet,
    mut texts: HashMap<Digest, Bytes>,
) -> Result<ImagesAnswer, ClientError> {
    let (mut answer, mut pushed) = (ImagesAnswer::default(), HashMap::new());
    for manifest in &set.manifests {
        let digest = manifest.digest.clone();
        let bytes =
            manifest.data.clone().map(Bytes::from).or_else(|| texts.remove(&digest)).unwrap_or_default();
        if Hasher::digest(digest.algorithm(), &bytes) != digest {
            return Err(ClientError::Answer(format!("manifest {digest} does not match its digest")));
        }
        let stated: Option<MediaType> = manifest.media_type.as_deref().and_then(|text| text.parse().ok());
        // Whether a manifest is valid is for the registry to judge.
        let parsed = Manifest::parse(&bytes, stated.as_ref()).ok();
        let media_type = stated.or_else(|| parsed.as_ref().map(|parsed| parsed.media_type().clone()));
        let media_type =
            media_type.ok_or_else(|| ClientError::Answer(format!("manifest {digest} has no media type")))?;
        let manifest = Pushed { media_type, bytes };
        push(client, repository, &digest, &manifest, parsed.as_ref()).await?;
        answer.manifests.push(ManifestAnswer {
            digest: digest.clone(),
            outcome: ManifestOutcome::Stored,
            missing: Vec::new(),
        });
        pushed.insert(digest, manifest);
    }
    for tag in &set.tags {
        // An image with many tags comes in several sets, of which only the first has its manifest.
        if !pushed.contains_key(&tag.digest)
            && let Some(read) = client.manifest(repository, &Reference::Digest(tag.digest.clone())).await?
        {
            pushed.insert(read.digest, Pushed { media_type: read.media_type, bytes: read.bytes });
        }
        let manifest = pushed.get(&tag.digest);
        answer.tags.push(set_tag(client, repository, tag, manifest, set.policy).await?);
    }
    Ok(answer)
}

/// Pushes a manifest by its digest, unless the repository has it.
async fn push(
    client: &RegistryClient,
    repository: &RepositoryName,
    digest: &Digest,
    manifest: &Pushed,
    parsed: Option<&Manifest>,
) -> Result<(), ClientError> {
    let reference = Reference::Digest(digest.clone());
    let referrer = parsed.and_then(|parsed| parsed.subject().map(|subject| (subject, parsed)));
    // Only the answer to a push tells whether the registry lists referrers.
    if referrer.is_none() && client.head_manifest(repository, &reference).await?.is_some() {
        return Ok(());
    }
    let content = (&manifest.media_type, &manifest.bytes);
    let PutAnswer { lists_subject } = client.put_manifest(repository, &reference, content).await?;
    match referrer {
        Some((subject, parsed)) if !lists_subject => {
            let descriptor = parsed.descriptor(digest.clone(), manifest.bytes.len() as u64);
            client.add_to_fallback_tag(repository, subject, &descriptor).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Sets a tag. Another registry remembers no imports, so that a tag that exists is moved unless the operator keeps them.
async fn set_tag(
    client: &RegistryClient,
    repository: &RepositoryName,
    wanted: &SetTag,
    manifest: Option<&Pushed>,
    policy: Policy,
) -> Result<TagAnswer, ClientError> {
    let tag: Tag =
        wanted.tag.parse().map_err(|error| ClientError::Answer(format!("{}: {error}", wanted.tag)))?;
    let reference = Reference::Tag(tag);
    let manifest = manifest
        .ok_or_else(|| ClientError::Answer(format!("the manifest of tag {} is missing", wanted.tag)))?;
    let old = client.head_manifest(repository, &reference).await?.map(|head| head.digest);
    // A registry names tags by SHA-256, also those of manifests with another digest.
    let is_same =
        |old: &Digest| *old == wanted.digest || *old == Hasher::digest(Algorithm::Sha256, &manifest.bytes);
    let answer = |outcome, old, reason| {
        Ok(TagAnswer { tag: wanted.tag.clone(), outcome, old, reason, missing: Vec::new() })
    };
    match old {
        Some(old) if is_same(&old) => answer(TagOutcome::Unchanged, None, None),
        Some(old) if policy.keep_existing => {
            answer(TagOutcome::Kept, Some(old), Some("existing tags are kept".into()))
        }
        old => {
            let put =
                client.put_manifest(repository, &reference, (&manifest.media_type, &manifest.bytes)).await;
            match (put, old) {
                (Ok(_), None) => answer(TagOutcome::Set, None, None),
                (Ok(_), Some(old)) => answer(TagOutcome::Moved, Some(old), None),
                (Err(error), Some(old)) if is_immutable(&error) => {
                    answer(TagOutcome::Kept, Some(old), Some(error.to_string()))
                }
                (Err(error), _) => Err(error),
            }
        }
    }
}

/// Returns true if the registry refuses to move a tag. There is no error code for that; the messages agree.
fn is_immutable(error: &ClientError) -> bool {
    match error {
        ClientError::Status { status, message, .. } => {
            status.is_client_error() && message.to_ascii_lowercase().contains("immutable")
        }
        ClientError::Egress(_) | ClientError::Unauthorized { .. } | ClientError::Answer(_) => false,
    }
}
