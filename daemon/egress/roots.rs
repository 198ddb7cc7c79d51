//! The authorities that are trusted: those of the system, and one that the operator names. A container may have no store of the
//! system; then those of Mozilla count, as of this release.

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

/// Trusted authorities.
#[derive(Debug)]
pub struct Roots {
    pub(super) store: RootCertStore,
    /// True if the system has no store, so that those of this release count.
    pub(super) are_built_in: bool,
}

/// Returns the authorities of the system, or those of `SSL_CERT_FILE`, and those of a file. Blocking.
///
/// # Errors
/// Returns the reason, in words, if a named file cannot be used.
pub fn trusted_roots(environment: &[(String, String)], more: Option<&Path>) -> Result<Roots, String> {
    roots_of(&BUNDLES, environment, more)
}

fn roots_of(
    bundles: &[&str],
    environment: &[(String, String)],
    more: Option<&Path>,
) -> Result<Roots, String> {
    let mut roots = RootCertStore::empty();
    let named = environment.iter().find(|(name, value)| name == "SSL_CERT_FILE" && !value.is_empty());
    let named = named.map(|(_, value)| PathBuf::from(value));
    let bundle = named.or_else(|| bundles.iter().map(PathBuf::from).find(|path| path.is_file()));
    let are_built_in = bundle.is_none();
    match bundle {
        // A bundle may have old certificates that no client can use.
        Some(bundle) => drop(roots.add_parsable_certificates(read(&bundle)?)),
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    if let Some(path) = more {
        for certificate in read(path)? {
            roots.add(certificate).map_err(|error| {
                format!("{} has a certificate that is not that of an authority: {error}", path.display())
            })?;
        }
    }
    Ok(Roots { store: roots, are_built_in })
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test writes a bundle")]
mod tests {
    use super::*;

    #[test]
    fn store_of_the_system_comes_before_the_built_in_one() {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&key).unwrap().pem();
        let path = directory.path().join("bundle.pem");
        std::fs::write(&path, &authority).unwrap();
        let text = path.to_str().unwrap();
        let of_system = roots_of(&["/nonexistent", text], &[], None).unwrap();
        assert_eq!((of_system.store.len(), of_system.are_built_in), (1, false));
        let none = roots_of(&["/nonexistent"], &[], None).unwrap();
        assert!(none.store.len() > 100 && none.are_built_in);
        let more = roots_of(&["/nonexistent"], &[], Some(&path)).unwrap();
        assert_eq!(more.store.len(), none.store.len() + 1);
        let named = [("SSL_CERT_FILE".to_owned(), text.to_owned())];
        assert_eq!(roots_of(&["/nonexistent"], &named, None).unwrap().store.len(), 1);
        let named = [("SSL_CERT_FILE".to_owned(), "/nonexistent".to_owned())];
        assert!(roots_of(&[text], &named, None).unwrap_err().contains("cannot read /nonexistent"));
    }
}
