//! Errors of reading a medium.

use std::io;

use super::tar::NotTar;

/// Reason why a medium, or an image on it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The medium failed.
    #[error("cannot read {place}: {error}")]
    Io {
        /// The path of the medium, with the name of the member if there is one.
        place: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The content is not valid.
    #[error("{place}: {reason}")]
    Invalid {
        /// The path of the medium, with the name of the member if there is one.
        place: String,
        /// The reason, and the next step.
        reason: String,
    },
    /// A document is not JSON.
    #[error("{place} is not valid JSON: {reason}")]
    Json {
        /// The path of the document.
        place: String,
        /// The error of the parser.
        reason: String,
    },
    /// The content exceeds a limit.
    #[error("{place}: {what} exceeds the limit of {limit}")]
    TooLarge {
        /// The path of the medium, with the name of the member if there is one.
        place: String,
        /// The object and its size.
        what: String,
        /// The limit.
        limit: String,
    },
    /// No format matches.
    #[error("{place}: no known format; the first members are {members}")]
    Unknown {
        /// The path of the medium.
        place: String,
        /// The first names.
        members: String,
    },
    /// A file is no archive.
    #[error("{place}: no known format; it is not a tar archive, and not a compressed one")]
    NotArchive {
        /// The path of the medium.
        place: String,
    },
    /// The medium has no members.
    #[error("{place} is empty or has no file of a known format")]
    Empty {
        /// The path of the medium.
        place: String,
    },
    /// The import ended before the medium did.
    #[error("stopped")]
    Stopped,
}

impl SourceError {
    /// Makes an error of invalid content.
    pub fn invalid(place: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        SourceError::Invalid { place: place.into(), reason: reason.to_string() }
    }

    /// Makes an error of a document of which JSON was expected.
    pub fn json(place: impl Into<String>, error: &serde_json::Error) -> Self {
        if error.is_data() {
            SourceError::invalid(place, format!("the content is not as expected: {error}"))
        } else {
            SourceError::Json { place: place.into(), reason: error.to_string() }
        }
    }

    /// Names the medium of an error of a document.
    #[must_use]
    pub fn within(self, medium: &str, separator: &str) -> Self {
        let of = |place: String| match place.as_str() {
            "" => medium.to_owned(),
            place => format!("{medium}{separator}{place}"),
        };
        match self {
            SourceError::Invalid { place, reason } => SourceError::Invalid { place: of(place), reason },
            SourceError::Json { place, reason } => SourceError::Json { place: of(place), reason },
            error @ (SourceError::Io { .. }
            | SourceError::TooLarge { .. }
            | SourceError::Unknown { .. }
            | SourceError::NotArchive { .. }
            | SourceError::Empty { .. }
            | SourceError::Stopped) => error,
        }
    }

    /// Makes an error of an archive.
    pub(super) fn archive(place: impl Into<String>, error: io::Error) -> Self {
        if matches!(error.get_ref(), Some(inner) if inner.is::<NotTar>()) {
            SourceError::NotArchive { place: place.into() }
        } else {
            SourceError::io(place, error)
        }
    }

    /// Makes an error of the system.
    pub fn io(place: impl Into<String>, error: io::Error) -> Self {
        SourceError::Io { place: place.into(), error }
    }
}
