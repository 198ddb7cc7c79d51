//! Sockets inherited from systemd (socket activation).

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::error::ServiceError;

/// `FileDescriptorName=` of the sockets in the unit files.
const REGISTRY: &str = "registry";
const CONTROL: &str = "control";

/// Inherited sockets; empty if the daemon was not started by socket activation.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// Listeners of the registry.
    pub registry: Vec<TcpListener>,
    /// Listeners of the control socket.
    pub control: Vec<UnixListener>,
}

impl InheritedSockets {
    /// Takes the sockets that this process inherited. Their names decide which is which; sockets with other names are
    /// assigned by their type, since the command line uses a Unix socket.
    ///
    /// # Errors
    /// [`ServiceError::Socket`] for a socket of the wrong type for its name, or of an unsupported type.
    pub fn take_all() -> Result<Self, ServiceError> {
        // Before `ListenFd::from_env`, which removes the variables that the names are in.
        let names: Vec<String> = sd_notify::listen_fds_with_names(false)
            .map(|named| named.map(|(_, name)| name).collect())
            .unwrap_or_default();
        let mut inherited = ListenFd::from_env();
        let mut sockets = InheritedSockets::default();
        for number in 0..inherited.len() {
            let name = names.get(number).map_or("", String::as_str);
            sockets
                .take(&mut inherited, number, name)
                .map_err(|error| ServiceError::Socket(number, name.to_owned(), error))?;
        }
        Ok(sockets)
    }

    fn take(&mut self, inherited: &mut ListenFd, number: usize, name: &str) -> io::Result<()> {
        // A socket of the wrong type stays in `inherited`, and is tried as the other type.
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
