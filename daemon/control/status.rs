//! `GET status` and `GET metrics`.

use std::time::Duration;

use http::StatusCode;

use super::body::Body;
use super::error::ControlError;
use super::host::Host;
use super::report::{Identity, external_host};
use crate::metrics::Format;

/// Timeout of the registry's id: a disk that hangs must not hold up the status.
const ID_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers with the status.
pub(super) async fn status(host: &dyn Host) -> Result<http::Response<Body>, ControlError> {
    match host.status().await {
        Some(mut report) => {
            report.identity = identity(host).await;
            Ok(Body::json(&report))
        }
        None => {
            Err(ControlError::new(StatusCode::SERVICE_UNAVAILABLE, "hanging", "the disk does not answer"))
        }
    }
}

/// Returns the identity of the registry; without the id if the disk does not answer.
async fn identity(host: &dyn Host) -> Identity {
    let store = host.store().clone();
    let id = tokio::task::spawn_blocking(move || store.registry_id());
    let id = tokio::time::timeout(ID_TIMEOUT, id).await.ok().and_then(Result::ok);
    let id = id.and_then(Result::ok).flatten().map(|id| id.to_string());
    Identity { id, host: external_host(&host.registry()) }
}

/// Answers with the metrics.
pub(super) fn metrics(host: &dyn Host) -> Result<http::Response<Body>, ControlError> {
    let text = host.metrics().ok_or_else(|| ControlError::not_found("a command has no metrics"))?;
    Ok(Body::whole(StatusCode::OK, Format::Prometheus.content_type(), text.into()))
}
