//! Maps the configuration to the settings of the store, of collections and of TLS.

use super::inspect;
use crate::config::{Config, MinimumTls};
use crate::store::{self, Immutable, Policy, Retention};
use crate::{service, tls};

/// Returns the settings of the store.
pub(super) fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        path: config.storage.path.clone(),
        index_map_size: config.storage.index_map_size,
        uploads: config.limits.uploads,
        ages: store::Ages { grace: config.gc.grace, retention: retention_rules(config).into() },
        immutable: immutable_rules(config),
        inspect: inspect::in_own_process,
        failed: service::status,
        opening: service::starting,
        room: store::RoomLimits {
            reserve: config.storage.reserve,
            quota: config.storage.quota,
            names: store::NameLimits {
                tags_per_repository: config.limits.tags_per_repository,
                names: config.limits.names,
            },
            unfinished_uploads: Some(config.limits.unfinished_uploads),
        },
    }
}

/// Returns the policy of collections that the daemon starts by itself.
pub(super) fn collection_policy(config: &Config) -> Policy {
    Policy {
        grace: config.gc.grace,
        uploads_expire: config.gc.uploads_expire,
        retention: retention_rules(config),
        by_hand: false,
    }
}

fn retention_rules(config: &Config) -> Vec<Retention> {
    let rules = config.retention.iter().map(|rule| Retention {
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        newest: rule.keep_newest,
        younger: rule.keep_younger,
        tags: rule.keep_tags.iter().cloned().map(Into::into).collect(),
        untagged: rule.remove_untagged,
    });
    rules.collect()
}

fn immutable_rules(config: &Config) -> Vec<Immutable> {
    let rules = config.immutable.iter().map(|rule| Immutable {
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        tags: rule.tags.iter().cloned().map(Into::into).collect(),
        delete: rule.delete,
    });
    rules.collect()
}

/// Returns what a TLS handshake demands of clients: the authorities of their certificates, and the minimum version.
pub(super) fn tls_clients(config: &Config) -> tls::Clients {
    let only_tls_1_3 = match config.tls.minimum {
        MinimumTls::V1_2 => false,
        MinimumTls::V1_3 => true,
    };
    tls::Clients { authorities: config.tls.client_ca.clone(), only_tls_1_3 }
}
