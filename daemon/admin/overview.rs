//! The first page: warnings, disk usage, totals, plots, running work, recent events and the state of the registry.

use askama::Template;

use super::activity;
use super::error::AdminError;
use super::format::{When, freed, short_digest};
use super::jobs::{self, RunningJob};
use super::limits::{NAME, shorten};
use super::pages::{Frame, render};
use super::plots::{PERIODS, Plots};
use super::request::AdminRequest;
use super::response::OK;
use super::state::Certificate;
use super::warnings::{self, Warning};
use crate::access::{Action, Identity, Operation, Permit};
use crate::base::human::{duration, size};
use crate::store::{
    Counts, DamagedImage, Event, ListQuery, Overview, Repositories, RepositoryOrder, RepositoryOverview,
    UnfinishedUpload,
};
use crate::wire::Response;

/// The repositories among the largest that are shown.
const LARGEST: usize = 5;
/// The damaged images that are shown.
const DAMAGED: usize = 3;
/// The running uploads that are shown.
const UPLOADS: usize = 8;
/// The recent events that are shown.
const EVENTS: usize = 5;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    warnings: Vec<Warning>,
    /// The images with missing or corrupt content that the user may pull.
    damaged: Vec<Damaged>,
    more_damaged: bool,
    disk: Vec<Segment>,
    /// The parts of what the registry itself holds; empty for users with limited rights.
    held: Vec<Segment>,
    /// The bytes that the registry itself holds.
    held_bytes: String,
    totals: Totals,
    plots: Option<Plots>,
    periods: [u32; 2],
    largest: Vec<Bar>,
    jobs: Vec<RunningJob>,
    events: Vec<activity::Row>,
    uploads: Vec<Upload>,
    more_uploads: usize,
    /// True if the user may see the state of the whole registry.
    sees_all: bool,
    /// True if the totals are those of all repositories.
    counts_all: bool,
    collected: Option<(When, String)>,
    certificate: Option<CertificateState>,
    uptime: String,
    requests: usize,
    logged_in: Option<usize>,
}

/// The totals of the repositories that the user may see. Unless these are all, `stored` counts shared content once for each
/// repository.
struct Totals {
    repositories: u64,
    tags: u64,
    manifests: u64,
    stored: String,
}

/// An image with missing or corrupt content.
struct Damaged {
    name: String,
    /// The name as far as it is shown.
    label: String,
    digest: String,
    short: String,
    tags: Vec<String>,
    more_tags: usize,
}

/// A part of the disk, in the bar and its legend.
struct Segment {
    class: &'static str,
    name: &'static str,
    size: String,
    /// Its start and width in the bar, of 1000.
    start: u64,
    width: u64,
}

/// A repository with a bar, whose width is of 1000.
struct Bar {
    name: String,
    /// The name as far as it is shown.
    label: String,
    size: String,
    width: u64,
}

struct Upload {
    name: String,
    text: String,
    /// The progress in percent, if the client announced the length.
    percent: Option<u64>,
}

struct CertificateState {
    is_own: bool,
    until: Option<When>,
}

