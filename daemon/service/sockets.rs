//! The sockets that systemd holds for the daemon.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::ServiceError;

/// The names of sockets in unit files (`FileDescriptorName=`).
const REGISTRY: &str = "registry";
const CONTROL: &str = "control";

/// Sockets that the daemon was handed; none when it was started by hand.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For the registry.
    pub registry: Vec<TcpListener>,
    /// For the command line on the same machine.
    pub control: Vec<UnixListener>,
}

impl Sockets {
    /// The sockets that this process was handed. Their names say what they are for; where they have others it shows by
    /// their kind, since the command line asks through Unix sockets.
    ///
    /// # Errors
    /// [`ServiceError::Socket`] for a socket that is not of the kind that its name says, or of none.
    pub fn inherited() -> Result<Self, ServiceError> {
        // Asked first: whoever takes the sockets also removes what says that they are there.
        let names: Vec<String> = sd_notify::listen_fds_with_names(false)
            .map(|named| named.map(|(_, name)| name).collect())
            .unwrap_or_default();
        let mut inherited = ListenFd::from_env();
        let mut sockets = Sockets::default();
        for number in 0..inherited.len() {
            let name = names.get(number).map_or("", String::as_str);
            sockets
                .take(&mut inherited, number, name)
                .map_err(|error| ServiceError::Socket(number, name.to_owned(), error))?;
        }
        Ok(sockets)
    }

    fn take(&mut self, inherited: &mut ListenFd, number: usize, name: &str) -> io::Result<()> {
        // One that is refused stays where it is, to be taken as the other kind.
        match name {
            REGISTRY => self.take_registry(inherited, number),
            CONTROL => self.take_control(inherited, number),
            _ => self.take_control(inherited, number).or_else(|_| self.take_registry(inherited, number)),
        }
    }

    fn take_registry(&mut self, inherited: &mut ListenFd, number: usize) -> io::Result<()> {
        if let Some(socket) = inherited.take_tcp_listener(number)? {
            socket.set_nonblocking(true)?;
            self.registry.push(socket);
        }
        Ok(())
    }

    fn take_control(&mut self, inherited: &mut ListenFd, number: usize) -> io::Result<()> {
        if let Some(socket) = inherited.take_unix_listener(number)? {
            socket.set_nonblocking(true)?;
            self.control.push(socket);
        }
        Ok(())
    }
}
