//! From a host to a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{AddressPolicy, is_address, is_public};
use super::error::{EgressError, Remedy, chain};
use super::proxy::{Proxies, Proxy};
use super::race::connect_first;
use super::roots::Roots;
use super::target::{Origin, Scheme};

/// Time for a connection: the resolver, all addresses, the proxy and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Maximum length of the answer of a proxy, in bytes.
const PROXY_ANSWER: usize = 8 << 10;

/// A connection, with TLS or without.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens connections from this process.
pub struct Connector {
    policy: AddressPolicy,
    proxies: Proxies,
    tls: TlsConnector,
    /// True if no authorities of the system are known.
    has_built_in_roots: bool,
}

impl Connector {
    /// Makes a connector that trusts these authorities.
    ///
    /// # Errors
    /// None in practice: the provider has both versions of TLS.
    pub fn new(policy: AddressPolicy, proxies: Proxies, roots: Roots) -> Result<Self, rustls::Error> {
        let Roots { store, are_built_in } = roots;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(store)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Connector { policy, proxies, tls, has_built_in_roots: are_built_in })
    }

    /// Connects to a host. `is_trusted` permits all its addresses; otherwise the policy decides.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        is_trusted: bool,
    ) -> Result<Box<dyn Connection>, EgressError> {
        let opening = self.open(origin, is_trusted || self.policy.is_named(origin));
        tokio::time::timeout(CONNECT, opening)
            .await
            .unwrap_or_else(|_| Err(unreachable(origin, "no connection within 10 seconds")))
    }

    async fn open(&self, origin: &Origin, is_any: bool) -> Result<Box<dyn Connection>, EgressError> {
        let stream = match self.proxies.for_origin(origin) {
            Some(proxy) => through(proxy, origin, is_any).await?,
            None => direct(origin, is_any).await?,
        };
        // Small requests must not wait for acknowledgements. A socket that refuses is only slower.
        let _ = stream.set_nodelay(true);
        match origin.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => {
                let name = ServerName::try_from(origin.host.clone());
                let name = name.map_err(|error| self.tls_error(origin, &io::Error::other(error)))?;
                let encrypted = self.tls.connect(name, stream).await;
                Ok(Box::new(encrypted.map_err(|error| self.tls_error(origin, &error))?))
            }
        }
    }

    /// Describes a failed handshake.
    fn tls_error(&self, origin: &Origin, error: &io::Error) -> EgressError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(reason)) = inner else {
            return match (inner, error.kind()) {
                (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                    unreachable(origin, "the TLS handshake broke")
                }
                (Some(rustls::Error::InvalidMessage(_)), _) => EgressError::Tls {
                    host: origin.authority(),
                    reason: "it does not answer with TLS".into(),
                    remedy: Some(Remedy::PlainHttp),
                },
                _ => EgressError::Tls { host: origin.authority(), reason: chain(error), remedy: None },
            };
        };
        let (reason, remedy) = match reason {
            CertificateError::UnknownIssuer => {
                let mut reason = "its certificate comes from an authority that is not trusted".to_owned();
                if self.has_built_in_roots {
                    reason += "; this machine has no store of authorities (ca-certificates), so that those of this release count";
                }
                (reason, Some(Remedy::TrustAuthority))
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                let reason = format!(
                    "its certificate has expired or is not valid yet; the clock of this machine says {now}"
                );
                (reason, None)
            }
            other => (format!("its certificate is not valid: {other}"), None),
        };
        EgressError::Tls { host: origin.authority(), reason, remedy }
    }
}

fn unreachable(origin: &Origin, reason: impl Into<String>) -> EgressError {
    EgressError::Connect { host: origin.authority(), reason: reason.into() }
}

/// Connects to a permitted address of a host.
async fn direct(origin: &Origin, is_any: bool) -> Result<TcpStream, EgressError> {
    let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| unknown(origin, &error))?.collect();
    let permitted: Vec<SocketAddr> =
        found.iter().copied().filter(|address| is_any || is_public(address.ip())).collect();
    if permitted.is_empty() && !found.is_empty() {
        let addresses = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        return Err(EgressError::NotPublic { host: origin.authority(), addresses });
    }
    connect_first(permitted).await.map_err(|reason| unreachable(origin, reason))
}

fn unknown(origin: &Origin, error: &io::Error) -> EgressError {
    let is_local = origin.host.rsplit('.').next() == Some("local");
    let hint = if is_local {
        "; names in .local need a resolver that answers them, such as systemd-resolved"
    } else {
        ""
    };
    unreachable(origin, format!("{error}{hint}"))
}

/// Connects through a proxy, which resolves the name.
async fn through(proxy: &Proxy, origin: &Origin, is_any: bool) -> Result<TcpStream, EgressError> {
    if is_address(&origin.host) && !is_any {
        return Err(EgressError::NotPublic { host: origin.authority(), addresses: origin.host.clone() });
    }
    let failed = |reason: &dyn std::fmt::Display| {
        unreachable(origin, format!("proxy {}:{}: {reason}", proxy.host, proxy.port))
    };
    let found = tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await;
    let found = found.map_err(|error| failed(&error))?.collect();
    let mut stream = connect_first(found).await.map_err(|error| failed(&error))?;
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let place = format!("{host}:{}", origin.port);
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the answer belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER {
            return Err(failed(&"its answer is too long"));
        }
        answer.push(stream.read_u8().await.map_err(|error| failed(&error))?);
    }
    let line =
        String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).take(100).collect();
    let refused = |hint: &str| EgressError::Protocol {
        host: origin.authority(),
        reason: format!("proxy {}:{}: it answered {clean}{hint}", proxy.host, proxy.port),
    };
    match status {
        200..=299 => Ok(stream),
        // tinyproxy answers 401 to a wrong password.
        401 | 407 => {
            Err(refused("; name its user and password in HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT"))
        }
        // It would refuse the same host again.
        400..=499 => Err(refused("")),
        _ => Err(failed(&format!("it answered {clean}"))),
    }
}
