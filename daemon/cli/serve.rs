//! `holdfast serve`: puts the rooms together and runs until it is told to stop.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Failure, print};
use crate::access::{self, Access, Action, Anonymous};
use crate::config::{self, Allow, Config, TlsMode};
use crate::registry::Registry;
use crate::server::{Limits, Server};
use crate::service;
use crate::store::{Policy, Role, Store, StoreError};
use crate::tls::{Certificates, Source};
use crate::wire::{Cors, Locations};

/// How often certificates are looked at.
const REFRESH: Duration = Duration::from_secs(30);
/// When the first collection begins at the latest.
const FIRST_COLLECTION: Duration = Duration::from_mins(1);
/// How many threads may wait for the disk at once.
const BLOCKING_THREADS: usize = 64;

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(config: Config) -> Result<(), Failure> {
    let log = service::start_logging(config.log.level).map_err(Failure::failed)?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let served = runtime.block_on(serve(config));
    // What is still read or written now belongs to requests that were cut off.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    served
}

async fn serve(config: Config) -> Result<(), Failure> {
    let listeners = listeners(&config.listen)?;
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|door| door.local_addr().ok()).collect();
    let loopback_only = addresses.iter().all(|address| address.ip().is_loopback());
    let certificates = certificates(&config).await?;
    let access = Access::open(access_settings(&config, loopback_only)).map_err(Failure::failed)?;
    let store = Store::open(super::store_settings(&config), Role::Daemon).await.map_err(Failure::failed)?;
    let collection = config.gc.interval.map(|interval| (interval, super::gc::policy(&config)));
    let welcome = welcome(&config, &addresses, &access, loopback_only);
    let server = Arc::new(server(config, access, certificates.clone(), store.clone()));
    let (stopper, stop) = watch::channel(false);
    tokio::spawn(stop_on_signal(stopper)?);
    if let Some(certificates) = certificates {
        tokio::spawn(keep_fresh(certificates)?);
    }
    if let Some((interval, policy)) = collection {
        tokio::spawn(keep_collecting(store.clone(), interval, policy));
    }
    print(&welcome)?;
    service::ready(&format!("serving on {}", list(&addresses)));
    server.serve(listeners, stop).await;
    service::stopping();
    store.close().await.map_err(Failure::failed)
}

fn server(config: Config, access: Access, certificates: Option<Arc<Certificates>>, store: Store) -> Server {
    let limits = config.limits;
    Server {
        registry: Registry {
            store,
            locations: Locations {
                external_url: config.http.external_url,
                trusted_proxies: config.http.trusted_proxies,
            },
            delete: config.storage.delete,
            list_max: limits.list_max,
        },
        access,
        certificates,
        cors: Cors::new(&config.http.headers),
        realm: config.auth.realm,
        limits: Limits {
            connections: u32::try_from(limits.connections).unwrap_or(u32::MAX),
            header_bytes: limits.header_bytes,
            header_time: limits.header_time,
            body_stall: limits.body_stall,
        },
    }
}

/// The sockets that systemd holds, or else those of the configuration.
fn listeners(listen: &[SocketAddr]) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let mut sockets = service::inherited_sockets().map_err(Failure::failed)?;
    if sockets.is_empty() {
        for address in listen {
            sockets.push(bind(*address)?);
        }
    }
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

async fn certificates(config: &Config) -> Result<Option<Arc<Certificates>>, Failure> {
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
    let opened = tokio::task::spawn_blocking(move || Certificates::open(source));
    let opened = opened.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
    Ok(Some(Arc::new(opened)))
}

fn access_settings(config: &Config, loopback_only: bool) -> access::Settings {
    let explicit = config.auth.anonymous.map(|anonymous| match anonymous {
        config::Anonymous::None => Anonymous::None,
        config::Anonymous::Pull => Anonymous::Pull,
        config::Anonymous::Full => Anonymous::Full,
    });
    let open = config.open_because_registry_environment.then_some(Anonymous::Full);
    access::Settings {
        htpasswd: config.auth.htpasswd.clone(),
        anonymous: explicit.or(open),
        remember: config.auth.remember,
        rules: config.auth.rules.iter().map(rule).collect(),
        loopback_only,
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

/// What a person who starts the daemon by hand sees first.
fn welcome(config: &Config, addresses: &[SocketAddr], access: &Access, loopback_only: bool) -> String {
    let scheme = if config.tls.mode == TlsMode::Off { "http" } else { "https" };
    let data = absolute(&config.storage.path);
    let mut text = format!("Holdfast {} is a container registry.\n", env!("CARGO_PKG_VERSION"));
    for address in addresses {
        text += &format!("  listens on  {scheme}://{address}\n");
    }
    text += &format!("  keeps data  in {data}\n");
    text += match (access.is_open(), access.has_users(), loopback_only) {
        (true, _, true) => "  is open     to everyone on this machine, because it listens on loopback only\n",
        (true, _, false) => {
            "  is OPEN     to everyone who can reach it; `holdfast user add NAME` and auth close it\n"
        }
        (false, false, _) => "  is closed   until it has a user; add one with: holdfast user add NAME\n",
        (false, true, _) => "  asks for    a user name and a password\n",
    };
    let port = addresses.first().map_or(5000, SocketAddr::port);
    text += &format!(
        "Try it:\n  docker tag hello-world localhost:{port}/hello:1\n  docker push localhost:{port}/hello:1\n"
    );
    text
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn stop_on_signal(stopper: watch::Sender<bool>) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping: requests that go on have 30 seconds");
        // Nobody listens any more when the server has ended by itself.
        let _ = stopper.send(true);
    })
}

/// Looks at the certificates now and then, and at once on SIGHUP.
fn keep_fresh(certificates: Arc<Certificates>) -> Result<impl Future<Output = ()>, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    Ok(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                _ = hangup.recv() => {}
            }
            let certificates = Arc::clone(&certificates);
            match tokio::task::spawn_blocking(move || certificates.refresh()).await {
                Ok(Ok(true)) => log::info!("the certificate is replaced"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => log::error!("the certificate stays as it is: {error}"),
                Err(error) => log::error!("the certificate could not be looked at: {error}"),
            }
        }
    })
}

/// Collects now and then, for as long as the store takes changes.
async fn keep_collecting(store: Store, interval: Duration, policy: Policy) {
    // Soon after the start for the first time: a daemon that is only there while somebody calls collects, too.
    tokio::time::sleep(interval.min(FIRST_COLLECTION)).await;
    loop {
        let mut observe = |taken| log::debug!("collected {taken:?}");
        match store.collect(&policy, false, &mut observe).await {
            Ok(report) if report.did_something() => log::info!(
                "collected {} tags, {} manifests, {} blobs and {} uploads: {} bytes are free again",
                report.freed_tags,
                report.freed_manifests,
                report.freed_blobs.count,
                report.freed_uploads.count,
                report.freed_blobs.bytes + report.freed_uploads.bytes
            ),
            Ok(_) => {}
            Err(StoreError::Closing | StoreError::ReadOnly) => return,
            Err(error) => log::error!("the collection stopped: {error}; it is tried again"),
        }
        tokio::time::sleep(interval).await;
    }
}
