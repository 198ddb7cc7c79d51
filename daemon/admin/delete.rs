//! Deletes tags, after a confirmation that lists them.

use std::time::Duration;

use askama::Template;

use super::error::AdminError;
use super::format::short_digest;
use super::pages::{self, Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Action, Identity, Operation};
use crate::base::human::count;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::Delete;
use crate::wire::{Query, Response};

/// The tags in one confirmation.
const ROWS: usize = 40;
/// The longest time in which a delete finds out what waits for a collection.
const WAITING_TIME: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "delete.html")]
struct Page {
    frame: Frame,
    name: String,
    tags: Vec<Row>,
    summary: String,
    /// The number of selected tags beyond those in the confirmation.
    more: usize,
}

struct Row {
    tag: String,
    short: String,
    digest: String,
    /// The number of other tags that still name the image afterwards, in words.
    others: String,
}

/// Shows the confirmation for the tags of the query, or for all tags of its `digest`.
pub(super) async fn confirm(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = repository(request, &request.query)?;
    let (tags, more) = selected(request, &name).await?;
    let named = request.admin.store.tags_named(&name, tags).await?;
    if named.is_empty() {
        return Err(AdminError::Invalid("No existing tag is selected. Go back and select tags.".into()));
    }
    let rows = named.iter().map(|(tag, entry, shared)| {
        let selected = named.iter().filter(|(_, other, _)| other.digest == entry.digest).count();
        Row {
            tag: tag.to_string(),
            short: short_digest(&entry.digest),
            digest: entry.digest.to_string(),
            others: others(shared.saturating_sub(selected)),
        }
    });
    let rows: Vec<Row> = rows.collect();
    let summary = count(rows.len(), "tag");
    let frame = Frame::new(request, "repositories");
    render(OK, &Page { frame, name: name.to_string(), tags: rows, summary, more })
}

/// Returns the selected tags that fit in one confirmation, and how many do not.
async fn selected(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
) -> Result<(Vec<Tag>, usize), AdminError> {
    if let Some(digest) = request.query.get("digest").and_then(|digest| digest.parse::<Digest>().ok()) {
        let (tags, total) = request.admin.store.tags_of(name, &digest, ROWS).await?;
        let more = total.saturating_sub(tags.len());
        return Ok((tags, more));
    }
    let mut tags: Vec<Tag> = request.query.all("tag").filter_map(|tag| tag.parse().ok()).collect();
    let more = tags.len().saturating_sub(ROWS);
    tags.truncate(ROWS);
    Ok((tags, more))
}

fn others(number: usize) -> String {
    match number {
        0 => "no other tag of this image".to_owned(),
        1 => "1 other tag of the same image stays".to_owned(),
        _ => format!("{} of the same image stay", count(number, "other tag")),
    }
}

/// Deletes the tags of a confirmed form that still name the image that was shown.
pub(super) async fn delete(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = repository(request, &request.form)?;
    let (tags, unconfirmed) = confirmed(&request.form);
    let delete = Delete { repository: name.clone(), object: tags, origin: request.origin() };
    let (deleted, moved) = request.admin.store.delete_tags(delete).await?;
    for tag in &deleted {
        let (user, client) = (request.identity.to_string(), request.context.client);
        log::info!(client:% = client, repository = name.as_str(), user = user.as_str(); "deleted {tag} of {name}");
    }
    let is_there = request.admin.store.has_repository(&name)?;
    let path = if is_there { format!("/repository/{name}") } else { "/repositories".into() };
    let moved = match moved + unconfirmed {
        0 => String::new(),
        moved => format!("&moved={moved}"),
    };
    // The notice about tags that were kept has no place for it.
    let waiting = if moved.is_empty() { waiting(request).await } else { String::new() };
    Ok(request.see_result(&path, &format!("deleted&count={}{moved}{waiting}", deleted.len())))
}

/// Returns the parameters of the notice about the content that waits for a collection, for users who may start one; none if it
/// takes long to find out.
pub(super) async fn waiting(request: &AdminRequest<'_>) -> String {
    if !request.may(&Operation::Maintenance) {
        return String::new();
    }
    let waiting = request.admin.store.waiting_content(&request.admin.settings.policy);
    match tokio::time::timeout(WAITING_TIME, waiting).await {
        Ok(Ok(waiting)) if !waiting.is_empty() => pages::waiting_parameters(&waiting),
        Ok(Ok(_) | Err(_)) | Err(_) => String::new(),
    }
}

/// Returns the tags of a form, each with the digest that the confirmation showed, and the number of tags without a digest:
/// those are not deleted, since the image that the user meant is unknown.
fn confirmed(form: &Query) -> (Vec<(Tag, Digest)>, usize) {
    let all: Vec<&str> = form.all("tag").take(ROWS).collect();
    let pair = |text: &&str| {
        let (tag, digest) = text.split_once('@')?;
        Some((tag.parse().ok()?, digest.parse().ok()?))
    };
    let tags: Vec<(Tag, Digest)> = all.iter().filter_map(pair).collect();
    let unconfirmed = all.len() - tags.len();
    (tags, unconfirmed)
}

/// Returns the repository of a query or form, if the user may delete in it.
pub(super) fn repository(request: &AdminRequest, from: &Query) -> Result<RepositoryName, AdminError> {
    let name = from.get("name").unwrap_or_default().parse::<RepositoryName>();
    let name = name.map_err(|error| AdminError::Invalid(format!("Invalid repository name: {error}.")))?;
    if !request.admin.settings.delete {
        return Err(AdminError::Denied(
            "Deleting is off (admin.delete, storage.delete or registry.read_only).",
        ));
    }
    request.check(Action::Pull, &name)?;
    if !request.may_delete(&name) {
        return Err(match request.identity {
            Identity::Anonymous | Identity::Local(_) => AdminError::NeedsLogin,
            Identity::User(_) => AdminError::Denied("This user may not delete in this repository."),
        });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        let row = |number| Row {
            tag: worst_case::tag(number).to_string(),
            short: short_digest(&worst_case::digest()),
            digest: worst_case::digest().to_string(),
            others: others(1_000_000),
        };
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            name: worst_case::name(0).to_string(),
            tags: (0..ROWS).map(row).collect(),
            summary: count(ROWS, "tag"),
            more: 1_000_000,
        });
    }
}
