//! The list of repositories.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, Sorting, render};
use super::tree::{self, Line};
use super::visit::Visit;
use super::words::{count, size};
use crate::access::Action;
use crate::store::{Part, RepositoryOrder};
use crate::wire::Response;

/// How many repositories are on a page.
const PAGE: usize = 80;
const PATH: &str = "/repositories";

#[derive(Template)]
#[template(path = "repositories.html")]
struct Page {
    frame: Frame,
    search: String,
    sort: String,
    direction: &'static str,
    sortings: Vec<Sorting>,
    lines: Vec<Line>,
    summary: String,
    pager: Pager,
}

pub(super) async fn show(visit: &Visit<'_>) -> Result<Response, AdminError> {
    let permit = visit.permit()?;
    let search = visit.query.get("q").unwrap_or_default().trim().to_owned();
    let sort = visit.query.get("sort").unwrap_or("name");
    let order = match sort {
        "size" => RepositoryOrder::Size,
        "tags" => RepositoryOrder::Tags,
        "pushed" => RepositoryOrder::Pushed,
        _ => RepositoryOrder::Name,
    };
    let descending = visit.query.get("dir") == Some("down");
    let page = Pager::wanted(&visit.query);
    let part = Part { search: search.clone(), order, descending, skip: (page - 1) * PAGE, limit: PAGE };
    let lists = visit.admin.store.repositories_overview(part, move |name| permit.may(Action::Pull, name));
    let (listing, namespaces) = lists.await?;
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
        summary: format!("{}, {}", count(listing.total as u64, "repository"), size(listing.bytes)),
        pager: Pager::new(page, PAGE, listing.total, PATH, &parameters),
        sort: sort.to_owned(),
        direction,
        search,
    };
    render(OK, &page)
}
