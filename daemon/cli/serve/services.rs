//! Builds the services that answer requests from the configuration.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::super::failure::Failure;
use crate::access::{self, Access, Anonymous, Challenge, CurrentAccess, Rule, TokenSigner, UsersLatch};
use crate::admin::{self, Admin, AdminState, Copies, SettingInEffect};
use crate::config::{Config, EffectiveSetting, TlsMode, USER_RULES};
use crate::metrics::HttpCounters;
use crate::registry::{Registry, UploadSlots};
use crate::server::{MetricsAccess, RequestServices};
use crate::service::DescriptorBudget;
use crate::store::{CollectionPolicy, Store};
use crate::tls::{Certificates, Source};
use crate::wire::Cors;

/// State that survives reloads: the descriptor budget, counters, and the signer of tokens.
pub(super) struct Shared {
    pub(super) budget: DescriptorBudget,
    upload_slots: Arc<UploadSlots>,
    /// Latched once there were users: the registry is not implicitly open from then on.
    users_latch: UsersLatch,
    /// Signer with the key in the data directory, once a configuration needed it.
    signer: OnceCell<TokenSigner>,
    http: Arc<HttpCounters>,
    /// The access control of the configuration in effect.
    pub(super) access: CurrentAccess,
    /// The configuration of the start, for the keys that need a restart.
    pub(super) started: Config,
}

impl Shared {
    pub(super) fn new(budget: DescriptorBudget, started: Config) -> Self {
        Shared {
            started,
            upload_slots: Arc::new(UploadSlots::new(budget.uploads)),
            budget,
            users_latch: UsersLatch::default(),
            signer: OnceCell::new(),
            http: Arc::default(),
            access: CurrentAccess::default(),
        }
    }

    /// Returns the signer of tokens. If clients may be asked for tokens, its key is stored, so that tokens survive a restart;
    /// otherwise no key is written.
    pub(super) async fn signer(&self, config: &Config, store: &Store) -> Result<TokenSigner, Failure> {
        if !may_ask_for_tokens(config) {
            return ephemeral(store);
        }
        let signer = self.signer.get_or_try_init(async || match store.signing_key().await {
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
    move || store.store_seconds()
}

/// Returns true if this configuration may challenge clients with Bearer.
fn may_ask_for_tokens(config: &Config) -> bool {
    match config.auth.settings.challenge {
        Some(Challenge::Basic) => false,
        Some(Challenge::Bearer) => true,
        None => {
            let for_anonymous = |rule: &Rule| rule.users.iter().any(|name| name == "-");
            matches!(config.auth.settings.anonymous, Some(Anonymous::Pull | Anonymous::Full))
                || config.auth.settings.rules.iter().any(for_anonymous)
                // The rules of the admin page may be for anonymous clients, too.
                || config.auth.settings.page_rules.exists()
        }
    }
}

/// Builds the services of a configuration.
pub(super) fn services(
    config: &Config,
    store: Store,
    certificates: Option<Arc<Certificates>>,
    admin_state: &Arc<AdminState>,
    settings: Vec<EffectiveSetting>,
    (loopback_only, shared, signer): (bool, &Shared, TokenSigner),
) -> Result<RequestServices, Failure> {
    let limits = &config.limits;
    let loopback_only = is_for_this_machine(config, loopback_only);
    let access = access_settings(config, loopback_only, signer);
    let access = Arc::new(Access::open(access, shared.users_latch.clone()).map_err(Failure::failed)?);
    let addresses = config.http.addresses.clone();
    let admin = Admin {
        settings: admin::Settings {
            title: config.admin.title.clone(),
            users: config.admin.users.clone(),
            delete: config.admin.delete && config.storage.delete && !config.registry.read_only,
            copies: match &config.registry {
                registry if registry.read_only => Copies::Refused,
                registry if registry.sparse => Copies::Sparse,
                _ => Copies::Whole,
            },
            policy: CollectionPolicy { by_operator: true, ..config.gc.policy.clone() },
            loopback_only,
            configuration: settings.into_iter().map(setting).collect(),
            rule_places: config.places_of_user_rules(),
            page_rules: config.auth.settings.page_rules.display().to_string(),
        },
        state: Arc::clone(admin_state),
        store: store.clone(),
        addresses: addresses.clone(),
    };
    Ok(RequestServices {
        admin: config.admin.enabled.then_some(admin),
        jobs: Arc::clone(&admin_state.jobs),
        registry: Arc::new(Registry {
            store,
            addresses,
            delete: config.storage.delete,
            read_only: config.registry.read_only,
            sparse: config.registry.sparse,
            list_max: limits.list_max,
            manifest_descriptors: limits.manifest_descriptors,
            upload_slots: Arc::clone(&shared.upload_slots),
            access: shared.access.clone(),
        }),
        access,
        certificates,
        cors: Cors::new(&config.http.headers),
        realm: config.auth.realm.clone(),
        limits: limits.server,
        metrics_access: if config.metrics.enabled { config.metrics.access } else { MetricsAccess::Off },
        http: Arc::clone(&shared.http),
        logins: Arc::clone(&admin_state.logins),
    })
}

/// Returns a setting as the admin page shows it.
fn setting(setting: EffectiveSetting) -> SettingInEffect {
    let EffectiveSetting { section, name, value, source, restart, after_restart } = setting;
    SettingInEffect { section, name, value, source, restart, after_restart }
}

/// Returns true if only this machine can reach the registry: its sockets are on loopback, and no proxy or external URL is
/// configured, behind which other machines could reach it.
pub(super) fn is_for_this_machine(config: &Config, loopback_only: bool) -> bool {
    let addresses = &config.http.addresses;
    loopback_only && addresses.external_url.is_none() && addresses.trusted_proxies.is_empty()
}

/// Opens the certificates of a configuration.
pub(super) async fn certificates(config: &Config) -> Result<Option<Arc<Certificates>>, Failure> {
    let source = match &config.tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Auto => {
            let directory = config.authority_directory();
            Source::Auto { directory, names: config.tls.names.clone() }
        }
        TlsMode::Files { certificate, key } => {
            Source::Files { certificate: certificate.clone(), key: key.clone() }
        }
    };
    let clients = config.tls.clients.clone();
    let opened = tokio::task::spawn_blocking(move || Certificates::open_for(source, &clients));
    let opened = opened.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
    Ok(Some(Arc::new(opened)))
}

fn access_settings(config: &Config, loopback_only: bool, signer: TokenSigner) -> access::Settings {
    access::Settings {
        auth: config.auth.settings.clone(),
        session: config.admin.session,
        rules_format: USER_RULES,
        signer,
        // A configured file of users means that users are wanted, even before it has any.
        open_without_users: loopback_only && !config.auth.htpasswd_is_set,
        open_as_registry_2: config.open_because_registry_environment,
    }
}
