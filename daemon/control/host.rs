//! The process that serves the local API, as the handlers see it.

use std::any::Any;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::report::StatusReport;
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::store::Store;

/// A boxed future, as an object-safe trait returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Limits on the peers of the local API.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest pause of a peer that has to send or to read.
    pub stall: Duration,
    /// The maximum length of the head of a request, in bytes.
    pub header_bytes: usize,
}

/// The owner of the store: a daemon, or a command without one.
pub trait Host: Send + Sync + 'static {
    /// Returns the store.
    fn store(&self) -> &Store;

    /// Returns the background jobs.
    fn jobs(&self) -> &Arc<Jobs>;

    /// Returns the API of the standard, with the settings of the current configuration.
    fn registry(&self) -> Arc<Registry>;

    /// Returns the limits of the current configuration.
    fn limits(&self) -> Limits;

    /// Returns the file of allowed signers of imports (`import.signers`); `None` if nothing has to be signed.
    fn signers(&self) -> Option<PathBuf>;

    /// Returns the status of the process and of its store; `None` if the disk does not answer.
    fn status(&self) -> BoxFuture<'_, Option<StatusReport>>;

    /// Returns the metrics in Prometheus' text format; `None` if the process has none.
    fn metrics(&self) -> Option<String>;

    /// Counts a request as activity until the result is dropped, so that the process does not end for lack of work.
    fn begin_request(&self) -> Arc<dyn Any + Send + Sync>;
}
