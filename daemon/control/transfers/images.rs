//! `POST transfers/ID/images`: names images of one repository in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use uuid::Uuid;

use super::super::body::Body;
use super::super::error::ControlError;
use super::super::request::{MAX_JSON, Request};
use super::signed::{NamedTag, check_signed};
use super::{check_accepts, large_json};
use crate::oci::{Digest, Hasher, MAX_MANIFEST, Manifest, MediaType, RepositoryName, Tag};
use crate::store::{
    self, Cause, ImageImport, ImportedManifest, Kept, MissingContent, Named, Purpose, StoreError, TagPolicy,
    Transfer, WantedTag,
};
use crate::transfer::{
    ImageSet, ImagesAnswer, Item, ManifestAnswer, ManifestOutcome, SetManifest, SetTag, SourceName,
    TagAnswer, TagOutcome,
};

/// The maximum number of manifests in a request, and that of tags.
const MAX_NAMES: usize = 10_000;
/// The maximum number of references of all manifests in a request: other changes wait for its transaction.
const MAX_REFERENCES: usize = 100_000;

/// Names images.
pub(super) async fn images(mut request: Request, id: Uuid) -> Result<http::Response<Body>, ControlError> {
    let transfer = request.host.store().transfer(id)?;
    let purpose = transfer.purpose()?;
    match purpose {
        Purpose::Import | Purpose::Move => {}
        Purpose::Export => {
            return Err(ControlError::refused("export", "this transfer is an export, which names nothing"));
        }
    }
    check_accepts(&request, purpose)?;
    let transfer = Arc::new(transfer);
    let (wanted, _permit): (ImageSet, _) = large_json(&mut request, &transfer).await?;
    if wanted.manifests.len() > MAX_NAMES || wanted.tags.len() > MAX_NAMES {
        return Err(too_many(format!(
            "a request can have at most {MAX_NAMES} manifests and {MAX_NAMES} tags"
        )));
    }
    let repository = parse_repository(&wanted.repository)?;
    let mut tags = tags(&wanted.tags, &repository)?;
    let registry = registry(wanted.origin.registry.as_deref())?;
    let digests = wanted.manifests.iter().map(|one| &one.digest);
    let registry = check_signed(&transfer, request.host.signers().as_ref(), digests, &mut tags, registry)?;
    let tags: Vec<WantedTag> = tags.into_iter().map(|named| named.tag).collect();
    let import = ImageImport {
        manifests: manifests(&transfer, wanted.manifests, request.host.registry().manifest_descriptors)
            .await?,
        repository: repository.clone(),
        tags: tags.clone(),
        policy: TagPolicy {
            // The name under which the times of the exporting registry are recorded.
            rule: registry.map(|id| format!("import:{id}")),
            keep_existing: wanted.policy.keep_existing,
            force: wanted.policy.force,
        },
        sparse: wanted.sparse,
        dry_run: wanted.dry_run.map(|others| store::OtherNames { names: others.names, tags: others.tags }),
        origin: request.actor.origin(Cause::Import),
    };
    let is_dry = import.dry_run.is_some();
    let digests: Vec<Digest> = import.manifests.iter().map(|one| one.digest.clone()).collect();
    // In a task of its own, so that a client that disconnects leaves no unfinished file of a manifest.
    let activity = request.activity.clone();
    let naming = tokio::spawn(async move {
        let _activity = activity;
        transfer.name_images(import).await
    });
    let named = naming.await.map_err(|_| StoreError::Closing)??;
    if !is_dry {
        log_names(&repository, &tags, &named, &request.actor.label());
    }
    Ok(Body::json(&report(digests, tags, named)))
}

fn too_many(message: String) -> ControlError {
    ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many", message)
        .with_hint("send the others in further requests")
}

fn invalid(code: &str, message: &str) -> ControlError {
    ControlError::new(StatusCode::BAD_REQUEST, code, message)
}

/// Parses the id of the exporting registry.
fn registry(text: Option<&str>) -> Result<Option<Uuid>, ControlError> {
    let Some(text) = text else { return Ok(None) };
    let id = Uuid::try_parse(text);
    id.map(Some).map_err(|_| ControlError::malformed(format!("the registry {text:?} is not a UUID")))
}

/// Parses the tags. One that is given twice has to have the same digest.
fn tags(wanted: &[SetTag], repository: &RepositoryName) -> Result<Vec<NamedTag>, ControlError> {
    let (mut tags, mut known) = (Vec::new(), BTreeMap::new());
    for SetTag { tag: text, digest, pushed, source } in wanted {
        let tag = parse_tag(text)?;
        match known.insert(tag.clone(), digest) {
            None => {
                let source = match source {
                    None => (repository.clone(), Some(tag.clone())),
                    Some(source) => parse_source(source)?,
                };
                tags.push(NamedTag {
                    tag: WantedTag { tag, digest: digest.clone(), pushed: *pushed },
                    source,
                });
            }
            Some(before) if before == digest => {}
            Some(before) => {
                let message = format!("the tag {tag} is given for {before} and for {digest}");
                return Err(invalid("tag_invalid", &message));
            }
        }
    }
    Ok(tags)
}

fn parse_tag(text: &str) -> Result<Tag, ControlError> {
    text.parse().map_err(|error| invalid("tag_invalid", &format!("{text:?}: {error}")))
}

fn parse_repository(text: &str) -> Result<RepositoryName, ControlError> {
    text.parse().map_err(|error| invalid("name_invalid", &format!("{text:?}: {error}")))
}

