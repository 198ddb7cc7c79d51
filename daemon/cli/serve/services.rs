//! Builds the services that answer requests from the configuration.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::super::failure::Failure;
use super::super::settings::{collection_policy, tls_clients};
use crate::access::{self, Access, Action, Anonymous, Challenge, SeenLines, TokenSigner};
use crate::admin::{self, Admin, Desk};
use crate::config::{self, Allow, Config, TlsMode};
use crate::metrics::HttpCounters;
use crate::registry::{Receiving, Registry};
use crate::server::{Limits, MetricsAccess, RequestServices};
use crate::service::DescriptorBudget;
use crate::store::{Policy, Store};
use crate::tls::{Certificates, Source};
use crate::wire::{Cors, Locations};

/// State that survives reloads: the descriptor budget, counters, and the signer of tokens.
pub(super) struct Shared {
    pub(super) budget: DescriptorBudget,
    receiving: Arc<Receiving>,
    seen: SeenLines,
    /// Signer with the key in the data directory, once a configuration needed it.
    signer: OnceCell<TokenSigner>,
    http: Arc<HttpCounters>,
}

impl Shared {
    pub(super) fn new(budget: DescriptorBudget) -> Self {
        Shared {
            receiving: Arc::new(Receiving::new(budget.uploads)),
            budget,
            seen: SeenLines::default(),
            signer: OnceCell::new(),
            http: Arc::default(),
        }
    }

    /// Returns the signer of tokens. If clients may be asked for tokens, its key is stored, so that tokens survive a restart;
    /// otherwise no key is written.
    pub(super) async fn signer(&self, config: &Config, store: &Store) -> Result<TokenSigner, Failure> {
        if !may_ask_for_tokens(config) {
            return ephemeral(store);
        }
        let signer = self.signer.get_or_try_init(async || match store.secret().await {
            Ok(key) => Ok(TokenSigner::new(&key, clock(store))),
            Err(error) => {
                log::warn!("{error}; tokens are valid until the daemon ends, and clients have to log in again after that");
                ephemeral(store)
            }
        });
        signer.await.cloned()
    }
}

fn ephemeral(store: &Store) -> Result<TokenSigner, Failure> {
    TokenSigner::ephemeral(clock(store)).map_err(Failure::failed)
}

/// Returns the clock that tokens expire by: store time, which jumps of the wall clock do not affect.
fn clock(store: &Store) -> impl Fn() -> u64 + Send + Sync + 'static {
    let store = store.clone();
    move || store.seconds()
}

/// Returns true if this configuration may challenge clients with Bearer.
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

/// Builds the services of a configuration.
pub(super) fn services(
    config: &Config,
    store: Store,
    certificates: Option<Arc<Certificates>>,
    admin_state: &Arc<Desk>,
    (loopback_only, shared, signer): (bool, &Shared, TokenSigner),
) -> Result<RequestServices, Failure> {
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
            policy: Policy { by_hand: true, ..collection_policy(config) },
            loopback_only,
        },
        desk: Arc::clone(admin_state),
        store: store.clone(),
        locations: locations.clone(),
    };
    Ok(RequestServices {
        admin: config.admin.enabled.then_some(admin),
        events: Arc::clone(&admin_state.events),
        registry: Registry {
            store,
            locations,
            delete: config.storage.delete,
            read_only: config.registry.read_only,
            list_max: limits.list_max,
            manifest_descriptors: limits.manifest_descriptors,
            receiving: Arc::clone(&shared.receiving),
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
            connections_per_address: limits.connections_per_address,
            socket_buffer: limits.socket_buffer,
        },
        metrics_access: metrics_access(config),
        http: Arc::clone(&shared.http),
        logins: Arc::clone(&admin_state.logins),
    })
}

fn metrics_access(config: &Config) -> MetricsAccess {
    match (config.metrics.enabled, config.metrics.access) {
        (false, _) => MetricsAccess::Off,
        (true, config::MetricsAccess::Local) => MetricsAccess::Local,
        (true, config::MetricsAccess::Users) => MetricsAccess::Users,
        (true, config::MetricsAccess::Open) => MetricsAccess::Open,
    }
}

/// Returns true if only this machine can reach the registry: its sockets are on loopback, and no proxy or external URL is
/// configured, behind which other machines could reach it.
pub(super) fn is_for_this_machine(config: &Config, loopback_only: bool) -> bool {
    loopback_only && config.http.external_url.is_none() && config.http.trusted_proxies.is_empty()
}

/// Opens the certificates of a configuration.
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
    let clients = tls_clients(config);
    let opened = tokio::task::spawn_blocking(move || Certificates::open_for(source, &clients));
    let opened = opened.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
    Ok(Some(Arc::new(opened)))
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
        // A configured file of users means that users are wanted, even before it has any.
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
