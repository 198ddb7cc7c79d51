//! The download of an image: an export of it as a tar, which `docker load` and `holdfast import` read.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use self::source::StoreSource;
use super::error::AdminError;
use super::request::{AdminRequest, PLACE_TIMEOUT};
use crate::access::Action;
use crate::oci::{Digest, Hasher, Problem, Reference, RepositoryName};
use crate::store::{OwnTransfer, Purpose, Store, StoreError, TransferError};
use crate::transfer::content_list::ExportOrigin;
use crate::transfer::export::{
    ExportError, ExportPlan, ExportSelection, Options, Piece, Selected, Walk, WalkOptions, machine_platform,
    pieces, plan, walk,
};
use crate::wire::{BodyError, Chunks, Response, ResponseBody, confine, empty};

/// Chunks that wait for the client; with their length the memory of a download.
const WAITING: usize = 2;

/// The maximum number of names, manifests and layers of an image that is downloaded, each time that one is listed: they are in memory
/// while the download lasts.
const MAX_ENTRIES: usize = 20_000;

/// Sends an image as a tar.
pub(super) async fn download(
    request: &AdminRequest<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, AdminError> {
    request.check(Action::Pull, name)?;
    let store = &request.admin.store;
    let entry = store.manifest(name, reference)?;
    let place = request.admin.state.downloads.acquire(request.holder());
    let place = tokio::time::timeout(PLACE_TIMEOUT, place).await;
    let place = place.ok().and_then(Result::ok).ok_or(AdminError::Busy)?;
    let mut source = StoreSource::new(store.clone());
    // A tag may move meanwhile.
    let selections =
        [ExportSelection { text: String::new(), selected: selected(name, reference, &entry.digest) }];
    let options = WalkOptions { max_entries: Some(MAX_ENTRIES), ..WalkOptions::default() };
    let walked = walk(&mut source, &selections, &options, &BTreeSet::new()).await;
    let walked = walked.map_err(|error| failed(&error, source.failure.take()))?;
    let lease = lease(store, &walked).await?;
    let plan = planned(request, &walked)?;
    let length = plan.archive_length();
    let mut response = empty(super::response::OK);
    set_headers(&mut response, name, reference, length);
    if !request.is_head() {
        store.record_pull(name, reference, &entry, &request.origin());
        let (sender, chunks) = mpsc::channel(WAITING);
        let (holder, client) = (request.holder(), request.context.client);
        tokio::spawn(holder.run(async move {
            if let Err(error) = send(&lease, &plan, &sender).await {
                log::error!(client:% = client; "a download ends early: {error}");
                // The client may have gone.
                let _ = sender.send(Err(BodyError)).await;
            }
            drop(place);
        }));
        *response.body_mut() = ResponseBody::Stream(Box::new(Download { chunks, remaining: length }));
    }
    Ok(response)
}

fn selected(name: &RepositoryName, reference: &Reference, digest: &Digest) -> Selected {
    match reference {
        Reference::Tag(tag) => Selected::Tags { repository: name.to_string(), tag: tag.to_string() },
        Reference::Digest(_) => Selected::Digest(name.clone(), digest.clone()),
    }
}

fn planned(request: &AdminRequest<'_>, walked: &Walk) -> Result<ExportPlan, AdminError> {
    let store = &request.admin.store;
    let host = Some(request.display_host()).filter(|host| host != "HOST");
    let registry = store.registry_id()?.map(|id| id.to_string());
    let options = Options {
        origin: ExportOrigin { registry, host: host.clone(), version: env!("CARGO_PKG_VERSION").into() },
        host,
        platform: machine_platform(),
        docker: true,
        comment: String::new(),
        key: None,
        have: BTreeSet::new(),
        wanted: BTreeSet::new(),
        blob_parts: None,
    };
    let plan = plan(walked, &options, &BTreeMap::new()).map_err(|error| failed(&error, None))?;
    match plan.excluded.first() {
        Some(excluded) if plan.images.is_empty() => Err(AdminError::NotFound(format!(
            "{} cannot be downloaded: {}.",
            excluded.image, excluded.reason
        ))),
        Some(_) | None if plan.images.is_empty() => Err(deleted_meanwhile()),
        Some(_) | None => Ok(plan),
    }
}

fn deleted_meanwhile() -> AdminError {
    AdminError::NotFound("The image was deleted meanwhile.".into())
}

fn set_headers(response: &mut Response, name: &RepositoryName, reference: &Reference, length: u64) {
    let of_reference = match reference {
        Reference::Tag(tag) => tag.to_string(),
        Reference::Digest(digest) => digest.hex().chars().take(12).collect(),
    };
    // Names of repositories and tags have no quotes.
    let file = format!("{}_{of_reference}.tar", name.as_str().replace('/', "_"));
    let headers = response.headers_mut();
    confine(headers);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{file}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
}

/// The error of a walk or a plan. `failure` is the error of the store behind it.
fn failed(error: &ExportError, failure: Option<StoreError>) -> AdminError {
    if let ExportError::TooLarge { limit } = error {
        return AdminError::Invalid(format!(
            "The image and its attachments have more than {limit} manifests and layers, which is the limit of a download. Use \
             holdfast export."
        ));
    }
    failure.map_or_else(|| AdminError::Internal(format!("cannot export an image: {error}")), AdminError::from)
}

/// Holds off the collection from the content of a download, while the returned transfer lasts.
async fn lease(store: &Store, walked: &Walk) -> Result<OwnTransfer, AdminError> {
    let transfer = store.own_transfer(Purpose::Export).map_err(of_transfer)?;
    let contents = walked.contents().map(|(digest, size)| (digest.clone(), Some(size))).collect();
    let missing = transfer.missing(contents).await.map_err(of_transfer)?;
    // Deleted and collected between the walk and the lease.
    if missing.is_empty() { Ok(transfer) } else { Err(deleted_meanwhile()) }
}

fn of_transfer(error: TransferError) -> AdminError {
    match error {
        TransferError::TooMany | TransferError::TooManyDigests => AdminError::Busy,
        TransferError::Store(error) => error.into(),
        error @ (TransferError::Unknown | TransferError::Full { .. }) => {
            Problem::internal(format!("cannot lease an image: {error}")).into()
        }
    }
}

/// Sends the pieces of the archive until the client has gone. Content that does not match its digest ends it.
async fn send(
    lease: &OwnTransfer,
    plan: &ExportPlan,
    sender: &mpsc::Sender<Result<Bytes, BodyError>>,
) -> Result<(), TransferError> {
    for piece in pieces(plan) {
        let (digest, size) = match piece {
            Piece::Bytes(bytes) if bytes.is_empty() => continue,
            Piece::Bytes(bytes) => match sender.send(Ok(bytes)).await {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            Piece::Content(digest, size) => (digest, size),
        };
        let (mut reader, actual) = lease.open(&digest).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(chunk) = std::future::poll_fn(|context| reader.poll_chunk(context)).await {
            let chunk = chunk?;
            hasher.update(&chunk);
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if actual != size || hasher.finish() != digest {
            return Err(StoreError::Damaged(digest).into());
        }
    }
    Ok(())
}

/// The body of a download.
struct Download {
    chunks: mpsc::Receiver<Result<Bytes, BodyError>>,
    remaining: u64,
}

impl Chunks for Download {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.chunks.poll_recv(context).map(|chunk| match chunk {
            Some(Ok(bytes)) => {
                self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(error)),
            None if self.remaining > 0 => Some(Err(BodyError)),
            None => None,
        })
    }

    fn remaining(&self) -> u64 {
        self.remaining
    }
}
