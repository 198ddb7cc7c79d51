//! Reload on SIGHUP: replaces the services of new requests; running requests keep those that they began with. An invalid
//! configuration changes nothing.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::super::config_warnings::{page_rules_problem, warnings};
use super::super::failure::Failure;
use super::super::settings::store_settings;
use super::super::validate::{import_folder_problem, signers_problem, validate_for_reload};
use super::app::App;
use super::{maintenance, services, status_line};
use crate::config::Config;
use crate::service;

/// Reloads the configuration on each SIGHUP.
pub(super) fn on_hangup(app: Arc<App>) -> Result<impl Future<Output = ()>, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            service::reloading();
            // Also with an invalid configuration: logrotate has renamed the file.
            if let Some(file) = &app.access_file {
                file.reopen();
            }
            match reload(&app).await {
                Ok(()) => log::info!("configuration reloaded"),
                Err(failure) => log::error!("keeping the old configuration: {}", failure.line),
            }
            service::ready(&status_line::line(&app).await);
        }
    })
}

async fn reload(app: &Arc<App>) -> Result<(), Failure> {
    let mut new = read(app).await?;
    let old = app.config.load_full();
    let needs_restart: Vec<_> = old.keys_changed_until_restart(&new).collect();
    let settings_in_effect = app.shared.started.effective_after_reload(&new);
    // The store stays where it is until a restart, and with it the users and the authority in the data directory.
    new.keep_data_in(old.storage.path.clone());
    if let Some(problem) = page_rules_problem(&new) {
        return Err(Failure::misuse(problem));
    }
    let certificates = if new.tls == old.tls {
        app.server.services().certificates.clone()
    } else {
        services::certificates(&new).await?
    };
    let signer = app.shared.signer(&new, &app.store).await?;
    let set = services::services(
        &new,
        app.store.clone(),
        certificates,
        &app.admin,
        settings_in_effect,
        (app.loopback_only, &app.shared, signer),
    )?;
    for key in needs_restart {
        if key == "listen" && app.activated {
            log::warn!(
                "listen has changed, but has no effect under socket activation: holdfast.socket has the port"
            );
        } else {
            log::warn!("{key} has changed; restart the daemon to apply it");
        }
    }
    service::set_level(new.log.level);
    let settings = store_settings(&new);
    app.store.reconfigure(settings.grace_periods, settings.immutable, settings.capacity);
    app.store.set_feed_bounds(settings.events);
    set.access.follow(&app.server.services().access);
    app.shared.access.replace(Arc::clone(&set.access));
    app.server.replace_services(set);
    app.config.store(Arc::new(new));
    app.reloaded.notify_waiters();
    maintenance::renew_certificate(app).await;
    Ok(())
}

/// Reads the configuration, and refuses one with which the next start would fail.
async fn read(app: &Arc<App>) -> Result<Config, Failure> {
    let app = Arc::clone(app);
    let read = tokio::task::spawn_blocking(move || {
        let config = (app.read_config)().map_err(Failure::misuse)?;
        validate_for_reload(&config)?;
        let problems = [signers_problem(&config), import_folder_problem(&config)];
        for problem in warnings(&config).iter().chain(problems.iter().flatten()) {
            log::warn!("{problem}");
        }
        Ok(config)
    });
    read.await.map_err(Failure::failed)?
}
