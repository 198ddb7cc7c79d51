//! The error of a page. Its status, headers and text come from the problem that the API would respond with, too.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{response, route};
use crate::access::{HtpasswdError, IdentifyError, RuleError};
use crate::base::human::printable;
use crate::oci::{ErrorCode, Problem, ProblemKind, RETRY_LATER};
use crate::store::StoreError;
use crate::wire::{ApiError, Response, with_bytes};

/// The reason why a page is not shown or a form is not processed.
#[derive(Debug)]
pub(super) enum AdminError {
    /// The user has to log in first. A request gets a redirect to the form instead of a page with this error.
    NeedsLogin,
    /// The list has fewer pages. A request gets a redirect to this address, the last page, instead of a page with this error.
    BeyondLastPage(String),
    /// The user is not allowed to do this.
    Denied(&'static str),
    /// The token of the form does not belong to this session (CSRF).
    Forged(&'static str),
    /// The object does not exist.
    NotFound(String),
    /// A field of a form is not accepted; most forms are shown again with this text.
    Invalid(String),
    /// The body of the request is not a form.
    NotForm,
    /// Too many requests of this client are waiting.
    Busy,
    /// The daemon failed; the text is for the log only.
    Internal(String),
    /// An error that the API has as well.
    Request(ApiError),
}

impl AdminError {
    /// Returns the error as the API has it. Pages and JSON are made from this value.
    fn to_api_error(&self) -> ApiError {
        let forbidden = |text: &str| Problem::new(ProblemKind::Forbidden, ErrorCode::Denied, text);
        let problem = match self {
            AdminError::NeedsLogin => forbidden("This page is for users of the registry. Log in first."),
            AdminError::Denied(text) | AdminError::Forged(text) => forbidden(text),
            AdminError::BeyondLastPage(_) => {
                Problem::new(ProblemKind::NotFound, ErrorCode::Unsupported, "the list has no such page")
            }
            AdminError::NotFound(text) => {
                Problem::new(ProblemKind::NotFound, ErrorCode::Unsupported, text.as_str())
            }
            AdminError::Invalid(text) => {
                Problem::new(ProblemKind::InputInvalid, ErrorCode::Unsupported, text.as_str())
            }
            AdminError::NotForm => Problem::new(
                ProblemKind::MediaTypeUnsupported,
                ErrorCode::Unsupported,
                "a form has to be sent as application/x-www-form-urlencoded",
            ),
            AdminError::Busy => Problem::too_many_requests(
                "too many requests of this client are waiting; try again in a few seconds",
                RETRY_LATER,
            ),
            AdminError::Internal(cause) => Problem::internal(cause.as_str()),
            AdminError::Request(error) => return error.clone(),
        };
        problem.into()
    }

    /// Returns the status, the heading and the text of the page.
    pub(super) fn shape(&self) -> (StatusCode, &'static str, String) {
        let error = self.to_api_error();
        (error.status(), heading(error.problem().kind()), sentence(error.problem().message()))
    }

    /// Logs the cause of an error, which the client is not told.
    pub(super) fn log(&self, client: IpAddr) {
        let error = self.to_api_error();
        let Some(cause) = error.problem().cause() else { return };
        if error.problem().kind() == ProblemKind::Internal {
            log::error!(client:% = client; "{cause}");
        } else {
            // A lack of descriptors or memory, which passes.
            log::warn!(client:% = client; "{cause}");
        }
    }

    /// Sets the headers that the error needs, such as `Allow` and `Retry-After`.
    pub(super) fn set_headers(&self, headers: &mut HeaderMap) {
        self.to_api_error().set_headers(headers);
    }

    /// Returns the error as text, for the case that no page can be made.
    pub(super) fn plain(&self) -> Response {
        let (status, heading, text) = self.shape();
        let text = Bytes::from(format!("{heading}. {}\n", printable(&text)));
        let mut response = with_bytes(status, "text/plain; charset=utf-8", text);
        self.set_headers(response.headers_mut());
        response::protect(response.headers_mut());
        response
    }
}

/// Returns the heading of the page for a kind of problem.
fn heading(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Malformed => "Bad request",
        ProblemKind::Unauthenticated => "Please log in",
        ProblemKind::Forbidden => "Not allowed",
        ProblemKind::NotFound => "Not found",
        ProblemKind::Unsupported | ProblemKind::NotImplemented => "Not supported",
        ProblemKind::TimedOut => "Timed out",
        ProblemKind::Conflict => "Conflict",
        ProblemKind::ContentTooLarge | ProblemKind::TargetTooLong | ProblemKind::HeadersTooLarge => {
            "Request too large"
        }
        ProblemKind::MediaTypeUnsupported => "Not a form",
        ProblemKind::RangeNotSatisfiable => "Range not available",
        ProblemKind::Misdirected => "Wrong host name",
        ProblemKind::InputInvalid => "Invalid input",
        ProblemKind::TooManyRequests => "Too many requests",
        ProblemKind::Internal => "The registry failed",
        ProblemKind::Unavailable => "Temporarily unavailable",
        ProblemKind::NoSpace => "No space left",
    }
}

/// Returns a message as a sentence: with a capital letter, unless it begins with a name such as `a.tar`, and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let word = text.split(' ').next().unwrap_or_default().trim_end_matches([',', ':', ';']);
    let is_word = word.chars().all(|letter| letter.is_alphabetic() || letter == '\'');
    let first = letters
        .next()
        .map(|letter| if is_word { letter.to_uppercase().collect::<String>() } else { letter.to_string() });
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), letters.as_str())
}

