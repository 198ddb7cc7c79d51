//! Resolver of the certificate for handshakes. Every client gets the one certificate, also with another server name
//! (SNI, RFC 6066 section 3), which is only logged.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::names::{self, MissingNames};

/// The certificate in use, replaced without a lock.
pub(super) struct ServedCertificate {
    certified: ArcSwap<CertifiedKey>,
    /// Its SANs.
    names: ArcSwap<BTreeSet<String>>,
    /// Logs other requested names, if the registry's own authority could issue a certificate for them.
    missing: Option<MissingNames>,
}

impl ServedCertificate {
    pub(super) fn new(certified: CertifiedKey, missing: Option<MissingNames>) -> Self {
        let names = ArcSwap::from_pointee(names_of(&certified));
        ServedCertificate { certified: ArcSwap::from_pointee(certified), names, missing }
    }

    /// Serves another certificate from now on.
    pub(super) fn replace(&self, certified: CertifiedKey) {
        self.names.store(Arc::new(names_of(&certified)));
        self.certified.store(Arc::new(certified));
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.load_full()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.load().iter().cloned().collect()
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        names::covers(&self.names.load(), &names::canonical(name))
    }

    pub(super) fn configured_names(&self) -> &[String] {
        self.missing.as_ref().map_or(&[], MissingNames::configured)
    }

    /// Logs a name that a client requested, if it is not a SAN of the certificate.
    pub(super) fn note_requested_name(&self, name: &str) {
        if let Some(missing) = &self.missing {
            missing.note(&self.names.load(), name);
        }
    }
}

impl fmt::Debug for ServedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            self.note_requested_name(name);
        }
        Some(self.certified())
    }
}

fn names_of(certified: &CertifiedKey) -> BTreeSet<String> {
    certified.cert.first().map(names::of_certificate).unwrap_or_default()
}
