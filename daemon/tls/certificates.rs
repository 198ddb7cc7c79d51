//! The certificate in use and its replacement: reissued by the own authority, or read again from files.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;

use super::added_names::{self, NameError};
use super::authority::{Authority, Leaf};
use super::cipher_order::CipherOrder;
use super::client_auth::ClientRequirements;
use super::clock::CertificateClock;
use super::error::TlsError;
use super::files::{self, PairStamp};
use super::names::MissingNames;
use super::resolver::ServedCertificate;
use crate::base::Lock;

/// The largest number of addresses that the certificate learns from connections. A machine has few, and clients must
/// not make the certificate grow without bound.
const LEARNED_ADDRESSES: usize = 64;

/// Source of the certificate.
#[derive(Clone, Debug)]
pub enum Source {
    /// Issued by an authority that is kept in a directory.
    Auto {
        /// The directory, created if it does not exist.
        directory: PathBuf,
        /// SANs in addition to the names and addresses of the machine.
        names: Vec<String>,
    },
    /// Read from two PEM files.
    Files {
        /// The certificate chain, leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Facts about the certificate in use, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The time of its expiry, in seconds since 1970.
    pub expires: Option<i64>,
    /// The SHA-256 of the certificate of the own authority, in the notation of `openssl`; `None` if the certificate is
    /// from files.
    pub fingerprint: Option<String>,
    /// True if the wall clock is behind a time that was seen before.
    pub clock_is_behind: bool,
}

/// The certificate in use, and the means to replace it.
pub struct Certificates {
    issuer: CertificateIssuer,
    served: Arc<ServedCertificate>,
    config: Arc<ServerConfig>,
}

enum CertificateIssuer {
    Auto(Box<Auto>),
    Files { certificate: PathBuf, key: PathBuf, stamp: Lock<PairStamp> },
}

/// The own authority and its leaf certificate.
struct Auto {
    authority: Authority,
    directory: PathBuf,
    /// The names of the configuration.
    configured: Vec<String>,
    /// The names that the admin page added.
    added: ArcSwap<BTreeSet<String>>,
    /// Held while the file of the added names is written, and only by threads that may block.
    editing: Lock<()>,
    clock: CertificateClock,
    issued: Lock<Issued>,
}

struct Issued {
    /// The names of the configuration, the added ones, and the addresses learned from connections.
    names: BTreeSet<String>,
    leaf: Leaf,
}

impl Certificates {
    /// Reads or issues the certificate. Blocking.
    ///
    /// # Errors
    /// Returns [`TlsError`].
    pub fn open(source: Source) -> Result<Self, TlsError> {
        Self::open_for(source, &ClientRequirements::default())
    }

    /// Reads or issues the certificate, with requirements for clients: certificates of their own, or a minimum version
    /// of TLS. Blocking.
    ///
    /// # Errors
    /// Returns [`TlsError`].
    pub fn open_for(source: Source, clients: &ClientRequirements) -> Result<Self, TlsError> {
        Self::open_in_order(source, clients, CipherOrder::of_this_processor())
    }

    pub(super) fn open_in_order(
        source: Source,
        clients: &ClientRequirements,
        order: CipherOrder,
    ) -> Result<Self, TlsError> {
        let (issuer, certified, missing) = match source {
            Source::Auto { directory, names } => {
                let clock = CertificateClock::open(&directory);
                let authority = Authority::open(&directory, &clock)?;
                let missing = MissingNames::new(names.clone());
                let added = added_names::read(&directory);
                let configured = names.clone();
                let names = names.into_iter().chain(added.iter().cloned()).collect();
                let leaf = authority.issue(&names, &clock)?;
                let certified = leaf.certified()?;
                let issued = Lock::new(Issued { names, leaf });
                (
                    CertificateIssuer::Auto(Box::new(Auto {
                        authority,
                        directory,
                        configured,
                        added: ArcSwap::from_pointee(added),
                        editing: Lock::new(()),
                        clock,
                        issued,
                    })),
                    certified,
                    Some(missing),
                )
            }
            Source::Files { certificate, key } => {
                // The stamp is taken before the content is read, so that a change in between is read again.
                let stamp = PairStamp::of(&certificate, &key);
                let certified = files::read(&certificate, &key)?;
                (CertificateIssuer::Files { certificate, key, stamp: Lock::new(stamp) }, certified, None)
            }
        };
        let served = Arc::new(ServedCertificate::new(certified, missing));
        let mut config = clients
            .server_config(order)?
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        // No HTTP/2 (docs/decisions), so that ALPN (RFC 7301) offers HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = order.ignores_the_client();
        Ok(Certificates { issuer, served, config: Arc::new(config) })
    }

