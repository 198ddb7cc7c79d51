//! `DELETE names`: deletes tags and whole repositories.
//!
//! The answer is a stream with an item for each name: what was deleted, or why it was not. Each tag, and each manifest of a
//! repository, is deleted in a transaction of its own.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::Body;
use super::error::{ControlError, Detail};
use super::events::{End, Reporter, respond};
use super::request::Request;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::{Cause, Delete, Origin, Store};

/// Maximum length of the body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Maximum number of names in a request.
const MAX_NAMES: usize = 1000;

/// The body of the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteNames {
    /// The names.
    pub names: Vec<NameToDelete>,
}

/// A tag, or a whole repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameToDelete {
    /// The repository.
    pub repository: String,
    /// The tag; `None` for the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest that the operator has confirmed: a tag that names another one by now is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The result for one name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeletedName {
    /// The name as it was given.
    #[serde(flatten)]
    pub name: NameToDelete,
    /// The number of manifests that were deleted.
    pub manifests: u64,
    /// Reason why it, or a part of it, was not deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Detail>,
}

/// A name that is valid.
enum Target {
    Tag(RepositoryName, Tag, Option<Digest>),
    Repository(RepositoryName),
}

/// Deletes names.
pub(super) async fn delete(mut request: Request) -> Result<http::Response<Body>, ControlError> {
    request.host.registry().check_may_delete()?;
    let DeleteNames { names } = request.json(MAX_BODY).await?;
    if names.len() > MAX_NAMES {
        return Err(ControlError::malformed(format!("a request can delete at most {MAX_NAMES} names")));
    }
    let targets: Vec<Target> = names.iter().map(parse).collect::<Result<_, _>>()?;
    let (store, user) = (request.host.store().clone(), request.actor.label());
    let origin = request.actor.origin(Cause::Control);
    let activity = request.activity.clone();
    Ok(respond(request.is_detached(), |reporter| async move {
        let _activity = activity;
        let mut failed = 0;
        for (name, target) in names.into_iter().zip(targets) {
            if reporter.is_cancelled() {
                return Ok(End::Cancelled);
            }
            let mut manifests = 0;
            let result = match &target {
                Target::Tag(repository, tag, digest) => {
                    let delete = Delete {
                        repository: repository.clone(),
                        object: tag.clone(),
                        origin: origin.clone(),
                    };
                    delete_tag(&store, delete, digest.as_ref()).await
                }
                Target::Repository(repository) => {
                    delete_repository(&store, (repository, &origin), &reporter, &mut manifests).await
                }
            };
            match &result {
                Ok(()) => {
                    log::info!(repository = name.repository.as_str(), user:% = user; "deleted {}", in_words(&name));
                }
                Err(_) => failed += 1,
            }
            let error = result.err().map(|error| error.detail().clone());
            reporter.item(&DeletedName { name, manifests, error }).await;
        }
        Ok(End::Ok(json!({ "failed": failed })))
    }))
}

fn in_words(name: &NameToDelete) -> String {
    match &name.tag {
        Some(tag) => format!("{tag} of {}", name.repository),
        None => format!("the repository {}", name.repository),
    }
}

fn parse(name: &NameToDelete) -> Result<Target, ControlError> {
    let invalid =
        |text: &str, error: &dyn std::fmt::Display| ControlError::malformed(format!("{text:?}: {error}"));
    let repository =
        name.repository.parse::<RepositoryName>().map_err(|error| invalid(&name.repository, &error))?;
    let Some(tag) = &name.tag else { return Ok(Target::Repository(repository)) };
    let parsed = tag.parse::<Tag>().map_err(|error| invalid(tag, &error))?;
    let digest =
        name.digest.as_ref().map(|digest| digest.parse::<Digest>().map_err(|error| invalid(digest, &error)));
    Ok(Target::Tag(repository, parsed, digest.transpose()?))
}

async fn delete_tag(store: &Store, delete: Delete<Tag>, digest: Option<&Digest>) -> Result<(), ControlError> {
    let Some(digest) = digest else { return Ok(store.delete_tag(delete).await?) };
    let Delete { repository, object: tag, origin } = delete;
    let name = format!("{repository}:{tag}");
    let (deleted, moved) =
        store.delete_tags(Delete { repository, object: vec![(tag, digest.clone())], origin }).await?;
    if moved > 0 {
        return Err(ControlError::refused(
            "moved",
            format!("{name} was pushed again meanwhile, and is kept"),
        ));
    }
    if deleted.is_empty() {
        return Err(ControlError::not_found(format!("{name} does not exist")));
    }
    Ok(())
}

/// Deletes all manifests of a repository with their tags.
async fn delete_repository(
    store: &Store,
    (repository, origin): (&RepositoryName, &Origin),
    reporter: &Reporter,
    deleted: &mut u64,
) -> Result<(), ControlError> {
    let proceed = |count| {
        reporter.progress(&json!({ "repository": repository.as_str(), "manifests": count }));
        !reporter.is_cancelled()
    };
    if store.delete_repository(repository, origin, deleted, proceed).await? {
        return Ok(());
    }
    Err(ControlError::refused("cancelled", format!("{repository} was deleted in part")))
}
