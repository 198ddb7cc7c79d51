//! The one table from kinds of problems to HTTP statuses (RFC 9110 section 15; distribution specification,
//! "Endpoints").

use http::StatusCode;

use crate::oci::ProblemKind;

/// Returns the status of a response that reports a problem of this kind.
pub fn status_of(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::Malformed => StatusCode::BAD_REQUEST,
        ProblemKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ProblemKind::Forbidden => StatusCode::FORBIDDEN,
        ProblemKind::NotFound => StatusCode::NOT_FOUND,
        ProblemKind::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
        ProblemKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        ProblemKind::Conflict => StatusCode::CONFLICT,
        ProblemKind::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ProblemKind::TargetTooLong => StatusCode::URI_TOO_LONG,
        ProblemKind::MediaTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ProblemKind::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        ProblemKind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        ProblemKind::InputInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        ProblemKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ProblemKind::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ProblemKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
    }
}
