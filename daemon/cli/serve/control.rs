//! The Unix socket through which the command line asks a running daemon: HTTP, and JSON.

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

use super::super::Failure;
use super::{House, state};
use crate::metrics::Format;
use crate::wire::{Response, empty, with_bytes};

/// How many ask at once at the most.
const CONNECTIONS: usize = 8;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers everyone who asks.
pub(super) fn answer(house: Arc<House>, socket: UnixListener) -> Result<impl Future<Output = ()>, Failure> {
    let listener = tokio::net::UnixListener::from_std(socket).map_err(Failure::failed)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(async move {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let house = Arc::clone(&house);
                    tokio::spawn(async move {
                        // Whoever takes longer asks again.
                        let _ = tokio::time::timeout(PATIENCE, speak(house, stream)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    log::warn!("the command line cannot ask now: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

async fn speak(house: Arc<House>, stream: UnixStream) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let house = Arc::clone(&house);
        async move { Ok::<_, Infallible>(respond(&house, request.uri().path()).await) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        log::debug!("the command line went away: {error}");
    }
}

async fn respond(house: &Arc<House>, path: &str) -> Response {
    if path == "/metrics" {
        let text = house.server.metrics_text(Format::Prometheus);
        return with_bytes(StatusCode::OK, Format::Prometheus.content_type(), text.into());
    }
    if path != "/status" {
        return empty(StatusCode::NOT_FOUND);
    }
    let live = state::live(house).await.and_then(|live| serde_json::to_vec(&live).ok());
    match live {
        Some(json) => with_bytes(StatusCode::OK, "application/json", Bytes::from(json)),
        None => empty(StatusCode::SERVICE_UNAVAILABLE),
    }
}
