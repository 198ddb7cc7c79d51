//! Finds the daemon that serves the data directory in effect.

use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::super::failure::Failure;
use super::super::offline::{absolute, canonical};
use super::exchange;
use crate::config::{Config, DataSource};
use crate::control::StatusReport;
use crate::store::{self, Occupancy};

/// The control socket of the system's service, which systemd holds.
const SERVICE_SOCKET: &str = "/run/holdfast/control.sock";
/// The control socket in a data directory, of a daemon that has none from systemd.
pub(in crate::cli) const OWN_SOCKET: &str = "control.sock";

/// Timeout of a question to a daemon that runs.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Time after which a command at a terminal says that it waits for a daemon that starts.
const NOTICE_TIME: Duration = Duration::from_secs(3);

/// Whether a question may start a daemon by socket activation, and then waits for its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Patience {
    /// It may start one.
    MayStart,
    /// Only a daemon that runs is asked.
    RunningOnly,
}

/// A daemon that serves the data directory in effect.
pub(in crate::cli) struct Daemon {
    /// Its control socket.
    pub(in crate::cli) socket: PathBuf,
    pub(in crate::cli) status: StatusReport,
}

/// The result of a search.
pub(in crate::cli) enum Found {
    /// A daemon.
    Daemon(Box<Daemon>),
    /// Another process has opened the store, and no control socket answers for it.
    Occupied(Occupancy),
    /// No process has opened the store.
    Absent,
}

/// Reason why a socket gave no status.
enum Silence {
    /// No process listens.
    Absent,
    /// This user may not connect.
    Denied,
    /// The daemon ended, or did not answer in time.
    Unanswered,
    /// The daemon cannot tell.
    Failed(Failure),
}

/// Searches for the daemon.
///
/// # Errors
/// Fails if a daemon answers for another data directory than the one in effect, or if this user may not ask.
pub(in crate::cli) async fn find(config: &Config, patience: Patience) -> Result<Found, Failure> {
    let data = &config.storage.path;
    let occupancy = store::occupancy(data);
    let (mut other, mut denied, mut unanswered) = (None, None, false);
    for socket in sockets(config, occupancy, patience) {
        match ask(&socket, patience).await {
            Ok(status) if status.data == canonical(data) => {
                return Ok(Found::Daemon(Box::new(Daemon { socket, status })));
            }
            Ok(status) => drop(other.get_or_insert((socket, status.data))),
            Err(Silence::Absent) => {}
            Err(Silence::Denied) => drop(denied.get_or_insert(socket)),
            Err(Silence::Unanswered) => unanswered = true,
            Err(Silence::Failed(failure)) => return Err(failure),
        }
    }
    if let Some((socket, served)) = other {
        return Err(elsewhere(config, &socket, &served));
    }
    if let Some(socket) = denied.filter(|_| occupancy != Occupancy::Free || !is_registry(data)) {
        return Err(not_permitted(&socket));
    }
    match occupancy {
        Occupancy::Hidden => {
            Err(Failure::failed(format!("cannot read {}: permission denied; use sudo", absolute(data))))
        }
        Occupancy::Free if unanswered => Ok(Found::Occupied(Occupancy::Free)),
        Occupancy::Free => Ok(Found::Absent),
        Occupancy::Daemon | Occupancy::Command(_) => Ok(Found::Occupied(occupancy)),
    }
}

/// Returns the occupancy alone, without asking a daemon.
pub(super) fn occupied(config: &Config) -> Found {
    match store::occupancy(&config.storage.path) {
        // Opening the store says why it cannot be read.
        Occupancy::Free | Occupancy::Hidden => Found::Absent,
        occupancy @ (Occupancy::Daemon | Occupancy::Command(_)) => Found::Occupied(occupancy),
    }
}

/// Refuses the default data directory where the machine's service serves another one, for commands that need no store: they
/// would begin a second registry.
pub(in crate::cli) fn check_data(config: &Config) -> Result<(), Failure> {
    if config.data_source != DataSource::Default || is_registry(&config.storage.path) {
        return Ok(());
    }
    super::runtime()?.block_on(async { find(config, Patience::MayStart).await.map(drop) })
}

