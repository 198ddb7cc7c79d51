//! A certificate chain and its private key from PEM files.

use std::fs;
use std::io;
use std::path::Path;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::TlsError;
use crate::base::FileStamp;

/// Stamp of the certificate and the key, to detect a change without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PairStamp([Option<FileStamp>; 2]);

impl PairStamp {
    pub(super) fn of(certificate: &Path, key: &Path) -> Self {
        PairStamp([certificate, key].map(FileStamp::of))
    }
}

/// Checks that a chain and its key can be read and used by the current user. Blocking.
///
/// # Errors
/// Returns [`TlsError`].
pub fn validate(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    read(certificate, key).map(drop)
}

/// Reads a chain and the key of its leaf certificate.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let invalid = |path: &Path, why: String| TlsError::Content(path.to_owned(), why);
    let chain = read_certificates(certificate)?;
    let der = PrivateKeyDer::from_pem_slice(&read_file(key)?)
        .map_err(|error| invalid(key, format!("has no unencrypted private key in PEM: {error}")))?;
    let signer = any_supported_type(&der)
        .map_err(|error| invalid(key, format!("has a key of an unsupported type: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Unknown: the kind of key cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(invalid(key, format!("is not the key of {}", certificate.display()))),
    }
}

/// Reads the certificates of a PEM file; at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let invalid = |why: String| TlsError::Content(path.to_owned(), why);
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read_file(path)?)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| invalid(format!("is not a PEM file of certificates: {error}")))?;
    if certificates.is_empty() {
        return Err(invalid("has no certificate in it".into()));
    }
    Ok(certificates)
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let why = "may not be read by the user that the registry runs as; give it to that user's group, with mode 640";
            return TlsError::Content(path.to_owned(), why.into());
        }
        TlsError::Io("read", path.to_owned(), error)
    })
}
