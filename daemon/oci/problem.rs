//! Problem: why a request failed, in the form that all rooms share, without HTTP.
//!
//! A room converts its own errors into problems with a `From` impl that has no side effect. `wire/status.rs` is the
//! only table from kinds to HTTP statuses; the JSON of the API and the page of the admin page are both made from the
//! same problem.

use std::time::Duration;

use serde_json::{Value, json};

use super::ErrorCode;

/// The time after which a client may retry when the registry is busy or unavailable and knows no better.
pub const RETRY_LATER: Duration = Duration::from_secs(5);

/// Kind of a problem. It decides the status of the response, and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request, or a value in it, is malformed.
    Malformed,
    /// The client has to log in, or to get another token.
    Unauthenticated,
    /// The client is known and not allowed to do this.
    Forbidden,
    /// The object does not exist.
    NotFound,
    /// The operation does not exist here, or is switched off.
    Unsupported,
    /// The client did not send its request in time.
    TimedOut,
    /// Another request has changed the object in the meantime.
    Conflict,
    /// The body is larger than its limit.
    ContentTooLarge,
    /// The path and query are longer than their limit.
    TargetTooLong,
    /// The body has a media type that is not accepted here.
    MediaTypeUnsupported,
    /// The byte range lies outside of the content, or does not continue the upload.
    RangeNotSatisfiable,
    /// The client calls the registry by a host name that it does not serve.
    Misdirected,
    /// The request is well-formed, and a value in it is not accepted.
    InputInvalid,
    /// The client has too many requests or failed log-ins.
    TooManyRequests,
    /// The request line and headers are larger than their limit.
    HeadersTooLarge,
    /// The daemon failed; the client cannot help it.
    Internal,
    /// The request uses a part of HTTP that the registry does not implement.
    NotImplemented,
    /// The registry cannot do this now.
    Unavailable,
    /// The disk, the quota or the index is full.
    NoSpace,
}

/// Problem: one element of the `errors` array of a response (distribution specification, "Error Codes"), and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    code: ErrorCode,
    message: String,
    detail: Value,
    retry_after: Option<Duration>,
    cause: Option<String>,
}

impl Problem {
    /// Makes a problem; `message` tells the client which operation failed, for which object, and how to go on.
    pub fn new(kind: ProblemKind, code: ErrorCode, message: impl Into<String>) -> Self {
        Problem { kind, code, message: message.into(), detail: Value::Null, retry_after: None, cause: None }
    }

    /// Makes a problem of the daemon itself. The client gets a fixed text; `cause` goes to the log.
    pub fn internal(cause: impl Into<String>) -> Self {
        let message = "the registry failed; its log has the reason (journalctl -u holdfast, or docker logs)";
        // The standard has no error code for a failure of the registry.
        Problem::new(ProblemKind::Internal, ErrorCode::Unsupported, message).with_cause(cause)
    }

    /// Makes the problem of a manifest that the repository does not have. `reference` is a tag, a digest, or a text
    /// that cannot be either.
    pub fn manifest_unknown(reference: &str) -> Self {
        let message = format!("manifest {reference} is not in this repository");
        Problem::new(ProblemKind::NotFound, ErrorCode::ManifestUnknown, message)
            .with_detail(json!({ "reference": reference }))
    }

    /// Makes a problem that passes by itself: the client may retry after [`RETRY_LATER`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        // The standard has no error code for an unavailable registry.
        Problem::new(ProblemKind::Unavailable, ErrorCode::Denied, message).with_retry_after(RETRY_LATER)
    }

    /// Makes the problem of a client with too many requests, which may retry after `retry_after`.
    pub fn too_many_requests(message: impl Into<String>, retry_after: Duration) -> Self {
        Problem::new(ProblemKind::TooManyRequests, ErrorCode::TooManyRequests, message)
            .with_detail(json!({ "retryAfterSeconds": retry_after.as_secs() }))
            .with_retry_after(retry_after)
    }

    /// Adds the `detail` of the error's JSON.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// Adds the cause, for the log only, where the message leaves it out.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the time after which a retry may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Returns the standard's error code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the text for the client: it begins in lower case and has no full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the `detail` of the error's JSON, which may be `null`.
    pub fn detail(&self) -> &Value {
        &self.detail
    }

    /// Returns the time after which a retry may succeed, if the problem passes by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the cause where the message leaves it out. It is for the log only: it may name files of this machine.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_an_internal_problem_is_not_in_its_message() {
        let problem = Problem::internal("cannot read /var/lib/holdfast/blobs");
        assert_eq!(problem.cause(), Some("cannot read /var/lib/holdfast/blobs"));
        assert!(!problem.message().contains("/var"));
    }
}
