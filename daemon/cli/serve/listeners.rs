//! Listening sockets: inherited from systemd, or bound here.

use std::net::{SocketAddr, TcpListener};

use super::super::failure::Failure;

/// Binds all configured addresses.
pub(super) fn bind_all(listen: &[SocketAddr]) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    into_tokio(listen.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?)
}

/// Registers non-blocking sockets with the runtime.
pub(super) fn into_tokio(sockets: Vec<TcpListener>) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let into_tokio = |socket| tokio::net::TcpListener::from_std(socket).map_err(Failure::failed);
    sockets.into_iter().map(into_tokio).collect()
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {address}: {error}; stop the program that uses the port, or set `listen`"
        ))
    })
}
