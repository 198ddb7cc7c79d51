//! The list of repositories: a tree of namespaces, or a table in another order.

use askama::Template;

use super::error::AdminError;
use super::pager::{ListView, Pager, Sorting};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use super::tree::{self, Line};
use crate::base::human::{count, size};
use crate::store::{Repositories, RepositoryOrder};
use crate::wire::Response;

/// The repositories on a page.
const ROWS: usize = 38;
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
    let visible = request.visible()?;
    let orders = [
        ("size", RepositoryOrder::Size),
        ("tags", RepositoryOrder::Tags),
        ("pushed", RepositoryOrder::Pushed),
    ];
    let view = ListView::new(&request.query, ("name", RepositoryOrder::Name), &orders);
    let store = &request.admin.store;
    let listed = store.repositories_overview(view.list_query(ROWS), visible);
    let Repositories { listing, namespaces, bytes, .. } = listed.await?;
    let damage = store.known_damage().await?;
    let page = Page {
        frame: Frame::new(request, "repositories"),
        sortings: sortings(&view.search, (view.sort, view.descending)),
        lines: match view.order {
            RepositoryOrder::Name => tree::lines(&listing.items, &namespaces, &damage),
            RepositoryOrder::Size | RepositoryOrder::Tags | RepositoryOrder::Pushed => {
                tree::flat(&listing.items, &damage)
            }
        },
        summary: format!("{}, {}", count(listing.total, "repository"), size(bytes)),
        pager: view.pager(ROWS, listing.total, PATH)?,
        sort: view.sort,
        direction: view.direction(),
        search: view.search,
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
    use crate::store::{KnownDamage, NamespaceCount, RepositoryOverview};

    /// Each pair of repositories has namespaces of its own, as many as the tree shows, with the longest names.
    #[test]
    fn largest_page_is_small() {
        let (mut items, mut namespaces) = (Vec::new(), BTreeMap::new());
        for number in 0..ROWS {
            let deep = format!("{:03}{}/x/x/x/", number / 2, "n".repeat(241));
            let name = format!("{deep}{}", number % 2);
            for (at, _) in deep.match_indices('/') {
                let most = NamespaceCount { count: 1_000_000, is_more: true };
                namespaces.insert(deep[..=at].to_owned(), most);
            }
            let (name, tags) = (name.parse().unwrap(), u32::MAX);
            items.push(RepositoryOverview {
                name,
                manifests: 1,
                tags,
                bytes: u64::MAX,
                pushed: 0,
                emptied: None,
            });
        }
        let search = "\"".repeat(128);
        let parameters = [("q", search.as_str()), ("sort", "pushed"), ("dir", "down")];
        let none = KnownDamage::default();
        let damaged = |mut lines: Vec<Line>| {
            for line in &mut lines {
                if let Line::Repository(row) = line {
                    row.is_damaged = true;
                }
            }
            lines
        };
        for lines in [tree::lines(&items, &namespaces, &none), tree::flat(&items, &none)].map(damaged) {
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
