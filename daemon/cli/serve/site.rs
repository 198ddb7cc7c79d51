//! From the configuration to what requests meet.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::super::Failure;
use crate::access::{self, Access, Action, Anonymous, Challenge, SeenLines, TokenSigner};
use crate::admin::{self, Admin, Desk};
use crate::config::{self, Allow, Config, MinimumTls, TlsMode};
use crate::metrics::HttpCounters;
use crate::registry::{Registry, UploadSlots};
use crate::server::{Limits, MetricsAccess, Site};
use crate::service::DescriptorBudget;
use crate::store::{Policy, Store};
use crate::tls::{Certificates, Clients, Source};
use crate::wire::{Cors, Locations};

/// Limits that follow from the descriptor budget, and what else stays the same across reloads.
pub(super) struct Shared {
    pub(super) budget: DescriptorBudget,
    upload_slots: Arc<UploadSlots>,
    seen: SeenLines,
    /// Signs tokens with the key in the data directory, once that was needed.
    signer: OnceCell<TokenSigner>,
    http: Arc<HttpCounters>,
}

impl Shared {
    pub(super) fn new(budget: DescriptorBudget) -> Self {
        Shared {
            upload_slots: Arc::new(UploadSlots::new(budget.uploads)),
            budget,
            seen: SeenLines::default(),
            signer: OnceCell::new(),
            http: Arc::default(),
        }
    }

    /// Returns the signer of tokens. Where clients are asked for tokens these outlive the daemon; elsewhere no key is written.
    pub(super) async fn signer(&self, config: &Config, store: &Store) -> Result<TokenSigner, Failure> {
        if !may_ask_for_tokens(config) {
            return ephemeral(store);
        }
        let signer = self.signer.get_or_try_init(async || match store.secret().await {
            Ok(key) => Ok(TokenSigner::new(&key, clock(store))),
            Err(error) => {
                log::warn!("{error}; tokens end with this process, and clients log in again after that");
                ephemeral(store)
            }
        });
        signer.await.cloned()
    }
}

fn ephemeral(store: &Store) -> Result<TokenSigner, Failure> {
    TokenSigner::ephemeral(clock(store)).map_err(Failure::failed)
}

/// The time that tokens expire by: that of the store, which no jump of the wall clock changes.
fn clock(store: &Store) -> impl Fn() -> u64 + Send + Sync + 'static {
    let store = store.clone();
    move || store.seconds()
}

/// Returns true if the challenge may be Bearer by this configuration.
fn may_ask_for_tokens(config: &Config) -> bool {
    match config.auth.challenge {
        Some(config::Challenge::Basic) => false,
        Some(config::Challenge::Bearer) => true,
        None => {
            let for_anonymous = |rule: &config::Rule| rule.users.iter().any(|name| name == "-");
            matches!(config.auth.anonymous, Some(config::Anonymous::Pull | config::Anonymous::Full))
                || config.auth.rules.iter().any(for_anonymous)
        }
    }
}

