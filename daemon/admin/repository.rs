//! A repository: its tags.

use askama::Template;

use super::OK;
use super::budget::{Budget, Row as Measured};
use super::error::AdminError;
use super::pages::{Frame, Pager, Sorting, render, searched};
use super::visit::Visit;
use super::words::{When, count, shell, short, whole_size};
use crate::access::Action;
use crate::oci::RepositoryName;
use crate::store::{Fit, Part, TagOrder, TagOverview};
use crate::wire::Response;

/// How many tags are on a page.
const PAGE: usize = 40;
/// How many bytes of HTML there are for them, and how many of a row are neither names nor of strangers.
const ROOM: usize = 34_000;
const ROW: usize = 680;
/// What a row has for its platforms at least.
const PLATFORMS: usize = 60;

#[derive(Template)]
#[template(path = "repository.html")]
struct Page {
    frame: Frame,
    name: String,
    /// What stands before `:TAG` in a pull.
    image: String,
    /// How the first of them is pulled.
    pull: Option<String>,
    search: String,
    sort: &'static str,
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
    fixed: usize,
}

pub(super) async fn show(visit: &Visit<'_>, name: &RepositoryName) -> Result<Response, AdminError> {
    visit.check(Action::Pull, name)?;
    let search = searched(&visit.query);
    let (sort, order) = match visit.query.get("sort") {
        Some("pushed") => ("pushed", TagOrder::Pushed),
        _ => ("name", TagOrder::Name),
    };
    let descending = visit.query.get("dir") == Some("down");
    let page = Pager::wanted(&visit.query);
    let fit = Some(Fit { bytes: ROOM, each: ROW + name.as_str().len() + PLATFORMS, names: 4 });
    let search_for = search.clone();
    let part = Part { search: search_for, order, descending, page: page - 1, limit: PAGE, fit };
    let listing = visit.admin.store.tags_overview(name, part).await?;
    let direction = if descending { "down" } else { "up" };
    let path = format!("/repository/{name}");
    let parameters = [("q", search.as_str()), ("sort", sort), ("dir", direction)];
    let sortings = [("Tag", "name", false), ("Pushed", "pushed", true)];
    let image = format!("{}/{name}", visit.host);
    let rows = listing.items.iter().map(|one| row(name, one)).collect();
    let page = Page {
        frame: Frame::new(visit, "repositories"),
        name: name.to_string(),
        pull: listing.items.first().map(|one| shell(&format!("{image}:{}", one.tag))),
        image,
        sortings: sortings
            .into_iter()
            .map(|sorting| Sorting::new(sorting, &path, &search, (sort, descending)))
            .collect(),
        tags: Budget::default().show(ROOM, rows, 0).rows,
        summary: count(listing.total as u64, "tag"),
        may_delete: may_delete(visit, name),
        pager: Pager::new(page, listing.size, listing.total, &path, &parameters),
        sort,
        direction,
        search,
    };
    render(OK, &page)
}

/// Whether this visit may delete in a repository, here.
pub(super) fn may_delete(visit: &Visit, name: &RepositoryName) -> bool {
    visit.admin.settings.delete && visit.check(Action::Delete, name).is_ok()
}

impl Measured for Row {
    fn fixed(&self) -> usize {
        self.fixed
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.what]
    }
}

fn row(name: &RepositoryName, one: &TagOverview) -> Row {
    let summary = &one.summary;
    let what = summary.artifact.clone().unwrap_or_else(|| summary.platforms.join(", "));
    Row {
        tag: one.tag.to_string(),
        digest: one.entry.digest.to_string(),
        short: short(&one.entry.digest),
        what,
        size: whole_size(one.size),
        created: summary.created.as_deref().and_then(When::parse),
        pushed: When::at(one.entry.pushed),
        others: one.shared.saturating_sub(1),
        fixed: ROW + name.as_str().len() + 4 * one.tag.as_str().len(),
    }
}
