//! Ports for servers that have to be told their port before they listen.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that the kernel takes ports of outgoing connections and of port 0 from.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Returns a loopback address of a port that no other caller of this process gets, and that is free on IPv4 and IPv6.
pub fn unused_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes side by side begin at different ports.
    let start = u16::try_from(std::process::id() * 50 % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free_on_ipv6 = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            Ok(_) => true,
            // A machine without IPv6 has no such address.
            Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
        };
        if free_on_ipv6 && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT - 1);
}
