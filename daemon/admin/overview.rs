//! The first page: how the registry and its disk are.

use askama::Template;

use super::error::AdminError;
use super::pages::{Frame, render};
use super::visit::Visit;
use super::warnings::{self, Warning};
use super::words::{self, When, size};
use super::{Certificate, OK};
use crate::access::{Action, Permit, Wanted};
use crate::store::{Counts, Overview, Part, Repositories, RepositoryOrder, RunningUpload};
use crate::wire::Response;

/// How many of the biggest repositories are shown, and how many uploads.
const BIGGEST: usize = 5;
const UPLOADS: usize = 20;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    warnings: Vec<Warning>,
    disk: Vec<Segment>,
    sums: Sums,
    biggest: Vec<Bar>,
    uploads: Vec<Upload>,
    more_uploads: usize,
    /// Whether this is somebody who may see how everything is.
    keeps: bool,
    collected: Option<(When, String)>,
    certificate: Option<Shown>,
    uptime: String,
    requests: usize,
    logged_in: Option<usize>,
}

/// How much there is, of what one may see.
struct Sums {
    repositories: u64,
    tags: u64,
    manifests: u64,
    stored: String,
}

/// A part of the disk, in the picture and under it.
struct Segment {
    class: &'static str,
    name: &'static str,
    size: String,
    /// Where it begins and how wide it is, of 1000.
    from: u64,
    width: u64,
}

/// A repository as a bar of 1000.
struct Bar {
    name: String,
    size: String,
    width: u64,
}

struct Upload {
    name: String,
    text: String,
    /// How far it is, of 100, where that is known.
    percent: Option<u64>,
}

struct Shown {
    is_own: bool,
    until: Option<When>,
}

pub(super) async fn show(visit: &Visit<'_>) -> Result<Response, AdminError> {
    let permit = visit.permit()?;
    let store = visit.admin.store.overview().await?;
    let may_pull = permit.clone();
    let part = Part { order: RepositoryOrder::Size, descending: true, limit: BIGGEST, ..Part::default() };
    let lists = visit.admin.store.repositories_overview(part, move |name| may_pull.may(Action::Pull, name));
    let seen = lists.await?;
    let biggest = &seen.listing.items;
    let largest = biggest.first().map_or(1, |one| one.bytes.max(1));
    let bars = biggest.iter().map(|one| Bar {
        name: one.name.to_string(),
        size: size(one.bytes),
        width: share(one.bytes, largest),
    });
    let frame = Frame::new(visit, "overview");
    let logged_in =
        if frame.users { Some(visit.access.logged_in(&visit.admin.desk.sessions).await) } else { None };
    let keeps = visit.may(&Wanted::Upkeep);
    let uploads = uploads(&store, &permit, keeps);
    let opens_by_itself = visit.access.is_open_by_itself().await;
    let page = Page {
        frame,
        warnings: warnings::all(visit, &store, keeps, opens_by_itself),
        disk: disk(&store, keeps),
        sums: if keeps { sums_of_all(&store) } else { sums(&seen) },
        biggest: bars.collect(),
        more_uploads: uploads.len().saturating_sub(UPLOADS),
        uploads: uploads.into_iter().take(UPLOADS).map(|one| upload(one, &permit)).collect(),
        keeps,
        collected: store.collected.filter(|_| keeps).map(|one| (When::at(one.at), freed(&one.report))),
        certificate: visit.surroundings.certificate.as_ref().map(certificate),
        uptime: words::duration(visit.admin.desk.began.elapsed()),
        requests: visit.surroundings.requests,
        logged_in,
    };
    render(OK, &page)
}

/// What a collection has freed, in a line.
pub(super) fn freed(report: &crate::store::Report) -> String {
    if !report.did_something() {
        return "there was nothing to free".into();
    }
    let bytes = report.freed_blobs.bytes + report.freed_uploads.bytes;
    let images = words::count(report.freed_manifests, "image");
    let blobs = words::count(report.freed_blobs.count, "blob");
    let mut text = format!("{} freed: {images}, {blobs}", size(bytes));
    for (number, noun) in [(report.freed_tags, "tag"), (report.freed_uploads.count, "upload")] {
        if number > 0 {
            text += &format!(", {}", words::count(number, noun));
        }
    }
    text
}

fn sums_of_all(store: &Overview) -> Sums {
    let Counts { repositories, tags, manifests, bytes, .. } = store.counts;
    Sums { repositories, tags, manifests, stored: size(bytes) }
}

fn sums(seen: &Repositories) -> Sums {
    let repositories = u64::try_from(seen.listing.total).unwrap_or(u64::MAX);
    Sums { repositories, tags: seen.tags, manifests: seen.manifests, stored: size(seen.bytes) }
}

/// The uploads that somebody may see: whoever does the upkeep sees also those of which nobody knows the repository.
fn uploads<'a>(store: &'a Overview, permit: &Permit, keeps: bool) -> Vec<&'a RunningUpload> {
    let seen = |one: &&RunningUpload| {
        keeps || one.repository.as_ref().is_some_and(|name| permit.may(Action::Pull, name))
    };
    store.uploads.iter().filter(seen).collect()
}

/// The parts of the disk; how much of it is the registry's is for those who see all of it.
fn disk(store: &Overview, keeps: bool) -> Vec<Segment> {
    let ours = store.counts.bytes.saturating_add(store.uploading).saturating_add(store.index.0);
    let ours = ours.min(store.total_bytes.saturating_sub(store.free_bytes));
    let others = store.total_bytes.saturating_sub(store.free_bytes).saturating_sub(ours);
    let reserve = store.reserve_bytes.min(store.free_bytes);
    let (ours, others, name) =
        if keeps { (ours, others, "Everything else") } else { (0, ours.saturating_add(others), "In use") };
    let parts = [
        ("ours", "This registry", ours),
        ("others", name, others),
        ("free", "Free for pushes", store.free_bytes.saturating_sub(reserve)),
        ("reserve", "Kept free", reserve),
    ];
    let mut from = 0;
    let parts = parts.into_iter().filter(|(class, ..)| keeps || *class != "ours");
    let segments = parts.map(|(class, name, bytes)| {
        // A sliver that is there is seen.
        let width = share(bytes, store.total_bytes.max(1)).max(u64::from(bytes > 0) * 4);
        let segment = Segment { class, name, size: size(bytes), from, width };
        from += width;
        segment
    });
    segments.collect()
}

/// What part of the whole, of 1000.
fn share(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 1000 / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(1000).min(1000)
}

fn upload(one: &RunningUpload, permit: &Permit) -> Upload {
    let name = match &one.repository {
        Some(name) if permit.may(Action::Pull, name) => name.to_string(),
        Some(_) => "another repository".into(),
        None => "begun before the last restart".into(),
    };
    let text = match one.expected {
        Some(expected) => format!("{} of {}", size(one.length), size(expected)),
        None => size(one.length),
    };
    let percent = one.expected.map(|expected| share(one.length, expected) / 10);
    Upload { name, text, percent }
}

fn certificate(one: &Certificate) -> Shown {
    Shown { is_own: one.is_own, until: one.until.map(When::at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_overflow() {
        assert_eq!((share(1, 2), share(u64::MAX, u64::MAX), share(5, 0)), (500, 1000, 1000));
    }
}
