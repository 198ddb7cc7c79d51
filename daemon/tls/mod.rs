//! Certificates: from an authority of the registry's own, or from files, and exchanged while it runs.
//!
//! In its sandbox the daemon sees no interface of the machine. The address by which a client has reached it is that of
//! the connection, and the certificate is for it before the handshake begins.

mod authority;
mod clients;
mod clock;
mod files;
mod names;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
#[cfg(test)]
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use self::authority::{Authority, Leaf};
pub use self::clients::Clients;
use self::clock::Clock;
use self::files::Stamp;
use self::names::MissingNames;

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From an authority that is kept in a directory, for the names of this machine and these.
    Auto {
        /// The directory, made where there is none.
        directory: PathBuf,
        /// More names and addresses.
        names: Vec<String>,
    },
    /// From two PEM files.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot {} {}: {}", .0, .1.display(), .2)]
    Io(&'static str, PathBuf, std::io::Error),
    /// A file is not what it should be.
    #[error("{} {}", .0.display(), .1)]
    Content(PathBuf, String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}; look at tls.names")]
    Make(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Until when it is valid, in seconds since 1970.
    pub until: Option<i64>,
    /// The SHA-256 of the certificate of the registry's own authority, as `openssl` writes it; none if it is from files.
    pub fingerprint: Option<String>,
    /// Whether the clock is behind a time that was seen already.
    pub clock_is_behind: bool,
}

/// Whether a chain and its key can be used, as whoever asks; blocking.
///
/// # Errors
/// [`TlsError`].
pub fn look_at(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    files::read(certificate, key).map(drop)
}

/// The certificate in use.
struct Current {
    certified: ArcSwap<CertifiedKey>,
    /// The names and addresses that it is for.
    names: ArcSwap<BTreeSet<String>>,
    /// Logs other names, where the registry's own authority could issue a certificate for them.
    missing: Option<MissingNames>,
}

impl Current {
    fn new(certified: CertifiedKey, missing: Option<MissingNames>) -> Self {
        let names = ArcSwap::from_pointee(names_of(&certified));
        Current { certified: ArcSwap::from_pointee(certified), names, missing }
    }

    fn serve(&self, certified: CertifiedKey) {
        self.names.store(Arc::new(names_of(&certified)));
        self.certified.store(Arc::new(certified));
    }

    fn note_called(&self, name: &str) {
        if let Some(missing) = &self.missing {
            missing.note(&self.names.load(), name);
        }
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            self.note_called(name);
        }
        Some(self.certified.load_full())
    }
}

fn names_of(certified: &CertifiedKey) -> BTreeSet<String> {
    certified.cert.first().map(names::of_certificate).unwrap_or_default()
}

/// So many addresses the certificate learns: a machine has few, whatever its clients do.
const ADDRESSES: usize = 64;

enum Kind {
    Auto(Box<Auto>),
    Files { certificate: PathBuf, key: PathBuf, stamp: Mutex<Stamp> },
}

/// An authority of the registry's own and what it has issued.
struct Auto {
    authority: Authority,
    clock: Clock,
    issued: Mutex<Issued>,
}

struct Issued {
    /// The names of the configuration, and the addresses by which clients came.
    names: BTreeSet<String>,
    leaf: Leaf,
}

/// The certificate in use, and how the next one is got.
pub struct Certificates {
    kind: Kind,
    current: Arc<Current>,
    server: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads or makes the certificate; blocking.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(source: Source) -> Result<Self, TlsError> {
        Self::open_for(source, &Clients::default())
    }

