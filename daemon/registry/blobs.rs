//! Blobs: pulls of the whole content or of a range, and deletes ("Pulling blobs", "Deleting Blobs").

use std::net::IpAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
};
use http::{Method, StatusCode};

use super::Registry;
use super::headers::{IMMUTABLE, set, set_digest};
use crate::access::Action;
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::store::{BlobReader, Delete, StoreError};
use crate::wire::{
    ApiError, BodyError, Chunks, Permitted, RangeOutcome, Response, ResponseBody, conditional, empty,
    mark_as_download, resolve_range,
};

impl Registry {
    /// Serves GET and HEAD of a blob (end-2).
    pub(super) async fn get_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        // Only a client that may push skips an upload because of this response, so only its requests renew the lease.
        let may_push = request.permit.may(Action::Push, name);
        let size = if may_push {
            self.store.blob_with_lease(name, digest).await?
        } else {
            self.store.blob(name, digest)?
        };
        // A client that may push skips the upload if HEAD finds the blob, so HEAD also checks that its file exists.
        let checks_file = may_push || self.store.is_known_damaged(digest);
        if request.parts.method == Method::HEAD && checks_file && !self.store.has_file(digest, size).await? {
            return Err(StoreError::BlobUnknown(digest.clone()).into());
        }
        if conditional::is_not_modified(&request.parts.headers, digest) {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            set_blob_headers(&mut response, digest);
            return Ok(response);
        }
        let (status, start, length) = match requested_range(request, digest, size) {
            RangeOutcome::Whole => (StatusCode::OK, 0, size),
            RangeOutcome::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            RangeOutcome::Unsatisfiable => return Err(ApiError::range_unsatisfiable(size)),
        };
        let mut response = empty(status);
        if request.parts.method != Method::HEAD {
            *response.body_mut() = self.download(digest, (start, length), request).await?;
        }
        set_blob_headers(&mut response, digest);
        set(&mut response, CONTENT_TYPE, MediaType::BYTES);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        if status == StatusCode::PARTIAL_CONTENT {
            set(&mut response, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + length - 1));
        }
        Ok(response)
    }

    /// Returns the body of a response with `length` bytes of content from `start` on, read from the disk in chunks.
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

    /// Removes a blob from this repository (DELETE, end-10); a collection frees its bytes.
    pub(super) async fn delete_blob(
        &self,
        name: &RepositoryName,
        digest: Digest,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        self.check_delete()?;
        let (repository, origin) = (name.clone(), self.origin(request));
        self.store.delete_blob(Delete { repository, object: digest, origin }).await?;
        Ok(empty(StatusCode::ACCEPTED))
    }
}

/// Resolves `Range`. It is ignored for other methods than GET, and with an `If-Range` of another entity tag (RFC 9110
/// section 13.1.5).
fn requested_range(request: &Permitted, digest: &Digest, size: u64) -> RangeOutcome {
    let is_other = request.header(IF_RANGE.as_str()).is_some_and(|tag| tag != conditional::etag(digest));
    let header = request.header("range").filter(|_| !is_other && request.parts.method == Method::GET);
    resolve_range(header, size)
}

fn set_blob_headers(response: &mut Response, digest: &Digest) {
    set_digest(response, digest);
    set(response, ETAG, &conditional::etag(digest));
    set(response, CACHE_CONTROL, IMMUTABLE);
    set(response, ACCEPT_RANGES, "bytes");
    mark_as_download(response.headers_mut());
}

/// Blob that is being sent to a client.
struct Download {
    reader: BlobReader,
    digest: Digest,
    client: IpAddr,
}

impl Chunks for Download {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.reader.poll_chunk(context).map_err(|error| {
            log::error!(client:% = self.client; "cannot send {} to its end: {error}", self.digest);
            BodyError
        })
    }

    fn remaining(&self) -> u64 {
        self.reader.remaining()
    }
}
