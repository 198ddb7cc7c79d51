//! TLS certificates: issued by the registry's own authority or read from files, and replaced while the daemon runs.
//!
//! In its sandbox the daemon sees no network interface. The address by which a client reached the machine is taken from
//! its connection, and a certificate with that SAN is issued before the handshake begins.

mod added_names;
mod authority;
mod certificates;
mod cipher_order;
mod client_auth;
mod clock;
mod error;
mod files;
mod names;
mod resolver;

pub use self::added_names::NameError;
pub use self::certificates::{CertificateInfo, Certificates, Source};
pub use self::client_auth::ClientRequirements;
pub use self::error::TlsError;
pub use self::files::validate;
