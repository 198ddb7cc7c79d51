//! Errors of requests to a registry.

use http::StatusCode;
use serde::Deserialize;

use crate::egress::{EgressError, Remedy, Response};

/// Maximum length of an error answer that is read, in bytes, and of its message, in characters.
const MAX_ANSWER: usize = 64 << 10;
const MAX_MESSAGE: usize = 300;

/// Reason why a request to a registry failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The registry wants other credentials, or any.
    #[error("{reason}")]
    Unauthorized {
        /// The reason.
        reason: String,
        /// The remedy, if there is one.
        remedy: Option<Remedy>,
    },
    /// The registry answered with an error.
    #[error("{what}: the registry answered {status}{}", after_colon(.message))]
    Status {
        /// The object of the request.
        what: String,
        /// The status.
        status: StatusCode,
        /// The messages of the answer.
        message: String,
    },
    /// The answer is not that of a registry, or its bytes do not match their digest.
    #[error("{0}")]
    Answer(String),
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl ClientError {
    /// Returns true if the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Egress(error) => error.is_transient(),
            ClientError::Status { status, .. } => {
                status.is_server_error() && *status != StatusCode::INSUFFICIENT_STORAGE
                    || *status == StatusCode::TOO_MANY_REQUESTS
            }
            ClientError::Unauthorized { .. } | ClientError::Answer(_) => false,
        }
    }

    /// Returns the status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            ClientError::Status { status, .. } => Some(*status),
            ClientError::Egress(_) | ClientError::Unauthorized { .. } | ClientError::Answer(_) => None,
        }
    }

    /// Makes the error of credentials that are wrong, or cannot be used.
    pub(super) fn wrong_credentials(reason: impl Into<String>) -> Self {
        ClientError::Unauthorized { reason: reason.into(), remedy: None }
    }

    /// Returns the setting that may help.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            ClientError::Egress(error) => error.remedy(),
            ClientError::Unauthorized { remedy, .. } => remedy.clone(),
            ClientError::Status { .. } | ClientError::Answer(_) => None,
        }
    }
}

/// Makes the error of an answer that is not a success.
pub(super) async fn refusal(what: impl Into<String>, response: Response) -> ClientError {
    let status = response.status;
    // Without a text the status has to do.
    let message = response.bytes(MAX_ANSWER).await.map(|bytes| messages(&bytes)).unwrap_or_default();
    ClientError::Status { what: what.into(), status, message }
}

/// Returns `None` for an answer that the object is not there; its connection is kept.
pub(super) async fn absent<T>(response: Response) -> Result<Option<T>, ClientError> {
    response.drain().await?;
    Ok(None)
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns the messages of an error answer on one line.
pub(super) fn messages(bytes: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice(bytes) else { return String::new() };
    let text = |entry: ErrorEntry| if entry.message.is_empty() { entry.code } else { entry.message };
    let all = errors.into_iter().map(text).collect::<Vec<_>>().join("; ");
    all.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_errors_are_one_clean_line() {
        let text = br#"{"errors":[{"code":"DENIED","message":"not\nyou"},{"code":"X"}]}"#;
        assert_eq!(messages(text), "not you; X");
        assert_eq!(messages(b"<html>"), "");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "a".repeat(5000));
        assert_eq!(messages(long.as_bytes()).len(), MAX_MESSAGE);
    }
}
