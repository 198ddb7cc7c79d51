//! `GET inventory`: the content of the registry as text, for the medium of an export.
//!
//! ```text
//! # holdfast inventory 1 id=4f0c... host=hub.lan time=1795705200
//! sha256:...
//! wanted team/app sha256:...
//! ```
//!
//! After the head line come all digests, one on each line, then the missing content of sparse manifests, each with its
//! repository. An inventory that could not be read to its end ends with a broken connection.

use std::fmt::Write as _;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Body;
use super::error::ControlError;
use super::report::external_host;
use super::request::Request;
use crate::base::clock::unix_seconds;
use crate::store::{Store, StoreError};
use crate::transfer::inventory::{Inventory, WantedContent};
use crate::wire::BodyError;

/// The digests in one read of the store, and in one part of the response.
const PAGE: usize = 500;
/// The sparse manifests in one read of the store.
const SPARSE_PAGE: usize = 20;
/// The parts that wait for the peer.
const WAITING_PARTS: usize = 4;

type Parts = mpsc::Sender<Result<Bytes, BodyError>>;

/// Answers with the inventory.
pub(super) fn inventory(request: &Request) -> Result<http::Response<Body>, ControlError> {
    let store = request.host.store().clone();
    let id = store.registry_id()?.map_or_else(|| "-".into(), |id| id.to_string());
    let host = external_host(&request.host.registry());
    let host = host.or_else(|| nix::unistd::gethostname().ok()?.into_string().ok());
    let head = Inventory { id, host, time: unix_seconds(), ..Inventory::default() }.head() + "\n";
    let (parts, receiver) = mpsc::channel(WAITING_PARTS);
    tokio::spawn(async move {
        if let Err(error) = send(&store, head, &parts).await {
            log::error!("cannot send the inventory to its end: {error}");
            // The peer may be gone.
            let _ = parts.send(Err(BodyError)).await;
        }
    });
    Ok(Body::text(receiver))
}

/// Sends the parts; ends early if the peer is gone.
async fn send(store: &Store, head: String, parts: &Parts) -> Result<(), StoreError> {
    let mut text = head;
    let mut after = None;
    loop {
        let page = store.content_after(after.take(), PAGE).await?;
        for digest in &page {
            // Cannot fail: the target is a string.
            let _ = writeln!(text, "{digest}");
        }
        if !text.is_empty() && parts.send(Ok(std::mem::take(&mut text).into())).await.is_err() {
            return Ok(());
        }
        after = page.into_iter().next_back();
        if after.is_none() {
            break;
        }
    }
    let mut after = None;
    loop {
        let page = store.holes_after(after.take(), SPARSE_PAGE).await?;
        for (repository, digest) in page.wanted {
            let _ = writeln!(text, "{}", WantedContent { image: repository.to_string(), digest });
        }
        if !text.is_empty() && parts.send(Ok(std::mem::take(&mut text).into())).await.is_err() {
            return Ok(());
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
