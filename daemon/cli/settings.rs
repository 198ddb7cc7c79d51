//! Maps the configuration to the settings of the store.

use super::inspect;
use crate::config::Config;
use crate::{service, store};

/// Returns the settings of the store.
pub(super) fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        path: config.storage.path.clone(),
        index_map_size: config.storage.index_map_size,
        idle_uploads: config.limits.uploads,
        grace_periods: store::GracePeriods {
            grace: config.gc.policy.grace,
            retention: config.gc.policy.retention.as_slice().into(),
        },
        immutable: config.immutable.clone(),
        events: config.events,
        inspect: inspect::in_own_process,
        on_read_only: service::status,
        on_opening: service::starting,
        capacity: config.storage.capacity,
    }
}
