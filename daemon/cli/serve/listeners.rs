//! Listening sockets: inherited from systemd, or bound here.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use super::super::failure::Failure;

/// Maximum length of the queue of connections that are not accepted yet, as in the standard library.
const BACKLOG: i32 = 128;

/// Binds all configured addresses.
pub(super) fn bind_all(listen: &[SocketAddr]) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    into_tokio(listen.iter().map(|address| bind_one(*address)).collect::<Result<_, _>>()?)
}

/// Registers non-blocking sockets with the runtime.
pub(super) fn into_tokio(sockets: Vec<TcpListener>) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let into_tokio = |socket| tokio::net::TcpListener::from_std(socket).map_err(Failure::failed);
    sockets.into_iter().map(into_tokio).collect()
}

fn bind_one(address: SocketAddr) -> Result<TcpListener, Failure> {
    let all_addresses = matches!(address, SocketAddr::V6(address) if address.ip().is_unspecified());
    let bound = match open(address) {
        // A kernel without IPv6.
        Err(error) if all_addresses && is_without_ipv6(&error) => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    };
    bound.map_err(|error| Failure::failed(refusal(address, &error)))
}

/// Opens a non-blocking listening socket. On `[::]` it accepts IPv4 as well, whatever the system's default.
fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// Returns why an address cannot be listened on, and what to do.
fn refusal(address: SocketAddr, error: &std::io::Error) -> String {
    let port = address.port();
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another program uses port {port}; stop it (ss -ltnp shows its name), or set another port in `listen`"
        ),
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "only root may use ports below 1024; use a higher port, or systemd: it opens port {port} for \
             holdfast.socket, which runs the daemon without root"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "this machine does not have the address {}; `ip address` lists those that it has, and `listen` = \
             \":{port}\" means all",
            address.ip()
        ),
        _ => format!("{error}; set another address in `listen`"),
    };
    format!("cannot listen on {address}: {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy() {
        let refused = |kind, address: &str| refusal(address.parse().unwrap(), &std::io::Error::from(kind));
        let in_use = refused(ErrorKind::AddrInUse, "127.0.0.1:5000");
        assert!(
            in_use.starts_with("cannot listen on 127.0.0.1:5000: another program uses port 5000; stop it")
        );
        assert!(
            refused(ErrorKind::PermissionDenied, "0.0.0.0:443")
                .contains("only root may use ports below 1024")
        );
        let absent = refused(ErrorKind::AddrNotAvailable, "192.0.2.1:5000");
        assert!(absent.contains("does not have the address 192.0.2.1"), "{absent}");
        assert!(refused(ErrorKind::OutOfMemory, "[::]:5000").contains("out of memory"));
    }
}
