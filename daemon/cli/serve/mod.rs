//! `holdfast serve`: starts the daemon and runs it until a signal or an idle exit.

mod app;
mod control;
mod idle_exit;
mod listeners;
mod maintenance;
mod measure;
mod opening;
mod reload;
mod services;
mod startup_banner;
mod status_line;
mod uploads;
mod user_events;
mod watchdog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use self::app::{App, ReadConfig};
use self::services::Shared;
use self::status_line::LastStatus;
use super::config_warnings::warnings;
use super::failure::Failure;
use super::next_due::{Moment, NextDue};
use super::{background, offline, validate};
use crate::admin::AdminState;
use crate::config::Config;
use crate::server::{Capacity, Server, serve_health_during};
use crate::service::{self, AccessFile, DescriptorBudget, InheritedSockets};
use crate::store::{POOLED_THREADS, Store};

/// Maximum number of blocking threads: those of the store's pools, and some for passwords, certificates and long jobs, which
/// hanging syncs cannot occupy.
const BLOCKING_THREADS: usize = POOLED_THREADS + 20;

/// Time that lists may continue after the shutdown has begun.
const LIST_GRACE: Duration = Duration::from_secs(5);

/// Timeout of writing the last status. A blocked disk must not keep the daemon from ending.
const STATUS_TIME: Duration = Duration::from_secs(2);

/// Timeout of closing the store. A blocked disk must not keep the daemon from ending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// The options of `holdfast serve`.
#[derive(clap::Args, Default)]
pub(super) struct Options {
    /// Configuration file, as with --config
    #[arg(value_name = "FILE")]
    pub(super) file: Option<std::path::PathBuf>,
    /// Address to listen on instead of the key `listen`, such as 0.0.0.0:5000; can be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Vec<String>,
}

/// Serves until SIGTERM, SIGINT or an idle exit.
pub(super) fn run(read_config: ReadConfig, has_listen_option: bool) -> Result<(), Failure> {
    let config = read_config().map_err(|error| Failure::configuration(&error))?;
    let log = service::start_logging_as(config.log.clone()).map_err(Failure::failed)?;
    let problems = [validate::signers_problem(&config), validate::import_folder_problem(&config)];
    for warning in warnings(&config).iter().chain(problems.iter().flatten()) {
        log::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format!("cannot start the async runtime: {error}")))?;
    let started = serve(config, read_config, has_listen_option, log.access_file());
    let served = runtime.block_on(started).and_then(|store| close(&store));
    if served.is_ok() {
        log::info!("stopped");
    }
    // Blocking work that still runs belongs to requests that were cut off.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    served
}

/// Closes the store in a runtime of its own: every blocking thread of the requests may hang.
fn close(store: &Store) -> Result<(), Failure> {
    let runtime = offline::runtime()?;
    if let Ok(closed) = runtime.block_on(async { tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await }) {
        return closed.map_err(Failure::failed);
    }
    runtime.shutdown_background();
    // As after a power cut, the next start reads the index to its end.
    Err(Failure::failed(format!(
        "the disk did not answer within {} s: exiting without closing the index; the next start checks it",
        CLOSE_TIMEOUT.as_secs()
    )))
}

