//! A repository: its tags.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, Sorting, render};
use super::visit::Visit;
use super::words::{When, count, short, size};
use crate::access::Action;
use crate::oci::RepositoryName;
use crate::store::{Part, TagOrder, TagOverview};
use crate::wire::Response;

/// How many tags are on a page.
const PAGE: usize = 40;

#[derive(Template)]
#[template(path = "repository.html")]
struct Page {
    frame: Frame,
    name: String,
    /// What stands before `:TAG` in a pull.
    image: String,
    search: String,
    sort: String,
    direction: &'static str,
    sortings: Vec<Sorting>,
    tags: Vec<Row>,
    summary: String,
    may_delete: bool,
    pager: Pager,
}

struct Row {
    tag: String,
    digest: String,
    short: String,
    what: String,
    size: String,
    created: Option<When>,
    pushed: When,
    /// How many other tags name the same.
    others: usize,
}

pub(super) async fn show(visit: &Visit<'_>, name: &RepositoryName) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let search = visit.query.get("q").unwrap_or_default().trim().to_owned();
    let sort = visit.query.get("sort").unwrap_or("name");
    let order = if sort == "pushed" { TagOrder::Pushed } else { TagOrder::Name };
    let descending = visit.query.get("dir") == Some("down");
    let page = Pager::wanted(&visit.query);
    let part = Part { search: search.clone(), order, descending, skip: (page - 1) * PAGE, limit: PAGE };
    let listing = visit.admin.store.tags_overview(name, part).await?;
    let direction = if descending { "down" } else { "up" };
    let path = format!("/repository/{name}");
    let parameters = [("q", search.as_str()), ("sort", sort), ("dir", direction)];
    let sortings = [("Tag", "name", false), ("Pushed", "pushed", true)];
    let page = Page {
        frame: Frame::new(visit, "repositories"),
        name: name.to_string(),
        image: format!("{}/{name}", visit.host),
        sortings: sortings
            .into_iter()
            .map(|sorting| Sorting::new(sorting, &path, &search, (sort, descending)))
            .collect(),
        tags: listing.items.iter().map(row).collect(),
        summary: count(listing.total as u64, "tag"),
        may_delete: may_delete(visit, name),
        pager: Pager::new(page, PAGE, listing.total, &path, &parameters),
        sort: sort.to_owned(),
        direction,
        search,
    };
    render(OK, &page)
}

/// Whether this visit may delete in a repository, here.
pub(super) fn may_delete(visit: &Visit, name: &RepositoryName) -> bool {
    visit.admin.settings.delete && visit.check(Action::Delete, name).is_ok()
}

fn row(one: &TagOverview) -> Row {
    let summary = &one.summary;
    let what = summary.artifact.clone().unwrap_or_else(|| summary.platforms.join(", "));
    Row {
        tag: one.tag.to_string(),
        digest: one.entry.digest.to_string(),
        short: short(&one.entry.digest),
        what,
        size: size(one.bytes),
        created: summary.created.as_deref().and_then(When::parse),
        pushed: When::at(one.entry.pushed),
        others: one.shared.saturating_sub(1),
    }
}