    /// Returns the configuration for handshakes. It always serves the certificate in use.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Returns the certificate of the own authority in PEM, for clients to trust; `None` if the certificate is from
    /// files.
    pub fn ca_pem(&self) -> Option<&str> {
        match &self.issuer {
            CertificateIssuer::Auto(auto) => Some(auto.authority.pem()),
            CertificateIssuer::Files { .. } => None,
        }
    }

    /// Returns facts of the certificate in use.
    pub fn info(&self) -> CertificateInfo {
        let current = self.served.certified();
        let leaf = current.cert.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
        let until = leaf.map(|(_, leaf)| leaf.validity().not_after.timestamp());
        let (fingerprint, clock_is_behind) = match &self.issuer {
            CertificateIssuer::Auto(auto) => (Some(auto.authority.fingerprint()), auto.clock.is_behind()),
            CertificateIssuer::Files { .. } => (None, false),
        };
        CertificateInfo { expires: until, fingerprint, clock_is_behind }
    }

    /// Returns the SANs of the certificate in use.
    pub fn names(&self) -> Vec<String> {
        self.served.names()
    }

    /// Returns true if the certificate in use is valid for a name or address.
    pub fn covers(&self, name: &str) -> bool {
        self.served.covers(name)
    }

    /// Returns the names that the configuration adds to a certificate from the own authority.
    pub fn configured_names(&self) -> &[String] {
        self.served.configured_names()
    }

    /// Returns the names that were added to a certificate from the own authority.
    pub fn added_names(&self) -> Vec<String> {
        match &self.issuer {
            CertificateIssuer::Auto(auto) => auto.added.load().iter().cloned().collect(),
            CertificateIssuer::Files { .. } => Vec::new(),
        }
    }

    /// Adds a name, stores it, and serves a certificate with it. Blocking.
    ///
    /// # Errors
    /// Returns [`NameError`]; the old certificate stays in use.
    pub fn add_name(&self, name: &str) -> Result<(), NameError> {
        let CertificateIssuer::Auto(auto) = &self.issuer else { return Err(NameError::NotOwn) };
        let name = added_names::valid_name(name)?;
        let _editing = auto.editing.lock();
        let names = added_names::with(&auto.added.load(), name.clone())?;
        // A name that cannot be in a certificate is not stored.
        auto.authority.issue(&names, &auto.clock)?;
        added_names::write(&auto.directory, &names)?;
        auto.added.store(Arc::new(names));
        self.reissue(auto, |names| {
            names.insert(name);
        })
    }

    /// Removes an added name, and serves a certificate without it. Blocking.
    ///
    /// # Errors
    /// Returns [`NameError`]; the old certificate stays in use.
    pub fn remove_name(&self, name: &str) -> Result<(), NameError> {
        let CertificateIssuer::Auto(auto) = &self.issuer else { return Err(NameError::NotOwn) };
        let _editing = auto.editing.lock();
        let mut names = BTreeSet::clone(&auto.added.load());
        if !names.remove(name) {
            return Err(NameError::Unknown(name.chars().take(80).collect()));
        }
        added_names::write(&auto.directory, &names)?;
        auto.added.store(Arc::new(names));
        let is_configured = auto.configured.iter().any(|one| one == name);
        self.reissue(auto, |names| {
            if !is_configured {
                names.remove(name);
            }
        })
    }