/// Shows the overview. Users with limited rights see the totals of the repositories that they may pull from.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let permit = request.permit()?;
    let store = request.admin.store.overview().await?;
    let visible = request.visible()?;
    let counts_all = visible.has_all();
    let part =
        ListQuery { order: RepositoryOrder::Size, descending: true, limit: LARGEST, ..ListQuery::default() };
    let visible = request.admin.store.repositories_overview(part, visible).await?;
    let may_pull = permit.clone();
    let damaged = request.admin.store.damaged_images(DAMAGED, move |name| may_pull.may(Action::Pull, name));
    let (damaged, more_damaged) = damaged.await?;
    let (reader, all) = (permit.clone(), request.may(&Operation::Maintenance));
    let recent = move |event: &Event| activity::may_see(event, &reader, all);
    // Anonymous readers do not see the names and addresses of other users.
    let events = if request.identity == Identity::Anonymous && !all {
        Vec::new()
    } else {
        request.admin.store.recent_events(recent, EVENTS).await?
    };
    let frame = Frame::new(request, "overview");
    let logged_in =
        if frame.users { Some(request.access.logged_in(&request.admin.state.sessions).await) } else { None };
    let sees_all = request.may(&Operation::Maintenance);
    let uploads = uploads(&store, &permit, sees_all);
    let wanted = request.query.get("days").and_then(|days| days.parse().ok());
    let days = PERIODS.into_iter().find(|days| Some(*days) == wanted).unwrap_or(PERIODS[0]);
    let plots = if sees_all { Plots::new(&request.admin.store.daily_totals(days).await?) } else { None };
    let is_implicitly_open = request.access.is_implicitly_open().await;
    let page = Page {
        frame,
        warnings: warnings::all(request, &store, sees_all, is_implicitly_open),
        damaged: damaged.iter().map(damaged_row).collect(),
        more_damaged,
        disk: disk(&store, sees_all),
        held: if sees_all { held(&store) } else { Vec::new() },
        held_bytes: size(held_bytes(&store)),
        plots,
        periods: PERIODS,
        jobs: if sees_all { jobs::running(&request.admin.state.jobs.list()) } else { Vec::new() },
        events: events.into_iter().map(activity::row).collect(),
        totals: if sees_all { all_totals(&store) } else { totals(&visible) },
        largest: bars(&visible.listing.items),
        more_uploads: uploads.len().saturating_sub(UPLOADS),
        uploads: uploads.into_iter().take(UPLOADS).map(|running| upload(running, &permit)).collect(),
        sees_all,
        counts_all: sees_all || counts_all,
        collected: store.collected.filter(|_| sees_all).map(|last| (When::at(last.at), freed(&last.report))),
        certificate: request.context.certificate.as_ref().map(certificate_state),
        uptime: duration(request.admin.state.started.elapsed()),
        requests: request.context.requests,
        logged_in,
    };
    render(OK, &page)
}

fn damaged_row(image: &DamagedImage) -> Damaged {
    Damaged {
        name: image.repository.to_string(),
        label: shorten(image.repository.as_str(), NAME),
        digest: image.digest.to_string(),
        short: short_digest(&image.digest),
        tags: image.tags.iter().map(ToString::to_string).collect(),
        more_tags: image.more_tags,
    }
}

fn bars(repositories: &[RepositoryOverview]) -> Vec<Bar> {
    let largest = repositories.first().map_or(1, |first| first.bytes.max(1));
    let bar = |repository: &RepositoryOverview| Bar {
        name: repository.name.to_string(),
        label: shorten(repository.name.as_str(), NAME),
        size: size(repository.bytes),
        width: share(repository.bytes, largest),
    };
    repositories.iter().map(bar).collect()
}

fn all_totals(store: &Overview) -> Totals {
    let Counts { repositories, tags, manifests, bytes, .. } = store.counts;
    Totals { repositories, tags, manifests, stored: size(bytes) }
}

fn totals(visible: &Repositories) -> Totals {
    let repositories = u64::try_from(visible.listing.total).unwrap_or(u64::MAX);
    let (tags, manifests) = (visible.tags, visible.manifests);
    Totals { repositories, tags, manifests, stored: size(visible.bytes) }
}

/// Returns the uploads that the user may see. Uploads from before a restart have no known repository: only users who see
/// everything see those.
fn uploads<'a>(store: &'a Overview, permit: &Permit, sees_all: bool) -> Vec<&'a UnfinishedUpload> {
    let is_visible = |upload: &&UnfinishedUpload| {
        sees_all || upload.repository.as_ref().is_some_and(|name| permit.may(Action::Pull, name))
    };
    store.uploads.iter().filter(is_visible).collect()
}

/// Returns the parts of the disk. Users with limited rights do not see how much of it the registry uses.
fn disk(store: &Overview, sees_all: bool) -> Vec<Segment> {
    let used = store.total_bytes.saturating_sub(store.free_bytes);
    let ours = held_bytes(store).min(used);
    let reserve = store.reserve_bytes.min(store.free_bytes);
    let free = ("free", "Free for pushes", store.free_bytes.saturating_sub(reserve));
    let reserve = ("reserve", "Reserve", reserve);
    let parts = if sees_all {
        vec![("ours", "This registry", ours), ("others", "Other data", used - ours), free, reserve]
    } else {
        vec![("others", "In use", used), free, reserve]
    };
    segments(parts, store.total_bytes)
}

/// Returns the bytes of blobs, uploads and the index.
fn held_bytes(store: &Overview) -> u64 {
    store.counts.bytes.saturating_add(store.uploading).saturating_add(store.index.0)
}

