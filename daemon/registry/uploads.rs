//! Uploads of blobs, in one request or in chunks, and mounts ("Pushing blobs").
//!
//! Bytes that have arrived stay when the client disconnects: it asks for the status and continues from there.

use http::header::{HeaderName, LOCATION, RANGE};
use http::{Method, StatusCode};

use super::Registry;
use super::headers::{set, set_digest};
use super::upload_slots::UploadSlot;
use crate::access::Action;
use crate::oci::{Algorithm, Digest, ErrorCode, Problem, ProblemKind, RETRY_LATER, RepositoryName};
use crate::store::{Mount, StoreError, Upload, UploadId};
use crate::wire::{ApiError, ContentRange, ParseRangeError, Permitted, Response, empty};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The most repositories that are searched for a blob if a mount names none ("Mounting a blob from another
/// repository").
const MAX_MOUNT_SOURCES: usize = 100;

impl Registry {
    /// Starts an upload, receives a blob in one request, or mounts one (POST, end-4a, end-4b, end-11).
    pub(super) async fn start_upload(
        &self,
        name: &RepositoryName,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        if let Some(digest) = request.query.digest("mount")?
            && self.mount(name, &digest, request).await?
        {
            return Ok(self.created(name, &digest));
        }
        let digest = request.query.digest("digest")?;
        let algorithm = match (&digest, request.query.get("digest-algorithm")) {
            (Some(digest), _) => digest.algorithm(),
            (None, Some(text)) => text.parse().map_err(|_| {
                ApiError::parameter(format!(
                    "the parameter digest-algorithm is {text:?}; use sha256 or sha512"
                ))
            })?,
            (None, None) => Algorithm::Sha256,
        };
        let _slot = if digest.is_some() { Some(self.take_slot(request)?) } else { None };
        let mut upload = Upload::start(&self.store, name, algorithm).await?;
        let Some(digest) = digest else {
            return Ok(self.accepted(name, upload.id(), 0, StatusCode::ACCEPTED, request));
        };
        let received = match receive(&mut upload, request).await {
            Ok(()) => self.check_still_may_push(name, request).await,
            Err(error) => Err(error),
        };
        if let Err(error) = received {
            // The client does not know the URL of this upload, so that it could not continue it.
            upload.cancel().await?;
            return Err(error);
        }
        self.commit(name, upload, digest).await
    }

    /// Takes a slot before the file of the upload is opened.
    fn take_slot(&self, request: &Permitted) -> Result<UploadSlot, ApiError> {
        let busy = "the registry is receiving as many uploads as it can; try again later";
        let slot = self.upload_slots.take(self.client(request));
        slot.ok_or_else(|| Problem::too_many_requests(busy, RETRY_LATER).into())
    }

    /// Mounts a blob from the repository in `from`, or from any that has it. Returns false if none does, or if the user
    /// may not pull from it.
    async fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: &Permitted,
    ) -> Result<bool, ApiError> {
        let sources: Vec<RepositoryName> = match request.query.get("from") {
            // An invalid name has no blob: the client gets an upload instead, as the standard wants.
            Some(from) => from.parse().into_iter().collect(),
            None => self.store.blob_repositories(digest, MAX_MOUNT_SOURCES).await?,
        };
        for from in sources.iter().filter(|from| request.permit.may(Action::Pull, from)) {
            let (from, to, digest) = (from.clone(), name.clone(), digest.clone());
            if self.store.mount_blob(Mount { from, to, digest, origin: self.origin(request) }).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Serves the length of an upload (GET, end-13).
    pub(super) async fn upload_status(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let id = parse_id(id)?;
        let length = Upload::length_of(&self.store, name, id).await?;
        Ok(self.accepted(name, id, length, StatusCode::NO_CONTENT, request))
    }

    /// Receives a chunk, with a `Content-Range` or as a stream (PATCH, end-5).
    pub(super) async fn patch_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let _slot = self.take_slot(request)?;
        let mut upload = self.continue_upload(name, id, request).await?;
        upload.prepare(None).await?;
        receive(&mut upload, request).await?;
        Ok(self.accepted(name, upload.id(), upload.length(), StatusCode::ACCEPTED, request))
    }

    /// Commits an upload, with the last chunk, the whole content, or no body (PUT, end-6).
    pub(super) async fn put_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let Some(digest) = request.query.digest("digest")? else {
            let message = "the parameter digest is missing; it has to be the digest of the whole blob";
            return Err(Problem::new(ProblemKind::Malformed, ErrorCode::DigestInvalid, message).into());
        };
        let _slot = self.take_slot(request)?;
        let mut upload = self.continue_upload(name, id, request).await?;
        upload.prepare(Some(digest.algorithm())).await?;
        receive(&mut upload, request).await?;
        self.check_still_may_push(name, request).await?;
        self.commit(name, upload, digest).await
    }

    /// Cancels an upload (DELETE, end-14).
    pub(super) async fn cancel_upload(&self, name: &RepositoryName, id: &str) -> Result<Response, ApiError> {
        let upload = Upload::resume(&self.store, name, parse_id(id)?).await?;
        upload.cancel().await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Resumes an upload. A chunk that does not begin where the upload ends leaves the upload unchanged.
    async fn continue_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &Permitted,
    ) -> Result<Upload, ApiError> {
        let id = parse_id(id)?;
        let range = content_range(request)?;
        // Checked before the upload is resumed, since that would interrupt the request that is sending to it.
        if let Some(range) = range {
            self.check_order(name, id, range, Upload::length_of(&self.store, name, id).await?)?;
        }
        let upload = Upload::resume(&self.store, name, id).await?;
        if let Some(range) = range {
            self.check_order(name, id, range, upload.length())?;
        }
        Ok(upload)
    }

    fn check_order(
        &self,
        name: &RepositoryName,
        id: UploadId,
        range: ContentRange,
        length: u64,
    ) -> Result<(), ApiError> {
        if range.start == length {
            return Ok(());
        }
        let location = self.location(&upload_path(name, id));
        Err(ApiError::chunk_out_of_order(length, location))
    }

    async fn commit(
        &self,
        name: &RepositoryName,
        upload: Upload,
        digest: Digest,
    ) -> Result<Response, ApiError> {
        upload.commit(digest.clone()).await?;
        Ok(self.created(name, &digest))
    }

    fn created(&self, name: &RepositoryName, digest: &Digest) -> Response {
        let mut response = empty(StatusCode::CREATED);
        set(&mut response, LOCATION, &self.location(&format!("/v2/{name}/blobs/{digest}")));
        set_digest(&mut response, digest);
        response
    }

    fn accepted(
        &self,
        name: &RepositoryName,
        id: UploadId,
        length: u64,
        status: StatusCode,
        request: &Permitted,
    ) -> Response {
        let mut response = empty(status);
        set(&mut response, LOCATION, &self.location(&upload_path(name, id)));
        // An empty upload is `0-0`, as registry:2 reports it: the format has no empty range.
        set(&mut response, RANGE, &format!("0-{}", length.saturating_sub(1)));
        set(&mut response, UPLOAD_UUID, &id.to_string());
        if request.parts.method == Method::POST {
            // Chunks may have any length ("Pushing a blob in chunks").
            set(&mut response, CHUNK_MIN_LENGTH, "0");
        }
        response
    }
}

