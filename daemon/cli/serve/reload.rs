//! SIGHUP: the configuration is read again, and what goes on ends as it began.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::super::{Failure, could_take};
use super::{House, site, state, upkeep};
use crate::config::Config;
use crate::service;

/// Reads the configuration again with each SIGHUP.
pub(super) fn on_hangup(house: Arc<House>) -> Result<impl Future<Output = ()>, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            service::reloading();
            match reload(&house).await {
                Ok(()) => log::info!("the configuration is read again"),
                Err(failure) => log::error!("the configuration stays as it is: {}", failure.line),
            }
            service::ready(&state::line(&house).await);
        }
    })
}

async fn reload(house: &Arc<House>) -> Result<(), Failure> {
    let mut new = read(house).await?;
    let old = house.config.load_full();
    let later: Vec<_> = needs_restart(&old, &new).collect();
    // Where the images are, users and authority stay as well.
    new.keep_data_in(old.storage.path.clone());
    let certificates = if new.tls == old.tls {
        house.server.site().certificates.clone()
    } else {
        site::certificates(&new).await?
    };
    let signer = house.shared.signer(&new, &house.store).await?;
    let site = site::site(
        &new,
        house.store.clone(),
        certificates,
        &house.desk,
        (house.loopback_only, &house.shared, signer),
    )?;
    for warning in &new.warnings {
        log::warn!("{warning}");
    }
    for key in later {
        if key == "listen" && house.activated {
            log::warn!(
                "listen has changed, which counts for nothing here: the port is that of holdfast.socket"
            );
        } else {
            log::warn!("{key} has changed, which counts from the next restart on");
        }
    }
    service::set_level(new.log.level);
    let settings = super::super::store_settings(&new);
    house.store.adjust(settings.ages, settings.immutable, settings.room);
    house.server.exchange(site);
    house.config.store(Arc::new(new));
    house.reloaded.notify_waiters();
    upkeep::refresh(house).await;
    Ok(())
}

/// Reads the configuration, and refuses one that no daemon could start with: the next start would meet it.
async fn read(house: &Arc<House>) -> Result<Config, Failure> {
    let house = Arc::clone(house);
    let read = tokio::task::spawn_blocking(move || {
        let config = (house.load)().map_err(Failure::misuse)?;
        could_take(&config)?;
        Ok(config)
    });
    read.await.map_err(Failure::failed)?
}

/// The keys that have changed and that a running daemon cannot change.
fn needs_restart(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> {
    let keys = [
        ("listen", old.listen != new.listen),
        ("storage.path", old.storage.path != new.storage.path),
        ("storage.index_map_size", old.storage.index_map_size != new.storage.index_map_size),
        ("log.format", old.log.json != new.log.json),
        ("log.access", old.log.access != new.log.access),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("limits.uploads", old.limits.uploads != new.limits.uploads),
        ("log.lines_per_address", old.log.lines_per_address != new.log.lines_per_address),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key)
}
