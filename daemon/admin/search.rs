//! The search over all repositories and tags that the user may pull.

use askama::Template;

use super::error::AdminError;
use super::format::short_digest;
use super::limits::{NAME, shorten};
use super::pager::{Pager, search_text};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::Action;
use crate::base::human::count;
use crate::store::{FoundNames, NameQuery, RepositoryOverview};
use crate::wire::Response;

/// The repositories, and the tags, on a page.
const ROWS: usize = 20;
/// The maximum number of names that a search reads.
const NAMES: usize = 200_000;
const PATH: &str = "/search";

#[derive(Template)]
#[template(path = "search.html")]
struct Page {
    frame: Frame,
    repositories: Vec<Found>,
    /// The number of repositories that are not on the page.
    more: usize,
    tags: Vec<Row>,
    summary: String,
    /// The number of names after which the search stopped.
    stopped: Option<usize>,
    pager: Pager,
}

/// A repository, and a description of its tags.
struct Found {
    name: String,
    /// The name as far as it is shown.
    label: String,
    tags: String,
}

struct Row {
    repository: String,
    tag: String,
    short: String,
}

/// Shows the names that the text of the query finds.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let permit = request.permit()?;
    let text = search_text(&request.query);
    let page = Pager::wanted(&request.query);
    let found = if text.is_empty() {
        FoundNames { is_complete: true, ..FoundNames::default() }
    } else {
        let query = NameQuery::parse(&text, page - 1, ROWS, NAMES);
        request.admin.store.search_names(query, move |name| permit.may(Action::Pull, name)).await?
    };
    let frame = Frame { searched: text, ..Frame::new(request, "search") };
    let results = results(frame, &found, page);
    results.pager.check_page(page)?;
    render(OK, &results)
}

fn results(frame: Frame, found: &FoundNames, page: usize) -> Page {
    let row = |one: &crate::store::FoundTag| Row {
        repository: one.repository.to_string(),
        tag: one.tag.to_string(),
        short: short_digest(&one.digest),
    };
    let repository = |one: &RepositoryOverview| Found {
        name: one.name.to_string(),
        label: shorten(one.name.as_str(), NAME),
        tags: one.describe_tags(),
    };
    let (repositories, tags) = (found.repositories_total, found.tags_total);
    Page {
        repositories: found.repositories.iter().map(repository).collect(),
        more: repositories - found.repositories.len(),
        tags: found.tags.iter().map(row).collect(),
        summary: format!("{}, {}", count(repositories, "repository"), count(tags, "tag")),
        stopped: (!found.is_complete).then_some(NAMES),
        pager: Pager::new(page, ROWS, tags, PATH, &[("q", &frame.searched)]),
        frame,
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;
    use crate::store::FoundTag;

    #[test]
    fn largest_page_is_small() {
        let tag = |number| FoundTag {
            repository: worst_case::name(number),
            tag: worst_case::tag(number),
            digest: worst_case::digest(),
        };
        let repository = |number| RepositoryOverview {
            name: worst_case::name(number),
            manifests: u32::MAX,
            tags: 0,
            bytes: u64::MAX,
            pushed: 0,
            emptied: Some(0),
        };
        let found = FoundNames {
            repositories: (0..ROWS).map(repository).collect(),
            repositories_total: 1_000_000,
            tags: (0..ROWS).map(tag).collect(),
            tags_total: 1_000_000,
            is_complete: false,
        };
        worst_case::assert_small(&results(worst_case::frame(), &found, 500));
    }
}
