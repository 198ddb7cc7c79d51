//! The job `certificate`: looks at the files of the certificate, and renews those of the registry's own authority.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, TlsMode};
use crate::jobs::{Class, JobEnd, JobSpec, Jobs, Schedule};
use crate::tls::Certificates;

/// The name of the job.
pub(super) const NAME: &str = "certificate";
/// The interval of the job.
const INTERVAL: Duration = Duration::from_secs(30);

/// Returns the schedule: only with TLS.
pub(super) fn schedule(config: &Config) -> Schedule {
    let interval = match config.tls.mode {
        TlsMode::Off => None,
        TlsMode::Auto | TlsMode::Files { .. } => Some(INTERVAL),
    };
    Schedule { interval, first: None }
}

/// Registers the job. `current` returns the certificates in use.
pub(in crate::cli) async fn register(
    jobs: &Jobs,
    config: &Config,
    current: impl Fn() -> Option<Arc<Certificates>> + Send + Sync + 'static,
) {
    let spec = JobSpec {
        name: NAME.to_owned(),
        class: Class::Network,
        schedule: schedule(config),
        is_routine: true,
        joins: |_, _| true,
        validate: |_| Ok(()),
    };
    jobs.register(spec, move |_| renew(current())).await;
}

/// Renews or reloads the certificates if that is due.
pub(in crate::cli) async fn renew(certificates: Option<Arc<Certificates>>) -> JobEnd {
    let Some(certificates) = certificates else { return JobEnd::ok("TLS is off.") };
    match tokio::task::spawn_blocking(move || certificates.refresh()).await {
        Ok(Ok(true)) => {
            log::info!("certificate replaced");
            JobEnd::ok("The certificate was replaced.")
        }
        Ok(Ok(false)) => JobEnd::ok("The certificate is current."),
        Ok(Err(error)) => {
            log::error!("keeping the old certificate: {error}");
            JobEnd::failed(format!("The old certificate stays in use: {error}."))
        }
        Err(error) => {
            log::error!("cannot check the certificate: {error}");
            JobEnd::failed(format!("The certificate cannot be checked: {error}."))
        }
    }
}