    /// Changes the names, and serves a certificate with them.
    fn reissue(&self, auto: &Auto, change: impl FnOnce(&mut BTreeSet<String>)) -> Result<(), NameError> {
        let mut issued = auto.issued.lock();
        let mut names = issued.names.clone();
        change(&mut names);
        let leaf = auto.authority.issue(&names, &auto.clock)?;
        self.served.replace(leaf.certified()?);
        *issued = Issued { names, leaf };
        Ok(())
    }

    /// Notes the host that a client requested. It is logged once if it is not a SAN of a certificate from the own
    /// authority.
    pub fn note_requested_name(&self, name: &str) {
        self.served.note_requested_name(name);
    }

    /// Replaces the certificate if it expires soon, or if the files or names changed; returns true if it did. Blocking.
    ///
    /// # Errors
    /// Returns [`TlsError`] if the new certificate is unusable; the old one stays in use.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        match &self.issuer {
            CertificateIssuer::Auto(auto) => self.reissue_if_due(auto),
            CertificateIssuer::Files { certificate, key, stamp } => {
                let mut stamp = stamp.lock();
                let current = PairStamp::of(certificate, key);
                if *stamp == current {
                    return Ok(false);
                }
                let certified = match files::read(certificate, key) {
                    // A failed read is not a state of the content: the stamp stays, and the next refresh reads the
                    // files again.
                    Err(error @ TlsError::Io(..)) => return Err(error),
                    read => {
                        *stamp = current;
                        read?
                    }
                };
                self.served.replace(certified);
                Ok(true)
            }
        }
    }

    fn reissue_if_due(&self, auto: &Auto) -> Result<bool, TlsError> {
        auto.clock.record()?;
        let mut issued = auto.issued.lock();
        if issued.leaf.is_current(&issued.names, &auto.clock) {
            return Ok(false);
        }
        issued.leaf = auto.authority.issue(&issued.names, &auto.clock)?;
        // Under the lock, so that no older certificate takes its place.
        self.served.replace(issued.leaf.certified()?);
        Ok(true)
    }

    /// Returns true if [`Certificates::reissue_for`] has to be called before the handshake of a client that reached the
    /// machine by this address: the address is not a SAN of the certificate, or the certificate is not valid by the
    /// current clock.
    pub fn needs_reissue_for(&self, address: IpAddr) -> bool {
        let CertificateIssuer::Auto(auto) = &self.issuer else { return false };
        let leaf = &auto.issued.lock().leaf;
        !leaf.covers(address.to_canonical()) || !leaf.is_valid(&auto.clock)
    }

    /// Reissues the certificate with this address of the machine as a SAN, and valid by the current clock. Blocking.
    ///
    /// # Errors
    /// Returns [`TlsError::Make`]; the old certificate stays in use.
    pub fn reissue_for(&self, address: IpAddr) -> Result<(), TlsError> {
        let CertificateIssuer::Auto(auto) = &self.issuer else { return Ok(()) };
        let mut issued = auto.issued.lock();
        let address = address.to_canonical();
        let learned = issued.names.iter().filter(|name| name.parse::<IpAddr>().is_ok()).count();
        let is_new = !issued.leaf.covers(address) && learned < LEARNED_ADDRESSES;
        if !is_new && issued.leaf.is_valid(&auto.clock) {
            return Ok(());
        }
        let mut names = issued.names.clone();
        if is_new {
            names.insert(address.to_string());
        }
        let leaf = auto.authority.issue(&names, &auto.clock)?;
        self.served.replace(leaf.certified()?);
        *issued = Issued { names, leaf };
        if is_new {
            log::info!("certificate reissued with the address {address}");
        } else {
            log::info!("certificate reissued after a change of the clock");
        }
        Ok(())
    }
}