/// Serves until shutdown; returns the store, which the caller closes.
async fn serve(
    config: Config,
    read_config: ReadConfig,
    has_listen_option: bool,
    access_file: Option<AccessFile>,
) -> Result<Store, Failure> {
    let inherited = InheritedSockets::take_all().map_err(Failure::failed)?;
    let activated = !inherited.registry.is_empty();
    let listeners = if activated {
        listeners::into_tokio(inherited.registry)?
    } else {
        listeners::bind_all(&config.listen)?
    };
    if activated && has_listen_option {
        log::warn!("--listen has no effect under socket activation: holdfast.socket has the port");
    }
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let loopback_only = addresses.iter().all(|address| address.ip().is_loopback());
    validate::require_writable(&config.storage.path)?;
    let seen_users = user_events::seen_before(&config.storage.path);
    let certificates = services::certificates(&config).await?;
    let (opened, early) = serve_health_during(listeners, opening::open(&config, inherited.control)).await;
    let opening::Opened { store, control, socket_file } = opened?;
    // Before the first request, so that health checks and metrics are right from the beginning.
    let _ = store.measure().await;
    let jobs = background::open(&store).await;
    let admin = AdminState::new(Arc::clone(&jobs)).map_err(Failure::failed)?;
    let admin = Arc::new(admin);
    let shared = Shared::new(descriptor_budget(&config, addresses.len()), config.clone());
    let signer = shared.signer(&config, &store).await?;
    let set = services::services(
        &config,
        store.clone(),
        certificates,
        &admin,
        config.effective_settings(),
        (loopback_only, &shared, signer),
    )?;
    shared.access.replace(Arc::clone(&set.access));
    if let Some(seen) = seen_users {
        set.access.compare_with_seen(&seen);
    }
    let DescriptorBudget { connections, closing, waiting, uploads: _ } = shared.budget;
    let app = Arc::new(App {
        read_config,
        config: ArcSwap::from_pointee(config),
        store,
        server: Arc::new(Server::new(set, Capacity { connections, closing, waiting })),
        admin,
        jobs,
        watch: Arc::default(),
        loopback_only,
        shared,
        activated,
        began: Instant::now(),
        reloaded: Notify::new(),
        access_file,
    });
    let (stopper, stop) = watch::channel(false);
    let stopper = Arc::new(stopper);
    app.admin.set_importer(Box::new(uploads::Uploads::new(&app)));
    maintenance::register_jobs(&app).await;
    start_tasks(&app, &stopper)?;
    tokio::spawn(stop_lists(app.store.clone(), stop.clone()));
    // After the signal handlers are set: the reader of the banner may send signals.
    startup_banner::announce(&app, &addresses)?;
    for socket in control {
        tokio::spawn(control::serve(Arc::clone(&app), socket)?);
    }
    service::ready(&status_line::line(&app).await);
    Arc::clone(&app.server).serve(early, stop).await;
    maintenance::await_end_of_jobs(&app).await;
    measure::count_served(&app);
    measure::write_at_end(&app).await;
    let saved = async {
        if let Some(status) = status_line::status(&app).await {
            let next_due = NextDue::after(maintenance::next_due(&app), &Moment::now());
            let users = app.server.services().access.seen_users();
            let held_archives = app.watch.held_until_changed();
            app.store.save_status(&LastStatus { status, next_due, held_archives, users }).await;
        }
    };
    // Without it `holdfast status` shows an older state.
    let _ = tokio::time::timeout(STATUS_TIME, saved).await;
    // No command may connect any more: it would wait for an answer that never comes.
    drop(socket_file);
    service::stopping();
    // Leaked on purpose: a thread that ends returns its slot in LMDB's reader table, so the map has to outlive all threads.
    std::mem::forget(app.store.clone());
    Ok(app.store.clone())
}

/// Divides the process's descriptors among connections and uploads.
fn descriptor_budget(config: &Config, listeners: usize) -> DescriptorBudget {
    let (limit, configured) = (service::raise_descriptor_limit(), config.limits.connections);
    let budget = DescriptorBudget::new(limit, configured, listeners);
    if budget.connections < configured {
        log::warn!(
            "limits.connections is {configured}, but {limit} open files allow only {} connections; raise LimitNOFILE= or \
             ulimit -n",
            budget.connections
        );
    }
    budget
}

/// Cancels lists soon after the shutdown has begun: only pulls and pushes are waited for. A client that was accepted in the
/// last moment still gets its list.
async fn stop_lists(store: Store, mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a shutdown as well.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(LIST_GRACE).await;
    store.stop_lists();
}

/// Starts the background tasks of the daemon.
fn start_tasks(app: &Arc<App>, stopper: &Arc<watch::Sender<bool>>) -> Result<(), Failure> {
    tokio::spawn(stop_on_signal(Arc::clone(stopper))?);
    tokio::spawn(reload::on_hangup(Arc::clone(app))?);
    tokio::spawn(maintenance::run_jobs(Arc::clone(app)));
    tokio::spawn(maintenance::stop_jobs_at_shutdown(Arc::clone(app), stopper.subscribe()));
    tokio::spawn(status_line::keep_current(Arc::clone(app)));
    tokio::spawn(user_events::record(Arc::clone(app)));
    tokio::spawn(measure::measure_periodically(Arc::clone(app)));
    tokio::spawn(measure::write_periodically(Arc::clone(app)));
    watchdog::start(app).map_err(|error| Failure::failed(format!("cannot start the watchdog: {error}")))?;
    if app.activated {
        let (app, stopper) = (Arc::clone(app), Arc::clone(stopper));
        tokio::spawn(async move {
            idle_exit::until_idle(Arc::clone(&app)).await;
            app.store.keep_journal_at_close();
            stopper.send_replace(true);
        });
    }
    Ok(())
}

fn stop_on_signal(stopper: Arc<watch::Sender<bool>>) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("shutting down: running requests have 30 seconds");
        stopper.send_replace(true);
    })
}