fn parse_source(source: &SourceName) -> Result<(RepositoryName, Option<Tag>), ControlError> {
    Ok((parse_repository(&source.repository)?, source.tag.as_deref().map(parse_tag).transpose()?))
}

/// Reads and parses the manifests, each once.
async fn manifests(
    transfer: &Transfer,
    wanted: Vec<SetManifest>,
    descriptors: usize,
) -> Result<Vec<ImportedManifest>, ControlError> {
    let (mut manifests, mut known, mut length, mut references) = (Vec::new(), BTreeSet::new(), 0, 0);
    for SetManifest { media_type, data, digest } in wanted {
        if !known.insert(digest.clone()) {
            continue;
        }
        let bytes = if let Some(text) = data {
            Bytes::from(text)
        } else {
            let size = transfer.size(&digest)?;
            check_length(&digest, size, &mut length)?;
            transfer.bytes(&digest, size).await?
        };
        check_length(&digest, bytes.len() as u64, &mut 0)?;
        let media_type = media_type.map(|text| {
            text.parse::<MediaType>()
                .map_err(|_| invalid("manifest_invalid", &format!("{digest}: {text:?} is no media type")))
        });
        let media_type = media_type.transpose()?;
        let parsed = move || parse(digest, bytes, media_type.as_ref(), descriptors);
        let parsed: ImportedManifest = transfer.compute(parsed).await??;
        references += parsed.manifest.references().len();
        if references > MAX_REFERENCES {
            let message = format!("the manifests of a request can have at most {MAX_REFERENCES} references");
            return Err(too_many(message));
        }
        manifests.push(parsed);
    }
    Ok(manifests)
}

/// Refuses a manifest that is too long, and the sum of those that are read from the store.
fn check_length(digest: &Digest, length: u64, sum: &mut u64) -> Result<(), ControlError> {
    *sum += length;
    if length <= MAX_MANIFEST as u64 && *sum <= MAX_JSON as u64 {
        return Ok(());
    }
    let message = if length > MAX_MANIFEST as u64 {
        format!("{digest} has {length} bytes, and a manifest can have at most {MAX_MANIFEST}")
    } else {
        format!("the manifests of a request can have at most {MAX_JSON} bytes")
    };
    Err(ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
}

fn parse(
    digest: Digest,
    bytes: Bytes,
    media_type: Option<&MediaType>,
    descriptors: usize,
) -> Result<ImportedManifest, ControlError> {
    let actual = Hasher::digest(digest.algorithm(), &bytes);
    if actual != digest {
        return Err(invalid("digest_invalid", &format!("the manifest has digest {actual}, not {digest}")));
    }
    let parsed = Manifest::check_size(&bytes, descriptors)
        .and_then(|()| Manifest::parse_pushed(&bytes, media_type))
        .map_err(|error| invalid("manifest_invalid", &format!("{digest}: {error}")))?;
    Ok(ImportedManifest { digest, bytes, manifest: parsed })
}

fn report(digests: Vec<Digest>, tags: Vec<WantedTag>, named: Named) -> ImagesAnswer {
    let items = |missing: Vec<MissingContent>| {
        let items = missing.into_iter();
        items.map(|MissingContent { digest, size }| Item { digest, size }).collect::<Vec<_>>()
    };
    let manifests = digests.into_iter().zip(named.manifests).map(|(digest, missing)| {
        let outcome = if missing.is_empty() { ManifestOutcome::Stored } else { ManifestOutcome::Incomplete };
        ManifestAnswer { digest, outcome, missing: items(missing) }
    });
    let tags = tags.into_iter().zip(named.tags).map(|(WantedTag { tag, .. }, outcome)| {
        let (outcome, old, reason, missing) = match outcome {
            store::TagOutcome::Set => (TagOutcome::Set, None, None, Vec::new()),
            store::TagOutcome::Moved(old) => (TagOutcome::Moved, Some(old), None, Vec::new()),
            store::TagOutcome::Unchanged => (TagOutcome::Unchanged, None, None, Vec::new()),
            store::TagOutcome::Kept(old, kept) => {
                (TagOutcome::Kept, Some(old), Some(reason(kept).to_owned()), Vec::new())
            }
            store::TagOutcome::Incomplete(missing) => (TagOutcome::Incomplete, None, None, items(missing)),
        };
        TagAnswer { tag: tag.to_string(), outcome, old, reason, missing }
    });
    ImagesAnswer { tags: tags.collect(), manifests: manifests.collect() }
}

fn reason(kept: Kept) -> &'static str {
    match kept {
        Kept::Immutable => "the tag is immutable ([[immutable]])",
        Kept::Existing => "existing tags are kept",
        Kept::NotNewer => "an import from the same registry has brought a tag that is as new",
        Kept::NeverImported => "no import from the same registry has set this tag",
        Kept::NoTime => "the archive does not say when the tag was pushed",
    }
}

fn log_names(repository: &RepositoryName, tags: &[WantedTag], named: &Named, user: &str) {
    let count =
        |test: fn(&store::TagOutcome) -> bool| named.tags.iter().filter(|outcome| test(outcome)).count();
    let set = count(|outcome| matches!(outcome, store::TagOutcome::Set | store::TagOutcome::Moved(_)));
    let stored = named.manifests.iter().filter(|missing| missing.is_empty()).count();
    log::info!(
        repository = repository.as_str(), user:% = user;
        "imported {stored} of {} manifests and {set} of {} tags of {repository}", named.manifests.len(), tags.len()
    );
}
