//! A relay before a registry, which counts what clients send and breaks a connection once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A running relay.
pub struct Relay {
    pub address: SocketAddr,
    sent: Arc<AtomicU64>,
    is_broken: Arc<AtomicBool>,
    is_ended: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay that breaks the first connection over which a client has sent this many bytes.
    pub fn start(to: SocketAddr, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let relay =
            Relay { address, sent: Arc::default(), is_broken: Arc::default(), is_ended: Arc::default() };
        let (sent, is_broken, is_ended) =
            (Arc::clone(&relay.sent), Arc::clone(&relay.is_broken), Arc::clone(&relay.is_ended));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if is_ended.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                let (sent, is_broken) = (Arc::clone(&sent), Arc::clone(&is_broken));
                let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    // Either side may go at any time.
                    let _ = std::io::copy(&mut from, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || forward(client, server, limit, &sent, &is_broken));
            }
        });
        relay
    }

    /// Returns the bytes that clients have sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn has_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    limit: u64,
    sent: &AtomicU64,
    is_broken: &AtomicBool,
) {
    let (mut buffer, mut here) = (vec![0; 64 << 10], 0);
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 || server.write_all(&buffer[..count]).is_err() {
            break;
        }
        here += count as u64;
        sent.fetch_add(count as u64, Ordering::Relaxed);
        if here > limit && !is_broken.swap(true, Ordering::Relaxed) {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
