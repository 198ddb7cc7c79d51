//! The control socket, a Unix socket by which the command line reads status (JSON) and metrics of the daemon over HTTP.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::super::failure::Failure;
use super::app::App;
use super::status_line;
use crate::metrics::Format;
use crate::wire::{Response, empty, with_bytes};

/// Maximum number of connections.
const CONNECTIONS: usize = 8;
/// Timeout of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Serves the control socket.
pub(super) fn serve(app: Arc<App>, socket: UnixListener) -> Result<impl Future<Output = ()>, Failure> {
    let listener = tokio::net::UnixListener::from_std(socket).map_err(Failure::failed)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(async move {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let app = Arc::clone(&app);
                    tokio::spawn(async move {
                        // A client that takes longer is disconnected.
                        let _ = tokio::time::timeout(CONNECTION_TIME, serve_connection(app, stream)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    log::warn!("cannot accept control connections: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

async fn serve_connection(app: Arc<App>, stream: UnixStream) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(respond(&app, request.uri().path()).await) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        log::debug!("control connection ended: {error}");
    }
}

async fn respond(app: &Arc<App>, path: &str) -> Response {
    if path == "/metrics" {
        let text = app.server.metrics_text(Format::Prometheus);
        return with_bytes(StatusCode::OK, Format::Prometheus.content_type(), text.into());
    }
    if path != "/status" {
        return empty(StatusCode::NOT_FOUND);
    }
    let status = status_line::status(app).await.and_then(|status| serde_json::to_vec(&status).ok());
    match status {
        Some(json) => with_bytes(StatusCode::OK, "application/json", Bytes::from(json)),
        None => empty(StatusCode::SERVICE_UNAVAILABLE),
    }
}