fn upload_path(name: &RepositoryName, id: UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// Parses an upload id. A malformed one is an unknown upload (404), since the registry never issued it.
fn parse_id(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| StoreError::UploadUnknown.into())
}

/// Returns `Content-Range`, which has to agree with `Content-Length`.
fn content_range(request: &Permitted) -> Result<Option<ContentRange>, ApiError> {
    let Some(text) = request.header("content-range") else { return Ok(None) };
    let range: ContentRange = text.parse().map_err(|error: ParseRangeError| {
        let message = format!("the Content-Range {text:?} is malformed: {error}");
        Problem::new(ProblemKind::Malformed, ErrorCode::BlobUploadInvalid, message)
    })?;
    let length = range.end - range.start + 1;
    if let Some(announced) = request.body.announced().filter(|announced| *announced != length) {
        return Err(ApiError::size_invalid(format!(
            "the Content-Range {text:?} has {length} bytes, but the body has {announced}"
        )));
    }
    Ok(Some(range))
}

/// Writes the body to the upload as it arrives. If the client disconnects, the bytes that have arrived stay.
async fn receive(upload: &mut Upload, request: &mut Permitted) -> Result<(), ApiError> {
    let range = content_range(request)?;
    upload.expect(request.body.announced().unwrap_or_default()).await?;
    let before = upload.length();
    loop {
        match request.body.chunk().await {
            Ok(Some(bytes)) => upload.write(&bytes).await?,
            Ok(None) => break,
            Err(error) => {
                upload.pause().await?;
                return Err(error);
            }
        }
    }
    upload.pause().await?;
    let (received, expected) = (upload.length() - before, range.map(|range| range.end - range.start + 1));
    if expected.is_some_and(|expected| expected != received) {
        return Err(ApiError::size_invalid(format!(
            "the chunk has {received} bytes, which differs from its Content-Range"
        )));
    }
    Ok(())
}