    /// As [`Certificates::open`], for clients that have to have certificates of their own, or a new version of TLS.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open_for(source: Source, clients: &Clients) -> Result<Self, TlsError> {
        let (kind, certified, missing) = match source {
            Source::Auto { directory, names } => {
                let clock = Clock::open(&directory);
                let authority = Authority::open(&directory, &clock)?;
                let missing = MissingNames::new(names.clone());
                let names = names.into_iter().collect();
                let leaf = authority.issue(&names, &clock)?;
                let certified = leaf.certified()?;
                let issued = Mutex::new(Issued { names, leaf });
                (Kind::Auto(Box::new(Auto { authority, clock, issued })), certified, Some(missing))
            }
            Source::Files { certificate, key } => {
                let stamp = Stamp::of(&certificate, &key);
                let certified = files::read(&certificate, &key)?;
                (Kind::Files { certificate, key, stamp: Mutex::new(stamp) }, certified, None)
            }
        };
        let current = Arc::new(Current::new(certified, missing));
        let mut server =
            clients.server_config()?.with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Certificates { kind, current, server: Arc::new(server) })
    }

    /// What a connection is accepted with.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The certificate of the registry's own authority, for clients to trust.
    pub fn ca_pem(&self) -> Option<&str> {
        match &self.kind {
            Kind::Auto(auto) => Some(auto.authority.pem()),
            Kind::Files { .. } => None,
        }
    }

    /// What people want to know of the certificate in use.
    pub fn facts(&self) -> Facts {
        let current = self.current.certified.load();
        let leaf = current.cert.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
        let until = leaf.map(|(_, leaf)| leaf.validity().not_after.timestamp());
        let (fingerprint, clock_is_behind) = match &self.kind {
            Kind::Auto(auto) => (Some(auto.authority.fingerprint()), auto.clock.is_behind()),
            Kind::Files { .. } => (None, false),
        };
        Facts { until, fingerprint, clock_is_behind }
    }

    /// The names and addresses that the certificate in use is for.
    pub fn names(&self) -> Vec<String> {
        self.current.names.load().iter().cloned().collect()
    }

    /// Notes the name or the address by which a client calls the registry: it is logged, once, if a certificate of the
    /// registry's own authority is in use and not for it.
    pub fn note_called(&self, name: &str) {
        self.current.note_called(name);
    }

    /// Gets a new certificate if it is time to, or if files, names or addresses have changed; blocking. True if
    /// there is a new one. A new one that is not good leaves the old one in use.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let certified = match &self.kind {
            Kind::Auto(auto) => {
                auto.clock.keep()?;
                let mut issued = lock(&auto.issued);
                if issued.leaf.is_good(&issued.names, &auto.clock) {
                    return Ok(false);
                }
                issued.leaf = auto.authority.issue(&issued.names, &auto.clock)?;
                // Before it is unlocked, so that an older one does not take its place.
                self.serve(issued.leaf.certified()?);
                return Ok(true);
            }
            Kind::Files { certificate, key, stamp } => {
                let mut stamp = lock(stamp);
                let now = Stamp::of(certificate, key);
                if *stamp == now {
                    return Ok(false);
                }
                match files::read(certificate, key) {
                    // It says nothing of the files: they are read again the next time.
                    Err(error @ TlsError::Io(..)) => return Err(error),
                    read => {
                        *stamp = now;
                        read?
                    }
                }
            }
        };
        self.serve(certified);
        Ok(true)
    }

    /// Whether a client that has come by this address of the machine needs [`Certificates::include`] before it is
    /// greeted: because the certificate is not for that, or because the clock has leapt.
    pub fn lacks(&self, address: IpAddr) -> bool {
        let Kind::Auto(auto) = &self.kind else { return false };
        let leaf = &lock(&auto.issued).leaf;
        !leaf.is_for(address.to_canonical()) || !leaf.is_valid(&auto.clock)
    }

    /// Makes a certificate for this address of the machine, too, and for this moment; blocking.
    ///
    /// # Errors
    /// [`TlsError::Make`]; the old one stays in use.
    pub fn include(&self, address: IpAddr) -> Result<(), TlsError> {
        let Kind::Auto(auto) = &self.kind else { return Ok(()) };
        let mut issued = lock(&auto.issued);
        let address = address.to_canonical();
        let learnt = issued.names.iter().filter(|name| name.parse::<IpAddr>().is_ok()).count();
        let is_new = !issued.leaf.is_for(address) && learnt < ADDRESSES;
        if !is_new && issued.leaf.is_valid(&auto.clock) {
            return Ok(());
        }
        let mut names = issued.names.clone();
        if is_new {
            names.insert(address.to_string());
        }
        let leaf = auto.authority.issue(&names, &auto.clock)?;
        self.serve(leaf.certified()?);
        *issued = Issued { names, leaf };
        if is_new {
            log::info!("the certificate is for {address}, too");
        } else {
            log::info!("the certificate is replaced, since the clock has changed");
        }
        Ok(())
    }

    fn serve(&self, certified: CertifiedKey) {
        self.current.serve(certified);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the one who copies files over")]
mod tests {
    use super::*;

    fn auto(directory: &std::path::Path) -> Certificates {
        Certificates::open(Source::Auto { directory: directory.join("tls"), names: vec!["hub.lan".into()] })
            .unwrap()
    }

    /// Lets a client that trusts `ca` greet the server by `name`.
    fn greets(certificates: &Certificates, ca: &str, name: &'static str) -> Result<(), rustls::Error> {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        shake_hands(certificates, client, name)
    }

    fn shake_hands(
        certificates: &Certificates,
        client: rustls::ClientConfig,
        name: &'static str,
    ) -> Result<(), rustls::Error> {
        let mut client = rustls::ClientConnection::new(Arc::new(client), name.try_into().unwrap())?;
        let mut server = rustls::ServerConnection::new(certificates.server_config())?;
        for _ in 0..10 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(())
    }

    #[test]
    fn a_client_that_trusts_the_authority_is_content() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = auto(directory.path());
        let ca = certificates.ca_pem().unwrap().to_owned();
        for name in ["localhost", "127.0.0.1", "hub.lan"] {
            greets(&certificates, &ca, name).unwrap();
        }
        assert!(greets(&certificates, &ca, "elsewhere.lan").is_err());
        assert!(!certificates.refresh().unwrap());
        drop(certificates);
        let again = auto(directory.path());
        assert_eq!(again.ca_pem().unwrap(), ca);
        greets(&again, &ca, "localhost").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(directory.path().join("tls/ca.key")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn clients_need_a_certificate_of_the_authority() {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let directory = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            (certificate.pem(), rcgen::Issuer::new(parameters, key))
        };
        let ((pem, issuer), (_, other)) = (authority("clients"), authority("others"));
        let file = directory.path().join("clients.pem");
        std::fs::write(&file, pem).unwrap();
        let source = Source::Auto { directory: directory.path().join("tls"), names: Vec::new() };
        let clients = Clients { authorities: vec![file.clone()], only_tls_1_3: true };
        let certificates = Certificates::open_for(source, &clients).unwrap();
        let ca = certificates.ca_pem().unwrap().to_owned();
        assert!(greets(&certificates, &ca, "localhost").is_err(), "without a certificate");
        let greet = |issuer: &rcgen::Issuer<rcgen::KeyPair>,
                     versions: &[&'static rustls::SupportedProtocolVersion]| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(["robot".to_owned()]).unwrap();
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = parameters.signed_by(&key, issuer).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
            let client = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
                )
                .unwrap();
            shake_hands(&certificates, client, "localhost")
        };
        greet(&issuer, &[&rustls::version::TLS13]).unwrap();
        assert!(greet(&other, &[&rustls::version::TLS13]).is_err(), "of another authority");
        assert!(greet(&issuer, &[&rustls::version::TLS12]).is_err(), "by an old version");
        std::fs::write(&file, "nonsense").unwrap();
        assert!(clients.look_at().unwrap_err().to_string().contains("clients.pem"));
    }

    #[test]
    fn an_address_that_clients_come_by_is_learnt() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = auto(directory.path());
        let ca = certificates.ca_pem().unwrap().to_owned();
        assert!(greets(&certificates, &ca, "192.0.2.7").is_err());
        // As a socket for both versions says it.
        let address: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert!(certificates.lacks(address));
        certificates.include(address).unwrap();
        assert!(!certificates.lacks(address));
        greets(&certificates, &ca, "192.0.2.7").unwrap();
        assert!(!certificates.refresh().unwrap(), "it stays good");
        for number in 0..200 {
            certificates.include(IpAddr::from([10, 0, 0, number])).unwrap();
        }
        assert!(certificates.lacks("10.0.0.199".parse().unwrap()), "and there are not too many");
        greets(&certificates, &ca, "10.0.0.1").unwrap();
    }

    #[test]
    fn a_machine_without_a_clock_has_clients_that_have_one() {
        let directory = tempfile::tempdir().unwrap();
        drop(auto(directory.path()));
        // It knows that it is later than its clock says, but not how much.
        let later = time::OffsetDateTime::now_utc() + time::Duration::days(20);
        std::fs::write(directory.path().join("tls/clock"), later.unix_timestamp().to_string()).unwrap();
        let certificates = auto(directory.path());
        greets(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
        assert!(!certificates.refresh().unwrap(), "nothing is renewed by a clock that is behind");
    }

    #[test]
    fn a_time_that_was_wrongly_kept_is_no_reason_to_refuse() {
        let directory = tempfile::tempdir().unwrap();
        drop(auto(directory.path()));
        let wrong = time::OffsetDateTime::now_utc() + time::Duration::days(3650);
        std::fs::write(directory.path().join("tls/clock"), wrong.unix_timestamp().to_string()).unwrap();
        let certificates = auto(directory.path());
        assert!(certificates.facts().clock_is_behind);
        greets(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
        assert!(!certificates.refresh().unwrap() && !certificates.lacks("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        drop(auto(directory.path()));
        let (certificate, key) = (directory.path().join("tls/ca.crt"), directory.path().join("tls/ca.key"));
        let before = std::fs::read_to_string(&key).unwrap();
        std::fs::remove_file(&certificate).unwrap();
        let certificates = auto(directory.path());
        assert_eq!(std::fs::read_to_string(&key).unwrap(), before);
        greets(&certificates, certificates.ca_pem().unwrap(), "localhost").unwrap();
        std::fs::remove_file(&key).unwrap();
        let source = Source::Auto { directory: directory.path().join("tls"), names: Vec::new() };
        assert!(Certificates::open(source).err().unwrap().to_string().contains("ca.key"));
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let write = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            made.cert.pem()
        };
        let first = write("one.lan");
        let source = Source::Files { certificate: certificate.clone(), key: key.clone() };
        let certificates = Certificates::open(source).unwrap();
        greets(&certificates, &first, "one.lan").unwrap();
        let second = write("another.lan");
        assert!(certificates.refresh().unwrap());
        greets(&certificates, &second, "another.lan").unwrap();
        std::fs::write(&key, "nonsense").unwrap();
        assert!(certificates.refresh().unwrap_err().to_string().contains("k.pem"));
        assert!(!certificates.refresh().unwrap(), "files with wrong content are read once");
        greets(&certificates, &second, "another.lan").unwrap();
        // One that cannot be read is tried again, also if it does not change.
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir(&key).unwrap();
        for _ in 0..2 {
            assert!(certificates.refresh().unwrap_err().to_string().contains("cannot read"));
        }
    }
}
