//! A repository: its tags, with the attachments of each image, and its manifests without a tag.

use askama::Template;

use super::about::{About, about};
use super::artifact::Badges;
use super::error::AdminError;
use super::format::{When, short_digest, whole_size};
use super::limits::{NAME, html_bytes, shorten};
use super::pager::{ListView, Pager, Sorting};
use super::pages::{Frame, render};
use super::pull_command::{PullCommand, Pulled, pull_commands};
use super::request::AdminRequest;
use super::response::OK;
use super::untagged;
use crate::access::Action;
use crate::base::human::{count, day};
use crate::oci::RepositoryName;
use crate::store::{ListQuery, TagOrder, TagOverview};
use crate::wire::Response;

/// The tags on a page. A tag occurs four times in a row, the name of the repository once.
const ROWS: usize = 16;
/// The length of the platforms that a row shows, in bytes of HTML; the page of the image has all.
const PLATFORMS: usize = 110;
/// The bytes of HTML around a platform.
const AROUND: usize = "<span class=\"nowrap\"></span>, ".len();

#[derive(Template)]
#[template(path = "repository.html")]
struct Page {
    frame: Frame,
    name: String,
    about: About,
    /// The reference of an image up to `:TAG`.
    image: String,
    /// The commands that pull the first tag of the list.
    pulls: Vec<PullCommand>,
    search: String,
    sort: &'static str,
    direction: &'static str,
    /// The columns that sort the list: tag and time of the push.
    by_tag: Sorting,
    by_pushed: Sorting,
    tags: Vec<Row>,
    /// The day on which a delete removed the last name, if the manifests only wait for a collection.
    emptied: Option<String>,
    summary: String,
    may_delete: bool,
    pager: Pager,
}

struct Row {
    tag: String,
    digest: String,
    short: String,
    /// The platforms of an image, or the type of an artifact.
    platforms: Vec<String>,
    more_platforms: usize,
    badges: Badges,
    size: String,
    created: Option<When>,
    pushed: When,
    /// The number of other tags with the same digest.
    others: usize,
}

/// Shows the tags, or with `?tab=untagged` the manifests without a tag.
pub(super) async fn show(request: &AdminRequest<'_>, name: &RepositoryName) -> Result<Response, AdminError> {
    request.check(Action::Pull, name)?;
    if request.query.get("tab") == Some("untagged") {
        return untagged::show(request, name).await;
    }
    let store = &request.admin.store;
    let mut view = ListView::new(&request.query, ("pushed", TagOrder::Pushed), &[("name", TagOrder::Name)]);
    // The newest first, unless a column header was chosen.
    if request.query.get("dir").is_none() {
        view.descending = view.order == TagOrder::Pushed;
    }
    let listing = store.tags_overview(name, view.list_query(ROWS)).await?;
    let newest = ListQuery { order: TagOrder::Pushed, descending: true, limit: 1, ..ListQuery::default() };
    let newest = store.tags_overview(name, newest).await?.items;
    let about = match newest.first() {
        Some(newest) => about(request, name, &newest.entry).await?,
        None => About::default(),
    };
    let image = format!("{}/{name}", request.display_host());
    let emptied = if newest.is_empty() { store.emptied(name).await? } else { None };
    let damage = store.known_damage().await?;
    let [by_tag, by_pushed] = sortings(&view.search, (view.sort, view.descending));
    let page = Page {
        frame: Frame::new(request, "repositories"),
        name: name.to_string(),
        about,
        pulls: listing.items.first().map(|first| pulls(&image, first)).unwrap_or_default(),
        image,
        by_tag,
        by_pushed,
        tags: listing.items.iter().map(|tag| row(tag, damage.is_of(name, &tag.entry.digest))).collect(),
        emptied: emptied.map(day),
        summary: count(listing.total, "tag"),
        may_delete: request.may_delete(name),
        pager: view.pager(ROWS, listing.total, "")?,
        sort: view.sort,
        direction: view.direction(),
        search: view.search,
    };
    render(OK, &page)
}

fn pulls(image: &str, tag: &TagOverview) -> Vec<PullCommand> {
    let pulled = Pulled::of(tag.summary.artifact.as_deref());
    pull_commands(image, &format!(":{}", tag.tag), pulled, &tag.attached)
}

fn sortings(search: &str, active: (&str, bool)) -> [Sorting; 2] {
    [("Tag", "name", false), ("Pushed", "pushed", true)]
        .map(|column| Sorting::new(column, "", search, active))
}

fn row(tag: &TagOverview, is_damaged: bool) -> Row {
    let summary = &tag.summary;
    let all = summary.artifact.as_ref().map_or(&summary.platforms[..], std::slice::from_ref);
    let (platforms, more_platforms) = shown_platforms(all);
    Row {
        tag: tag.tag.to_string(),
        digest: tag.entry.digest.to_string(),
        short: short_digest(&tag.entry.digest),
        platforms,
        more_platforms,
        badges: Badges::of(&tag.attached, is_damaged),
        size: whole_size(tag.size),
        created: summary.created.as_deref().and_then(When::parse),
        pushed: When::at(tag.entry.pushed),
        others: tag.shared.saturating_sub(1),
    }
}

/// Returns the first platforms, as many as fit in a row, and the number of others.
fn shown_platforms(all: &[String]) -> (Vec<String>, usize) {
    let (mut shown, mut used) = (Vec::new(), 0);
    for platform in all {
        let text = shorten(platform, NAME);
        // Only characters that take five bytes make it longer than its text.
        used += html_bytes(&text) + if shown.is_empty() { 0 } else { AROUND };
        if !shown.is_empty() && used > PLATFORMS {
            break;
        }
        shown.push(text);
    }
    let more = all.len() - shown.len();
    (shown, more)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::worst_case;
    use super::*;
    use crate::oci::{Attachment, MediaType, Signer};
    use crate::store::{ManifestEntry, Summary, TotalSize};

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let kinds = [
                Attachment::Signature(Signer::Cosign),
                Attachment::Signature(Signer::Notation),
                Attachment::Sbom,
                Attachment::Provenance,
                Attachment::Attestation,
            ];
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
                    attached: Vec::new(),
                }),
                attached: kinds.into(),
            };
            let (name, search) = (worst_case::name(0).to_string(), "\"".repeat(128));
            let image = format!("{}/{name}", "h".repeat(260));
            let parameters = [("q", search.as_str()), ("sort", "pushed"), ("dir", "down")];
            let [by_tag, by_pushed] = sortings(&search, ("pushed", true));
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                about: About::longest(&text),
                pulls: pulls(&image, &tag(0)),
                image,
                sort: "pushed",
                direction: "down",
                by_tag,
                by_pushed,
                tags: (0..ROWS).map(|number| row(&tag(number), true)).collect(),
                emptied: Some(day(0)),
                summary: count(1_000_000_u64, "tag"),
                may_delete: true,
                pager: Pager::new(500, ROWS, 1_000_000, "", &parameters),
                search,
                name,
            });
        }
    }
}
