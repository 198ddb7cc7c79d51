//! The owner of the store, and the client that asks it.
//!
//! Only one process opens a store: a daemon, or a command without one. A command finds the owner like this:
//!
//! 1. `index/daemon.lock` is held by a daemon: connect to its control socket.
//! 2. It is free and a control socket accepts connections: systemd starts the daemon.
//! 3. Neither: the command opens the store itself, and runs the same handlers over a connection in memory.
//! 4. As 3, but root works on the data of another user: a child process that has become that user opens the store.
//!
//! | module | contents |
//! |---|---|
//! | `find` | steps 1 and 2, and the check that the daemon serves the data directory in effect |
//! | `local`, `child` | steps 3 and 4 |
//! | `patient_host` | requests of a process to itself |
//! | `client`, `exchange` | requests and streams of events |

mod child;
mod client;
mod exchange;
mod find;
mod local;
mod patient_host;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(super) use self::child::{Options as ChildOptions, run as run_child};
pub(super) use self::client::{Answer, Client, Event, INTERRUPTED, RequestError, Session};
pub(super) use self::find::{
    Daemon, Found, OWN_SOCKET, Patience, check_data, find, is_activatable, is_registry, sockets_in_words,
};

use super::failure::Failure;
use super::offline::{absolute, runtime};
use super::privileges;
use crate::config::Config;
use crate::store::{Occupancy, Role};

/// Attempts to find the owner, each after another process took or left the store in between.
const ATTEMPTS: usize = 3;
/// The time that a command waits for another command, or for a daemon without a control socket yet.
const BUSY_WAIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// The global options of the command line, with which a child process is started, and the environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Invocation {
    pub(super) config: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) environment: Vec<(String, String)>,
}

/// The way in which a command opens the store, if it does so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Asks a daemon, or opens the store as a daemon does.
    Any,
    /// Rebuilds the index: refuses while a daemon runs, and starts none.
    Rebuild,
}

/// Connects to the owner of the store, runs `work`, and closes the store in good order if this command has opened it.
pub(super) fn with_owner<T>(
    config: &Config,
    invocation: &Invocation,
    access: Access,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if access == Access::Rebuild
        && matches!(find::occupied(config), Found::Absent)
        && !privileges::needs_other_user(&config.storage.path)?
    {
        local::recover(config)?;
    }
    runtime()?.block_on(async {
        let mut client = connect(config, invocation, access).await?;
        let result = work(&mut client).await;
        let closed = client.close().await;
        let result = result?;
        closed.map(|()| result)
    })
}

/// Connects to the daemon, which systemd may start for it; `None` without one, or while a command works on the data.
pub(super) async fn connect_to_daemon(config: &Config) -> Result<Option<Client>, Failure> {
    let began = Instant::now();
    loop {
        match find(config, Patience::MayStart).await? {
            Found::Daemon(daemon) => return Ok(Some(Client::of_daemon(daemon))),
            Found::Occupied(_) if began.elapsed() < BUSY_WAIT => tokio::time::sleep(POLL).await,
            Found::Occupied(_) | Found::Absent => return Ok(None),
        }
    }
}

/// Connects to the owner of the store, which may be this command.
pub(super) async fn connect(
    config: &Config,
    invocation: &Invocation,
    access: Access,
) -> Result<Client, Failure> {
    let began = Instant::now();
    let mut races = 0;
    loop {
        let found = match access {
            Access::Any => find(config, Patience::MayStart).await?,
            Access::Rebuild => find::occupied(config),
        };
        match found {
            Found::Daemon(daemon) if access == Access::Any => return Ok(Client::of_daemon(daemon)),
            Found::Daemon(_) | Found::Occupied(Occupancy::Daemon) if access == Access::Rebuild => {
                return Err(Failure::failed(format!(
                    "another holdfast already serves {}; stop it first: a rebuild needs the index for itself",
                    absolute(&config.storage.path)
                )));
            }
            Found::Daemon(_) | Found::Occupied(_) if began.elapsed() < BUSY_WAIT => {
                tokio::time::sleep(POLL).await;
            }
            Found::Daemon(_) | Found::Occupied(Occupancy::Daemon | Occupancy::Hidden | Occupancy::Free) => {
                return Err(Failure::failed(format!(
                    "a daemon serves {}, but does not answer on its control socket ({}); try again, or restart it",
                    absolute(&config.storage.path),
                    find::sockets_in_words(config)
                )));
            }
            Found::Occupied(Occupancy::Command(process)) => {
                return Err(Failure::failed(format!(
                    "another holdfast command (process {process}) works on {}; try again when it has ended",
                    absolute(&config.storage.path)
                )));
            }
            Found::Absent => {
                if let Some(client) = own(config, invocation, access).await? {
                    return Ok(client);
                }
                races += 1;
                if races == ATTEMPTS {
                    return Err(Failure::failed(format!(
                        "other processes keep opening {}; try again",
                        absolute(&config.storage.path)
                    )));
                }
            }
        }
    }
}

/// Opens the store in this process, or in a child that has become the owner of the data. Returns `None` if another process
/// has taken the store since.
async fn own(config: &Config, invocation: &Invocation, access: Access) -> Result<Option<Client>, Failure> {
    let role = match access {
        Access::Any => Role::Command,
        Access::Rebuild => Role::Rebuild,
    };
    if privileges::needs_other_user(&config.storage.path)? {
        return Client::of_child(invocation, role).await;
    }
    Client::of_memory(config, role).await
}
