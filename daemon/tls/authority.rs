//! The registry's own certificate authority, valid for ten years, and the leaf certificates that it issues for this
//! machine.
//!
//! Neither a small machine nor its clients need a right clock: every certificate is valid from a date in the past. The
//! directory has the key `ca.key` (mode 0600) and the certificate `ca.crt`, both in PEM. A damaged file is an error and
//! never replaced, because clients trust the old authority.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use super::clock::{CertificateClock, EPOCH};
use super::error::TlsError;
use crate::base::{Durability, replace_file};

const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
/// The time from issue to expiry of a leaf certificate. More than a year: a machine without a clock that was off for a
/// year still serves clients with a clock.
const LEAF_LIFETIME: Duration = Duration::days(400);
/// The time from start of validity to expiry of a leaf certificate. Apple's clients reject more than 825 days.
const LEAF_SPAN: Duration = Duration::days(800);
/// The time before its expiry at which a leaf certificate is renewed.
const RENEWAL: Duration = Duration::days(30);

/// The certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// Leaf certificate for this machine.
pub(super) struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: BTreeSet<String>,
    from: OffsetDateTime,
    until: OffsetDateTime,
    /// True if it was issued while the clock was behind, so that the time was unknown.
    is_provisional: bool,
}

impl Leaf {
    /// Returns the chain with its key, as rustls serves it.
    pub(super) fn certified(&self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::new(self.chain.clone(), any_supported_type(&self.key)?))
    }

    /// Returns true if the certificate is valid and has exactly the SANs that the machine needs now.
    pub(super) fn is_current(&self, names: &BTreeSet<String>, clock: &CertificateClock) -> bool {
        self.is_valid(clock) && self.names == all_names(names)
    }

    /// Returns true if the certificate is valid now and need not be renewed soon. A certificate issued by a clock that
    /// was ahead is not valid yet; a provisional one counts as invalid once the time is known.
    pub(super) fn is_valid(&self, clock: &CertificateClock) -> bool {
        let now = clock.likely();
        self.from <= now && now + RENEWAL < self.until && (!self.is_provisional || clock.is_behind())
    }

    /// Returns true if the address is a SAN.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        self.names.contains(&address.to_string())
    }
}

impl Authority {
    /// Reads the authority from its directory, or creates one there.
    pub(super) fn open(directory: &Path, clock: &CertificateClock) -> Result<Self, TlsError> {
        let failed = |error| TlsError::Io("create", directory.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if !certificate.exists() {
            create(directory, clock)?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| TlsError::Io("read", path.to_owned(), error))
        };
        let advice = "; restore it from a backup, or remove ca.crt and ca.key to create a new authority, which clients have to trust again";
        let damaged = |path: &Path, error: &dyn std::fmt::Display| {
            TlsError::Content(path.to_owned(), format!("is damaged ({error}){advice}"))
        };
        let pem = read(&certificate)?;
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|error| damaged(&key, &error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| damaged(&certificate, &error))?;
        let der = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|error: rustls::pki_types::pem::Error| damaged(&certificate, &error))?;
        Ok(Authority { issuer, certificate: der, pem })
    }

    /// Returns the certificate of the authority in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the SHA-256 of the certificate of the authority, in the notation of `openssl`.
    pub(super) fn fingerprint(&self) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        let pairs: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// Issues a certificate with the names of this machine and `more` as SANs.
    pub(super) fn issue(&self, more: &BTreeSet<String>, clock: &CertificateClock) -> Result<Leaf, TlsError> {
        let names = all_names(more);
        let is_provisional = clock.is_behind();
        // If the clock is behind, the real time is later by an unknown amount: nearly all of the span then lies ahead,
        // and it includes the high-water mark unless that is years ahead of a clock that may be right.
        let until = clock.likely() + if is_provisional { LEAF_SPAN - RENEWAL } else { LEAF_LIFETIME };
        let from = EPOCH.max(until - LEAF_SPAN);
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        params.distinguished_name = common_name(&format!("Holdfast {}", hostname()));
        params.not_before = from;
        params.not_after = until;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(Leaf { chain, key, names, from, until, is_provisional })
    }
}

/// Creates an authority: first the key, so that a power cut leaves no certificate without a key. An existing key is
/// used again, since clients may trust its certificate.
fn create(directory: &Path, clock: &CertificateClock) -> Result<(), TlsError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name(&format!("Holdfast CA of {}", hostname()));
    params.not_before = EPOCH;
    params.not_after = clock.now() + AUTHORITY_LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = directory.join("ca.key");
    let pair = match fs::read_to_string(&key) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| {
            TlsError::Content(
                key,
                format!("is not a private key ({error}); remove it to create a new authority"),
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pair = KeyPair::generate()?;
            write(directory, "ca.key", 0o600, &pair.serialize_pem())?;
            pair
        }
        Err(error) => return Err(TlsError::Io("read", key, error)),
    };
    let certificate = params.self_signed(&pair)?;
    write(directory, "ca.crt", 0o644, &certificate.pem())
}

fn write(directory: &Path, name: &str, mode: u32, text: &str) -> Result<(), TlsError> {
    let path = directory.join(name);
    replace_file(&path, mode, Durability::Synced, |file| file.write_all(text.as_bytes()))
        .map_err(|error| TlsError::Io("write", path, error))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty() && name.is_ascii()).unwrap_or_else(|| "holdfast".into())
}

/// Returns the names and addresses by which clients may reach this machine.
fn all_names(more: &BTreeSet<String>) -> BTreeSet<String> {
    let hostname = hostname();
    let mut names = more.clone();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.insert(format!("{hostname}.local"));
    names.insert(hostname);
    // In the sandbox of the service there are no interfaces; addresses are then learned from connections.
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    for address in interfaces.filter_map(|interface| interface.address) {
        if let Some(v4) = address.as_sockaddr_in() {
            names.insert(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            names.insert(v6.ip().to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_issued_by_a_clock_that_was_ahead_is_not_valid() {
        let directory = tempfile::tempdir().unwrap();
        let clock = CertificateClock::open(directory.path());
        let authority = Authority::open(directory.path(), &clock).unwrap();
        let mut leaf = authority.issue(&BTreeSet::new(), &clock).unwrap();
        assert!(leaf.is_valid(&clock) && leaf.is_current(&BTreeSet::new(), &clock));
        leaf.from += AUTHORITY_LIFETIME;
        leaf.until += AUTHORITY_LIFETIME;
        assert!(!leaf.is_valid(&clock) && !leaf.is_current(&BTreeSet::new(), &clock));
    }
}
