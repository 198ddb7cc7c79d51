//! The control socket: accepts the connections of the local API.

use std::any::Any;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::super::failure::Failure;
use super::app::App;
use super::status_line;
use crate::control::{Actor, BoxFuture, CONNECTIONS, Host, Limits, Service, StatusReport, refuse};
use crate::jobs::Jobs;
use crate::metrics::Format;
use crate::registry::Registry;
use crate::store::Store;

/// Maximum number of connections without a slot that get their 503 at a time; further ones wait in the socket.
const REFUSALS: usize = 8;
/// Timeout of a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

impl Host for App {
    fn store(&self) -> &Store {
        &self.store
    }

    fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.server.services().registry)
    }

    fn limits(&self) -> Limits {
        let limits = self.server.services().limits;
        Limits { stall: limits.body_stall, header_bytes: limits.header_bytes }
    }

    fn signers(&self) -> Option<PathBuf> {
        self.config.load().import.signers.clone()
    }

    fn status(&self) -> BoxFuture<'_, Option<StatusReport>> {
        Box::pin(status_line::status(self))
    }

    fn metrics(&self) -> Option<String> {
        Some(self.server.metrics_text(Format::Prometheus))
    }

    fn begin_request(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(self.server.count_local_request())
    }
}

/// Serves the control socket.
pub(super) fn serve(app: Arc<App>, socket: UnixListener) -> Result<impl Future<Output = ()>, Failure> {
    let listener = tokio::net::UnixListener::from_std(socket).map_err(Failure::failed)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let service = Service::new(app);
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                        let service = service.clone();
                        tokio::spawn(async move {
                            serve_connection(&service, stream).await;
                            drop(slot);
                        });
                    } else if let Ok(place) = Arc::clone(&refusals).acquire_owned().await {
                        tokio::spawn(async move {
                            refuse(stream, REFUSAL_TIME).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    log::warn!("cannot accept control connections: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

/// Serves a connection for the user at its other end, as the kernel names it.
async fn serve_connection(service: &Service, stream: UnixStream) {
    let user = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            log::warn!("the user of a control connection is unknown, closing it: {error}");
            return;
        }
    };
    // The lookup of the name may read files.
    if let Ok(actor) = tokio::task::spawn_blocking(move || Actor::of(user)).await {
        service.serve(stream, actor).await;
    }
}
