//! A repository: the list of its tags.

use askama::Template;

use super::error::AdminError;
use super::format::{When, shell_argument, short_digest, whole_size};
use super::limits::{NAME, shorten};
use super::pager::{ListView, Pager, Sorting};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::Action;
use crate::base::human::count;
use crate::oci::RepositoryName;
use crate::store::{TagOrder, TagOverview};
use crate::wire::Response;

/// The tags on a page. A tag occurs four times in a row, the name of the repository once.
const ROWS: usize = 20;

#[derive(Template)]
#[template(path = "repository.html")]
struct Page {
    frame: Frame,
    name: String,
    /// The reference of an image up to `:TAG`.
    image: String,
    /// The argument that pulls the first tag of the list.
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
    /// The platforms of an image, or the type of an artifact.
    platforms: String,
    size: String,
    created: Option<When>,
    pushed: When,
    /// The number of other tags with the same digest.
    others: usize,
}

/// Shows the tags.
pub(super) async fn show(request: &AdminRequest<'_>, name: &RepositoryName) -> Result<Response, AdminError> {
    request.check(Action::Pull, name)?;
    let view = ListView::new(&request.query, ("name", TagOrder::Name), &[("pushed", TagOrder::Pushed)]);
    let listing = request.admin.store.tags_overview(name, view.list_query(ROWS)).await?;
    let path = format!("/repository/{name}");
    let image = format!("{}/{name}", request.display_host());
    let page = Page {
        frame: Frame::new(request, "repositories"),
        name: name.to_string(),
        pull: listing.items.first().map(|first| shell_argument(&format!("{image}:{}", first.tag))),
        image,
        sortings: sortings(&path, &view.search, (view.sort, view.descending)),
        tags: listing.items.iter().map(row).collect(),
        summary: count(listing.total, "tag"),
        may_delete: request.may_delete(name),
        pager: view.pager(ROWS, listing.total, &path),
        sort: view.sort,
        direction: view.direction(),
        search: view.search,
    };
    render(OK, &page)
}

fn sortings(path: &str, search: &str, active: (&str, bool)) -> Vec<Sorting> {
    let columns = [("Tag", "name", false), ("Pushed", "pushed", true)];
    columns.into_iter().map(|column| Sorting::new(column, path, search, active)).collect()
}

fn row(tag: &TagOverview) -> Row {
    let summary = &tag.summary;
    let platforms = summary.artifact.clone().unwrap_or_else(|| summary.platforms.join(", "));
    Row {
        tag: tag.tag.to_string(),
        digest: tag.entry.digest.to_string(),
        short: short_digest(&tag.entry.digest),
        platforms: shorten(&platforms, NAME),
        size: whole_size(tag.size),
        created: summary.created.as_deref().and_then(When::parse),
        pushed: When::at(tag.entry.pushed),
        others: tag.shared.saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::worst_case;
    use super::*;
    use crate::oci::MediaType;
    use crate::store::{ManifestEntry, Summary, TotalSize};

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let tag = |number| TagOverview {
                tag: worst_case::tag(number),
                entry: ManifestEntry {
                    digest: worst_case::digest(),
                    size: u64::MAX,
                    media_type: MediaType::OCI_INDEX.parse().unwrap(),
                    pushed: 0,
                },
                shared: 1_000_000,
                size: TotalSize { bytes: u64::MAX, is_more: true },
                summary: Arc::new(Summary {
                    platforms: vec![text.clone(); 16],
                    created: Some("2001-01-01T00:00:00Z".into()),
                    artifact: None,
                }),
            };
            let (name, search) = (worst_case::name(0).to_string(), "\"".repeat(128));
            let (path, image) = (format!("/repository/{name}"), format!("{}/{name}", "h".repeat(260)));
            let parameters = [("q", search.as_str()), ("sort", "pushed"), ("dir", "down")];
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                pull: Some(format!("'{image}:{}'", worst_case::tag(0))),
                image,
                sort: "pushed",
                direction: "down",
                sortings: sortings(&path, &search, ("pushed", true)),
                tags: (0..ROWS).map(|number| row(&tag(number))).collect(),
                summary: count(1_000_000_u64, "tag"),
                may_delete: true,
                pager: Pager::new(500, ROWS, 1_000_000, &path, &parameters),
                search,
                name,
            });
        }
    }
}
