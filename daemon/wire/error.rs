//! The error of a request: a [`Problem`], and the response header that goes with it.
//!
//! The API turns it into the standard's JSON here; the admin page renders the same value as HTML. The status comes from
//! [`status_of`] alone.

use std::time::Duration;

use http::header::{
    ALLOW, CONNECTION, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::challenge::Challenge;
use super::response::{Response, json as json_response};
use super::route::RouteError;
use super::status::status_of;
use crate::oci::{ErrorCode, Problem, ProblemKind};

/// Error of a request: the problem, and the header that its response needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    problem: Problem,
    header: ErrorHeader,
}

/// The header, besides `Retry-After`, that a response with this error needs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ErrorHeader {
    /// No header.
    None,
    /// `Connection: close`. The framing of the request is in doubt, and the next bytes of the connection may belong to
    /// a request for another server (request smuggling).
    Close,
    /// `Allow`: the methods of the endpoint.
    Allow(&'static str),
    /// `WWW-Authenticate`.
    Challenge(Challenge),
    /// `Content-Range`: the size of the content (RFC 9110 section 15.5.17).
    Size(u64),
    /// `Range` and `Location`: where the upload continues (distribution specification, "Pushing a blob in chunks").
    Resume {
        /// Bytes that the upload has.
        length: u64,
        /// The URL of the upload.
        location: String,
    },
}

impl ApiError {
    /// Makes the error of a request that names no host, more than one, or a malformed one. `why` is one sentence.
    pub fn host(why: &'static str) -> Self {
        ApiError::http(ProblemKind::Malformed, why)
    }

    /// Makes the error of a request that is malformed HTTP, or uses a part of HTTP that is not supported. Closes the
    /// connection.
    pub fn http(kind: ProblemKind, why: &'static str) -> Self {
        let is_size = kind == ProblemKind::ContentTooLarge;
        let code = if is_size { ErrorCode::SizeInvalid } else { ErrorCode::Unsupported };
        ApiError { problem: Problem::new(kind, code, why), header: ErrorHeader::Close }
    }

    /// Makes the error of a path that belongs to no endpoint.
    pub fn no_endpoint() -> Self {
        let message = "the registry has no endpoint at this path; its API is under /v2/";
        Problem::new(ProblemKind::NotFound, ErrorCode::Unsupported, message).into()
    }

    /// Makes the error of a method that the endpoint does not have (RFC 9110 section 15.5.6). `allow` is the value of
    /// the header `Allow`.
    pub fn method(allow: &'static str) -> Self {
        let message = format!("this URL does not support this method, only {allow}");
        let problem = Problem::new(ProblemKind::Unsupported, ErrorCode::Unsupported, message);
        ApiError {
            problem: problem.with_detail(json!({ "allow": allow })),
            header: ErrorHeader::Allow(allow),
        }
    }

    /// Makes the error of a change that the configuration switches off; `message` names the key.
    pub fn disabled(message: &'static str) -> Self {
        let problem = Problem::new(ProblemKind::Unsupported, ErrorCode::Unsupported, message);
        ApiError { problem, header: ErrorHeader::Allow("GET, HEAD") }
    }

    /// Makes the error of a `name` that is not a repository name.
    pub fn name_invalid(name: &str, why: &str) -> Self {
        malformed(ErrorCode::NameInvalid, why, json!({ "name": name }))
    }

    /// Makes the error of a `tag` that is malformed.
    pub fn tag_invalid(tag: &str, why: &str) -> Self {
        malformed(ErrorCode::ManifestInvalid, why, json!({ "reference": tag }))
    }

    /// Makes the error of a `digest` that is malformed.
    pub fn digest_invalid(digest: &str, why: &str) -> Self {
        malformed(ErrorCode::DigestInvalid, why, json!({ "digest": digest }))
    }

    /// Makes the error of a manifest that is not accepted.
    pub fn manifest_invalid(why: impl Into<String>) -> Self {
        malformed(ErrorCode::ManifestInvalid, why, Value::Null)
    }

    /// Makes the error of a query parameter whose value is not accepted.
    pub fn parameter(why: impl Into<String>) -> Self {
        malformed(ErrorCode::Unsupported, why, Value::Null)
    }

    /// Makes the error of a body that does not have the announced length.
    pub fn size_invalid(why: impl Into<String>) -> Self {
        malformed(ErrorCode::SizeInvalid, why, Value::Null)
    }

