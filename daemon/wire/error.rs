//! What goes wrong, and the one place where it becomes a status, a code and the standard's JSON.

use std::time::Duration;

use http::StatusCode;
use http::header::{
    ALLOW, CONNECTION, CONTENT_RANGE, HeaderName, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::{Value, json};

use super::challenge::Challenge;
use super::response::{Response, json as json_response};
use super::route::RouteError;
use crate::oci::{Digest, ErrorCode};

/// After how many seconds a client may try again when the registry is busy.
const RETRY_LATER: u64 = 5;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request names no host, several, or one that is malformed.
    Host(&'static str),
    /// The request is malformed HTTP, or uses a part of HTTP that is not supported.
    Http(StatusCode, &'static str),
    /// There is no such endpoint.
    NoEndpoint,
    /// The endpoint has other methods.
    Method(&'static str),
    /// Deleting is switched off.
    DeleteDisabled,
    /// Pushes and deletes are switched off.
    ReadOnlyByConfiguration,
    /// The name of a repository is invalid.
    NameInvalid(String, String),
    /// A tag is invalid.
    TagInvalid(String, String),
    /// A digest is malformed, missing or not that of the content.
    DigestInvalid(String, Value),
    /// There is no such repository.
    NameUnknown(String),
    /// There is no such manifest.
    ManifestUnknown(String),
    /// There is no such blob.
    BlobUnknown(Digest),
    /// There is no such upload.
    UploadUnknown,
    /// The upload cannot go on like this.
    UploadInvalid(String),
    /// Another request has taken the upload over.
    UploadTakenOver,
    /// A chunk does not begin where the upload ends.
    ChunkOutOfOrder {
        /// How many bytes the upload has.
        length: u64,
        /// Where it goes on.
        location: String,
    },
    /// The body is not as long as was said.
    SizeInvalid(String),
    /// The body is longer than is taken.
    TooLarge(usize),
    /// The manifest is none.
    ManifestInvalid(String),
    /// The manifest points at what is not there.
    ManifestBlobUnknown(Vec<Digest>),
    /// A parameter is not what it should be.
    Parameter(String),
    /// The range has no byte of content of this size.
    RangeUnsatisfiable(u64),
    /// The client has to log in, or to get another token.
    Unauthorized {
        /// How.
        challenge: Challenge,
        /// Why.
        message: String,
    },
    /// The user may not.
    Denied(String),
    /// The registry is not for whoever calls it by this name.
    Misdirected(String),
    /// Too many wrong passwords.
    TooManyRequests(Duration),
    /// As many uploads are received as there may be at once.
    TooManyUploads,
    /// The client has as many waiting requests of this kind as it may.
    TooManyWaiting,
    /// The disk has no room.
    Full,
    /// The quota is used up.
    Quota,
    /// The index is full.
    IndexFull,
    /// The store takes no writes, or cannot be asked now.
    Unavailable(String),
    /// The client did not send what it announced.
    Stalled,
    /// Something failed that the client can do nothing about; the text is for the log only.
    Internal(String),
}

/// Status, code, message and detail of an error.
struct Shape(StatusCode, ErrorCode, String, Value);

impl ApiError {
    fn shape(&self) -> Shape {
        self.request_shape().or_else(|| self.content_shape()).unwrap_or_else(|| self.server_shape())
    }

    /// What is wrong with the request as such.
    fn request_shape(&self) -> Option<Shape> {
        Some(match self {
            ApiError::Host(why) => shape(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, *why, Value::Null),
            ApiError::Http(status, why) => {
                let is_size = *status == StatusCode::PAYLOAD_TOO_LARGE;
                let code = if is_size { ErrorCode::SizeInvalid } else { ErrorCode::Unsupported };
                shape(*status, code, *why, Value::Null)
            }
            ApiError::NoEndpoint => {
                shape(StatusCode::NOT_FOUND, ErrorCode::Unsupported, "there is no such endpoint", Value::Null)
            }
            ApiError::Method(allow) => shape(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "this endpoint does not have this method",
                json!({ "allow": allow }),
            ),
            ApiError::DeleteDisabled => shape(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "deleting is switched off (storage.delete)",
                Value::Null,
            ),
            ApiError::ReadOnlyByConfiguration => shape(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "the registry is read-only: pushes and deletes are switched off (registry.read_only)",
                Value::Null,
            ),
            ApiError::NameInvalid(name, why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, why, json!({ "name": name }))
            }
            ApiError::TagInvalid(tag, why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, why, json!({ "reference": tag }))
            }
            ApiError::DigestInvalid(why, detail) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, why, detail.clone())
            }
            ApiError::Parameter(why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, why, Value::Null)
            }
            ApiError::Unauthorized { message, .. } => {
                shape(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message, Value::Null)
            }
            ApiError::Denied(why) => shape(StatusCode::FORBIDDEN, ErrorCode::Denied, why, Value::Null),
            ApiError::Misdirected(why) => {
                shape(StatusCode::MISDIRECTED_REQUEST, ErrorCode::Denied, why, Value::Null)
            }
            ApiError::TooManyRequests(after) => shape(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "too many wrong passwords from this address; try again later",
                json!({ "retryAfterSeconds": after.as_secs() }),
            ),
            ApiError::TooManyUploads => shape(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "the registry is receiving as many uploads as it can; try again later",
                json!({ "retryAfterSeconds": RETRY_LATER }),
            ),
            ApiError::TooManyWaiting => shape(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "too many requests of this client are waiting already; try again later",
                json!({ "retryAfterSeconds": RETRY_LATER }),
            ),
            _ => return None,
        })
    }

    /// What is wrong with the content, or that it is not there.
    fn content_shape(&self) -> Option<Shape> {
        Some(match self {
            ApiError::NameUnknown(name) => shape(
                StatusCode::NOT_FOUND,
                ErrorCode::NameUnknown,
                "there is no such repository",
                json!({ "name": name }),
            ),
            ApiError::ManifestUnknown(reference) => shape(
                StatusCode::NOT_FOUND,
                ErrorCode::ManifestUnknown,
                "there is no such manifest in this repository",
                json!({ "reference": reference }),
            ),
            ApiError::BlobUnknown(digest) => shape(
                StatusCode::NOT_FOUND,
                ErrorCode::BlobUnknown,
                "there is no such blob in this repository",
                json!({ "digest": digest.to_string() }),
            ),
            ApiError::UploadUnknown => shape(
                StatusCode::NOT_FOUND,
                ErrorCode::BlobUploadUnknown,
                "there is no such upload in this repository; start a new one",
                Value::Null,
            ),
            ApiError::UploadInvalid(why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid, why, Value::Null)
            }
            ApiError::UploadTakenOver => shape(
                StatusCode::CONFLICT,
                ErrorCode::BlobUploadInvalid,
                "the upload was continued by another request",
                Value::Null,
            ),
            ApiError::ChunkOutOfOrder { length, .. } => shape(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::BlobUploadInvalid,
                "the chunk does not begin where the upload ends",
                json!({ "offset": length }),
            ),
            ApiError::SizeInvalid(why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid, why, Value::Null)
            }
            ApiError::TooLarge(limit) => shape(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::SizeInvalid,
                "the body is too large",
                json!({ "limit": limit }),
            ),
            ApiError::ManifestInvalid(why) => {
                shape(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, why, Value::Null)
            }
            ApiError::ManifestBlobUnknown(digests) => shape(
                StatusCode::BAD_REQUEST,
                ErrorCode::ManifestBlobUnknown,
                "the manifest points at content that is not in this repository; push that first",
                json!(digests.iter().map(|digest| json!({ "digest": digest })).collect::<Vec<_>>()),
            ),
            ApiError::RangeUnsatisfiable(size) => shape(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::SizeInvalid,
                "no byte of the content lies in the range",
                json!({ "size": size }),
            ),
            _ => return None,
        })
    }

    /// What the client cannot help.
    fn server_shape(&self) -> Shape {
        match self {
            ApiError::Full => shape(
                StatusCode::INSUFFICIENT_STORAGE,
                ErrorCode::Denied,
                "the registry's disk has no room for this; delete images that are not needed",
                Value::Null,
            ),
            ApiError::Quota => shape(
                StatusCode::INSUFFICIENT_STORAGE,
                ErrorCode::Denied,
                "the registry's quota is used up; delete images that are not needed, or set storage.quota higher",
                Value::Null,
            ),
            ApiError::IndexFull => shape(
                StatusCode::INSUFFICIENT_STORAGE,
                ErrorCode::Denied,
                "the registry's index is full; delete images that are not needed, or set storage.index_map_size higher",
                Value::Null,
            ),
            ApiError::Unavailable(why) => {
                shape(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Denied, why, Value::Null)
            }
            ApiError::Stalled => shape(
                StatusCode::REQUEST_TIMEOUT,
                ErrorCode::BlobUploadInvalid,
                "the body did not arrive in time",
                Value::Null,
            ),
            _ => shape(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::Unsupported,
                "the registry failed; its log says more",
                Value::Null,
            ),
        }
    }

    /// Returns the status, the code and the message, for the log.
    pub fn summary(&self) -> (StatusCode, &'static str, String) {
        let Shape(status, code, message, _) = self.shape();
        (status, code.as_str(), message)
    }

    /// The answer to a request that met this error.
    pub fn into_response(self) -> Response {
        let Shape(status, code, message, detail) = self.shape();
        let error = json!({ "code": code.as_str(), "message": message, "detail": detail });
        let mut response = json_response(status, &json!({ "errors": [error] }));
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        };
        match self {
            // What follows on the connection may be meant for another server.
            ApiError::Host(_) | ApiError::Http(..) => set(CONNECTION, "close".into()),
            ApiError::Method(allow) => set(ALLOW, allow.into()),
            ApiError::DeleteDisabled | ApiError::ReadOnlyByConfiguration => set(ALLOW, "GET, HEAD".into()),
            ApiError::Unauthorized { challenge, .. } => set(WWW_AUTHENTICATE, challenge.header()),
            ApiError::TooManyRequests(after) => set(RETRY_AFTER, after.as_secs().max(1).to_string()),
            ApiError::TooManyUploads | ApiError::TooManyWaiting | ApiError::Unavailable(_) => {
                set(RETRY_AFTER, RETRY_LATER.to_string());
            }
            ApiError::RangeUnsatisfiable(size) => set(CONTENT_RANGE, format!("bytes */{size}")),
            ApiError::ChunkOutOfOrder { length, location } => {
                set(RANGE, format!("0-{}", length.saturating_sub(1)));
                set(http::header::LOCATION, location);
            }
            _ => {}
        }
        response
    }
}

fn shape(status: StatusCode, code: ErrorCode, message: impl Into<String>, detail: Value) -> Shape {
    Shape(status, code, message.into(), detail)
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => ApiError::NoEndpoint,
            RouteError::Method(allow) => ApiError::Method(allow),
            RouteError::Name(name, why) => ApiError::NameInvalid(name, why.to_string()),
            RouteError::ManifestUnknown(reference) => ApiError::ManifestUnknown(reference),
            RouteError::Reference(text, why) if text.contains(':') => {
                ApiError::DigestInvalid(why.to_string(), json!({ "digest": text }))
            }
            RouteError::Reference(text, why) => ApiError::TagInvalid(text, why.to_string()),
            RouteError::Digest(text, why) => {
                ApiError::DigestInvalid(why.to_string(), json!({ "digest": text }))
            }
        }
    }
}
