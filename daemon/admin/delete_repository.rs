//! Deletes a whole repository, after a question that names its content.

use std::time::{Duration, Instant};

use askama::Template;

use super::delete::{repository, waiting};
use super::error::AdminError;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::base::human::{count, size};
use crate::oci::RepositoryName;
use crate::store::RepositoryOverview;
use crate::wire::Response;

/// The time that one request deletes for. Then the page says how much is left, and the user continues.
const TIME: Duration = Duration::from_secs(15);

#[derive(Template)]
#[template(path = "delete_repository.html")]
struct Page {
    frame: Frame,
    name: String,
    /// The number of tags, if there are any.
    tags: Option<String>,
    images: String,
    bytes: String,
    /// The state that the user sees and confirms.
    state: String,
    /// True if the repository has changed since the question was shown.
    has_changed: bool,
}

/// Shows the question.
pub(super) async fn confirm(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = repository(request, &request.query)?;
    question(request, &name, false).await
}

async fn question(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    has_changed: bool,
) -> Result<Response, AdminError> {
    let content = content(request, name).await?;
    let page = Page {
        frame: Frame::new(request, "repositories"),
        name: name.to_string(),
        tags: (content.tags > 0).then(|| count(content.tags, "tag")),
        images: count(content.manifests, "manifest"),
        bytes: size(content.bytes),
        state: state(&content),
        has_changed,
    };
    render(OK, &page)
}

/// Returns the number and length of what a repository contains.
async fn content(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
) -> Result<RepositoryOverview, AdminError> {
    let found = request.admin.store.repositories_named(vec![name.clone()]).await?;
    let gone = || AdminError::NotFound(format!("Repository {name} does not exist."));
    found.into_iter().next().ok_or_else(gone)
}

/// Returns a text that differs after every push and delete.
fn state(content: &RepositoryOverview) -> String {
    format!("{}-{}-{}-{}", content.tags, content.manifests, content.bytes, content.pushed)
}

/// Deletes the repository of a confirmed form, unless its content has changed since.
pub(super) async fn delete(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = repository(request, &request.form)?;
    if state(&content(request, &name).await?) != request.field("state") {
        return question(request, &name, true).await;
    }
    let (started, mut deleted) = (Instant::now(), 0);
    let proceed = |_| started.elapsed() < TIME;
    let done = request.admin.store.delete_repository(&name, &request.origin(), &mut deleted, proceed).await;
    if deleted > 0 {
        let (user, client) = (request.identity.to_string(), request.context.client);
        log::info!(client:% = client, repository = name.as_str(), user = user.as_str(); "deleted {deleted} manifests of {name}");
    }
    Ok(if done? {
        request.see_result("/repositories", &format!("repository-deleted{}", waiting(request).await))
    } else {
        let path = format!("/delete/repository?name={name}");
        request.see_result(&path, &format!("partly-deleted&count={deleted}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        let name = worst_case::name(0);
        let content = RepositoryOverview {
            name: name.clone(),
            manifests: u32::MAX,
            tags: u32::MAX,
            bytes: u64::MAX,
            pushed: u64::MAX,
            emptied: None,
        };
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            name: name.to_string(),
            tags: Some(count(content.tags, "tag")),
            images: count(content.manifests, "manifest"),
            bytes: size(content.bytes),
            state: state(&content),
            has_changed: true,
        });
    }
}
