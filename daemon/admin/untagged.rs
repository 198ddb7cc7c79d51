//! The manifests of a repository without a tag, with the reason why each is kept; and their delete.

use askama::Template;

use super::delete::repository;
use super::error::AdminError;
use super::format::{When, short_digest, whole_size};
use super::pager::Pager;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::base::human::count;
use crate::oci::{Digest, RepositoryName};
use crate::store::{Delete, KeptUntagged, StoreError, Untagged};
use crate::wire::{Query, Response};

/// The manifests on a page.
const ROWS: usize = 20;

#[derive(Template)]
#[template(path = "untagged.html")]
struct Page {
    frame: Frame,
    name: String,
    rows: Vec<Row>,
    summary: String,
    may_delete: bool,
    pager: Pager,
}

struct Row {
    /// True for a part of another image, which could not be pulled without it.
    is_part: bool,
    digest: String,
    short: String,
    kind: &'static str,
    size: String,
    pushed: When,
    kept: Kept,
}

/// The reason why a manifest is kept, for the template.
enum Kept {
    With { verb: &'static str, digest: String, short: String },
    Until(When),
    Always,
}

#[derive(Template)]
#[template(path = "delete_untagged.html")]
struct Confirmation {
    frame: Frame,
    name: String,
    digests: Vec<String>,
    summary: String,
}

/// Shows the list.
pub(super) async fn show(request: &AdminRequest<'_>, name: &RepositoryName) -> Result<Response, AdminError> {
    let page = Pager::wanted(&request.query);
    let listing = request.admin.store.untagged(name, page - 1, ROWS).await?;
    let pager = Pager::new(page, ROWS, listing.total, "", &[("tab", "untagged")]);
    pager.check_page(page)?;
    let page = Page {
        frame: Frame::new(request, "repositories"),
        name: name.to_string(),
        rows: listing.items.iter().map(row).collect(),
        summary: count(listing.total, "manifest"),
        may_delete: request.may_delete(name),
        pager,
    };
    render(OK, &page)
}

fn row(one: &Untagged) -> Row {
    let with =
        |verb, digest: &Digest| Kept::With { verb, digest: digest.to_string(), short: short_digest(digest) };
    Row {
        is_part: matches!(one.kept, KeptUntagged::PartOf(_)),
        digest: one.entry.digest.to_string(),
        short: short_digest(&one.entry.digest),
        kind: if one.entry.media_type.is_index() { "Index" } else { "Manifest" },
        size: whole_size(one.size),
        pushed: When::at(one.entry.pushed),
        kept: match &one.kept {
            KeptUntagged::PartOf(digest) => with("Part of", digest),
            KeptUntagged::AttachedTo(digest) => with("Attached to", digest),
            KeptUntagged::Until(time) => Kept::Until(When::at(*time)),
            KeptUntagged::Always => Kept::Always,
        },
    }
}

/// Asks before manifests are deleted.
pub(super) fn confirm(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let name = repository(request, &request.query)?;
    let digests: Vec<String> = digests(&request.query).iter().map(Digest::to_string).collect();
    if digests.is_empty() {
        return Err(AdminError::Invalid("No manifest is selected. Go back and select manifests.".into()));
    }
    let summary = count(digests.len(), "manifest");
    let frame = Frame::new(request, "repositories");
    render(OK, &Confirmation { frame, name: name.to_string(), digests, summary })
}

/// Deletes the manifests of a confirmed form that have no tag meanwhile.
pub(super) async fn delete(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let (name, store) = (repository(request, &request.form)?, &request.admin.store);
    let (mut deleted, mut kept) = (0_u32, 0_u32);
    for digest in digests(&request.form) {
        let delete = Delete { repository: name.clone(), object: digest.clone(), origin: request.origin() };
        match store.delete_untagged_manifest(delete).await {
            Ok(true) => deleted += 1,
            Ok(false) | Err(StoreError::ContentKept { .. }) => {
                kept += 1;
                continue;
            }
            Err(StoreError::ManifestUnknown(_) | StoreError::NameUnknown(_)) => continue,
            Err(error) => return Err(error.into()),
        }
        let (user, client) = (request.identity.to_string(), request.context.client);
        log::info!(client:% = client, repository = name.as_str(), user = user.as_str(); "deleted {digest} of {name}");
    }
    let path = if store.has_repository(&name)? {
        format!("/repository/{name}?tab=untagged")
    } else {
        "/repositories".into()
    };
    Ok(request.see_result(&path, &format!("deleted-manifests&count={deleted}&moved={kept}")))
}

fn digests(from: &Query) -> Vec<Digest> {
    from.all("digest").take(ROWS).filter_map(|digest| digest.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;
    use crate::oci::MediaType;
    use crate::store::{ManifestEntry, TotalSize};

    #[test]
    fn largest_pages_are_small() {
        let one = || Untagged {
            entry: ManifestEntry {
                digest: worst_case::digest(),
                size: u64::MAX,
                media_type: MediaType::OCI_INDEX.parse().unwrap(),
                pushed: 0,
            },
            size: TotalSize { bytes: u64::MAX, is_more: true },
            kept: KeptUntagged::AttachedTo(worst_case::digest()),
        };
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            name: worst_case::name(0).to_string(),
            rows: (0..ROWS).map(|_| row(&one())).collect(),
            summary: count(1_000_000_u64, "manifest"),
            may_delete: true,
            pager: Pager::new(500, ROWS, 1_000_000, "", &[("tab", "untagged")]),
        });
        worst_case::assert_small(&Confirmation {
            frame: worst_case::frame(),
            name: worst_case::name(0).to_string(),
            digests: vec![worst_case::digest().to_string(); ROWS],
            summary: count(ROWS, "manifest"),
        });
    }
}