    /// Makes the error of a body with more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is too large: the limit is {limit} bytes");
        Problem::new(ProblemKind::ContentTooLarge, ErrorCode::SizeInvalid, message)
            .with_detail(json!({ "limit": limit }))
            .into()
    }

    /// Makes the error of a client that did not send the body in time.
    pub fn stalled() -> Self {
        let message = "the body did not arrive in time";
        Problem::new(ProblemKind::TimedOut, ErrorCode::BlobUploadInvalid, message).into()
    }

    /// Makes the error of a range without a byte of the content, which has `size` bytes.
    pub fn range_unsatisfiable(size: u64) -> Self {
        let message = format!("the range contains no byte of the content, which has {size} bytes");
        let problem = Problem::new(ProblemKind::RangeNotSatisfiable, ErrorCode::SizeInvalid, message);
        ApiError { problem: problem.with_detail(json!({ "size": size })), header: ErrorHeader::Size(size) }
    }

    /// Makes the error of a chunk that does not begin where the upload at `location` ends, which is at `length` bytes.
    pub fn chunk_out_of_order(length: u64, location: String) -> Self {
        let message =
            format!("the chunk does not continue the upload; send the bytes from offset {length} on");
        let problem = Problem::new(ProblemKind::RangeNotSatisfiable, ErrorCode::BlobUploadInvalid, message);
        ApiError {
            problem: problem.with_detail(json!({ "offset": length })),
            header: ErrorHeader::Resume { length, location },
        }
    }

    /// Makes the error of a client that has to log in, or to get another token.
    pub fn unauthorized(challenge: Challenge, message: &str) -> Self {
        let problem = Problem::new(ProblemKind::Unauthenticated, ErrorCode::Unauthorized, message);
        ApiError { problem, header: ErrorHeader::Challenge(challenge) }
    }

    /// Makes the error of a log-in that failed with this problem; the client gets a challenge only if another log-in
    /// could succeed.
    pub fn failed_login(problem: Problem, challenge: Challenge) -> Self {
        let is_challenged = problem.kind() == ProblemKind::Unauthenticated;
        let header = if is_challenged { ErrorHeader::Challenge(challenge) } else { ErrorHeader::None };
        ApiError { problem, header }
    }

    /// Makes the error of a user who is not allowed to do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Problem::new(ProblemKind::Forbidden, ErrorCode::Denied, message).into()
    }

    /// Returns the problem.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        status_of(self.problem.kind())
    }

    /// Returns true if the connection is closed after the response.
    pub fn closes_connection(&self) -> bool {
        self.header == ErrorHeader::Close
    }

    /// Returns the status, the error code and the reason, for the log.
    pub fn summary(&self) -> (StatusCode, &'static str, &str) {
        let reason = self.problem.cause().unwrap_or(self.problem.message());
        (self.status(), self.problem.code().as_str(), reason)
    }

    /// Sets the headers of a response that reports this error, in whatever format its body is.
    pub fn set_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        if let Some(after) = self.problem.retry_after() {
            set(RETRY_AFTER, after.max(Duration::from_secs(1)).as_secs().to_string());
        }
        match &self.header {
            ErrorHeader::None => {}
            ErrorHeader::Close => set(CONNECTION, "close".into()),
            ErrorHeader::Allow(allow) => set(ALLOW, (*allow).into()),
            ErrorHeader::Challenge(challenge) => set(WWW_AUTHENTICATE, challenge.header()),
            ErrorHeader::Size(size) => set(CONTENT_RANGE, format!("bytes */{size}")),
            ErrorHeader::Resume { length, location } => {
                // An empty upload is `0-0`, as registry:2 reports it: the format has no empty range.
                set(RANGE, format!("0-{}", length.saturating_sub(1)));
                set(LOCATION, location.clone());
            }
        }
    }

    /// Returns the response with the standard's JSON (distribution specification, "Error Codes").
    pub fn into_response(self) -> Response {
        let problem = &self.problem;
        let error = json!({
            "code": problem.code().as_str(), "message": problem.message(), "detail": problem.detail(),
        });
        let mut response = json_response(self.status(), &json!({ "errors": [error] }));
        self.set_headers(response.headers_mut());
        response
    }
}

fn malformed(code: ErrorCode, why: impl Into<String>, detail: Value) -> ApiError {
    Problem::new(ProblemKind::Malformed, code, why).with_detail(detail).into()
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        ApiError { problem, header: ErrorHeader::None }
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => ApiError::no_endpoint(),
            RouteError::Method(allow) => ApiError::method(allow),
            RouteError::Name(name, why) => ApiError::name_invalid(&name, &why.to_string()),
            RouteError::ManifestUnknown(reference) => Problem::manifest_unknown(&reference).into(),
            RouteError::Reference(text, why) if text.contains(':') => {
                ApiError::digest_invalid(&text, &why.to_string())
            }
            RouteError::Reference(text, why) => ApiError::tag_invalid(&text, &why.to_string()),
            RouteError::Digest(text, why) => ApiError::digest_invalid(&text, &why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_an_error_follow_from_its_kind() {
        let header = |error: ApiError, name: HeaderName| {
            let response = error.into_response();
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header(ApiError::method("GET"), ALLOW).as_deref(), Some("GET"));
        assert_eq!(header(ApiError::range_unsatisfiable(7), CONTENT_RANGE).as_deref(), Some("bytes */7"));
        assert_eq!(header(ApiError::chunk_out_of_order(0, "/x".into()), RANGE).as_deref(), Some("0-0"));
        assert_eq!(header(Problem::unavailable("x").into(), RETRY_AFTER).as_deref(), Some("5"));
        let throttled = Problem::too_many_requests("x", Duration::from_millis(300));
        assert_eq!(header(throttled.into(), RETRY_AFTER).as_deref(), Some("1"));
        assert_eq!(
            header(ApiError::http(ProblemKind::NotImplemented, "x"), CONNECTION).as_deref(),
            Some("close")
        );
    }

    #[test]
    fn only_a_log_in_that_could_succeed_is_challenged() {
        let challenge = Challenge::Basic { realm: "x".into() };
        let throttled = Problem::too_many_requests("x", Duration::from_secs(9));
        let response = ApiError::failed_login(throttled, challenge.clone()).into_response();
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        let wrong = Problem::new(ProblemKind::Unauthenticated, ErrorCode::Unauthorized, "x");
        let response = ApiError::failed_login(wrong, challenge).into_response();
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
    }
}
