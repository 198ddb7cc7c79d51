//! The sockets that systemd holds for the daemon.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::ServiceError;

/// Sockets that the daemon was handed; none when it was started by hand.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For the registry.
    pub registry: Vec<TcpListener>,
    /// For the command line on the same machine.
    pub control: Vec<UnixListener>,
}

impl Sockets {
    /// The sockets that this process was handed. What they are for shows by their kind: the command line asks
    /// through Unix sockets.
    ///
    /// # Errors
    /// [`ServiceError::Socket`] for a socket that is neither.
    pub fn inherited() -> Result<Self, ServiceError> {
        let mut inherited = ListenFd::from_env();
        let mut sockets = Sockets::default();
        for number in 0..inherited.len() {
            sockets.take(&mut inherited, number).map_err(|error| ServiceError::Socket(number, error))?;
        }
        Ok(sockets)
    }

    fn take(&mut self, inherited: &mut ListenFd, number: usize) -> io::Result<()> {
        // One that is refused stays where it is, to be taken as the other kind.
        if let Ok(socket) = inherited.take_unix_listener(number) {
            return socket.map_or(Ok(()), |socket| {
                socket.set_nonblocking(true)?;
                self.control.push(socket);
                Ok(())
            });
        }
        if let Some(socket) = inherited.take_tcp_listener(number)? {
            socket.set_nonblocking(true)?;
            self.registry.push(socket);
        }
        Ok(())
    }
}
