//! Maps failed log-ins to problems, which carry no HTTP.

use super::IdentifyError;
use crate::oci::{ErrorCode, Problem, ProblemKind};

impl From<&IdentifyError> for Problem {
    fn from(error: &IdentifyError) -> Self {
        let text = error.to_string();
        match error {
            IdentifyError::WrongCredentials | IdentifyError::InvalidToken | IdentifyError::ExpiredToken => {
                Problem::new(ProblemKind::Unauthenticated, ErrorCode::Unauthorized, text)
            }
            IdentifyError::Throttled { retry_after } => Problem::too_many_requests(text, *retry_after),
            IdentifyError::Unavailable => Problem::unavailable(text),
        }
    }
}
