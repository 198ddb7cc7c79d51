//! The store in this process: a command without a daemon.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::JoinSet;

use super::super::background;
use super::super::failure::Failure;
use super::super::offline::{canonical, runtime};
use super::super::settings::store_settings;
use crate::access::CurrentAccess;
use crate::config::Config;
use crate::control::{Actor, BoxFuture, Host, Identity, Limits, Service, StatusReport};
use crate::jobs::Jobs;
use crate::registry::{Registry, UploadSlots};
use crate::store::{OwnerKind, Ownership, Role, Store, StoreError};

/// Bytes that wait in a connection in memory, in each direction.
pub(super) const BUFFER: usize = 64 << 10;
/// Uploads at a time: a command sends one after the other.
const UPLOADS: usize = 4;
/// Timeout of requests that were cut off, before the store is closed.
const END_TIME: Duration = Duration::from_secs(30);
/// The peer is a command of the same operator, which may wait for an answer at a terminal.
pub(super) const PATIENCE: Duration = Duration::from_hours(24);
/// Timeout of the status.
const STATUS_TIME: Duration = Duration::from_secs(5);

/// The store and the settings of a command.
struct Offline {
    store: Store,
    jobs: Arc<Jobs>,
    registry: Arc<Registry>,
    data: String,
    header_bytes: usize,
    signers: Option<PathBuf>,
    began: Instant,
}

impl Host for Offline {
    fn store(&self) -> &Store {
        &self.store
    }

    fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    fn limits(&self) -> Limits {
        Limits { stall: PATIENCE, header_bytes: self.header_bytes }
    }

    fn signers(&self) -> Option<PathBuf> {
        self.signers.clone()
    }

    fn status(&self) -> BoxFuture<'_, Option<StatusReport>> {
        Box::pin(async {
            let status = tokio::time::timeout(STATUS_TIME, self.store.live_status());
            let (store, uploads) = status.await.ok()?.ok()?;
            Some(StatusReport {
                state: "serving".into(),
                owner: OwnerKind::Command,
                version: env!("CARGO_PKG_VERSION").into(),
                data: self.data.clone(),
                seconds: self.began.elapsed().as_secs(),
                connections: 0,
                requests: 0,
                uploads,
                disk: self.store.disk_delay().warning(),
                may_lack_names: self.store.may_lack_names(),
                collection_rules: None,
                identity: Identity::default(),
                store,
            })
        })
    }

    fn metrics(&self) -> Option<String> {
        None
    }

    fn begin_request(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(())
    }
}

/// Opens and closes the store before a rebuild, so that `index.json` gets the names that only the index has. In a runtime of
/// its own, whose end drops all that still refers to the store: a process can open an index only once.
pub(super) fn recover(config: &Config) -> Result<(), Failure> {
    let recovered = runtime()?.block_on(async {
        match Local::open(config, Role::Command).await? {
            Some(local) => local.close().await,
            None => Ok(()),
        }
    });
    // The rebuild replaces the index anyway.
    recovered.unwrap_or_else(|failure| log::warn!("{}", failure.line));
    Ok(())
}

/// The open store, and the connections to its handlers.
pub(super) struct Local {
    host: Arc<Offline>,
    service: Service,
    connections: JoinSet<()>,
}

impl Local {
    /// Opens the store; returns `None` if another process has it.
    pub(super) async fn open(config: &Config, role: Role) -> Result<Option<Self>, Failure> {
        let settings = store_settings(config);
        let taking = settings.clone();
        let taken = tokio::task::spawn_blocking(move || Ownership::take(&taking, OwnerKind::Command)).await;
        let ownership = match taken.map_err(Failure::failed)? {
            Ok(ownership) => ownership,
            Err(StoreError::InUse(_)) => return Ok(None),
            Err(error) => return Err(Failure::failed(error)),
        };
        let store = Store::open_owned(settings, role, ownership).await.map_err(Failure::failed)?;
        let registry = Arc::new(Registry {
            store: store.clone(),
            addresses: config.http.addresses.clone(),
            delete: config.storage.delete,
            read_only: config.registry.read_only,
            sparse: config.registry.sparse,
            list_max: config.limits.list_max,
            manifest_descriptors: config.limits.manifest_descriptors,
            upload_slots: Arc::new(UploadSlots::new(UPLOADS)),
            access: CurrentAccess::default(),
        });
        let jobs = background::open_in_command(&store, config).await;
        let host = Arc::new(Offline {
            store,
            jobs,
            registry,
            data: canonical(&config.storage.path),
            header_bytes: config.limits.server.header_bytes,
            signers: config.import.signers.clone(),
            began: Instant::now(),
        });
        let weak = Arc::downgrade(&host) as std::sync::Weak<dyn Host>;
        let current = Arc::new(config.clone());
        let current = Arc::new(move || Arc::clone(&current));
        background::register_import(&host.jobs, weak, current, (false, Arc::default())).await;
        let service = Service::new(host.clone());
        Ok(Some(Local { host, service, connections: JoinSet::new() }))
    }

    /// Opens a connection in memory to the handlers.
    pub(super) fn connect(&mut self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(BUFFER);
        self.serve(far, geteuid().as_raw());
        near
    }

    /// Serves a connection for a user.
    fn serve(&mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, user: u32) {
        let service = self.service.clone();
        self.connections.spawn(async move {
            let Ok(actor) = tokio::task::spawn_blocking(move || Actor::of(user)).await else { return };
            service.serve(stream, actor).await;
        });
    }

    /// Serves one connection to its end.
    pub(super) async fn serve_to_end(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        user: u32,
    ) {
        self.serve(stream, user);
        while self.connections.join_next().await.is_some() {}
    }

    /// Waits for the requests that were cut off, and closes the store.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        self.host.jobs.stop(END_TIME).await;
        let ended = async {
            while self.connections.join_next().await.is_some() {}
            // Work that was cancelled holds the host until its next safe point.
            while Arc::strong_count(&self.host) > 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(END_TIME, ended).await.is_err() {
            log::warn!("the disk does not answer; closing the store with work in progress");
        }
        let saved = async {
            if let Some(status) = self.host.status().await {
                self.host.store.save_status(&status).await;
            }
        };
        // Without it `holdfast status` shows an older state.
        let _ = tokio::time::timeout(STATUS_TIME, saved).await;
        self.host.store.close().await.map_err(Failure::failed)
    }
}
