//! Errors of outgoing requests.

/// Reason why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The host cannot be reached, or its name is unknown.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// The host and port.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The address policy forbids all addresses of the host.
    #[error("refused to connect to {host}: {addresses} is not a public address")]
    NotPublic {
        /// The host and port.
        host: String,
        /// Its addresses.
        addresses: String,
    },
    /// The TLS handshake failed, for example because the certificate is not trusted.
    #[error("{host}: {reason}")]
    Tls {
        /// The host and port.
        host: String,
        /// The reason.
        reason: String,
        /// The remedy, if there is one.
        remedy: Option<Remedy>,
    },
    /// The connection broke, or the host stopped sending.
    #[error("the connection to {host} broke: {reason}")]
    Broken {
        /// The host and port.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The host is connected and sends no answer.
    #[error("{host} does not answer")]
    Silent {
        /// The host and port.
        host: String,
    },
    /// The answer breaks a rule of HTTP, or one of this client.
    #[error("{host}: {reason}")]
    Protocol {
        /// The host and port.
        host: String,
        /// The reason.
        reason: String,
    },
}

/// The setting that may help. Its name depends on the place of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Permit private addresses of this host.
    AllowHost(String),
    /// Trust the authority of the certificate.
    TrustAuthority,
    /// Speak HTTP without TLS.
    PlainHttp,
    /// Give credentials for this registry.
    LogIn(String),
    /// Permit the token server at this host and port to see the credentials.
    TokenHost(String),
}

impl EgressError {
    /// Returns the setting that may help.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            EgressError::NotPublic { host, .. } => Some(Remedy::AllowHost(host.clone())),
            EgressError::Tls { remedy, .. } => remedy.clone(),
            EgressError::Connect { .. }
            | EgressError::Broken { .. }
            | EgressError::Silent { .. }
            | EgressError::Protocol { .. } => None,
        }
    }

    /// Returns true if the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            EgressError::Connect { .. } | EgressError::Broken { .. } | EgressError::Silent { .. } => true,
            EgressError::NotPublic { .. } | EgressError::Tls { .. } | EgressError::Protocol { .. } => false,
        }
    }
}

/// Formats an error with its sources: those of HTTP name the cause only there.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text += ": ";
            text += &inner_text;
        }
        source = inner.source();
    }
    text
}
