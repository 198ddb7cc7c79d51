//! Blobs: read in whole or in part, and deleted ("Pulling Blobs", "Deleting Blobs").

use std::net::IpAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
};
use http::{Method, StatusCode};

use super::{Registry, name_digest, set};
use crate::access::Action;
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::store::BlobReader;
use crate::wire::{
    ApiError, BodyError, Chunks, Permitted, RangeOutcome, Response, ResponseBody, as_download, conditional,
    empty, resolve_range,
};

/// Content with a digest never changes.
pub(super) const IMMUTABLE: &str = "private, max-age=31536000, immutable";

impl Registry {
    pub(super) async fn get_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        // A client that may only pull leaves out no upload, and keeps nothing from being collected.
        let may_push = request.permit.may(Action::Push, name);
        let size = if may_push {
            self.store.blob_to_count_on(name, digest).await?
        } else {
            self.store.blob(name, digest)?
        };
        let looks_at_file = may_push || self.store.is_known_damaged(digest);
        if request.parts.method == Method::HEAD && looks_at_file && !self.store.has_file(digest, size).await?
        {
            return Err(ApiError::BlobUnknown(digest.clone()));
        }
        if conditional::is_known(&request.parts.headers, digest) {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            describe(&mut response, digest);
            return Ok(response);
        }
        let (status, start, length) = match wanted_range(request, digest, size) {
            RangeOutcome::Whole => (StatusCode::OK, 0, size),
            RangeOutcome::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            RangeOutcome::Unsatisfiable => return Err(ApiError::RangeUnsatisfiable(size)),
        };
        let mut response = empty(status);
        if request.parts.method != Method::HEAD {
            *response.body_mut() = self.download(digest, (start, length), request).await?;
        }
        describe(&mut response, digest);
        set(&mut response, CONTENT_TYPE, MediaType::BYTES);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        if status == StatusCode::PARTIAL_CONTENT {
            set(&mut response, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + length - 1));
        }
        Ok(response)
    }

    /// Content on its way to a client, a chunk at a time.
    pub(super) async fn download(
        &self,
        digest: &Digest,
        (start, length): (u64, u64),
        request: &Permitted,
    ) -> Result<ResponseBody, ApiError> {
        let reader = self.store.read_blob(digest, start, length).await?;
        let client = self.client(request);
        Ok(ResponseBody::Stream(Box::new(Download { reader, digest: digest.clone(), client })))
    }

    pub(super) async fn delete_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Response, ApiError> {
        self.check_delete()?;
        self.store.delete_blob(name, digest).await?;
        Ok(empty(StatusCode::ACCEPTED))
    }
}

/// The range asked for; `If-Range` with another tag asks for everything (RFC 9110 section 13.1.5).
fn wanted_range(request: &Permitted, digest: &Digest, size: u64) -> RangeOutcome {
    let other = request.header(IF_RANGE.as_str()).is_some_and(|tag| tag != conditional::etag(digest));
    let header = request.header("range").filter(|_| !other && request.parts.method == Method::GET);
    resolve_range(header, size)
}

fn describe(response: &mut Response, digest: &Digest) {
    name_digest(response, digest);
    set(response, ETAG, &conditional::etag(digest));
    set(response, CACHE_CONTROL, IMMUTABLE);
    set(response, ACCEPT_RANGES, "bytes");
    as_download(response.headers_mut());
}

/// A blob on its way to a client.
struct Download {
    reader: BlobReader,
    digest: Digest,
    client: IpAddr,
}

impl Chunks for Download {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.reader.poll_chunk(context).map_err(|error| {
            log::error!(client:% = self.client; "{} broke off while it was sent: {error}", self.digest);
            BodyError
        })
    }

    fn remaining(&self) -> u64 {
        self.reader.remaining()
    }
}
