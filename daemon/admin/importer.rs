//! The port through which uploaded archives are imported: the daemon implements it, because this room calls no handlers.

use std::net::IpAddr;
use std::pin::Pin;

use crate::access::Permit;
use crate::intake::ByteReader;
use crate::transfer::{ImportError, Report, TargetName};

/// An archive that is being uploaded.
pub struct UploadedArchive {
    /// Its name, for messages.
    pub name: String,
    /// Its bytes.
    pub content: ByteReader,
    /// The name of the image, if there is only one.
    pub only_name: Option<TargetName>,
    /// The folder before each repository, with its slash.
    pub prefix: String,
    /// True if tags that exist are moved.
    pub moves_tags: bool,
    /// The user.
    pub permit: Permit,
    /// True if the user may use all content of the registry.
    pub has_full_rights: bool,
    /// The address of the user.
    pub client: IpAddr,
}

/// A boxed result of an import.
pub type Importing<'a> = Pin<Box<dyn Future<Output = Result<Report, ImportError>> + Send + 'a>>;

/// Imports archives into the registry.
pub trait Importer: Send + Sync {
    /// Imports an archive.
    fn import(&self, archive: UploadedArchive) -> Importing<'_>;
}