impl From<route::Error> for AdminError {
    fn from(error: route::Error) -> Self {
        match error {
            route::Error::NotFound => AdminError::NotFound("There is no such page.".into()),
            route::Error::Method(allow) => ApiError::method(allow).into(),
        }
    }
}

impl From<ApiError> for AdminError {
    fn from(error: ApiError) -> Self {
        AdminError::Request(error)
    }
}

impl From<Problem> for AdminError {
    fn from(problem: Problem) -> Self {
        AdminError::Request(problem.into())
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl From<IdentifyError> for AdminError {
    fn from(error: IdentifyError) -> Self {
        match error {
            // The form is shown again with the text: a browser has no challenge to answer.
            IdentifyError::WrongCredentials | IdentifyError::InvalidToken | IdentifyError::ExpiredToken => {
                AdminError::Invalid("The user name or the password is wrong.".into())
            }
            IdentifyError::Throttled { .. } | IdentifyError::Unavailable => Problem::from(&error).into(),
        }
    }
}

impl From<HtpasswdError> for AdminError {
    fn from(error: HtpasswdError) -> Self {
        match error {
            HtpasswdError::Exists(name) => AdminError::Invalid(format!("User {name} already exists.")),
            HtpasswdError::Unknown(name) => AdminError::Invalid(format!("There is no user {name}.")),
            HtpasswdError::Name(_)
            | HtpasswdError::Password
            | HtpasswdError::Last(_)
            | HtpasswdError::LastWithFullRights(_) => AdminError::Invalid(sentence(&error.to_string())),
            HtpasswdError::Io { .. } | HtpasswdError::Hash(_) | HtpasswdError::Random => {
                AdminError::Internal(error.to_string())
            }
        }
    }
}

impl From<RuleError> for AdminError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Users(error) => error.into(),
            RuleError::Io { .. } => AdminError::Internal(error.to_string()),
            RuleError::Name(_)
            | RuleError::Unknown(_)
            | RuleError::Fixed(_)
            | RuleError::Pattern
            | RuleError::NoActions
            | RuleError::TooMany
            | RuleError::Missing
            | RuleError::OwnRights
            | RuleError::Outdated
            | RuleError::Fault(_) => {
                AdminError::Invalid(format!("{} Nothing was changed.", sentence(&error.to_string())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ALLOW, RETRY_AFTER};

    use super::*;

    #[test]
    fn a_page_has_the_status_headers_and_text_of_the_api() {
        let page = AdminError::from(StoreError::NameUnknown("a/b".parse().unwrap()));
        let text = "Repository a/b does not exist.".to_owned();
        assert_eq!(page.shape(), (StatusCode::NOT_FOUND, "Not found", text));
        let mut headers = HeaderMap::new();
        AdminError::from(route::Error::Method("GET")).set_headers(&mut headers);
        AdminError::Busy.set_headers(&mut headers);
        assert!(headers[ALLOW] == "GET" && headers[RETRY_AFTER] == "5");
    }

    #[test]
    fn a_sentence_begins_with_a_capital_letter_but_not_a_name() {
        assert_eq!(sentence("the archive is empty"), "The archive is empty.");
        assert_eq!(sentence("a.tar is empty"), "a.tar is empty.");
        assert_eq!(sentence("team/app:1 has no layers."), "team/app:1 has no layers.");
    }

    #[test]
    fn the_cause_of_an_internal_error_is_not_on_the_page() {
        let (status, _, text) = AdminError::Internal("cannot read /data/x".into()).shape();
        assert!(status == StatusCode::INTERNAL_SERVER_ERROR && !text.contains("/data"));
    }
}
