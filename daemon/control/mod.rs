//! The local HTTP API: the command line's way to the store, over the control socket of a daemon or, without one, over a
//! connection in memory.
//!
//! A connection carries `/_holdfast/v1/...`, answered here, and `/v2/`, answered by the registry with full rights; there is
//! no log-in, since the mode of the socket decides which users may connect. [`Service`] answers the requests of one process,
//! and reaches the store and the other parts of the process through its [`Host`].
//!
//! | part | modules |
//! |---|---|
//! | connections | `service`, `connection` |
//! | requests | `route`, `request`, `error`, `events` (streams of progress), `body` |
//! | endpoints | `status`, `names`, `events_feed`, `image`, `deletes`, `jobs`, `transfers`, `inventory`, `api` (`/v2/`) |

mod actor;
mod api;
mod body;
mod connection;
mod deletes;
mod error;
mod events;
mod events_feed;
mod host;
mod image;
mod inventory;
mod jobs;
mod names;
mod report;
mod request;
mod route;
mod service;
mod status;
mod transfers;

pub use self::actor::Actor;
pub use self::connection::refuse;
pub use self::deletes::{DeleteNames, DeletedName, NameToDelete};
pub use self::error::{ControlError, Detail};
pub use self::events::{EventKind, StreamOutcome};
pub use self::host::{BoxFuture, Host, Limits};
pub use self::image::{ImageDetails, PlatformDetails};
pub use self::names::{RepositoryItem, TagItem};
pub use self::report::{Identity, StatusReport};
pub use self::route::PREFIX;
pub use self::service::{CONNECTIONS, Service};
pub use self::transfers::{ExportAnswer, ExportRequest, OpenTransfer, OpenedTransfer, TransferPurpose};
