//! Requirements for the clients of a handshake: a client certificate (mTLS), and the version of TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{VerifierBuilderError, WantsServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

use super::cipher_order::CipherOrder;
use super::error::TlsError;
use super::files::read_certificates;

/// Requirements for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRequirements {
    /// PEM files of authorities. A client needs a certificate that one of them issued. If empty, clients need none.
    pub authorities: Vec<PathBuf>,
    /// Refuses TLS 1.2.
    pub only_tls_1_3: bool,
}

impl ClientRequirements {
    /// Checks that the authorities can be read and used. Blocking.
    ///
    /// # Errors
    /// Returns [`TlsError`].
    pub fn validate(&self) -> Result<(), TlsError> {
        self.server_config(CipherOrder::Client).map(drop)
    }

    /// Starts the configuration of a server with these requirements.
    pub(super) fn server_config(
        &self,
        order: CipherOrder,
    ) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, TlsError> {
        let mut provider = ring::default_provider();
        order.sort(&mut provider);
        let provider = Arc::new(provider);
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
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    TlsError::Content(
                        path.clone(),
                        format!("has a certificate that is not one of an authority: {error}"),
                    )
                })?;
            }
        }
        Ok(roots)
    }
}
