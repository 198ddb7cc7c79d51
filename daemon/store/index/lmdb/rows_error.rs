//! Errors of LMDB as errors of the tables.

use heed::{Error, MdbError};

use crate::store::index_error::IndexError;

impl From<Error> for IndexError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => IndexError::Io(error),
            Error::Encoding(error) | Error::Decoding(error) => IndexError::Row(error.to_string()),
            Error::Mdb(MdbError::MapFull) => IndexError::PagesHeld,
            Error::Mdb(error @ (MdbError::ReadersFull | MdbError::TlsFull)) => {
                IndexError::Readers(error.to_string())
            }
            Error::Mdb(
                error @ (MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Corrupted
                | MdbError::PageNotFound
                | MdbError::Panic
                | MdbError::Incompatible),
            ) => IndexError::Corrupt(error.to_string()),
            error @ (Error::Mdb(_) | Error::EnvAlreadyOpened) => IndexError::Other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::error::StoreError;

    #[test]
    fn only_errors_of_the_file_are_corruption() {
        for error in [
            MdbError::Invalid,
            MdbError::VersionMismatch,
            MdbError::Corrupted,
            MdbError::PageNotFound,
            MdbError::Panic,
            MdbError::Incompatible,
        ] {
            assert!(IndexError::from(Error::Mdb(error)).is_corruption());
        }
        assert!(IndexError::from(Error::Decoding("a row".into())).is_corruption());
        assert!(!IndexError::from(Error::Mdb(MdbError::MapFull)).may_be_corruption());
        assert!(!IndexError::from(Error::Mdb(MdbError::BadTxn)).is_corruption());
        let held = IndexError::from(Error::Mdb(MdbError::MapFull));
        assert!(matches!(StoreError::from(held), StoreError::PagesHeld));
        let readers = IndexError::from(Error::Mdb(MdbError::ReadersFull));
        assert!(matches!(StoreError::from(readers), StoreError::OutOfResources { .. }));
    }
}
