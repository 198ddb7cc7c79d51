//! Uploads: opened, gone on with, ended, given up; and mounts ("Pushing blobs").

use http::header::{HeaderName, LOCATION, RANGE};
use http::{Method, StatusCode};

use super::receiving::Place;
use super::{Registry, name_digest, parse_digest, set};
use crate::access::Action;
use crate::oci::{Algorithm, Digest, RepositoryName};
use crate::store::{Upload, UploadId};
use crate::wire::{ApiError, ContentRange, Permitted, Response, empty};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How many repositories are looked at for a blob to be mounted from anywhere.
const HOMES: usize = 100;

impl Registry {
    /// end-4a, end-4b, end-11: POST.
    pub(super) async fn start_upload(
        &self,
        name: &RepositoryName,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        if let Some(digest) = request.query.get("mount").map(parse_digest).transpose()?
            && self.mount(name, &digest, request).await?
        {
            return Ok(self.created(name, &digest));
        }
        let digest = request.query.get("digest").map(parse_digest).transpose()?;
        let algorithm = match (&digest, request.query.get("digest-algorithm")) {
            (Some(digest), _) => digest.algorithm(),
            (None, Some(text)) => text.parse().map_err(|_| {
                ApiError::Parameter(format!("digest-algorithm is {text:?}; there are sha256 and sha512"))
            })?,
            (None, None) => Algorithm::Sha256,
        };
        let _place = if digest.is_some() { Some(self.place(request)?) } else { None };
        let mut upload = self.store.start_upload(name, algorithm).await?;
        let Some(digest) = digest else {
            return Ok(self.accepted(name, upload.id(), 0, StatusCode::ACCEPTED, request));
        };
        match receive(&mut upload, request).await {
            Ok(()) => {}
            Err(error) => {
                // The client never learns the name of this upload, so nobody could go on with it.
                upload.cancel().await?;
                return Err(error);
            }
        }
        self.commit(name, upload, digest).await
    }

    /// Takes one of the places for uploads being received, whose files are open.
    fn place(&self, request: &Permitted) -> Result<Place, ApiError> {
        self.receiving.place(self.client(request)).ok_or(ApiError::TooManyUploads)
    }

    async fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: &Permitted,
    ) -> Result<bool, ApiError> {
        let sources: Vec<RepositoryName> = match request.query.get("from") {
            // A name that is none has no blob: the client gets an upload, as the standard wants.
            Some(from) => from.parse().into_iter().collect(),
            None => self.store.blob_homes(digest, HOMES).await?,
        };
        for from in sources.iter().filter(|from| request.permit.may(Action::Pull, from)) {
            if self.store.mount_blob(from, name, digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// end-13: GET.
    pub(super) async fn upload_status(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &Permitted,
    ) -> Result<Response, ApiError> {
        let id = parse_id(id)?;
        let length = self.store.upload_length(name, id).await?;
        Ok(self.accepted(name, id, length, StatusCode::NO_CONTENT, request))
    }

    /// end-5: PATCH, with a `Content-Range` or as a stream.
    pub(super) async fn patch_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let _place = self.place(request)?;
        let mut upload = self.continue_upload(name, id, request).await?;
        upload.prepare(None).await?;
        receive(&mut upload, request).await?;
        Ok(self.accepted(name, upload.id(), upload.length(), StatusCode::ACCEPTED, request))
    }

    /// end-6: PUT, with the last chunk, with everything, or without a body.
    pub(super) async fn put_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &mut Permitted,
    ) -> Result<Response, ApiError> {
        let Some(digest) = request.query.get("digest") else {
            let why = "the parameter digest is missing; it ends the upload".into();
            return Err(ApiError::DigestInvalid(why, serde_json::Value::Null));
        };
        let digest = parse_digest(digest)?;
        let _place = self.place(request)?;
        let mut upload = self.continue_upload(name, id, request).await?;
        upload.prepare(Some(digest.algorithm())).await?;
        receive(&mut upload, request).await?;
        self.commit(name, upload, digest).await
    }

    /// end-14: DELETE.
    pub(super) async fn cancel_upload(&self, name: &RepositoryName, id: &str) -> Result<Response, ApiError> {
        let upload = self.store.resume_upload(name, parse_id(id)?).await?;
        upload.cancel().await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Takes up an upload where a chunk says that it goes on; a chunk that does not fit leaves it as it is.
    async fn continue_upload(
        &self,
        name: &RepositoryName,
        id: &str,
        request: &Permitted,
    ) -> Result<Upload, ApiError> {
        let id = parse_id(id)?;
        let range = content_range(request)?;
        if let Some(range) = range {
            self.check_order(name, id, range, self.store.upload_length(name, id).await?)?;
        }
        let upload = self.store.resume_upload(name, id).await?;
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
        Err(ApiError::ChunkOutOfOrder { length, location })
    }

    async fn commit(
        &self,
        name: &RepositoryName,
        upload: Upload,
        digest: Digest,
    ) -> Result<Response, ApiError> {
        self.store.commit_upload(name, upload, &digest).await?;
        Ok(self.created(name, &digest))
    }

    fn created(&self, name: &RepositoryName, digest: &Digest) -> Response {
        let mut response = empty(StatusCode::CREATED);
        set(&mut response, LOCATION, &self.location(&format!("/v2/{name}/blobs/{digest}")));
        name_digest(&mut response, digest);
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
        set(&mut response, RANGE, &format!("0-{}", length.saturating_sub(1)));
        set(&mut response, UPLOAD_UUID, &id.to_string());
        if request.parts.method == Method::POST {
            set(&mut response, CHUNK_MIN_LENGTH, "0");
        }
        response
    }
}

fn upload_path(name: &RepositoryName, id: UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// An id that this registry never gave out is an upload that it does not know.
fn parse_id(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| ApiError::UploadUnknown)
}

/// The range of a chunk, which has to be as long as the body says it is.
fn content_range(request: &Permitted) -> Result<Option<ContentRange>, ApiError> {
    let Some(text) = request.header("content-range") else { return Ok(None) };
    let range: ContentRange = text
        .parse()
        .map_err(|error| ApiError::UploadInvalid(format!("the Content-Range {text:?} is none: {error}")))?;
    let length = range.end - range.start + 1;
    match request.body.announced() {
        Some(announced) if announced != length => Err(ApiError::SizeInvalid(format!(
            "the Content-Range {text:?} has {length} bytes, and the body {announced}"
        ))),
        _ => Ok(Some(range)),
    }
}

/// Writes the body to the upload as it arrives. What has arrived stays when the client breaks off, so that it
/// can go on from there.
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
        return Err(ApiError::SizeInvalid(format!("the chunk had {received} bytes, not as many as it said")));
    }
    Ok(())
}
