//! `holdfast serve`: puts the rooms together and runs until it is told to stop.

mod control;
mod idle;
mod measure;
mod reload;
mod site;
mod state;
mod upkeep;
mod watchdog;
mod welcome;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use self::site::Shared;
use super::Failure;
use crate::admin::Desk;
use crate::config::{Config, ConfigError};
use crate::server::{Capacity, Server, open_meanwhile};
use crate::service::{self, DescriptorBudget, Sockets};
use crate::store::{POOLED_THREADS, Role, Store};

/// How many threads may wait for the disk at once: those of the store's pools, and some for passwords, certificates and
/// long jobs, which no hanging sync takes.
const BLOCKING_THREADS: usize = POOLED_THREADS + 20;

/// How long lists go on after the daemon was told to stop.
const LISTS: Duration = Duration::from_secs(5);

/// How long the store may take to close. A blocked disk must not keep the daemon from ending.
const CLOSE: Duration = Duration::from_secs(15);

/// The options of `holdfast serve`.
#[derive(clap::Args, Default)]
pub(super) struct Options {
    /// The configuration file, as with --config; a file of registry:2 ends in .yml or .yaml
    #[arg(value_name = "FILE")]
    pub(super) file: Option<std::path::PathBuf>,
}

/// Reads the configuration, as often as it is asked to.
type Load = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Everything that runs, for the tasks that look after it.
struct House {
    load: Load,
    config: ArcSwap<Config>,
    store: Store,
    server: Arc<Server>,
    desk: Arc<Desk>,
    loopback_only: bool,
    shared: Shared,
    /// Whether systemd has the sockets.
    activated: bool,
    began: Instant,
    /// Tells of a new configuration.
    reloaded: Notify,
}

/// Serves until SIGTERM or SIGINT, or until nobody is there.
pub(super) fn run(load: Load) -> Result<(), Failure> {
    let config = load().map_err(|error| Failure::configuration(&error))?;
    let log = service::start_logging_as(config.log).map_err(Failure::failed)?;
    for warning in config.warnings.iter().chain(&super::foreign_content(&config)) {
        log::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let served = runtime.block_on(serve(config, load)).and_then(|store| close(&store));
    // What is still read or written now belongs to requests that were cut off.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    served
}

/// Closes the store on threads of its own: those of the requests may all be blocked.
fn close(store: &Store) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    if let Ok(closed) = runtime.block_on(async { tokio::time::timeout(CLOSE, store.close()).await }) {
        return closed.map_err(Failure::failed);
    }
    runtime.shutdown_background();
    // As after a power cut, the next start reads the index to its end.
    Err(Failure::failed(format!(
        "the disk did not answer within {} s: the daemon ends without closing its index",
        CLOSE.as_secs()
    )))
}

/// Serves until shutdown; returns the store, which the caller closes.
async fn serve(config: Config, load: Load) -> Result<Store, Failure> {
    let inherited = Sockets::inherited().map_err(Failure::failed)?;
    let activated = !inherited.registry.is_empty();
    let listeners = if activated { into_tokio(inherited.registry)? } else { bind_all(&config.listen)? };
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|door| door.local_addr().ok()).collect();
    let loopback_only = addresses.iter().all(|address| address.ip().is_loopback());
    super::may_write(&config.storage.path)?;
    let certificates = site::certificates(&config).await?;
    let opening = Store::open(super::store_settings(&config), Role::Daemon);
    let (store, early) = open_meanwhile(listeners, opening).await;
    let store = store.map_err(Failure::failed)?;
    // Health checks and metrics are right from the first one on.
    let _ = store.measure().await;
    let desk = Arc::new(Desk::new(Arc::default()).map_err(Failure::failed)?);
    let shared = Shared::new(descriptor_budget(&config, addresses.len()));
    let signer = shared.signer(&config, &store).await?;
    let site = site::site(&config, store.clone(), certificates, &desk, (loopback_only, &shared, signer))?;
    let DescriptorBudget { connections, closing, waiting, uploads: _ } = shared.budget;
    let house = Arc::new(House {
        load,
        config: ArcSwap::from_pointee(config),
        store,
        server: Arc::new(Server::new(site, Capacity { connections, closing, waiting })),
        desk,
        loopback_only,
        shared,
        activated,
        began: Instant::now(),
        reloaded: Notify::new(),
    });
    let (stopper, stop) = watch::channel(false);
    let stopper = Arc::new(stopper);
    look_after(&house, &stopper)?;
    tokio::spawn(stop_lists(house.store.clone(), stop.clone()));
    // Only now: whoever has read it may send signals.
    welcome::greet(&house, &addresses)?;
    for socket in inherited.control {
        tokio::spawn(control::answer(Arc::clone(&house), socket)?);
    }
    service::ready(&state::line(&house).await);
    Arc::clone(&house.server).serve(early, stop).await;
    measure::write_at_end(&house).await;
    service::stopping();
    // A thread that ends gives its place among LMDB's readers back, which must not have gone away by then: the map stays
    // until the process ends.
    std::mem::forget(house.store.clone());
    Ok(house.store.clone())
}

/// Divides the descriptors that this process may have.
fn descriptor_budget(config: &Config, listeners: usize) -> DescriptorBudget {
    let (limit, configured) = (service::raise_descriptor_limit(), config.limits.connections);
    let budget = DescriptorBudget::new(limit, configured, listeners);
    if budget.connections < configured {
        log::warn!(
            "limits.connections is {configured}, but {limit} open files are enough for {} connections; raise LimitNOFILE= \
             or ulimit -n",
            budget.connections
        );
    }
    budget
}

/// Cancels lists soon after the daemon was told to stop: only pulls and pushes are waited for. A client that was accepted
/// in the last moment still gets its list.
async fn stop_lists(store: Store, mut stop: watch::Receiver<bool>) {
    // An error says that the sender is gone, which is an end as well.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(LISTS).await;
    store.stop_lists();
}

/// Begins the tasks that go on beside the requests.
fn look_after(house: &Arc<House>, stopper: &Arc<watch::Sender<bool>>) -> Result<(), Failure> {
    tokio::spawn(stop_on_signal(Arc::clone(stopper))?);
    tokio::spawn(reload::on_hangup(Arc::clone(house))?);
    tokio::spawn(upkeep::keep_fresh(Arc::clone(house)));
    tokio::spawn(upkeep::keep_collecting(Arc::clone(house)));
    tokio::spawn(state::keep_telling(Arc::clone(house)));
    tokio::spawn(measure::keep_measuring(Arc::clone(house)));
    tokio::spawn(measure::keep_writing(Arc::clone(house)));
    watchdog::start(house).map_err(|error| Failure::failed(format!("cannot start the watchdog: {error}")))?;
    if house.activated {
        let (house, stopper) = (Arc::clone(house), Arc::clone(stopper));
        tokio::spawn(async move {
            idle::until_idle(house).await;
            stopper.send_replace(true);
        });
    }
    Ok(())
}

fn bind_all(listen: &[SocketAddr]) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    into_tokio(listen.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?)
}

fn into_tokio(sockets: Vec<TcpListener>) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let into_tokio = |socket| tokio::net::TcpListener::from_std(socket).map_err(Failure::failed);
    sockets.into_iter().map(into_tokio).collect()
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {error}; stop what uses it, or set `listen`"))
    })
}

fn stop_on_signal(stopper: Arc<watch::Sender<bool>>) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping: requests that go on have 30 seconds");
        stopper.send_replace(true);
    })
}
