//! The error of a request: a status, and the JSON `{"code", "message", "hint"}`.

use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};
use serde::{Deserialize, Serialize};

use super::body::Body;
use crate::oci::Problem;
use crate::store::StoreError;
use crate::wire::{ApiError, status_of};

/// Reason why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    status: StatusCode,
    closes: bool,
    detail: Detail,
}

/// The JSON of an error, in a response or in the last event of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// A word that programs test for.
    pub code: String,
    /// One line for people: the operation, its object and the reason.
    pub message: String,
    /// The next step, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ControlError {
    /// Makes an error.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let detail = Detail { code: code.into(), message: message.into(), hint: None };
        ControlError { status, closes: false, detail }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }

    /// Makes the error of a malformed request (400).
    pub fn malformed(message: impl Into<String>) -> Self {
        ControlError::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// Makes the error of an object that does not exist (404).
    pub fn not_found(message: impl Into<String>) -> Self {
        ControlError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Makes the error of an operation that the configuration or the state of the registry refuses (409).
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        ControlError::new(StatusCode::CONFLICT, code, message)
    }

    /// Returns the JSON of the error.
    pub fn detail(&self) -> &Detail {
        &self.detail
    }

    /// Returns the response.
    pub(super) fn into_response(self) -> http::Response<Body> {
        let bytes = serde_json::to_vec(&self.detail).unwrap_or_default();
        let mut response = Body::whole(self.status, "application/json", bytes.into());
        if self.closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<ApiError> for ControlError {
    fn from(error: ApiError) -> Self {
        let (status, code, _) = error.summary();
        let made = ControlError::new(status, &code.to_ascii_lowercase(), error.problem().message());
        ControlError { closes: error.closes_connection(), ..made }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        // The peer is an operator of this machine, and gets the whole reason.
        let message = error.to_string();
        let problem = Problem::from(error);
        let code = problem.code().as_str().to_ascii_lowercase();
        ControlError::new(status_of(problem.kind()), &code, message)
    }
}
