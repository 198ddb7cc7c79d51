//! Background jobs of the daemon: their start, their schedules after a reload, and their end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::super::background::{self, CurrentConfig};
use super::app::App;
use crate::control::Host;

/// The time that running jobs have to reach a safe point when the daemon stops.
const STOP_TIME: Duration = Duration::from_secs(30);
/// The time that they have after the last request has ended.
const LAST_STOP_TIME: Duration = Duration::from_secs(5);

/// Registers all jobs. From then on they can be started, so that this is done before the first request.
pub(super) async fn register_jobs(app: &Arc<App>) {
    let config: CurrentConfig = {
        let app = Arc::clone(app);
        Arc::new(move || app.config.load_full())
    };
    background::register_store_jobs(&app.jobs, &app.store, &config, true).await;
    let host = Arc::downgrade(app) as std::sync::Weak<dyn Host>;
    background::register_import(&app.jobs, host, config, (true, Arc::clone(&app.watch))).await;
    let of_certificates = Arc::clone(app);
    let certificates = move || of_certificates.server.services().certificates.clone();
    background::register_certificate(&app.jobs, &app.config.load_full(), certificates).await;
}

/// Runs the jobs that are due for as long as the daemon runs.
pub(super) async fn run_jobs(app: Arc<App>) {
    tokio::spawn(follow_reloads(Arc::clone(&app)));
    Arc::clone(&app.jobs).run().await;
}

/// Applies the intervals of each new configuration.
async fn follow_reloads(app: Arc<App>) {
    loop {
        let reloaded = app.reloaded.notified();
        tokio::pin!(reloaded);
        // Before the configuration is read, so that no reload is missed.
        reloaded.as_mut().enable();
        background::reschedule(&app.jobs, &app.config.load_full()).await;
        reloaded.await;
    }
}

/// Renews or reloads the certificate if that is due.
pub(super) async fn renew_certificate(app: &App) {
    background::renew_certificate(app.server.services().certificates.clone()).await;
}

/// Returns how long it takes until a daemon has to run for a job: a collection that would find nothing starts none.
pub(super) fn next_due(app: &App) -> Option<Duration> {
    let policy = &app.config.load().gc.policy;
    app.jobs.next_due(|job| job != background::COLLECTION || app.store.may_have_to_collect(policy))
}

/// Cancels the jobs once the shutdown has begun.
pub(super) async fn stop_jobs_at_shutdown(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a shutdown as well.
    let _ = stop.wait_for(|stop| *stop).await;
    app.jobs.stop(STOP_TIME).await;
}

/// Waits for the end of the jobs before the store is closed.
pub(super) async fn await_end_of_jobs(app: &App) {
    app.jobs.stop(LAST_STOP_TIME).await;
}
