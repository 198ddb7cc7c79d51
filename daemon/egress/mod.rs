//! Outgoing connections: HTTP/1.1 over TCP and TLS, to hosts that the operator named and to those that they name in turn.
//!
//! | module | contents |
//! |---|---|
//! | `target` | URLs of requests, and the `Location` of an answer |
//! | `address` | the policy: which addresses of a host may be connected to |
//! | `proxy`, `roots` | proxies of the environment, trusted authorities |
//! | `connector`, `race` | from a host to a connection: resolver, policy, happy eyeballs, proxy, TLS |
//! | `body`, `pool`, `client`, `response` | requests over connections that are kept, redirects, and answers in bounded memory |
//! | `retry` | pauses after failures, `Retry-After` |
//!
//! # Guarantees
//!
//! - The policy is applied to the address that is connected to, after DNS, so that a name that changes its address (DNS
//!   rebinding) gains nothing.
//! - A redirect never leads from HTTPS to HTTP, and `Authorization` never goes to another host or port.
//! - Every wait is bounded: connect 10 s, first byte 30 s, a body without progress 60 s. So are headers and redirects.
//! - The query of a URL is in no message: it may be a credential.

mod address;
mod body;
mod client;
mod connector;
mod error;
mod pool;
mod proxy;
mod race;
mod response;
mod retry;
mod roots;
mod target;

pub use self::address::{AddressPolicy, HostName};
pub use self::body::{Outgoing, whole_body};
pub use self::client::{HttpClient, Payload, Request};
pub use self::connector::Connector;
pub use self::error::{EgressError, Remedy};
pub use self::proxy::Proxies;
pub use self::response::Response;
pub use self::retry::Backoff;
pub use self::roots::{Roots, trusted_roots};
pub use self::target::{Origin, Scheme, Target};

/// The `User-Agent` of requests.
pub const AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
