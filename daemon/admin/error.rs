//! What goes wrong on a page, in words for the person in front of it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{response, route};
use crate::access::{HtpasswdError, IdentifyError};
use crate::oci::Reference;
use crate::store::StoreError;
use crate::wire::{ApiError, Response, with_bytes};

/// Why a page is not shown, or a form not carried out.
#[derive(Debug)]
pub(super) enum AdminError {
    /// Somebody has to log in first.
    NeedsLogin,
    /// This user may not.
    Denied(&'static str),
    /// The tag can be set once, and must not be deleted.
    Immutable(String),
    /// The form is none of this visit's.
    Forged(&'static str),
    /// The registry is not for whoever calls it by this name.
    Misdirected,
    /// There is nothing of that name.
    NotFound(String),
    /// There is, but not for this method.
    Method(&'static str),
    /// What was filled in does not do.
    Invalid(String),
    /// The form is too large, or did not arrive.
    Unreadable(StatusCode, &'static str),
    /// Too many wrong passwords.
    Throttled(Duration),
    /// As many pages of this client are waiting as may be.
    Busy,
    /// Something does not work now.
    Unavailable(String),
    /// There is no room.
    NoRoom(&'static str),
    /// Something failed; the text is for the log only.
    Internal(String),
}

impl AdminError {
    /// The status, a heading and a sentence.
    pub(super) fn shape(&self) -> (StatusCode, &'static str, String) {
        match self {
            AdminError::NeedsLogin => {
                (StatusCode::FORBIDDEN, "Please log in", "This page is for users of the registry.".into())
            }
            AdminError::Denied(why) => (StatusCode::FORBIDDEN, "Not allowed", (*why).into()),
            AdminError::Immutable(tag) => (
                StatusCode::FORBIDDEN,
                "Not allowed",
                format!("The tag {tag} is immutable: the configuration ([[immutable]]) says that it must not be deleted."),
            ),
            AdminError::Forged(why) => (StatusCode::FORBIDDEN, "Not accepted", (*why).into()),
            AdminError::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "Not by this name",
                "This registry has no users, and is only for names of this machine and its network. To call it by \
                 another name, add a user (holdfast user add NAME), or set auth.anonymous."
                    .into(),
            ),
            AdminError::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what.clone()),
            AdminError::Method(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "Not like this",
                "This address is for another kind of request.".into(),
            ),
            AdminError::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, "Please check", why.clone()),
            AdminError::Unreadable(status, why) => (*status, "Not understood", (*why).into()),
            AdminError::Throttled(after) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong passwords",
                format!("Try again in {} seconds.", after.as_secs().max(1)),
            ),
            AdminError::Busy => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests",
                "Too many pages were asked for at once. Try again in a few seconds.".into(),
            ),
            AdminError::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, "Not now", why.clone()),
            AdminError::NoRoom(why) => (StatusCode::INSUFFICIENT_STORAGE, "No room", (*why).into()),
            AdminError::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The registry failed",
                "Its log says more: journalctl -u holdfast, or docker logs.".into(),
            ),
        }
    }

    /// Logs what the client is not told.
    pub(super) fn log(&self, client: IpAddr) {
        if let AdminError::Internal(why) = self {
            log::error!(client:% = client; "{why}");
        }
    }

    /// The error where not even a page can be made.
    pub(super) fn plain(&self) -> Response {
        let (status, heading, text) = self.shape();
        let text = Bytes::from(format!("{heading}. {text}\n"));
        let mut response = with_bytes(status, "text/plain; charset=utf-8", text);
        response::protect(response.headers_mut());
        response
    }
}

impl From<route::Error> for AdminError {
    fn from(error: route::Error) -> Self {
        match error {
            route::Error::NotFound => AdminError::NotFound("There is no such page.".into()),
            route::Error::Method(allow) => AdminError::Method(allow),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameUnknown(name) => {
                AdminError::NotFound(format!("There is no repository {name}, or no image in it any more."))
            }
            StoreError::ManifestUnknown(Reference::Tag(tag)) => {
                AdminError::NotFound(format!("There is no tag {tag} in this repository."))
            }
            StoreError::ManifestUnknown(Reference::Digest(_)) | StoreError::BlobUnknown(_) => {
                AdminError::NotFound("There is no such image in this repository.".into())
            }
            StoreError::TagKept { tag, .. } => AdminError::Immutable(tag.to_string()),
            StoreError::ContentKept { .. } => AdminError::Denied(
                "Another image of this repository needs this one, and the repository has immutable tags: the configuration \
                 ([[immutable]]) says that such an image must not be deleted.",
            ),
            StoreError::Full | StoreError::IndexFull | StoreError::PagesHeld => {
                AdminError::NoRoom("The disk of the registry, or its index, is full.")
            }
            StoreError::ReadOnly => AdminError::Unavailable(
                "The registry is read-only since its disk failed; restart it when the disk is well.".into(),
            ),
            StoreError::OutOfResources { .. } => AdminError::Unavailable(
                "The registry is out of file descriptors or memory; try again soon.".into(),
            ),
            StoreError::TooManyWaiting => AdminError::Busy,
            StoreError::Closing => AdminError::Unavailable("The registry is shutting down.".into()),
            error => AdminError::Internal(error.to_string()),
        }
    }
}

impl From<IdentifyError> for AdminError {
    fn from(error: IdentifyError) -> Self {
        match error {
            // No page takes tokens.
            IdentifyError::Wrong | IdentifyError::InvalidToken | IdentifyError::EndedToken => {
                AdminError::Invalid("The user name or the password is wrong.".into())
            }
            IdentifyError::Throttled { retry_after } => AdminError::Throttled(retry_after),
            IdentifyError::Unavailable => AdminError::Unavailable(
                "The users cannot be read now; the log of the registry says why.".into(),
            ),
        }
    }
}

impl From<HtpasswdError> for AdminError {
    fn from(error: HtpasswdError) -> Self {
        match error {
            HtpasswdError::Exists(name) => AdminError::Invalid(format!("There is a user {name} already.")),
            HtpasswdError::Unknown(name) => AdminError::Invalid(format!("There is no user {name}.")),
            error @ (HtpasswdError::Name(_)
            | HtpasswdError::Password
            | HtpasswdError::Last(_)
            | HtpasswdError::LastMaster(_)) => AdminError::Invalid(sentence(&error.to_string())),
            error => AdminError::Internal(error.to_string()),
        }
    }
}

impl From<ApiError> for AdminError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::TooLarge(_) => {
                AdminError::Unreadable(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large.")
            }
            _ => AdminError::Unreadable(StatusCode::BAD_REQUEST, "The form did not arrive."),
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}
