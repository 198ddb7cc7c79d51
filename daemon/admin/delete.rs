//! Deleting tags, after a question that names them.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, render};
use super::repository::may_delete;
use super::visit::{Visit, see_other};
use super::words::{count, short};
use crate::access::{Action, Identity};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::wire::{Deed, Event, Query, Response};

/// How many tags one question has at the most, so that its page stays small whatever they are called.
pub(super) const MOST: usize = 40;

#[derive(Template)]
#[template(path = "delete.html")]
struct Page {
    frame: Frame,
    name: String,
    tags: Vec<Row>,
    summary: String,
    /// How many more were selected.
    more: usize,
}

struct Row {
    tag: String,
    short: String,
    digest: String,
    /// What becomes of the image.
    rest: String,
}

pub(super) async fn ask(visit: &Visit<'_>) -> Result<Response, AdminError> {
    let name = repository(visit, &visit.query)?;
    let mut tags: Vec<Tag> = visit.query.all("tag").filter_map(|tag| tag.parse().ok()).collect();
    let more = tags.len().saturating_sub(MOST);
    tags.truncate(MOST);
    let named = visit.admin.store.tags_named(&name, tags).await?;
    if named.is_empty() {
        return Err(AdminError::Invalid("No tag is selected that is there. Go back and select some.".into()));
    }
    let rows = named.iter().map(|(tag, entry, shared)| {
        let same = named.iter().filter(|(_, other, _)| other.digest == entry.digest).count();
        let rest = match shared.saturating_sub(same) {
            0 => "no other tag names this image".to_owned(),
            1 => "1 other tag of the same image stays".to_owned(),
            others => format!("{} of the same image stay", count(others as u64, "other tag")),
        };
        Row { tag: tag.to_string(), short: short(&entry.digest), digest: entry.digest.to_string(), rest }
    });
    let rows: Vec<Row> = rows.collect();
    let summary = count(rows.len() as u64, "tag");
    let frame = Frame::new(visit, "repositories");
    render(OK, &Page { frame, name: name.to_string(), tags: rows, summary, more })
}

pub(super) async fn delete(visit: &Visit<'_>) -> Result<Response, AdminError> {
    let name = repository(visit, &visit.form)?;
    let (tags, unsure) = shown(&visit.form);
    let (deleted, moved) = visit.admin.store.delete_tags(&name, tags).await?;
    for tag in &deleted {
        let (user, client) = (visit.identity.to_string(), visit.surroundings.client);
        log::info!(client:% = client, repository = name.as_str(), user = user.as_str(); "deleted {tag} of {name}");
        visit.admin.desk.events.note(Event::now(Deed::Deleted, user, client, name.clone(), tag.to_string()));
    }
    let is_there = visit.admin.store.has_repository(&name)?;
    let path = if is_there { format!("/repository/{name}") } else { "/repositories".into() };
    let moved = match moved + unsure {
        0 => String::new(),
        moved => format!("&moved={moved}"),
    };
    Ok(see_other(&format!("{path}?done=deleted&count={}{moved}", deleted.len())))
}

/// The tags of a form, each with the digest that the question showed beside it, and how many have none: which image
/// they were about nobody can say.
fn shown(form: &Query) -> (Vec<(Tag, Digest)>, usize) {
    let all: Vec<&str> = form.all("tag").take(MOST).collect();
    let pair = |text: &&str| {
        let (tag, digest) = text.split_once('@')?;
        Some((tag.parse().ok()?, digest.parse().ok()?))
    };
    let tags: Vec<(Tag, Digest)> = all.iter().filter_map(pair).collect();
    let unsure = all.len() - tags.len();
    (tags, unsure)
}

/// The repository that is meant, if tags of it may be deleted here.
fn repository(visit: &Visit, from: &Query) -> Result<RepositoryName, AdminError> {
    let name = from.get("name").unwrap_or_default().parse::<RepositoryName>();
    let name = name.map_err(|error| AdminError::Invalid(format!("This is no repository: {error}.")))?;
    if !visit.admin.settings.delete {
        return Err(AdminError::Denied(
            "Deleting is switched off (admin.delete, storage.delete or registry.read_only).",
        ));
    }
    visit.check(Action::Pull, &name)?;
    if !may_delete(visit, &name) {
        return Err(match visit.identity {
            Identity::Anonymous => AdminError::NeedsLogin,
            Identity::User(_) => AdminError::Denied("This user may not delete in this repository."),
        });
    }
    Ok(name)
}
