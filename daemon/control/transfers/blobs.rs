//! `transfers/ID/blobs`: loose blobs of a transfer come in and are read.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use uuid::Uuid;

use super::super::body::Body;
use super::super::error::ControlError;
use super::super::request::Request;
use super::check_accepts;
use crate::oci::{Algorithm, Digest, MAX_MANIFEST, MediaType};
use crate::store::{BlobReader, Purpose, StoreError, Transfer, TransferError, Upload};
use crate::transfer::Stored;
use crate::wire::{BodyError, Chunks, RequestBody, ResponseBody};

/// Receives a blob of a known digest. One that is present is answered before the body, unless the sender has to prove that it
/// has the bytes: `?read=all`.
pub(super) async fn put(
    request: Request,
    id: Uuid,
    digest: Digest,
) -> Result<http::Response<Body>, ControlError> {
    let transfer = importing(&request, id)?;
    if request.query.get("read") != Some("all")
        && let Some(size) = transfer.present(&digest).await?
    {
        return Ok(Body::json(&Stored { digest, size, present: true }));
    }
    receive(request, transfer, Some(digest)).await
}

/// Receives a blob whose digest is not known.
pub(super) async fn post(request: Request, id: Uuid) -> Result<http::Response<Body>, ControlError> {
    let transfer = importing(&request, id)?;
    receive(request, transfer, None).await
}

/// Returns a transfer that may store content now: the configuration may have changed since it was opened.
fn importing(request: &Request, id: Uuid) -> Result<Transfer, ControlError> {
    let transfer = request.host.store().transfer(id)?;
    let purpose = transfer.purpose()?;
    match purpose {
        Purpose::Import | Purpose::Move => {}
        Purpose::Export => {
            return Err(ControlError::refused("export", "this transfer is an export, which stores nothing"));
        }
    }
    check_accepts(request, purpose)?;
    Ok(transfer)
}

/// Receives a blob in a task of its own, so that an unfinished upload is removed also if the client has disconnected.
async fn receive(
    request: Request,
    transfer: Transfer,
    digest: Option<Digest>,
) -> Result<http::Response<Body>, ControlError> {
    let Request { body, activity, .. } = request;
    let receiving = tokio::spawn(async move {
        let _activity = activity;
        received(body, &transfer, digest).await
    });
    let stored = receiving.await.map_err(|_| StoreError::Closing)??;
    let mut response = Body::json(&stored);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn received(
    mut body: RequestBody,
    transfer: &Transfer,
    digest: Option<Digest>,
) -> Result<Stored, ControlError> {
    let algorithm = digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let mut upload = transfer.upload(algorithm).await?;
    match write(&mut upload, &mut body).await {
        Ok(()) => {
            let (digest, size, present) = transfer.admit(upload, digest).await?;
            Ok(Stored { digest, size, present })
        }
        Err(error) => {
            // No client knows the upload, so that none could continue it.
            upload.cancel().await?;
            Err(error)
        }
    }
}

async fn write(upload: &mut Upload, body: &mut RequestBody) -> Result<(), ControlError> {
    upload.expect(body.announced().unwrap_or_default()).await.map_err(TransferError::from)?;
    while let Some(chunk) = body.chunk().await? {
        upload.write(&chunk).await.map_err(TransferError::from)?;
    }
    Ok(upload.pause().await.map_err(TransferError::from)?)
}

/// Sends content that the transfer holds.
pub(super) async fn get(
    request: &Request,
    id: Uuid,
    digest: &Digest,
) -> Result<http::Response<Body>, ControlError> {
    let transfer = request.host.store().transfer(id)?;
    let size = transfer.size(digest)?;
    let is_limited = match transfer.purpose()? {
        Purpose::Import | Purpose::Move => true,
        Purpose::Export => false,
    };
    // An import reads back manifests and configs.
    if is_limited && size > MAX_MANIFEST as u64 {
        let message = format!("{digest} has {size} bytes, and an import can read at most {MAX_MANIFEST}");
        return Err(ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let (reader, size) = transfer.open(digest).await?;
    let sending = Sending { reader, digest: digest.clone(), _transfer: transfer };
    let mut response = http::Response::new(Body::from(ResponseBody::Stream(Box::new(sending))));
    response.headers_mut().insert(CONTENT_LENGTH, size.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MediaType::BYTES));
    Ok(response)
}

/// Content that is being sent.
struct Sending {
    reader: BlobReader,
    digest: Digest,
    /// Keeps the lease until the last byte.
    _transfer: Transfer,
}

impl Chunks for Sending {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.reader.poll_chunk(context).map_err(|error| {
            log::error!("cannot send {} to its end: {error}", self.digest);
            BodyError
        })
    }

    fn remaining(&self) -> u64 {
        self.reader.remaining()
    }
}
