//! The list of repositories: a tree of namespaces, or a table in another order.

use askama::Template;

use super::error::AdminError;
use super::pager::{Pager, Sorting, search_text};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use super::tree::{self, Line};
use crate::access::Action;
use crate::base::human::{count, size};
use crate::store::{ListQuery, Repositories, RepositoryOrder};
use crate::wire::Response;

/// The repositories on a page.
const ROWS: usize = 40;
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

/// Shows the repositories that the user may pull from.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let permit = request.permit()?;
    let search = search_text(&request.query);
    let (sort, order) = match request.query.get("sort") {
        Some("size") => ("size", RepositoryOrder::Size),
        Some("tags") => ("tags", RepositoryOrder::Tags),
        Some("pushed") => ("pushed", RepositoryOrder::Pushed),
        _ => ("name", RepositoryOrder::Name),
    };
    let descending = request.query.get("dir") == Some("down");
    let page = Pager::wanted(&request.query);
    let part = ListQuery {
        search: search.clone(),
        order,
        descending,
        page: page - 1,
        limit: ROWS,
        ..ListQuery::default()
    };
    let store = &request.admin.store;
    let listed = store.repositories_overview(part, move |name| permit.may(Action::Pull, name));
    let Repositories { listing, namespaces, bytes, .. } = listed.await?;
    let direction = if descending { "down" } else { "up" };
    let parameters = [("q", search.as_str()), ("sort", sort), ("dir", direction)];
    let page = Page {
        frame: Frame::new(request, "repositories"),
        sortings: sortings(&search, (sort, descending)),
        lines: match order {
            RepositoryOrder::Name => tree::lines(&listing.items, &namespaces),
            RepositoryOrder::Size | RepositoryOrder::Tags | RepositoryOrder::Pushed => {
                tree::flat(&listing.items)
            }
        },
        summary: format!("{}, {}", count(listing.total, "repository"), size(bytes)),
        pager: Pager::new(page, listing.size, listing.total, PATH, &parameters),
        sort,
        direction,
        search,
    };
    render(OK, &page)
}

fn sortings(search: &str, active: (&str, bool)) -> Vec<Sorting> {
    let columns = [
        ("Name", "name", false),
        ("Size", "size", true),
        ("Tags", "tags", true),
        ("Last push", "pushed", true),
    ];
    columns.into_iter().map(|column| Sorting::new(column, PATH, search, active)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::worst_case;
    use super::*;
    use crate::store::RepositoryOverview;

    /// Each pair of repositories has namespaces of its own, as many as the tree shows, with the longest names.
    #[test]
    fn largest_page_is_small() {
        let (mut items, mut namespaces) = (Vec::new(), BTreeMap::new());
        for number in 0..ROWS {
            let deep = format!("{:03}{}/x/x/x/", number / 2, "n".repeat(241));
            let name = format!("{deep}{}", number % 2);
            for (at, _) in deep.match_indices('/') {
                namespaces.insert(deep[..=at].to_owned(), 1_000_000);
            }
            let (name, tags) = (name.parse().unwrap(), u32::MAX);
            items.push(RepositoryOverview { name, manifests: 1, tags, bytes: u64::MAX, pushed: 0 });
        }
        let search = "\"".repeat(128);
        let parameters = [("q", search.as_str()), ("sort", "pushed"), ("dir", "down")];
        for lines in [tree::lines(&items, &namespaces), tree::flat(&items)] {
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                sort: "pushed",
                direction: "down",
                sortings: sortings(&search, ("name", true)),
                lines,
                summary: "1000000 repositories, 1023.9 GiB".into(),
                pager: Pager::new(500, ROWS, 1_000_000, PATH, &parameters),
                search: search.clone(),
            });
        }
    }
}
