//! A certificate and its key from PEM files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;

/// What tells that the files have changed, without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp([Option<(SystemTime, u64)>; 2]);

impl Stamp {
    /// The stamp of both files.
    pub(super) fn of(certificate: &Path, key: &Path) -> Self {
        Stamp([certificate, key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        }))
    }
}

/// Reads a chain and the key of its first certificate.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let wrong = |path: &Path, why: String| TlsError::Content(path.to_owned(), why);
    let text = read_file(certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| wrong(certificate, format!("is no PEM file of certificates: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "has no certificate in it".into()));
    }
    let der = PrivateKeyDer::from_pem_slice(&read_file(key)?)
        .map_err(|error| wrong(key, format!("has no unencrypted private key in PEM: {error}")))?;
    let signer = any_supported_type(&der)
        .map_err(|error| wrong(key, format!("has a key of a kind that is not supported: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(wrong(key, format!("is not the key of {}", certificate.display()))),
    }
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let why = "may not be read by the user that the registry runs as; give it to that user's group, with mode 640";
            return TlsError::Content(path.to_owned(), why.into());
        }
        TlsError::Io("read", path.to_owned(), error)
    })
}
