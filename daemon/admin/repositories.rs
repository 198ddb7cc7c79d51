//! The list of repositories.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, Sorting, render, searched};
use super::tree::{self, Line};
use super::visit::Visit;
use super::words::{count, size};
use crate::access::Action;
use crate::store::{Fit, Part, Repositories, RepositoryOrder};
use crate::wire::Response;

/// How many repositories are on a page.
const PAGE: usize = 80;
/// How many bytes of HTML there are for them: a name stands in a link, beside it, and in the namespaces around it.
const FIT: Fit = Fit { bytes: 32_000, each: 240, names: 4 };
const PATH: &str = "/repositories";

#[derive(Template)]
#[template(path = "repositories.html")]
struct Page {
    frame: Frame,
    search: String,
    sort: &'static str,
    direction: &'static str,
    sortings: Vec<Sorting>,
    lines: Vec<Line>,
    summary: String,
    pager: Pager,
}

pub(super) async fn show(visit: &Visit<'_>) -> Result<Response, AdminError> {
    let permit = visit.permit()?;
    let search = searched(&visit.query);
    let (sort, order) = match visit.query.get("sort") {
        Some("size") => ("size", RepositoryOrder::Size),
        Some("tags") => ("tags", RepositoryOrder::Tags),
        Some("pushed") => ("pushed", RepositoryOrder::Pushed),
        _ => ("name", RepositoryOrder::Name),
    };
    let descending = visit.query.get("dir") == Some("down");
    let page = Pager::wanted(&visit.query);
    let (search_for, fit) = (search.clone(), Some(FIT));
    let part = Part { search: search_for, order, descending, page: page - 1, limit: PAGE, fit };
    let lists = visit.admin.store.repositories_overview(part, move |name| permit.may(Action::Pull, name));
    let Repositories { listing, namespaces, bytes, .. } = lists.await?;
    let is_tree = order == RepositoryOrder::Name;
    let direction = if descending { "down" } else { "up" };
    let parameters = [("q", search.as_str()), ("sort", sort), ("dir", direction)];
    let sortings = [
        ("Name", "name", false),
        ("Size", "size", true),
        ("Tags", "tags", true),
        ("Last push", "pushed", true),
    ];
    let page = Page {
        frame: Frame::new(visit, "repositories"),
        sortings: sortings
            .into_iter()
            .map(|sorting| Sorting::new(sorting, PATH, &search, (sort, descending)))
            .collect(),
        lines: if is_tree { tree::lines(&listing.items, &namespaces) } else { tree::flat(&listing.items) },
        summary: format!("{}, {}", count(listing.total as u64, "repository"), size(bytes)),
        pager: Pager::new(page, listing.size, listing.total, PATH, &parameters),
        sort,
        direction,
        search,
    };
    render(OK, &page)
}
