//! The registry's own authority: kept for ten years, and short-lived certificates for the names of this machine.
//!
//! A small machine has no clock when it wakes, and neither have its clients: everything is valid from long ago.
#![expect(
    clippy::disallowed_methods,
    reason = "keys and certificates lie beside the data and have their own rules"
)]

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use super::TlsError;
use super::clock::{Clock, EPOCH};

const AUTHORITY_LASTS: Duration = Duration::days(3650);
/// A machine that was off for a year and has no clock has clients that have one.
const LEAF_LASTS: Duration = Duration::days(400);
/// Apple's clients refuse a certificate that is valid for longer than 825 days in all.
const LEAF_SPAN: Duration = Duration::days(800);
/// A certificate with less than this left is replaced.
const RENEW: Duration = Duration::days(30);

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate for this machine.
pub(super) struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: BTreeSet<String>,
    from: OffsetDateTime,
    until: OffsetDateTime,
    /// Whether it was made when nobody knew what time it was.
    unsure: bool,
}

impl Leaf {
    /// The certificate as it is served.
    pub(super) fn certified(&self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::new(self.chain.clone(), any_supported_type(&self.key)?))
    }

    /// Whether it is for the names that this machine has now, and for long enough.
    pub(super) fn is_good(&self, names: &BTreeSet<String>, clock: &Clock) -> bool {
        self.is_valid(clock) && self.names == all_names(names)
    }

    /// Whether it is valid now, for long enough, and as well as it can be: one that was made by a clock that was ahead is
    /// not valid yet, and one that was made when nobody knew the time is replaced as soon as somebody does.
    pub(super) fn is_valid(&self, clock: &Clock) -> bool {
        let now = clock.likely();
        self.from <= now && now + RENEW < self.until && (!self.unsure || clock.is_behind())
    }

    /// Whether it is for this address.
    pub(super) fn is_for(&self, address: IpAddr) -> bool {
        self.names.contains(&address.to_string())
    }
}

impl Authority {
    /// Reads the authority from its directory, or makes a new one there.
    pub(super) fn open(directory: &Path, clock: &Clock) -> Result<Self, TlsError> {
        let failed = |error| TlsError::Io("create", directory.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if !certificate.exists() {
            make(directory, clock)?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| TlsError::Io("read", path.to_owned(), error))
        };
        let advice = "; put it back from a copy, or remove ca.crt and ca.key to make a new authority that clients have to trust again";
        let wrong = |path: &Path, error: &dyn std::fmt::Display| {
            TlsError::Content(path.to_owned(), format!("is damaged ({error}){advice}"))
        };
        let pem = read(&certificate)?;
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|error| wrong(&key, &error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| wrong(&certificate, &error))?;
        let der = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|error: rustls::pki_types::pem::Error| wrong(&certificate, &error))?;
        Ok(Authority { issuer, certificate: der, pem })
    }

    /// Its certificate, in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The SHA-256 of its certificate, as `openssl` writes it.
    pub(super) fn fingerprint(&self) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        let pairs: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// Makes a certificate for this machine and more names.
    pub(super) fn issue(&self, more: &BTreeSet<String>, clock: &Clock) -> Result<Leaf, TlsError> {
        let names = all_names(more);
        let unsure = clock.is_behind();
        // It is later than this machine knows: nearly all of the span lies ahead then. What was kept lies in it as well,
        // unless it is years ahead of a clock that may be right.
        let until = clock.likely() + if unsure { LEAF_SPAN - RENEW } else { LEAF_LASTS };
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
        Ok(Leaf { chain, key, names, from, until, unsure })
    }
}

/// Makes a new authority: its key first, so that a power cut leaves no certificate without a key. A key that is
/// there already is kept: clients may trust it.
fn make(directory: &Path, clock: &Clock) -> Result<(), TlsError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name(&format!("Holdfast CA of {}", hostname()));
    params.not_before = EPOCH;
    params.not_after = clock.now() + AUTHORITY_LASTS;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = directory.join("ca.key");
    let pair = match fs::read_to_string(&key) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| {
            TlsError::Content(key, format!("is no private key ({error}); remove it to make a new authority"))
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

/// Writes a file of the directory, synced, whole or not at all.
pub(super) fn write(directory: &Path, name: &str, mode: u32, text: &str) -> Result<(), TlsError> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|error| TlsError::Io("write", path.clone(), error))
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

/// The names and addresses by which clients may call this machine.
fn all_names(more: &BTreeSet<String>) -> BTreeSet<String> {
    let hostname = hostname();
    let mut names = more.clone();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.insert(format!("{hostname}.local"));
    names.insert(hostname);
    // In a sandbox without a network there are none; what clients call then is learnt from their connections.
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
    fn what_was_made_by_a_clock_that_was_ahead_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::open(directory.path());
        let authority = Authority::open(directory.path(), &clock).unwrap();
        let mut leaf = authority.issue(&BTreeSet::new(), &clock).unwrap();
        assert!(leaf.is_valid(&clock) && leaf.is_good(&BTreeSet::new(), &clock));
        leaf.from += AUTHORITY_LASTS;
        leaf.until += AUTHORITY_LASTS;
        assert!(!leaf.is_valid(&clock) && !leaf.is_good(&BTreeSet::new(), &clock));
    }
}