/// What requests meet by this configuration.
pub(super) fn site(
    config: &Config,
    store: Store,
    certificates: Option<Arc<Certificates>>,
    desk: &Arc<Desk>,
    (loopback_only, shared, signer): (bool, &Shared, TokenSigner),
) -> Result<Site, Failure> {
    let limits = config.limits;
    let loopback_only = is_for_this_machine(config, loopback_only);
    let access = access_settings(config, loopback_only, signer);
    let access = Access::open(access, shared.seen.clone()).map_err(Failure::failed)?;
    let locations = Locations {
        external_url: config.http.external_url.clone(),
        trusted_proxies: config.http.trusted_proxies.clone(),
    };
    let admin = Admin {
        settings: admin::Settings {
            title: config.admin.title.clone(),
            users: config.admin.users.clone(),
            delete: config.admin.delete && config.storage.delete && !config.registry.read_only,
            policy: Policy { by_hand: true, ..super::super::gc::policy(config) },
            loopback_only,
        },
        desk: Arc::clone(desk),
        store: store.clone(),
        locations: locations.clone(),
    };
    Ok(Site {
        admin: config.admin.enabled.then_some(admin),
        events: Arc::clone(&desk.events),
        registry: Registry {
            store,
            locations,
            delete: config.storage.delete,
            read_only: config.registry.read_only,
            list_max: limits.list_max,
            manifest_descriptors: limits.manifest_descriptors,
            upload_slots: Arc::clone(&shared.upload_slots),
        },
        access,
        certificates,
        cors: Cors::new(&config.http.headers),
        realm: config.auth.realm.clone(),
        limits: Limits {
            header_bytes: limits.header_bytes,
            header_time: limits.header_time,
            body_stall: limits.body_stall,
            minimum_rate: limits.minimum_rate,
            connections_per_address: limits
                .connections_per_address
                .unwrap_or_else(|| (shared.budget.connections / 4).max(1)),
            socket_buffer: limits.socket_buffer,
        },
        metrics_access: match config.metrics.access {
            _ if !config.metrics.enabled => MetricsAccess::Off,
            config::MetricsAccess::Local => MetricsAccess::Local,
            config::MetricsAccess::Users => MetricsAccess::Users,
            config::MetricsAccess::Open => MetricsAccess::Open,
        },
        http: Arc::clone(&shared.http),
        logins: Arc::clone(&desk.logins),
    })
}

/// Whether only this machine reaches a registry whose sockets may be on loopback only: where there is a proxy, or an
/// address by which others call it, they are only on the way.
pub(super) fn is_for_this_machine(config: &Config, loopback_only: bool) -> bool {
    loopback_only && config.http.external_url.is_none() && config.http.trusted_proxies.is_empty()
}

/// The certificates by this configuration.
pub(super) async fn certificates(config: &Config) -> Result<Option<Arc<Certificates>>, Failure> {
    let source = match &config.tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Auto => {
            let directory = config.storage.path.join("tls");
            Source::Auto { directory, names: config.tls.names.clone() }
        }
        TlsMode::Files { certificate, key } => {
            Source::Files { certificate: certificate.clone(), key: key.clone() }
        }
    };
    let clients = clients(config);
    let opened = tokio::task::spawn_blocking(move || Certificates::open_for(source, &clients));
    let opened = opened.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
    Ok(Some(Arc::new(opened)))
}

/// What clients have to bring to a handshake by this configuration.
pub(in crate::cli) fn clients(config: &Config) -> Clients {
    let only_tls_1_3 = match config.tls.minimum {
        MinimumTls::V1_2 => false,
        MinimumTls::V1_3 => true,
    };
    Clients { authorities: config.tls.client_ca.clone(), only_tls_1_3 }
}

fn access_settings(config: &Config, loopback_only: bool, signer: TokenSigner) -> access::Settings {
    let explicit = config.auth.anonymous.map(|anonymous| match anonymous {
        config::Anonymous::None => Anonymous::None,
        config::Anonymous::Pull => Anonymous::Pull,
        config::Anonymous::Full => Anonymous::Full,
    });
    access::Settings {
        htpasswd: config.auth.htpasswd.clone(),
        anonymous: explicit,
        remember: config.auth.remember,
        session: config.admin.session,
        rules: config.auth.rules.iter().map(rule).collect(),
        challenge: config.auth.challenge.map(|challenge| match challenge {
            config::Challenge::Basic => Challenge::Basic,
            config::Challenge::Bearer => Challenge::Bearer,
        }),
        token: config.auth.token,
        signer,
        // Whoever names a file of users wants users, also before it has any.
        open_without_users: loopback_only && !config.auth.htpasswd_is_set,
        open_as_registry_2: config.open_because_registry_environment,
    }
}

fn rule(rule: &config::Rule) -> access::Rule {
    let action = |allow: &Allow| match allow {
        Allow::Pull => Action::Pull,
        Allow::Push => Action::Push,
        Allow::Delete => Action::Delete,
        Allow::Catalog => Action::Catalog,
    };
    access::Rule {
        users: rule.users.clone(),
        repositories: rule.repositories.iter().cloned().map(Into::into).collect(),
        allow: rule.allow.iter().map(action).collect(),
    }
}