/// Returns the parts of what the registry itself holds. The content that waits for a collection is known since the last one.
fn held(store: &Overview) -> Vec<Segment> {
    let waiting = store.collected.map_or(0, |last| last.report.waiting.blobs.bytes).min(store.counts.bytes);
    let parts = vec![
        ("ours", "Images", store.counts.bytes - waiting),
        ("c4", "Waiting for collection", waiting),
        ("c2", "Unfinished uploads", store.uploading),
        ("c3", "Index", store.index.0),
    ];
    segments(parts, held_bytes(store))
}

fn segments(parts: Vec<(&'static str, &'static str, u64)>, whole: u64) -> Vec<Segment> {
    let mut start = 0;
    let segments = parts.into_iter().map(|(class, name, bytes)| {
        // The smallest part that is not empty stays visible.
        let width = share(bytes, whole).max(u64::from(bytes > 0) * 4);
        let segment = Segment { class, name, size: size(bytes), start, width };
        start += width;
        segment
    });
    segments.collect()
}

/// Returns a part of a whole in thousandths.
fn share(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 1000 / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(1000).min(1000)
}

fn upload(upload: &UnfinishedUpload, permit: &Permit) -> Upload {
    let name = match &upload.repository {
        Some(name) if permit.may(Action::Pull, name) => shorten(name.as_str(), NAME),
        Some(_) => "another repository".into(),
        None => "started before the last restart".into(),
    };
    let text = match upload.expected {
        Some(expected) => format!("{} of {}", size(upload.length), size(expected)),
        None => size(upload.length),
    };
    let percent = upload.expected.map(|expected| share(upload.length, expected) / 10);
    Upload { name, text, percent }
}

fn certificate_state(certificate: &Certificate) -> CertificateState {
    CertificateState { is_own: certificate.is_own, until: certificate.until.map(When::at) }
}

#[cfg(test)]
mod tests {
    use super::super::{plots, worst_case};
    use super::*;

    #[test]
    fn shares_never_overflow() {
        assert_eq!((share(1, 2), share(u64::MAX, u64::MAX), share(5, 0)), (500, 1000, 1000));
    }

    #[test]
    fn largest_page_is_small() {
        let repository = |number| RepositoryOverview {
            name: worst_case::name(number),
            manifests: 1,
            tags: 1,
            bytes: u64::MAX,
            pushed: 0,
            emptied: None,
        };
        let damaged = |number| DamagedImage {
            repository: worst_case::name(number),
            digest: worst_case::digest(),
            tags: vec![worst_case::tag(0)],
            more_tags: usize::MAX,
        };
        let label = shorten(worst_case::name(0).as_str(), NAME);
        let upload =
            |_| Upload { name: label.clone(), text: "1023.9 GiB of 1023.9 GiB".into(), percent: Some(100) };
        let segment = |_| Segment {
            class: "reserve",
            name: "Free for pushes",
            size: "1023.9 GiB".into(),
            start: 1000,
            width: 1000,
        };
        let job = |_| RunningJob {
            title: label.clone(),
            text: shorten(&worst_case::texts()[0], NAME),
            percent: Some(100),
        };
        let warning = |_| Warning::new(true, worst_case::texts()[0].clone());
        worst_case::assert_small(&Page {
            frame: worst_case::frame(),
            warnings: (0..9).map(warning).collect(),
            damaged: (0..DAMAGED).map(|number| damaged_row(&damaged(number))).collect(),
            more_damaged: true,
            disk: (0..4).map(segment).collect(),
            held: (0..4).map(segment).collect(),
            held_bytes: "1023.9 GiB".into(),
            plots: plots::testing::largest(),
            periods: PERIODS,
            jobs: (0..10).map(job).collect(),
            events: (0..EVENTS).map(activity::testing::largest_row).collect(),
            totals: Totals {
                repositories: u64::MAX,
                tags: u64::MAX,
                manifests: u64::MAX,
                stored: "1023.9 GiB".into(),
            },
            largest: bars(&(0..LARGEST).map(repository).collect::<Vec<_>>()),
            uploads: (0..UPLOADS).map(upload).collect(),
            more_uploads: usize::MAX,
            sees_all: true,
            counts_all: true,
            collected: Some((When::at(0), "f".repeat(160))),
            certificate: Some(CertificateState { is_own: true, until: Some(When::at(0)) }),
            uptime: "11 months".into(),
            requests: usize::MAX,
            logged_in: Some(usize::MAX),
        });
    }
}