/// Returns the control sockets to try. That of the service is tried only if the data directory in effect may be the service's.
fn sockets(config: &Config, occupancy: Occupancy, patience: Patience) -> Vec<PathBuf> {
    // A daemon of another process would be started only to wait for the store.
    let may_activate = match (patience, occupancy) {
        (_, Occupancy::Daemon | Occupancy::Hidden) | (Patience::MayStart, Occupancy::Free) => true,
        (Patience::MayStart | Patience::RunningOnly, Occupancy::Command(_))
        | (Patience::RunningOnly, Occupancy::Free) => false,
    };
    if let Some(socket) = &config.service.control {
        return if may_activate { vec![socket.clone()] } else { Vec::new() };
    }
    let mut sockets = vec![config.storage.path.join(OWN_SOCKET)];
    let may_be_service = match config.data_source {
        DataSource::Default | DataSource::UsualFile => true,
        DataSource::Named => occupancy != Occupancy::Free,
    };
    if may_activate && may_be_service {
        sockets.push(SERVICE_SOCKET.into());
    }
    sockets
}

/// Names the control sockets of a configuration.
pub(in crate::cli) fn sockets_in_words(config: &Config) -> String {
    match &config.service.control {
        Some(socket) => socket.display().to_string(),
        None => format!("{SERVICE_SOCKET} or {}", absolute(&config.storage.path.join(OWN_SOCKET))),
    }
}

/// Returns true if systemd holds a control socket for this configuration. Does not connect, which would start a daemon.
pub(in crate::cli) fn is_activatable(config: &Config) -> bool {
    let socket = config.service.control.as_deref().unwrap_or(Path::new(SERVICE_SOCKET));
    std::fs::metadata(socket).is_ok_and(|file| file.file_type().is_socket())
}

/// Returns true if a data directory has the files of a registry.
pub(in crate::cli) fn is_registry(data: &Path) -> bool {
    data.join("index/data.mdb").exists() || data.join("index.json").exists()
}

/// Asks for the status behind a socket.
async fn ask(socket: &Path, patience: Patience) -> Result<StatusReport, Silence> {
    let stream = exchange::connect(socket).await.map_err(|error| match error.kind() {
        // Otherwise its directory cannot be searched, and the socket may not exist.
        ErrorKind::PermissionDenied if std::fs::symlink_metadata(socket).is_ok() => Silence::Denied,
        // The queue of the socket is full.
        ErrorKind::WouldBlock => Silence::Unanswered,
        _ => Silence::Absent,
    })?;
    let exchange = async {
        let mut sender = exchange::handshake(stream).await?;
        exchange::read(exchange::send(&mut sender, Method::GET, "status", Bytes::new()).await?).await
    };
    let answer = match patience {
        Patience::RunningOnly => {
            tokio::time::timeout(ANSWER_TIME, exchange).await.map_err(|_| Silence::Unanswered)?
        }
        Patience::MayStart => with_notice(exchange).await,
    };
    match answer {
        Ok(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|_| {
            Silence::Failed(Failure::failed(format!(
                "the daemon at {} is of another release; restart it",
                socket.display()
            )))
        }),
        Ok(Err(detail)) => Err(Silence::Failed(Failure::failed(detail.message))),
        Err(_) => Err(Silence::Unanswered),
    }
}

/// Waits without a limit: a daemon that recovers its index takes minutes to start. Says so at a terminal.
async fn with_notice<T>(exchange: impl Future<Output = T>) -> T {
    let mut exchange = std::pin::pin!(exchange);
    if let Ok(answer) = tokio::time::timeout(NOTICE_TIME, exchange.as_mut()).await {
        return answer;
    }
    if std::io::stderr().is_terminal() {
        // A closed stderr cannot be reported anywhere.
        let _ = writeln!(
            std::io::stderr(),
            "holdfast: waiting for the registry to answer (systemctl status holdfast)"
        );
    }
    exchange.await
}

fn elsewhere(config: &Config, socket: &Path, served: &str) -> Failure {
    let data = canonical(&config.storage.path);
    let next = match (config.data_source, &config.service.control) {
        (_, Some(_)) => "correct storage.path or service.control",
        (DataSource::Default, None) => "pass --data DIR to say which of them is meant",
        (DataSource::UsualFile, None) => {
            "restart the daemon if storage.path has changed (systemctl restart holdfast), or pass --data DIR"
        }
        (DataSource::Named, None) => {
            "stop the other process that serves the directory, or pass another --data DIR"
        }
    };
    Failure::failed(format!(
        "the data directory is {data}, but the registry at {} serves {served}; {next}",
        socket.display()
    ))
}

fn not_permitted(socket: &Path) -> Failure {
    Failure::failed(format!(
        "this user may not connect to the registry at {}; use sudo, or join the group of the socket (usermod -aG holdfast USER)",
        socket.display()
    ))
}
