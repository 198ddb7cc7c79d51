//! Opens the store of the daemon: waits for a command that has it, binds the control socket, and recovers the index.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::super::offline::absolute;
use super::super::owner::OWN_SOCKET;
use super::super::settings::store_settings;
use crate::config::Config;
use crate::service::{self, SocketFile, bind_control_socket};
use crate::store::{self, Occupancy, OwnerKind, Ownership, Role, Settings, Store, StoreError};

/// Interval at which a daemon tries again to take the data directory from a command.
const POLL: Duration = Duration::from_millis(100);
/// Interval at which systemd is told that the daemon waits for a command.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// The open store, and the control sockets.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) control: Vec<UnixListener>,
    /// Removes the daemon's own socket, if it has bound one.
    pub(super) socket_file: Option<SocketFile>,
}

/// Takes the data directory, binds a control socket unless systemd has passed one, and opens the store. Commands that connect
/// meanwhile wait in the socket.
pub(super) async fn open(config: &Config, inherited: Vec<UnixListener>) -> Result<Opened, Failure> {
    let settings = store_settings(config);
    let ownership = take(&settings).await?;
    let (control, socket_file) = if inherited.is_empty() { bind(config) } else { (inherited, None) };
    let store = Store::open_owned(settings, Role::Daemon, ownership).await.map_err(Failure::failed)?;
    Ok(Opened { store, control, socket_file })
}

/// Takes the data directory. Waits for a command that has it, and fails if another daemon has it.
async fn take(settings: &Settings) -> Result<Ownership, Failure> {
    let mut said: Option<Instant> = None;
    loop {
        let taking = settings.clone();
        let taken = tokio::task::spawn_blocking(move || Ownership::take(&taking, OwnerKind::Daemon)).await;
        let error = match taken.map_err(Failure::failed)? {
            Ok(ownership) => return Ok(ownership),
            Err(error) => error,
        };
        let is_in_use = matches!(error, StoreError::InUse(_));
        match store::occupancy(&settings.path) {
            Occupancy::Command(process) if is_in_use => {
                if said.is_none_or(|said| said.elapsed() >= HEARTBEAT) {
                    said = Some(Instant::now());
                    let line = format!(
                        "waiting for a holdfast command (process {process}) to end its work on the data directory"
                    );
                    log::info!("{line}");
                    service::starting(&line);
                }
            }
            // It has ended since.
            Occupancy::Free if is_in_use => {}
            Occupancy::Command(_) | Occupancy::Free | Occupancy::Daemon | Occupancy::Hidden => {
                return Err(Failure::failed(error));
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Binds the control socket of a daemon that has none from systemd. Without one the daemon serves all the same.
fn bind(config: &Config) -> (Vec<UnixListener>, Option<SocketFile>) {
    let own = config.storage.path.join(OWN_SOCKET);
    let path = config.service.control.as_ref().unwrap_or(&own);
    match bind_control_socket(path) {
        Ok((listener, file)) => (vec![listener], Some(file)),
        Err(error) => {
            log::warn!(
                "no control socket at {}: {error}; commands such as `holdfast gc` cannot reach this daemon",
                absolute(path)
            );
            (Vec::new(), None)
        }
    }
}
