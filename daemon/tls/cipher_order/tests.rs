//! Handshakes of a client that prefers AES, as most do, with both orders.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection,
    SupportedProtocolVersion,
};

use super::CipherOrder;
use crate::tls::{Certificates, ClientRequirements, Source};

struct Server {
    certificates: Certificates,
    _directory: tempfile::TempDir,
}

impl Server {
    fn new(order: CipherOrder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = Source::Auto { directory: directory.path().join("tls"), names: Vec::new() };
        let certificates =
            Certificates::open_in_order(source, &ClientRequirements::default(), order).unwrap();
        Server { certificates, _directory: directory }
    }

    /// Returns a client of one version that offers AES-128-GCM first, and not ChaCha20-Poly1305 if `only_aes`.
    fn client(&self, version: &'static SupportedProtocolVersion, only_aes: bool) -> Arc<ClientConfig> {
        let mut provider = ring::default_provider();
        if only_aes {
            provider.cipher_suites.retain(|suite| !super::is_chacha20(*suite));
        }
        let is_aes_128 = |suite| {
            matches!(
                suite,
                CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            )
        };
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        let mut roots = RootCertStore::empty();
        let authority = self.certificates.ca_pem().unwrap().as_bytes();
        roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(client)
    }

    /// Returns the suite that was agreed, and whether the handshake resumed a session.
    fn connect(&self, client: &Arc<ClientConfig>) -> (CipherSuite, HandshakeKind) {
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = ServerConnection::new(self.certificates.server_config()).unwrap();
        for _ in 0..10 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        (server.negotiated_cipher_suite().unwrap().suite(), server.handshake_kind().unwrap())
    }

    fn suite(&self, version: &'static SupportedProtocolVersion, only_aes: bool) -> CipherSuite {
        self.connect(&self.client(version, only_aes)).0
    }
}

#[test]
fn with_aes_instructions_the_client_decides() {
    let server = Server::new(CipherOrder::Client);
    assert_eq!(server.suite(&TLS13, false), CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(server.suite(&TLS12, false), CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
}

#[test]
fn without_aes_instructions_chacha20_comes_first_where_the_client_has_it() {
    let server = Server::new(CipherOrder::ChaCha20First);
    assert_eq!(server.suite(&TLS13, false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    assert_eq!(server.suite(&TLS12, false), CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert!(matches!(
        server.suite(&TLS13, true),
        CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_AES_256_GCM_SHA384
    ));
    assert!(matches!(
        server.suite(&TLS12, true),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    ));
}

/// A resumed handshake costs no signature, which is slow on a small processor.
#[test]
fn a_client_that_comes_back_resumes_its_session() {
    for order in [CipherOrder::Client, CipherOrder::ChaCha20First] {
        for version in [&TLS13, &TLS12] {
            let server = Server::new(order);
            let client = server.client(version, false);
            let first = server.connect(&client);
            assert_eq!(first.1, HandshakeKind::Full);
            assert_eq!(server.connect(&client), (first.0, HandshakeKind::Resumed), "{order:?} {version:?}");
        }
    }
}
