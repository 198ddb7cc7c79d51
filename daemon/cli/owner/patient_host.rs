//! The host of requests that a process sends to itself: its own limits on slow peers bound them already.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use super::local::PATIENCE;
use crate::control::{BoxFuture, Host, Limits, StatusReport};
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::store::Store;

/// A host with a long stall limit: a medium may be slow, and a browser sends its bytes in other pieces than the engine.
pub(super) struct PatientHost(pub(super) Arc<dyn Host>);

impl Host for PatientHost {
    fn store(&self) -> &Store {
        self.0.store()
    }

    fn jobs(&self) -> &Arc<Jobs> {
        self.0.jobs()
    }

    fn registry(&self) -> Arc<Registry> {
        self.0.registry()
    }

    fn limits(&self) -> Limits {
        Limits { stall: PATIENCE, ..self.0.limits() }
    }

    fn signers(&self) -> Option<PathBuf> {
        self.0.signers()
    }

    fn status(&self) -> BoxFuture<'_, Option<StatusReport>> {
        self.0.status()
    }

    fn metrics(&self) -> Option<String> {
        self.0.metrics()
    }

    fn begin_request(&self) -> Arc<dyn Any + Send + Sync> {
        self.0.begin_request()
    }
}
