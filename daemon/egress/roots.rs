//! The authorities that are trusted: those of the system, and one that the operator names.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The files in which distributions keep all authorities: Debian and Alpine, Fedora, RHEL, openSUSE, others.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Returns the authorities of the system, or those of `SSL_CERT_FILE`, and those of a file. Without a file of the system only
/// the latter are trusted. Blocking.
///
/// # Errors
/// Returns the reason, in words, if a named file cannot be used.
pub fn trusted_roots(environment: &[(String, String)], more: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let named = environment.iter().find(|(name, value)| name == "SSL_CERT_FILE" && !value.is_empty());
    let named = named.map(|(_, value)| PathBuf::from(value));
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()));
    if let Some(bundle) = bundle {
        let certificates = read(&bundle)?;
        // A bundle may have old certificates that no client can use.
        roots.add_parsable_certificates(certificates);
    }
    if let Some(path) = more {
        for certificate in read(path)? {
            roots.add(certificate).map_err(|error| {
                format!("{} has a certificate that is not that of an authority: {error}", path.display())
            })?;
        }
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{name} has no certificate in PEM form")),
        Err(error) => Err(format!("{name} is malformed: {error}")),
    }
}
