//! The `/v2/` API of the distribution specification: one file for each resource.
//!
//! Everything here has a permit already. It asks the store, and puts what it says into an answer; what goes
//! wrong is an [`ApiError`], which `wire` turns into a status.

mod blobs;
mod catalog;
mod manifests;
mod receiving;
mod referrers;
mod state;
mod tags;
mod uploads;

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, LINK};
use serde_json::json;

use crate::access::{self, Identity};
use crate::oci::{Digest, Reference};
use crate::store::{Holder, Store, StoreError};
use crate::wire::{ApiError, Locations, Permitted, Query, Response, Route, json as json_response};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

pub use self::receiving::Receiving;

/// What the API needs.
pub struct Registry {
    /// Where everything is.
    pub store: Store,
    /// Where answers say that things are.
    pub locations: Locations,
    /// Whether anything may be deleted.
    pub delete: bool,
    /// Whether pushes and deletes are refused.
    pub read_only: bool,
    /// The most items in one page of a list.
    pub list_max: usize,
    /// The most descriptors in a manifest that is pushed, and the most entries read of a list of referrers.
    pub manifest_descriptors: usize,
    /// Places for uploads being received at once.
    pub receiving: Arc<Receiving>,
}

impl Registry {
    /// Answers a request.
    ///
    /// # Errors
    /// [`ApiError`], to be turned into an answer.
    pub async fn answer(&self, request: Permitted) -> Result<Response, ApiError> {
        let holder = self.holder(&request);
        holder.run(self.dispatch(request)).await
    }

    async fn dispatch(&self, mut request: Permitted) -> Result<Response, ApiError> {
        let route = request.route.clone();
        if self.read_only && route.changes_content() {
            return Err(ApiError::ReadOnlyByConfiguration);
        }
        match route {
            Route::Ping => Ok(ping()),
            Route::Catalog => self.catalog(&request).await,
            Route::Tags(name) => self.tags(&name, &request).await,
            Route::GetManifest(name, reference) => self.get_manifest(&name, &reference, &request).await,
            Route::PutManifest(name, reference) => self.put_manifest(&name, reference, &mut request).await,
            Route::DeleteManifest(name, reference) => self.delete_manifest(&name, reference, &request).await,
            Route::GetBlob(name, digest) => self.get_blob(&name, &digest, &request).await,
            Route::DeleteBlob(name, digest) => self.delete_blob(&name, &digest).await,
            Route::StartUpload(name) => self.start_upload(&name, &mut request).await,
            Route::UploadStatus(name, id) => self.upload_status(&name, &id, &request).await,
            Route::PatchUpload(name, id) => self.patch_upload(&name, &id, &mut request).await,
            Route::PutUpload(name, id) => self.put_upload(&name, &id, &mut request).await,
            Route::CancelUpload(name, id) => self.cancel_upload(&name, &id).await,
            Route::Referrers(name, digest) => self.referrers(&name, &digest, &request).await,
        }
    }

    fn check_delete(&self) -> Result<(), ApiError> {
        if self.delete { Ok(()) } else { Err(ApiError::DeleteDisabled) }
    }

    /// How many items a page is to have, from the parameter `n`.
    fn page_size(&self, query: &Query) -> Result<usize, ApiError> {
        let Some(text) = query.get("n") else { return Ok(self.list_max) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(ApiError::Parameter(format!("n is {text:?}, and has to be a number from 0 on")));
        }
        // A number too large to read is larger than any page.
        Ok(text.parse().unwrap_or(usize::MAX).min(self.list_max))
    }

    fn location(&self, path: &str) -> String {
        self.locations.of(path)
    }

    fn client(&self, request: &Permitted) -> IpAddr {
        self.locations.client(&request.parts.headers, request.peer)
    }

    /// Returns the party that the request waits for its turn as.
    fn holder(&self, request: &Permitted) -> Holder {
        match request.permit.identity() {
            Identity::User(name) => Holder::User(name.as_str().into()),
            Identity::Anonymous => Holder::Network(access::network(self.client(request))),
        }
    }
}

/// end-1: the registry is there and speaks this API.
fn ping() -> Response {
    json_response(StatusCode::OK, &json!({}))
}

/// Names the version of the API, which clients look for on `/v2/`, allowed or not.
pub fn mark_version(response: &mut Response) {
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Says where the next page is.
fn link_next(response: &mut Response, path: &str, parameters: &[(&str, &str)]) {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    set(response, LINK, &format!("<{path}?{query}>; rel=\"next\""));
}

fn name_digest(response: &mut Response, digest: &Digest) {
    set(response, DOCKER_CONTENT_DIGEST, &digest.to_string());
}

fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: crate::oci::ParseDigestError| {
        ApiError::DigestInvalid(error.to_string(), json!({ "digest": text }))
    })
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BlobUnknown(digest) => ApiError::BlobUnknown(digest),
            StoreError::ManifestUnknown(Reference::Tag(tag)) => ApiError::ManifestUnknown(tag.to_string()),
            StoreError::ManifestUnknown(Reference::Digest(digest)) => {
                ApiError::ManifestUnknown(digest.to_string())
            }
            StoreError::NameUnknown(name) => ApiError::NameUnknown(name.to_string()),
            StoreError::UploadUnknown => ApiError::UploadUnknown,
            StoreError::UploadTakenOver => ApiError::UploadTakenOver,
            StoreError::DigestMismatch { claimed, actual } => ApiError::DigestInvalid(
                "the content does not have the digest that was given".into(),
                json!({ "given": claimed, "actual": actual }),
            ),
            StoreError::ManifestBlobUnknown(digests) => ApiError::ManifestBlobUnknown(digests),
            error @ (StoreError::TooManyTags { .. }
            | StoreError::TooManyNames { .. }
            | StoreError::TagImmutable { .. }
            | StoreError::TagKept { .. }
            | StoreError::ContentKept { .. }) => ApiError::Denied(error.to_string()),
            StoreError::TooManyUploads => ApiError::TooManyUploads,
            StoreError::TooManyWaiting => ApiError::TooManyWaiting,
            StoreError::Full => ApiError::Full,
            StoreError::Quota => ApiError::Quota,
            StoreError::IndexFull | StoreError::PagesHeld => ApiError::IndexFull,
            StoreError::ReadOnly => ApiError::Unavailable(
                "the registry is read-only since its disk failed; pulls go on, pushes need a restart".into(),
            ),
            error @ StoreError::OutOfResources { .. } => {
                ApiError::Unavailable(format!("{error}; try again later"))
            }
            StoreError::Closing => ApiError::Unavailable("the registry is shutting down".into()),
            error @ (StoreError::Damaged(_)
            | StoreError::InUse(_)
            | StoreError::Unready
            | StoreError::Replaced
            | StoreError::LayoutStale
            | StoreError::Format { .. }
            | StoreError::Io { .. }
            | StoreError::InTheWay { .. }
            | StoreError::Index(_)) => ApiError::Internal(error.to_string()),
        }
    }
}
