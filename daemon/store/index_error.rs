//! The errors of the tables of the index, whichever back end stores them.
//!
//! The kinds are those that the store handles differently: a row that is corrupt leaves the others readable, a corrupt
//! file does not; a lack of pages, of reader slots or of other resources passes.

use std::io;

use super::error_kinds::is_lack_of_resources;

/// Reason why an access to a table failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A row is corrupt, or rows are missing: a checksum is wrong, or a value cannot be decoded. Other rows may be
    /// readable.
    #[error("error while decoding: {0}")]
    Row(String),
    /// The back end found its file corrupt.
    #[error("{0}")]
    Corrupt(String),
    /// No page is free: the map is full, or readers hold the pages that were freed last.
    #[error("the index has no free page")]
    PagesHeld,
    /// The rows of a change would use up the reserve for deletes.
    #[error("the index has reached its size limit")]
    Full,
    /// The table of readers is full.
    #[error("{0}")]
    Readers(String),
    /// An operation of the system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Any other error of the back end.
    #[error("{0}")]
    Other(String),
}

impl IndexError {
    /// Returns true if the error may come from a corrupt index.
    pub(super) fn may_be_corruption(&self) -> bool {
        match self {
            IndexError::PagesHeld | IndexError::Full | IndexError::Readers(_) => false,
            IndexError::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => false,
                // A corrupt page may claim a huge row, so that memory runs out.
                _ => !is_lack_of_resources(error) || error.raw_os_error() == Some(libc::ENOMEM),
            },
            IndexError::Row(_) | IndexError::Corrupt(_) | IndexError::Other(_) => true,
        }
    }

    /// Returns true if the error means a corrupt index, and not one that cannot be reached now.
    pub(super) fn is_corruption(&self) -> bool {
        match self {
            IndexError::Row(_) | IndexError::Corrupt(_) => true,
            IndexError::PagesHeld
            | IndexError::Full
            | IndexError::Readers(_)
            | IndexError::Io(_)
            | IndexError::Other(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_content_may_be_corruption() {
        let io = |code| IndexError::Io(io::Error::from_raw_os_error(code));
        for error in [io(libc::EIO), io(libc::ENOMEM), IndexError::Row("a row".into())] {
            assert!(error.may_be_corruption(), "{error}");
        }
        for error in [io(libc::ENOSPC), io(libc::EMFILE), IndexError::PagesHeld, IndexError::Full] {
            assert!(!error.may_be_corruption() && !error.is_corruption(), "{error}");
        }
        assert!(!io(libc::EIO).is_corruption() && IndexError::Corrupt("a page".into()).is_corruption());
    }
}
