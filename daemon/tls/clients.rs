//! What is asked of clients in a handshake: a certificate of their own, and a version of TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::{VerifierBuilderError, WantsServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

use super::TlsError;
use super::files::read_file;

/// What clients have to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// The authorities, in PEM, one of which has to have issued the certificate of a client; without any no client is
    /// asked for a certificate.
    pub authorities: Vec<PathBuf>,
    /// Whether TLS 1.2 is refused.
    pub only_tls_1_3: bool,
}

impl Clients {
    /// Reads the authorities; blocking.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn look_at(&self) -> Result<(), TlsError> {
        self.server_config().map(drop)
    }

    /// Begins the configuration of a server.
    pub(super) fn server_config(&self) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = if self.only_tls_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder: ConfigBuilder<ServerConfig, WantsVerifier> =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        if self.authorities.is_empty() {
            return Ok(builder.with_no_client_auth());
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider).build();
        let verifier = verifier.map_err(|error: VerifierBuilderError| {
            rustls::Error::General(format!("tls.client_ca cannot be used: {error}"))
        })?;
        Ok(builder.with_client_cert_verifier(verifier))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for path in &self.authorities {
            let wrong = |why: String| TlsError::Content(path.clone(), why);
            let text = read_file(path)?;
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
                .collect::<Result<_, pem::Error>>()
                .map_err(|error| wrong(format!("is no PEM file of certificates: {error}")))?;
            if certificates.is_empty() {
                return Err(wrong("has no certificate in it".into()));
            }
            for certificate in certificates {
                roots
                    .add(certificate)
                    .map_err(|error| wrong(format!("has a certificate that is of no authority: {error}")))?;
            }
        }
        Ok(roots)
    }
}
